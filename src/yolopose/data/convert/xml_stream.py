"""Read XML files element by element, without document types, entities or unbounded nesting.

The parser is expat, as for every XML reader of Python. Document types are refused, so that no entity can be declared:
neither one that grows exponentially nor one that reads another file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.base.errors import DataError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # only its type; nothing is parsed by it

_CHUNK = 1 << 16
_MAX_DEPTH = 64
_MAX_ELEMENTS = 20_000_000  # below one child of the root


class _Builder:
    """Builds an element for each child of the root, with all its descendants."""

    def __init__(self, path: Path, root: str) -> None:
        from xml.etree.ElementTree import Element  # a container; loaded only if XML is read

        self._make = Element
        self._path = path
        self._root = root
        self._stack: list[Element] = []
        self._depth = 0
        self._count = 0
        self.finished: list[Element] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._count += 1
        if self._depth == 1 and tag != self._root:
            raise DataError(f"{self._path} has the root element <{tag[:40]}>, expected <{self._root}>.")
        if self._depth > _MAX_DEPTH or self._count > _MAX_ELEMENTS:
            raise DataError(f"{self._path} is nested more deeply than any annotation file; nothing was read.")
        if self._depth == 1:
            return
        element = self._make(tag, attributes)
        if self._stack:
            self._stack[-1].append(element)
        self._stack.append(element)

    def end(self, _: str) -> None:
        self._depth -= 1
        if self._depth == 0:
            return
        element = self._stack.pop()
        if not self._stack:
            self.finished.append(element)
            self._count = 0

    def data(self, text: str) -> None:
        if not self._stack:
            return
        element = self._stack[-1]
        if len(element):
            element[-1].tail = (element[-1].tail or "") + text
        else:
            element.text = (element.text or "") + text

    def doctype(self, *_: object) -> None:
        raise DataError(f"{self._path} declares a document type, which annotation files never do; nothing was read.")


def iter_elements(path: Path, root: str) -> Iterator[Element]:
    """Yield the children of the root element of an XML file, one at a time.

    Args:
        path: the file.
        root: name of the root element.

    Raises:
        DataError: the file cannot be read, is not XML, has another root, declares a document type or is nested too
            deeply; the message has the position.
    """
    from xml.parsers import expat

    if not path.is_file():  # opening a pipe would block
        raise DataError(f"{path} cannot be read: it is not a file.")
    parser = expat.ParserCreate()
    builder = _Builder(path, root)
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.buffer_text = True
    try:
        with path.open("rb") as file:
            while True:
                chunk = file.read(_CHUNK)
                parser.Parse(chunk, not chunk)
                yield from builder.finished
                builder.finished.clear()
                if not chunk:
                    return
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise DataError(f"{path}, line {error.lineno}, column {error.offset + 1} is not XML ({reason}).") from error
    except (LookupError, ValueError) as error:  # of a declared encoding that Python does not have, or cannot use here
        raise DataError(f"{path} is not XML that can be read ({error}).") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error
