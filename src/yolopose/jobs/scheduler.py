"""Distribute the shards of a job to workers, record what is finished, and repeat what was lost."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from yolopose.base import errors
from yolopose.base.errors import YoloposeError
from yolopose.base.log import LOGGER
from yolopose.base.progress import format_duration
from yolopose.jobs.local import WorkerPool
from yolopose.jobs.manifest import Record

_MAX_STARTS = 10
_MAX_FAILURES = 3
_DEATHS_BEFORE_CARE = 2
_MAX_DEATHS = 20
_POLL = 1.0
_FIRST_REPORT = 10.0
_MAX_REPORT_INTERVAL = 300.0


class JobError(YoloposeError, RuntimeError):
    """A job cannot continue: workers do not start, or the same shard fails each time."""


@dataclass(slots=True)
class Scheduler:
    """Runs shards on a pool of workers.

    Args:
        pool: the workers, not started yet.
        shards: numbers of the shards to compute; consumed as needed.
        count: how many these are.
        record: called with the record of each finished shard.

    Raises:
        JobError: see there.
        YoloposeError: an error of the user's that a worker reports: a wrong option, a full disk, a missing package.
    """

    pool: WorkerPool
    shards: Iterator[int]
    count: int
    record: Callable[[Record], None]
    failed: dict[int, str] = field(default_factory=dict[int, str])
    _busy: dict[int, tuple[int, bool]] = field(default_factory=dict[int, tuple[int, bool]])
    _again: deque[int] = field(default_factory=deque[int])
    _deaths: Counter[int] = field(default_factory=Counter[int])
    _failures: Counter[int] = field(default_factory=Counter[int])
    _failed_starts: int = 0
    _finished: int = 0
    _errors: int = 0
    _rows: int = 0
    _started: float = field(default_factory=time.monotonic)
    _next_report: float = _FIRST_REPORT

    def run(self) -> None:
        """Compute all shards; those that failed repeatedly are in `failed` at the end."""
        running = min(self.pool.size, self.count)
        for worker in range(running):
            self.pool.start(worker)
        try:
            while self._finished + len(self.failed) < self.count:
                event = self.pool.next_event(_POLL)
                if event is not None:
                    _HANDLERS[event["event"]](self, event)
                self._report()
        finally:
            self.pool.close()

    # -- events ------------------------------------------------------------------------------------------------------

    def _ready(self, event: dict[str, Any]) -> None:
        self._failed_starts = 0
        LOGGER.debug(f"Worker {event['worker']} is ready on {event.get('device')}.")
        self._assign(event["worker"])

    def _assign(self, worker: int) -> None:
        """Give an idle worker the next shard, if there is one."""
        shard = self._again.popleft() if self._again else next(self.shards, None)
        if shard is None:
            return
        careful = self._deaths[shard] > _DEATHS_BEFORE_CARE
        self._busy[worker] = shard, careful
        self.pool.submit(worker, shard, careful)

    def _done(self, event: dict[str, Any]) -> None:
        record = Record(**event["record"])
        self.record(record)
        self._busy.pop(event["worker"], None)
        self._finished += 1
        self._rows += record.rows
        self._errors += record.errors
        self._assign(event["worker"])

    def _failed(self, event: dict[str, Any]) -> None:
        """Repeat a shard after an unexpected error, such as a lost connection; give it up after some attempts."""
        _raise_known(event)
        shard = int(event["shard"])
        self._busy.pop(event["worker"], None)
        self._failures[shard] += 1
        if self._failures[shard] < _MAX_FAILURES:
            self._again.append(shard)
        else:
            self.failed[shard] = str(event["message"])
            LOGGER.warning(f"Shard {shard} failed {_MAX_FAILURES} times: {event['message']}")
            if len(self.failed) >= _MAX_FAILURES and not self._finished:
                raise JobError(
                    f"{len(self.failed)} shards failed {_MAX_FAILURES} times each, and none succeeded. The last error "
                    f"is: {event['message']}"
                )
        self._assign(event["worker"])

    def _broken(self, event: dict[str, Any]) -> None:
        """End the job if the network cannot be opened."""
        _raise_known(event)
        raise JobError(f"A worker cannot open the network: {event['message']}")

    def _died(self, event: dict[str, Any]) -> None:
        """Replace a worker that was killed or crashed, and repeat its shard."""
        worker = int(event["worker"])
        shard, _ = self._busy.pop(worker, (None, False))
        if shard is None:
            self._failed_starts += 1
            if self._failed_starts >= _MAX_STARTS:
                raise JobError(f"Workers die before their first shard ({event['message']}).")
        else:
            self._deaths[shard] += 1
            if self._deaths[shard] < _MAX_DEATHS:
                self._again.append(shard)
                LOGGER.warning(f"A worker died in shard {shard} ({event['message']}): the shard is computed again.")
            else:  # more inputs than a few kill the process, or the memory is too small
                self.failed[shard] = f"The worker died {_MAX_DEATHS} times ({event['message']})."
        self.pool.start(worker)

    # -- progress ----------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Log the progress, ever less often."""
        elapsed = time.monotonic() - self._started
        if elapsed < self._next_report or not self._finished or self._finished == self.count:
            return
        self._next_report = elapsed + min(elapsed, _MAX_REPORT_INTERVAL)
        left = elapsed / self._finished * (self.count - self._finished)
        errors_text = f", {self._errors} with an error" if self._errors else ""
        LOGGER.info(
            f"{self._finished} of {self.count} shards, {self._rows} rows{errors_text}, {self._rows / elapsed:.1f} rows "
            f"per second, about {format_duration(left)} left."
        )


def _raise_known(event: dict[str, Any]) -> None:
    """Raise the error of a message if its type is one of those that users can fix."""
    kind = getattr(errors, str(event.get("kind") or ""), None)
    if isinstance(kind, type) and issubclass(kind, YoloposeError):
        raise kind(event["message"])


_HANDLERS: dict[str, Callable[[Scheduler, dict[str, Any]], None]] = {
    "ready": Scheduler._ready,
    "done": Scheduler._done,
    "failed": Scheduler._failed,
    "broken": Scheduler._broken,
    "died": Scheduler._died,
}
