"""Read YAML files: safe values, bounded size, and file, line and column in errors.

Words mean what YAML 1.2 defines, not YAML 1.1: only `true` and `false` are truth values (`no`, `on`, `yes` are text),
`1e-3` is a number, and `010`, `1:30` and `2024-01-01` are neither octal numbers, minutes nor dates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from yolopose.base.errors import NotFoundError, UsageError, YoloposeError
from yolopose.base.files import read_regular
from yolopose.base.suggestions import list_yaml_files, suggest_path
from yolopose.base.text import short_repr

MAX_BYTES = 8 << 20
MAX_DEPTH = 64
MAX_VALUES = 100_000  # an alias counts as the values that it repeats

_Resolvers = dict[str, list[tuple[str, re.Pattern[str]]]]

_PREFIX = "tag:yaml.org,2002:"
_NULL = f"{_PREFIX}null"
_TEXT = f"{_PREFIX}str"
_WORDS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    """Loader of the words of YAML 1.2, which refuses files whose values would fill the memory."""

    yaml_implicit_resolvers: ClassVar[_Resolvers] = {}  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._count = 0
        self._sizes: dict[str, int] = {}  # number of values behind each complete anchor
        self._checked: set[int] = set()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if self._depth >= MAX_DEPTH:
            raise _error(f"values are nested more than {MAX_DEPTH} levels deep", event)
        is_alias = self.check_event(yaml.AliasEvent)
        if is_alias and event.anchor in self.anchors and event.anchor not in self._sizes:
            raise _error(f"the alias *{event.anchor} is part of the value that it repeats", event)
        before = self._count
        self._count += self._sizes.get(event.anchor, 1) if is_alias else 1
        if self._count > MAX_VALUES:
            raise _error(f"the file holds more than {MAX_VALUES} values, aliases included", event)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias and event.anchor is not None:
            self._sizes[event.anchor] = self._count - before
        return node

    def flatten_mapping(self, node: Any) -> None:
        """Refuse doubled keys, of which all but the last would be lost, and insert the merged mappings."""
        if id(node) not in self._checked:  # a mapping that is merged into several others is flattened each time
            self._checked.add(id(node))
            lines: dict[tuple[str, str], int] = {}
            for key, _ in node.value:
                name = key.tag, key.value
                if not isinstance(key, yaml.ScalarNode) or key.tag == f"{_PREFIX}merge":
                    continue
                if name in lines:
                    first = f"first in line {lines[name]}"
                    raise _error(f"the key {short_repr(key.value)} occurs twice ({first}); remove one of them", key)
                lines[name] = key.start_mark.line + 1
        super().flatten_mapping(node)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError:
            raise
        except Exception as error:  # a tag that the value does not fit raises errors of many types
            kind = str(node.tag).removeprefix(_PREFIX)
            raise _error(f"{short_repr(node.value)} is not a valid value of the type {kind}", node) from error

    def construct_scalar(self, node: Any) -> Any:
        value = super().construct_scalar(node)
        if node.style == '"' and isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise _error("the text contains half of a surrogate pair, which is not a character", node)
        return value

    def construct_yaml_int(self, node: Any) -> int:
        text = self.construct_scalar(node).replace("_", "")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _error(problem: str, place: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=place.start_mark)


_Loader.add_constructor(f"{_PREFIX}int", _Loader.construct_yaml_int)
for _name, _pattern, _first in _WORDS:
    for _letter in _first:
        _resolvers = _Loader.yaml_implicit_resolvers.setdefault(_letter.replace("\0", ""), [])
        _resolvers.append((f"{_PREFIX}{_name}", re.compile(f"(?:{_pattern})$")))


_YAML_11: _Resolvers = yaml.SafeDumper.yaml_implicit_resolvers


class _Dumper(yaml.SafeDumper):
    """Dumper that quotes text which YAML 1.1 or YAML 1.2 readers would take for another type."""

    yaml_implicit_resolvers: ClassVar[_Resolvers] = {  # pyright: ignore[reportIncompatibleVariableOverride]
        letter: [*_YAML_11.get(letter, []), *_Loader.yaml_implicit_resolvers.get(letter, [])]
        for letter in {*_YAML_11, *_Loader.yaml_implicit_resolvers}
    }


def parse_yaml(text: str, text_keys: Sequence[str] = ()) -> Any:
    """Parse YAML text.

    Args:
        text: the text.
        text_keys: keys of the top level below which every value is text as it is written, such as class names:
            `no`, `007` and `1e3` stay as they are. An empty value remains None.

    Raises:
        yaml.YAMLError: the text is not YAML, or exceeds the limits; `describe_yaml_error` explains it.
    """
    loader = _Loader(text)
    try:
        root = _compose(loader)
        if root is None:
            return None
        if isinstance(root, yaml.MappingNode):
            visited: set[int] = set()
            for key, value in root.value:
                if key.value in text_keys:
                    _keep_text(value, visited)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _compose(loader: _Loader) -> Any:
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError) as error:  # an escape sequence beyond the characters of Unicode
        raise yaml.MarkedYAMLError(
            problem="an escape sequence is not a character of Unicode", problem_mark=loader.get_mark()
        ) from error


def _keep_text(node: Any, visited: set[int]) -> None:
    """Make all values below a node text, except empty ones and keys of mappings."""
    if id(node) in visited:
        return
    visited.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        node.tag = node.tag if node.tag == _NULL else _TEXT
        return
    for item in node.value:
        _keep_text(item[1] if isinstance(item, tuple) else item, visited)


def describe_yaml_error(error: yaml.YAMLError) -> tuple[str, str]:
    """Return the place (`, line 3, column 7`, or an empty text) and the problem of a YAML error."""
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "syntax error"
    return where, str(problem)


def read_yaml(
    path: str | Path, what: str, error: type[YoloposeError] = UsageError, *, text_keys: Sequence[str] = ()
) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: the file.
        what: kind of file, for errors ("data YAML", "model YAML").
        error: type of error for wrong content.
        text_keys: see `parse_yaml`.

    Raises:
        NotFoundError: the file does not exist.
        YoloposeError: (of type `error`) the file is not a regular file of UTF-8 text, not YAML, not a mapping, or too
            large.
    """
    path = Path(path)
    try:
        text = read_regular(path, MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"The {what} {path} is not UTF-8 text ({cause.reason} at byte {cause.start}).") from cause
    except IsADirectoryError as cause:
        raise error(f"The {what} {path} is a folder; give a YAML file ({list_yaml_files(path)}).") from cause
    except FileNotFoundError as cause:
        raise NotFoundError(
            f"The {what} {path} does not exist. Check the path (current folder: {Path.cwd()}).{suggest_path(path)}"
        ) from cause
    except OSError as cause:
        raise error(f"The {what} {path} cannot be read: {cause.strerror or cause}.") from cause
    try:
        content = parse_yaml(text, text_keys)
    except yaml.YAMLError as cause:
        where, problem = describe_yaml_error(cause)
        raise error(f"The {what} {path}{where} is not valid YAML: {problem}. Correct that line.") from cause
    if not isinstance(content, dict):
        raise error(f"The {what} {path} must hold `key: value` lines, but holds {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


def to_yaml(values: dict[str, Any], *, sort_keys: bool = False) -> str:
    """Return plain values as YAML text, which readers of YAML 1.1 and 1.2 understand alike.

    Args:
        values: the values.
        sort_keys: sort the keys; by default their order is kept.
    """
    return yaml.dump(values, Dumper=_Dumper, sort_keys=sort_keys, allow_unicode=True)
