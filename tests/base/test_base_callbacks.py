"""Functions by event."""

import pytest

from yolopose.base.callbacks import EVENTS, Callbacks
from yolopose.base.errors import UsageError


def test_calls_functions_in_order_until_removed() -> None:
    callbacks, seen = Callbacks(), []
    callbacks.add("on_train_end", lambda subject: seen.append(("first", subject)))
    callbacks.add("on_train_end", lambda subject: seen.append(("second", subject)))
    callbacks.emit("on_train_end", 7)
    assert seen == [("first", 7), ("second", 7)]
    callbacks.clear_event("on_train_end")
    callbacks.emit("on_train_end", 8)
    callbacks.add("teardown", seen.append)
    callbacks.reset()
    callbacks.emit("teardown", 9)
    assert len(seen) == 2


def test_has_25_public_events() -> None:
    assert len(EVENTS) == len(set(EVENTS)) == 25


@pytest.mark.parametrize(
    ("event", "function", "message"), [("on_trainend", print, "on_train_end"), ("teardown", 3, "3")]
)
def test_refuses_unknown_events_and_non_functions(event: str, function: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Callbacks().add(event, function)
