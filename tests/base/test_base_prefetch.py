from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from yolopose.base.prefetch import map_ordered, prefetch, wait_until_gone


@pytest.mark.parametrize(("ahead", "expected"), [(0, [1, 2, 3]), (1, [2, 3, 4]), (2, [3, 4, 4]), (9, [4, 4, 4])])
def test_starts_items_ahead_of_the_result(ahead: int, expected: list[int]) -> None:
    started: list[int] = []
    results = prefetch(range(4), start=lambda item: started.append(item) or item, finish=str, ahead=ahead)
    seen = [(next(results), len(started)) for _ in range(3)]
    assert seen == [(str(index), count) for index, count in enumerate(expected)]
    assert list(results) == ["3"]


def test_threads_keep_the_order() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 * (item == 0))
        return item * item

    assert list(map_ordered(slow_first, range(20), threads=4)) == [item * item for item in range(20)]


def test_errors_reach_the_caller_and_closing_cancels() -> None:
    done: list[int] = []
    gate = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            raise ValueError("item 1")
        gate.wait()
        done.append(item)
        return item

    results = map_ordered(work, range(100), threads=1, ahead=5)
    gate.set()
    assert next(results) == 0
    with pytest.raises(ValueError, match="item 1"):
        next(results)
    assert len(done) < 10


@pytest.mark.skipif(sys.platform != "linux", reason="threads of the system are listed on Linux only")
def test_waits_for_the_end_of_threads_in_the_system() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    threading.Timer(0.2, stop.set).start()
    task = Path(f"/proc/self/task/{thread.native_id}")
    assert task.exists()
    wait_until_gone([thread.native_id or 0])
    assert stop.is_set()
    assert not task.exists()
    numbers = set(map_ordered(lambda _: threading.get_native_id(), range(20), threads=4))
    assert not any(Path(f"/proc/self/task/{number}").exists() for number in numbers)
