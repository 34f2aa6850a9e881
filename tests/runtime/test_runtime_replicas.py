"""Batches split among replicas: the same candidates as from one engine, each replica in one thread at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from fake_runtime import SPEC
from yolopose.runtime import Candidates
from yolopose.runtime import replicas as module
from yolopose.runtime.replicas import ParallelRuntime, parallel_runtime
from yolopose.schema import ModelMetadata


class Counting:
    """Predicts as many instances as the first pixel of an image; records the batch sizes of its calls."""

    def __init__(self, batch: int = 0, replicated: bool = True) -> None:
        self.metadata = ModelMetadata(spec=SPEC, name="fake", batch=batch)
        self.device = "cpu"
        self.calls: list[int] = []
        self.busy = threading.Lock()
        self.made: list[Counting] = []
        if replicated:
            self.replicas = self._replicas

    def _replicas(self, count: int) -> Sequence[Counting]:
        self.made = [Counting(self.metadata.batch, replicated=False) for _ in range(count)]
        return self.made

    def infer(self, batch: np.ndarray, *, conf: float, **options: Any) -> Candidates:
        assert self.busy.acquire(blocking=False)
        time.sleep(0.002)
        self.calls.append(len(batch))
        counts = batch[:, 0, 0, 0].astype(int)
        image = np.repeat(np.arange(len(batch)), counts)
        marks = np.concatenate([np.arange(count) for count in counts]) + 10.0 * batch[image, 0, 0, 1]
        self.busy.release()
        return Candidates(
            boxes=np.tile(marks[:, None], 4).astype(np.float32), scores=np.full(len(image), conf, np.float32),
            classes=np.zeros(len(image), np.int64), points=np.zeros((len(image), 2, 3), np.float32), batch_idx=image,
        )  # fmt: skip

    def to_array(self, array: np.ndarray) -> np.ndarray:
        return array


def images(count: int) -> np.ndarray:
    batch = np.zeros((count, 3, 32, 32), np.uint8)
    batch[:, 0, 0, 0] = np.arange(count) % 4
    batch[:, 0, 0, 1] = np.arange(count)
    return batch


@pytest.mark.parametrize(
    ("fixed", "cores", "count", "sizes"),
    [(0, 3, 16, {1}), (1, 2, 7, {1}), (4, 2, 10, {4, 2}), (4, 1, 8, {4}), (0, 1, 8, {8}), (0, 4, 1, {1})],
)
def test_matches_single_engine(
    fixed: int, cores: int, count: int, sizes: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "physical_cores", lambda: cores)
    batch, engine = images(count), Counting(fixed)
    expected = Counting().infer(batch, conf=0.5)
    with parallel_runtime(engine, count) as over:
        for _ in range(3):
            candidates = over.infer(batch, conf=0.5)
            for name in ("boxes", "scores", "classes", "points", "batch_idx"):
                np.testing.assert_array_equal(getattr(candidates, name), getattr(expected, name))
    used = engine.made or [engine]
    assert {size for one in used for size in one.calls} == sizes
    assert isinstance(over, ParallelRuntime) == (len(used) > 1 or fixed == 4)


def test_raises_error_of_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "physical_cores", lambda: 2)
    engine = Counting()
    with parallel_runtime(engine, 4) as over:
        engine.made[1].infer = None  # type: ignore[assignment]
        for _ in range(3):
            with pytest.raises(TypeError):
                over.infer(images(4), conf=0.5)
