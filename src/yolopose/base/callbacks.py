"""Callbacks: functions that users attach to the events of a run, by their public names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from yolopose.base.errors import UsageError, did_you_mean

Callback = Callable[[Any], object]

EVENTS = (
    "on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start", "on_train_epoch_start",
    "on_train_batch_start", "optimizer_step", "on_before_zero_grad", "on_train_batch_end", "on_train_epoch_end",
    "on_fit_epoch_end", "on_model_save", "on_train_end", "on_params_update", "teardown",
    "on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end",
    "on_predict_start", "on_predict_batch_start", "on_predict_postprocess_end", "on_predict_batch_end",
    "on_predict_end", "on_export_start", "on_export_end",
)  # fmt: skip


class Callbacks(dict[str, list[Callback]]):
    """Functions by event. Each is called with the subject of the event: trainer, validation, prediction or export."""

    def __init__(self) -> None:
        super().__init__({event: [] for event in EVENTS})

    def add(self, event: str, function: Callback) -> None:
        """Append a function to an event.

        Raises:
            UsageError: the event is unknown, or the function is not callable.
        """
        if not callable(function):
            raise UsageError(f"The callback for {event} must be a function of one argument, got {function!r}.")
        self._functions(event).append(function)

    def clear_event(self, event: str) -> None:
        """Remove the functions of an event.

        Raises:
            UsageError: the event is unknown.
        """
        self._functions(event).clear()

    def reset(self) -> None:
        """Remove all functions."""
        for functions in self.values():
            functions.clear()

    def emit(self, event: str, subject: Any) -> None:
        """Call the functions of an event in order; an exception in one of them ends the run."""
        for function in tuple(self[event]):  # a function may remove itself
            function(subject)

    def _functions(self, event: str) -> list[Callback]:
        if event not in self:
            raise UsageError(f"Unknown event {event!r}.{did_you_mean(event, EVENTS)} Events: {', '.join(EVENTS)}.")
        return self[event]
