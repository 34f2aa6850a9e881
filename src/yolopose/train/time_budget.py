"""Time limit of a run: measure batches and validations, and plan how many epochs fit."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median

from yolopose.config import TrainSettings
from yolopose.train.optimizer import resolved_batch

_SLOW_START = 5  # first batches of a run, slower than the others because kernels and caches are set up
_MIN_WINDOW = 20  # batches
_FILES_SECONDS = 6.0  # curves, report and images at the end of a run, on a core of a server
_FILES_FACTOR = 4.5  # their duration in that of the files at the start, which slows down on the same machine as much
_VALIDATION_BATCHES = 0.4  # duration of validating as many images as a batch has, in batches of training
_MAX_RESERVE = 0.5  # of the limit, so that a long validation leaves time for training


class TimeBudget:
    """Plan the epochs of a run so that it ends, with its last validation and files, within a time limit.

    Args:
        limit: seconds of the whole run; infinite for a run without limit.
        batches: batches of an epoch.
        validation_batches: seconds of a validation in batches of training, as long as none is measured.
        files: seconds that the files at the end of a run take, as long as `start` does not estimate them.
        clock: returns seconds.
    """

    def __init__(
        self,
        limit: float,
        batches: int,
        *,
        validation_batches: float = 0.0,
        files: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit = limit
        self.batches = batches
        self.files = files
        self._validation_batches = validation_batches
        self._clock = clock
        self._mark = clock()
        self._slow_start = min(_SLOW_START, max(batches // 2, 1))
        self._durations: deque[float] = deque(maxlen=max(batches, _MIN_WINDOW))
        self._validation: float | None = None  # seconds of the longest one
        self._ends: list[float] = []  # seconds from the last batch of each epoch to the next epoch

    def start(self, opening: float = 0.0) -> None:
        """Measure from now on.

        Args:
            opening: seconds that the files at the start of the run took; 0 for a resumed run, which writes none.
        """
        if opening:
            self.files = _FILES_FACTOR * opening
        self._mark = self._clock()

    def batch_done(self) -> None:
        """Add the duration of a batch, with the time that its samples took to arrive."""
        duration = self._lap()
        if self._slow_start and len(self._durations) == self._slow_start:
            self._durations.clear()
            self._slow_start = 0
        self._durations.append(duration)

    def validation_done(self) -> None:
        """Add the duration of the validation that followed the last batch."""
        self._validation = max(self._clock() - self._mark, self._validation or 0.0)

    def epoch_done(self) -> None:
        """Add the duration of the end of an epoch: validation, files and callbacks."""
        self._ends.append(self._lap())

    @property
    def batch_seconds(self) -> float:
        """Mean duration of the latest batches, about one epoch; 0 before the first one."""
        return sum(self._durations) / max(len(self._durations), 1)

    @property
    def reserve(self) -> float:
        """Seconds to keep for the end of the run: the validation of the best network and the files."""
        return min(self._validation_seconds + self.files, _MAX_RESERVE * self.limit)

    @property
    def _validation_seconds(self) -> float:
        estimate = self._validation_batches * self.batch_seconds
        return estimate if self._validation is None else self._validation

    def epochs(self, completed: int, elapsed: float) -> int:
        """Return the number of epochs of the run that fit the limit.

        Args:
            completed: number of completed epochs, at least 1.
            elapsed: seconds since the start of the run.
        """
        # the median, since a callback may select the epochs that are validated
        end_seconds = median(self._ends) if self._ends else self._validation_seconds
        epoch_seconds = self.batches * self.batch_seconds + end_seconds
        left = self.limit - elapsed - self.reserve
        return completed + max(math.floor(left / max(epoch_seconds, 1e-9)), 0)

    def is_spent(self, elapsed: float) -> bool:
        """Return whether another batch would exceed the limit, with the end of its epoch and of the run.

        Args:
            elapsed: seconds since the start of the run.
        """
        if math.isinf(self.limit):
            return False
        end_seconds = self._ends[-1] if self._ends else self._validation_seconds
        reserve = min(end_seconds + self.reserve, _MAX_RESERVE * self.limit)
        return elapsed + self.batch_seconds + reserve > self.limit

    def _lap(self) -> float:
        now = self._clock()
        duration = now - self._mark
        self._mark = now
        return duration


def make_budget(settings: TrainSettings, batches: int, val_images: int) -> TimeBudget:
    """Make the budget of a run, unlimited without `time`.

    Args:
        settings: of the run; `batch` must be a number of images.
        batches: batches of an epoch.
        val_images: number of validation images.
    """
    return TimeBudget(
        settings.time * 3600 if settings.time else math.inf,
        batches,
        validation_batches=_VALIDATION_BATCHES * val_images / resolved_batch(settings),
        files=_FILES_SECONDS if settings.plots else 0.0,
    )
