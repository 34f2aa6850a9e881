"""Suggestions for paths that do not exist: a similar file nearby, or a Windows path on another system."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\|[^/]*\\[^/]*$")
_EQUIVALENT_SUFFIXES = ({".yaml", ".yml"}, {".pt", ".pth"}, {".jpg", ".jpeg", ".png"})
_MAX_ENTRIES = 2000  # larger folders are not searched


def is_windows_path(text: str) -> bool:
    """Return whether a text is a Windows path while this machine runs another system."""
    return os.name != "nt" and _WINDOWS_PATH.match(text) is not None


def suggest_path(path: str | Path, key: str = "") -> str:
    """Return a sentence, after a space, that helps to correct a path that does not exist; empty if nothing is known.

    Args:
        path: the path.
        key: name of the option that has this value.
    """
    option = f"{key}=" if key else ""
    if is_windows_path(str(path)):
        converted = str(path).replace("\\", "/")
        fix = f"use {option}{converted}." if Path(converted).exists() else "use a path of this machine, with /."
        return f" This is a Windows path, which does not exist on this system: {fix}"
    path = Path(path)
    similar = _similar_name(path)
    return f" Did you mean {option}{path.with_name(similar)}?" if similar else ""


def list_yaml_files(folder: Path) -> str:
    """Return a phrase that names up to three YAML files in a folder."""
    names = sorted(path.name for path in folder.glob("*.y*ml"))[:3]
    return f"it contains {' and '.join(str(folder / name) for name in names)}" if names else "it contains none"


def _similar_name(path: Path) -> str | None:
    """Return the closest name in the same folder: an equivalent suffix, other letter case, or a typing error."""
    try:
        names = [entry.name for entry in os.scandir(path.parent or ".")][: _MAX_ENTRIES + 1]
    except OSError:
        return None
    if len(names) > _MAX_ENTRIES:
        return None
    suffixes = next((group for group in _EQUIVALENT_SUFFIXES if path.suffix.lower() in group), {path.suffix.lower()})
    candidates = [name for name in sorted(names) if not path.suffix or Path(name).suffix.lower() in suffixes]
    same_stem = [name for name in candidates if Path(name).stem.lower() == path.stem.lower()]
    by_stem = {Path(name).stem: name for name in candidates}
    close = difflib.get_close_matches(path.stem, by_stem, n=1, cutoff=0.75) if path.stem else []
    return next(iter(same_stem), by_stem[close[0]] if close else None)
