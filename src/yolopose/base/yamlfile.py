"""YAML files read safely, with errors that name the file and the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from yolopose.base.errors import NotFoundError, UsageError, YoloposeError
from yolopose.base.suggestions import list_yaml_files, suggest_path


def read_yaml(path: str | Path, what: str, error: type[YoloposeError] = UsageError) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: the file.
        what: what it is, for the error text ("data YAML", "model YAML").
        error: type to raise when its content is wrong.

    Raises:
        NotFoundError: there is no such file.
        YoloposeError: of the given type; it is no UTF-8, no YAML, or no mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as fault:
        raise error(f"The {what} {path} is not UTF-8 text ({fault.reason} at byte {fault.start}).") from fault
    except IsADirectoryError as fault:
        raise error(f"The {what} {path} is a folder; name a YAML file: {list_yaml_files(path)}.") from fault
    except FileNotFoundError as fault:
        raise NotFoundError(
            f"There is no {what} {path}. Check the path (current folder: {Path.cwd()}).{suggest_path(path)}"
        ) from fault
    except OSError as fault:
        raise error(f"The {what} {path} cannot be read: {fault.strerror or fault}.") from fault
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        mark = getattr(fault, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(fault, "problem", None) or "it does not parse"
        raise error(f"The {what} {path}{where} is no valid YAML: {problem}. Mend that line.") from fault
    if not isinstance(content, dict):
        raise error(f"The {what} {path} must hold `key: value` lines, but holds {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


def to_yaml(values: dict[str, Any]) -> str:
    """Return plain values as YAML text, in their order."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
