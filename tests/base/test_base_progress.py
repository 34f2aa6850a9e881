from __future__ import annotations

import pytest

from yolopose.base.progress import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 seconds"), (1, "1 second"), (89, "89 seconds"), (90, "2 minutes"), (180, "3 minutes"),
        (5399, "90 minutes"), (5400, "1.5 hours"), (36_000, "10 hours"), (216_000, "2.5 days"), (1e9, "11574 days"),
    ],
)  # fmt: skip
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
