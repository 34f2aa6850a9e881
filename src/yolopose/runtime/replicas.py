"""The images of a batch side by side: each core computes some of them, and none waits for another inside a layer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import numpy as np

from yolopose.base.cpu import physical_cores
from yolopose.runtime.protocol import Batch, Candidates, Runtime, get_replicas


class ParallelRuntime:
    """An engine that gives the images of a batch to several replicas of another, and joins what they find.

    Args:
        replicas: engines of which each is used by one thread at a time.
        pool: as many threads.
        step: images that a replica takes at once.
    """

    def __init__(self, replicas: Sequence[Runtime], pool: ThreadPoolExecutor, step: int) -> None:
        self._pool, self._step = pool, step
        self._idle: SimpleQueue[Runtime] = SimpleQueue()
        for replica in replicas:
            self._idle.put(replica)

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Run the network and keeps what scores above `conf`; see `yolopose.runtime.Runtime.infer`."""
        return self.submit(batch, conf=conf, classes=classes, multi_label=multi_label)()

    def submit(
        self, batch: Batch, *, conf: float, classes: Sequence[int] | None = None, multi_label: bool = False
    ) -> Callable[[], Candidates]:
        """Queue a batch; the returned function waits for its result."""

        def do(start: int) -> Candidates:
            replica = self._idle.get()
            try:
                some = batch[start : start + self._step]
                return replica.infer(some, conf=conf, classes=classes, multi_label=multi_label)
            finally:
                self._idle.put(replica)

        starts = range(0, len(batch), self._step)
        parts = [self._pool.submit(do, start) for start in starts]
        return lambda: _joined([part.result() for part in parts], starts)


@contextmanager
def parallel_runtime(runtime: Runtime, batch: int) -> Generator[Runtime | ParallelRuntime, None, None]:
    """Return an engine for batches that computes on all cores as well as the network allows.

    Args:
        runtime: the network; one that takes so many images alone, or has no replicas, is used as it is.
        batch: images of a batch.
    """
    step = runtime.metadata.batch or 1
    count = min(physical_cores(), batch // step)
    replicas = get_replicas(runtime, count) if count > 1 else [runtime]
    if len(replicas) < 2 and batch <= (runtime.metadata.batch or batch):
        yield runtime
        return
    with ThreadPoolExecutor(len(replicas), thread_name_prefix="yolopose-val") as pool:
        yield ParallelRuntime(replicas, pool, step)


def _joined(parts: list[Candidates], starts: range) -> Candidates:
    """The candidates of consecutive parts of a batch as those of the batch."""
    image = [part.image + start for part, start in zip(parts, starts, strict=True)]
    sigmas = [part.sigmas for part in parts if part.sigmas is not None]
    return Candidates(
        boxes=np.concatenate([part.boxes for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
        points=np.concatenate([part.points for part in parts]),
        image=np.concatenate(image),
        nms_done=all(part.nms_done for part in parts),
        sigmas=np.concatenate(sigmas) if len(sigmas) == len(parts) else None,
    )
