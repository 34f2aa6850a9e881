"""Foreign text in messages: shortened values, and no characters that steer a terminal."""

from __future__ import annotations

import re
import reprlib

# Control characters, except tab and line feed, and those that reverse the direction of the text around them.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL = re.compile("[\t\n]")

_MAX_WORD = 600  # characters; most file systems allow 4096 in a path
_MAX_MESSAGE = 12_000
_LONG_WORD = re.compile(rf"\S{{{_MAX_WORD + 1},}}")

_FORMULA = re.compile(r"'*\s*[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)")

_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = 24
_REPR.maxstring = _REPR.maxlong = _REPR.maxother = 160


def escape_control(text: str) -> str:
    r"""Return text with escape codes made visible (`\x1b`), as log lines and errors print it; line breaks stay."""
    return _STEERING.sub(_escape, text)


def one_line(text: object) -> str:
    """Return foreign text, such as a file name, as one line without control characters."""
    return _CONTROL.sub(_escape, escape_control(str(text)))


def cut_text(text: str) -> str:
    """Return a text whose words and whole are of limited length; the middle is left out.

    Names and values of foreign files may have any length, and a message must stay readable.
    """
    if len(text) <= _MAX_WORD:
        return text
    text = _LONG_WORD.sub(lambda match: f"{match[0][: _MAX_WORD // 2]}…{match[0][-_MAX_WORD // 4 :]}", text)
    return text if len(text) <= _MAX_MESSAGE else f"{text[: _MAX_MESSAGE * 3 // 4]} … {text[-_MAX_MESSAGE // 4 :]}"


def csv_field(value: object) -> object:
    """Return a cell of a CSV file that no spreadsheet takes for a formula; numbers stay as they are.

    Text that begins with `=`, `+`, `-`, `@` or a control character gets an apostrophe in front, which spreadsheets do
    not show; `from_csv_field` removes it.
    """
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def from_csv_field(text: str) -> str:
    """Return the text of a cell of `csv_field`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text


def short_repr(value: object) -> str:
    """Return the `repr` of a value from a foreign file, of limited length and depth."""
    try:
        return _REPR.repr(value)
    except ValueError:  # Python refuses to print integers of more than 4300 digits
        return f"a value of type {type(value).__name__}"


def short_text(value: object) -> str:
    """Return text of limited length as one line, and other values as `short_repr`."""
    if not isinstance(value, str):
        return short_repr(value)
    line = one_line(value[: _REPR.maxstring])
    return line if len(value) <= _REPR.maxstring else f"{line}…"


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
