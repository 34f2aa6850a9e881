"""The events of a run that callers can listen to, by their public names."""

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
    """Functions by event; each is called with the object that the event happens to (trainer, validation, …)."""

    def __init__(self) -> None:
        super().__init__({event: [] for event in EVENTS})

    def add(self, event: str, function: Callback) -> None:
        """Add a function, behind those that are there.

        Raises:
            UsageError: there is no such event, or what is given cannot be called.
        """
        if not callable(function):
            raise UsageError(f"The callback for {event} must be a function of one argument, got {function!r}.")
        self._of(event).append(function)

    def clear_event(self, event: str) -> None:
        """Remove the functions of an event.

        Raises:
            UsageError: there is no such event.
        """
        self._of(event).clear()

    def reset(self) -> None:
        """Remove all functions."""
        for functions in self.values():
            functions.clear()

    def emit(self, event: str, subject: Any) -> None:
        """Call the functions of an event; an error in one of them ends the run as any other."""
        for function in tuple(self[event]):
            function(subject)

    def _of(self, event: str) -> list[Callback]:
        if event not in self:
            raise UsageError(f"There is no event {event!r}.{did_you_mean(event, EVENTS)} Events: {', '.join(EVENTS)}.")
        return self[event]
