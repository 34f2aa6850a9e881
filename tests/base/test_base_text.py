from __future__ import annotations

import pytest

from yolopose.base.errors import DataError, NotFoundError
from yolopose.base.text import escape_control, one_line, short_repr, short_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2J\x07b", r"a\x1b[2J\x07b"), ("a\r\nb", "a\\r\nb"), ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\x9b31m", r"\x9b31m"), ("\ud800", r"\ud800"), ("ünï 😀\tx", "ünï 😀\tx"),
    ],
)  # fmt: skip
def test_escape_codes_become_visible(text: str, shown: str) -> None:
    assert escape_control(text) == shown
    assert str(DataError(text)) == shown
    assert str(NotFoundError(text)) == shown
    assert "\n" not in one_line(text)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, list(range(10**5)), {i: i for i in range(10**5)}, [[[[[[1]]]]]], 10**5000],
    ids=["text", "list", "map", "nested", "integer"],
)
def test_values_from_files_are_short_in_messages(value: object) -> None:
    assert len(short_repr(value)) < 500
    assert len(short_text(value)) < 500
