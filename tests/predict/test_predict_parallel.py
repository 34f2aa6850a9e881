from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from source_images import load_all

from fake_runtime import FakeRuntime
from yolopose.base.errors import SourceError
from yolopose.predict import parallel
from yolopose.predict.parallel import run_windows
from yolopose.predict.sources.base import ImageRef, LoadedImage, Source

pauses = np.random.default_rng(0)
PIXELS = np.zeros((4, 4, 3), np.uint8)


class Replicated(FakeRuntime):
    """An engine that offers as many as are asked for."""

    def replicas(self, count: int) -> list[Replicated]:
        return [Replicated() for _ in range(count)]


def entries(count: int, made: list[int] | None = None) -> Iterator[ImageRef]:
    for number in range(count):
        if made is not None:
            made.append(number)
        yield ImageRef(str(number), lambda name=str(number): LoadedImage(name, PIXELS))


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "physical_cores", lambda: 3)


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("runtime", [FakeRuntime(), Replicated()])
def test_keeps_order_and_uses_each_replica_in_one_thread(runtime: FakeRuntime, size: int) -> None:
    busy: list[int] = []
    seen: set[int] = set()

    def work(engine: object, items: list[LoadedImage]) -> list[str]:
        assert id(engine) not in busy
        busy.append(id(engine))
        seen.add(id(engine))
        time.sleep(pauses.random() / 300)
        busy.remove(id(engine))
        return [item.path for item in items]

    jobs = list(run_windows(Source(entries(41), 41), runtime, work, size))
    assert [name for job in jobs for name in job] == [str(number) for number in range(41)]
    assert {len(job) for job in jobs[:-1]} == {size}
    assert len(seen) == (3 if isinstance(runtime, Replicated) else 1)


def test_limits_windows_in_progress() -> None:
    made: list[int] = []
    jobs = run_windows(Source(entries(1000, made), None), Replicated(), lambda _, items: items, 1)
    for taken, _ in enumerate(jobs, start=1):
        assert len(made) <= taken + 4
        if taken == 20:
            break
    jobs.close()
    assert len(made) <= 24


def test_reads_live_source_only_when_engine_is_idle() -> None:
    made: list[int] = []
    source = Source(entries(10, made), None, live=True, per_call=2)
    for taken, items in enumerate(run_windows(source, Replicated(), lambda _, items: items, 1), start=1):
        assert ([item.path for item in items], len(made)) == ([str(2 * taken - 2), str(2 * taken - 1)], 2 * taken)


def failing() -> LoadedImage:
    raise SourceError("broken")


def test_unreadable_image_keeps_its_position() -> None:
    broken = ImageRef("b", failing)
    first, second, third = load_all(Source([*entries(1), broken, *entries(1)], 3))
    assert [first.error, second.error, third.error] == [None, "broken", None]
    with pytest.raises(SourceError, match="broken"):
        list(load_all(Source([broken], 1)))


@pytest.mark.parametrize("how", ["whole", "left", "error"])
def test_closes_source_and_threads(how: str) -> None:
    closed: list[bool] = []
    before = threading.active_count()

    def work(_: object, items: list[LoadedImage]) -> list[LoadedImage]:
        if how == "error" and items[0].path == "5":
            raise SourceError("a fault of the engine")
        return items

    jobs = run_windows(Source(entries(30), 30, close=lambda: closed.append(True)), Replicated(), work, 1)
    if how == "whole":
        assert len(list(jobs)) == 30
    elif how == "left":
        next(jobs)
        jobs.close()
    else:
        with pytest.raises(SourceError, match="a fault of the engine"):
            list(jobs)
    assert closed == [True]
    assert threading.active_count() == before
