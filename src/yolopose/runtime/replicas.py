"""Replicas of an engine on the cores of a CPU: several threads compute different images at the same time.

Two images on one core each take less time than one after the other on two cores, because no core waits for another
inside a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np

from yolopose.base.cpu import physical_cores
from yolopose.runtime.protocol import Batch, Candidates, Runtime, get_replicas


class ReplicaPool:
    """Engines shared by several threads; each is used by one thread at a time."""

    def __init__(self, replicas: Sequence[Runtime]) -> None:
        self._count = len(replicas)
        self._idle: SimpleQueue[Runtime] = SimpleQueue()
        for replica in replicas:
            self._idle.put(replica)

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def acquire(self) -> Generator[Runtime, None, None]:
        """Wait for an idle engine and reserve it for the block."""
        replica = self._idle.get()
        try:
            yield replica
        finally:
            self._idle.put(replica)


class ParallelRuntime:
    """Splits each batch among the replicas of an engine and joins their candidates.

    Args:
        replicas: engines, each used by one thread at a time.
        executor: as many threads.
        step: number of images that a replica computes at once.
    """

    def __init__(self, replicas: Sequence[Runtime], executor: ThreadPoolExecutor, step: int) -> None:
        self._pool = ReplicaPool(replicas)
        self._executor = executor
        self._step = step

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Run the network on a batch; see `yolopose.runtime.Runtime.infer`."""
        return self.submit(batch, conf=conf, classes=classes, multi_label=multi_label)()

    def submit(
        self, batch: Batch, *, conf: float, classes: Sequence[int] | None = None, multi_label: bool = False
    ) -> Callable[[], Candidates]:
        """Queue a batch; the returned function waits for its candidates."""

        def infer_slice(start: int) -> Candidates:
            with self._pool.acquire() as replica:
                images = batch[start : start + self._step]
                return replica.infer(images, conf=conf, classes=classes, multi_label=multi_label)

        starts = range(0, len(batch), self._step)
        futures = [self._executor.submit(infer_slice, start) for start in starts]
        return lambda: _join([future.result() for future in futures], starts)


@contextmanager
def parallel_runtime(runtime: Runtime, batch: int) -> Generator[Runtime | ParallelRuntime, None, None]:
    """Provide an engine that computes batches on all cores.

    Args:
        runtime: the engine; it is returned unchanged if it has no replicas and accepts such batches.
        batch: number of images in a batch.
    """
    step = runtime.metadata.batch or 1
    count = min(physical_cores(), batch // step)
    replicas = get_replicas(runtime, count) if count > 1 else [runtime]
    if len(replicas) < 2 and batch <= (runtime.metadata.batch or batch):
        yield runtime
        return
    with ThreadPoolExecutor(len(replicas), thread_name_prefix="yolopose-replica") as executor:
        yield ParallelRuntime(replicas, executor, step)


def _join(parts: list[Candidates], starts: range) -> Candidates:
    """Join the candidates of consecutive slices of a batch."""
    sigmas = [part.sigmas for part in parts if part.sigmas is not None]
    visible = [part.visible for part in parts if part.visible is not None]
    return Candidates(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
        points=np.concatenate([part.points for part in parts]),
        batch_idx=np.concatenate([part.batch_idx + start for part, start in zip(parts, starts, strict=True)]),
        nms_done=all(part.nms_done for part in parts),
        sigmas=np.concatenate(sigmas) if len(sigmas) == len(parts) else None,
        visible=np.concatenate(visible) if len(visible) == len(parts) else None,
    )
