"""Read YAML files with the safe loader, and name file and line in errors."""

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
        what: kind of file, for errors ("data YAML", "model YAML").
        error: type of error for wrong content.

    Raises:
        NotFoundError: the file does not exist.
        YoloposeError: (of type `error`) the file is not UTF-8, not YAML or not a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
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
        content = yaml.safe_load(text)
    except yaml.YAMLError as cause:
        mark = getattr(cause, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(cause, "problem", None) or "syntax error"
        raise error(f"The {what} {path}{where} is not valid YAML: {problem}. Correct that line.") from cause
    if not isinstance(content, dict):
        raise error(f"The {what} {path} must hold `key: value` lines, but holds {type(content).__name__}.")
    return {str(key): value for key, value in content.items()}


def to_yaml(values: dict[str, Any]) -> str:
    """Return plain values as YAML text; the order of keys is kept."""
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
