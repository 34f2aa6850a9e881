"""Dynamic batching: images of one input size are computed together, and the engines use each core once.

All of this runs in the event loop, without locks; only the computation itself runs in threads.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from time import perf_counter

from yolopose.results import Results
from yolopose.serve.errors import RequestError
from yolopose.serve.models import Job, LoadedModel

_MIN_RETRY, _MAX_RETRY = 1, 60  # seconds
_SMOOTHING = 0.1  # weight of a new duration in the mean


class Batcher:
    """Queues of all models of a device, and the threads that compute them.

    A batch starts as soon as a core is free. It waits for further images, up to `max_delay`, only while images of its
    model are being decoded, so that the request of a single client never waits.

    Args:
        batch: largest number of images in a batch.
        max_delay: longest time that a batch waits, seconds.
        queue: largest number of images that wait for a model or are being decoded.
        slots: number of threads that compute.
        on_batch: called with each batch when it starts.
    """

    def __init__(
        self,
        batch: int,
        max_delay: float,
        queue: int,
        slots: int,
        on_batch: Callable[[LoadedModel, int], None] | None = None,
    ) -> None:
        self._batch = batch
        self._max_delay = max_delay
        self._queue = queue
        self._slots = slots
        self._on_batch = on_batch
        self._executor = ThreadPoolExecutor(slots, thread_name_prefix="yolopose-engine")
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()
        self._preparing: dict[str, int] = {}
        self._running = 0
        self._seconds = 0.05  # mean time between two finished images, for Retry-After
        self._finished = perf_counter()
        self._timer: asyncio.TimerHandle | None = None

    # -- admission ---------------------------------------------------------------------------------------------------

    def waiting(self, name: str) -> int:
        """Return how many images of a model wait or are being decoded."""
        return len(self._waiting.get(name, ())) + self._preparing.get(name, 0)

    @property
    def running(self) -> int:
        """Number of calls of an engine that are running or about to run."""
        return self._running

    def check_space(self, name: str, count: int = 1) -> None:
        """Check that the queue of a model has space.

        Raises:
            RequestError: it is full.
        """
        waiting = self.waiting(name)
        if waiting + count > self._queue:
            seconds = round(min(max(waiting * self._seconds, _MIN_RETRY), _MAX_RETRY))
            raise RequestError(
                429, "queue_full", f"{waiting} images wait already. Try again later.", retry_after=seconds
            )

    def admit(self, name: str) -> Admission:
        """Reserve a place in the queue of a model while an image is being decoded.

        Raises:
            RequestError: the queue is full.
        """
        self.check_space(name)
        self._preparing[name] = self._preparing.get(name, 0) + 1
        return Admission(self, name)

    def release(self, name: str) -> None:
        """Give back a reserved place."""
        self._preparing[name] -= 1
        if not self._preparing[name]:
            self._pump()  # a batch may have waited for this image only

    # -- jobs --------------------------------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Queue a job; its future receives the result. Cancelling the future removes the job."""
        self._waiting.setdefault(job.model.name, deque()).append(job)
        if job.future is not None:
            job.future.add_done_callback(lambda _: self._remove(job))
        self._pump()

    def _remove(self, job: Job) -> None:
        """Remove a job whose client has gone; a job that has started is computed to its end."""
        jobs = self._waiting.get(job.model.name)
        if jobs is not None and job in jobs:
            jobs.remove(job)

    def _pump(self) -> None:
        """Start batches while cores are free."""
        while any(self._start_next(name) for name in list(self._waiting)):
            pass

    def _start_next(self, name: str) -> bool:
        """Start the next batch of a model if it is complete and a core is free; return whether it was started."""
        jobs = self._waiting[name]
        while jobs and jobs[0].is_done:
            jobs.popleft()
        if not jobs:
            return False
        bucket = list(islice((job for job in jobs if job.fits(jobs[0])), self._batch))
        is_full = len(bucket) == self._batch
        # a full batch is queued while the last image of the previous one is computed, so that no core waits
        if self._running >= self._slots + is_full:
            return False
        delay = self._max_delay - (perf_counter() - jobs[0].queued)
        if not is_full and self._preparing.get(name) and delay > 0:
            self._wake_up(delay)
            return False
        for job in bucket:
            jobs.remove(job)
        self._waiting.move_to_end(name)  # the models take turns
        self._start(bucket)
        return True

    def _wake_up(self, delay: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    def _start(self, jobs: Sequence[Job]) -> None:
        model = jobs[0].model
        if self._on_batch is not None:
            self._on_batch(model, len(jobs))
        if len(jobs) == 1 and not self._running:
            self._submit(jobs, all_cores=True)
            return
        step = model.step or len(jobs)
        for start in range(0, len(jobs), step):
            self._submit(jobs[start : start + step], all_cores=False)

    def _submit(self, jobs: Sequence[Job], all_cores: bool) -> None:
        """Compute jobs in a thread; with `all_cores`, nothing else starts before they are finished."""
        loop = asyncio.get_running_loop()
        weight = self._slots + 1 if all_cores else 1
        self._running += weight

        def compute() -> None:
            try:
                outcome: list[Results] | BaseException = jobs[0].model.compute(jobs, all_cores)
            except BaseException as error:  # reported to the clients
                outcome = error
            loop.call_soon_threadsafe(self._finish, jobs, weight, outcome)

        self._executor.submit(compute)

    def _finish(self, jobs: Sequence[Job], weight: int, outcome: list[Results] | BaseException) -> None:
        self._running -= weight
        self._pump()  # before the responses are written: the cores have priority
        now = perf_counter()
        self._seconds += _SMOOTHING * (min((now - self._finished) / len(jobs), 10.0) - self._seconds)
        self._finished = now
        for index, job in enumerate(jobs):
            if job.future is None or job.is_done:
                continue
            if isinstance(outcome, BaseException):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome[index])

    def close(self) -> None:
        """Refuse all waiting jobs and end the threads."""
        for jobs in self._waiting.values():
            for job in list(jobs):
                if job.future is not None and not job.is_done:
                    job.future.set_exception(RequestError(503, "stopping", "The server is stopping.", retry_after=1))
            jobs.clear()
        self._executor.shutdown(wait=True, cancel_futures=True)


class Admission:
    """A reserved place in a queue; it is given back at the end of the block."""

    def __init__(self, batcher: Batcher, name: str) -> None:
        self._batcher = batcher
        self._name = name

    def __enter__(self) -> Admission:
        return self

    def __exit__(self, *_: object) -> None:
        self._batcher.release(self._name)
