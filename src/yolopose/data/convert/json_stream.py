"""Read large JSON files list by list: the elements of top-level lists are decoded one at a time, never all at once."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator
from json.decoder import JSONDecoder, scanstring  # type: ignore[attr-defined]  # not in the stubs
from pathlib import Path
from typing import Any

from yolopose.base.errors import DataError
from yolopose.base.files import read_regular

_MAX_BYTES = 4 << 30
_BLANKS = " \t\n\r"
ROOT = ""
"""Key of the elements of a file that is one list."""

Visitor = Callable[[str, int, Any], None]
"""Called with key, offset and value of each element of a top-level list."""


class JsonDocument:
    """A JSON file whose top level is an object or a list.

    The text is in memory, and the offset of each element of each top-level list. `element` decodes one of them.

    Args:
        path: the file.
        title: what the file should be, for messages: `COCO annotation file`.
        visit: called for each element while the file is scanned, to build an index in the same pass.

    Attributes:
        path: the file.
        values: top-level values that are not lists, by key.
        offsets: offsets of the elements of each top-level list, by key; by `ROOT` if the file is one list.

    Raises:
        DataError: the file cannot be read or is not JSON; the message has the position.
    """

    def __init__(self, path: Path, title: str, visit: Visitor | None = None) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self.offsets: dict[str, array[int]] = {}
        self._text = _read_text(path, title)
        decoder: Any = JSONDecoder()
        self._decode: Callable[[str, int], tuple[Any, int]] = decoder.scan_once  # not in the stubs
        self._visit = visit
        try:
            self._scan()
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path} is not a {title}: line {error.lineno}, column {error.colno} is not JSON ({error.msg.lower()})."
            ) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} cannot be read as a {title} ({error}).") from error

    def element(self, offset: int) -> Any:
        """Decode the element at an offset."""
        return self._value(offset)[0]

    def elements(self, key: str = ROOT) -> Iterator[Any]:
        """Yield the elements of a top-level list; none if the list does not exist."""
        for offset in self.offsets.get(key, ()):
            yield self.element(offset)

    def _value(self, position: int) -> tuple[Any, int]:
        try:
            return self._decode(self._text, position)
        except StopIteration as error:
            raise json.JSONDecodeError("expecting a value", self._text, error.value) from None

    def _skip_blanks(self, position: int) -> int:
        text = self._text
        while text[position : position + 1] in _BLANKS and position < len(text):
            position += 1
        return position

    def _expect(self, position: int, characters: str) -> str:
        character = self._text[position : position + 1]
        if not character or character not in characters:
            raise json.JSONDecodeError(f"expecting {' or '.join(characters)}", self._text, position)
        return character

    def _scan(self) -> None:
        position = self._skip_blanks(0)
        if self._text[position : position + 1] == "[":
            end = self._scan_list(ROOT, position)
        elif self._text[position : position + 1] == "{":
            end = self._scan_object(position)
        else:
            raise json.JSONDecodeError("expecting { or [", self._text, position)
        end = self._skip_blanks(end)
        if end < len(self._text):
            raise json.JSONDecodeError("extra data", self._text, end)

    def _scan_object(self, position: int) -> int:
        position = self._skip_blanks(position + 1)
        if self._text[position : position + 1] == "}":
            return position + 1
        while True:
            self._expect(position, '"')
            key, position = scanstring(self._text, position + 1)
            position = self._skip_blanks(position)
            self._expect(position, ":")
            position = self._skip_blanks(position + 1)
            if self._text[position : position + 1] == "[":
                position = self._scan_list(key, position)
            else:
                self.values[key], position = self._value(position)
            position = self._skip_blanks(position)
            if self._expect(position, ",}") == "}":
                return position + 1
            position = self._skip_blanks(position + 1)

    def _scan_list(self, key: str, position: int) -> int:
        offsets = self.offsets[key] = array("q")
        position = self._skip_blanks(position + 1)
        if self._text[position : position + 1] == "]":
            return position + 1
        while True:
            offsets.append(position)
            value, end = self._value(position)
            if self._visit is not None:
                self._visit(key, position, value)
            position = self._skip_blanks(end)
            if self._expect(position, ",]") == "]":
                return position + 1
            position = self._skip_blanks(position + 1)


def peek(path: Path, size: int = 4096) -> str:
    """Return the first characters of a text file without a byte order mark; empty if it is not a text file."""
    try:
        if not path.is_file():  # opening a pipe would block
            return ""
        with path.open("rb") as file:
            head = file.read(size)
    except (OSError, ValueError):
        return ""
    text = head.decode("utf-8-sig", errors="ignore")
    return "" if "\0" in text else text.lstrip()


def _read_text(path: Path, title: str) -> str:
    try:
        return read_regular(path, _MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a {title}: it is not text (an image or an archive?).") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read as a {title} ({error.strerror or error}).") from error
