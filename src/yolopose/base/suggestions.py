"""Words about a path that leads nowhere: what stands near it, or why it cannot be one of this machine."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\|[^/]*\\[^/]*$")
_TWINS = ({".yaml", ".yml"}, {".pt", ".pth"}, {".jpg", ".jpeg", ".png"})
_LOOKED_AT = 2000  # names in a folder; among more, none is looked for


def is_windows_path(text: str) -> bool:
    """Whether a text is a path of Windows on a machine of another kind."""
    return os.name != "nt" and _WINDOWS.match(text) is not None


def suggest_path(path: str | Path, key: str = "") -> str:
    """Return a sentence that helps to mend a path to which nothing belongs, with a blank before it; or nothing.

    Args:
        path: the path.
        key: option that it is the value of, for the words.
    """
    if is_windows_path(str(path)):
        turned = str(path).replace("\\", "/")
        given = f"{key}=" if key else ""
        mend = f"here it is {given}{turned}." if Path(turned).exists() else "write it as this machine names it, with /."
        return f" It is a path of Windows, and this machine has none of those: {mend}"
    path = Path(path)
    other = _beside(path)
    return f" There is {f'{key}=' if key else ''}{path.with_name(other)}: is that meant?" if other else ""


def list_yaml_files(folder: Path) -> str:
    """Return words about the YAML files in a folder, for an option that takes one of them."""
    found = sorted(path.name for path in folder.glob("*.y*ml"))[:3]
    return f"{'or '.join(f'{folder / name} ' for name in found)}is inside it" if found else "there is none inside it"


def _beside(path: Path) -> str | None:
    """The name in the same folder that comes closest: the other of two endings, another case, a slip of the pen."""
    try:
        names = [entry.name for entry in os.scandir(path.parent or ".")][: _LOOKED_AT + 1]
    except OSError:
        return None
    if len(names) > _LOOKED_AT:
        return None
    twins = next((group for group in _TWINS if path.suffix.lower() in group), {path.suffix.lower()})
    alike = [name for name in sorted(names) if not path.suffix or Path(name).suffix.lower() in twins]
    same = [name for name in alike if Path(name).stem.lower() == path.stem.lower()]
    by_stem = {Path(name).stem: name for name in alike}
    close = difflib.get_close_matches(path.stem, by_stem, n=1, cutoff=0.75) if path.stem else []
    return next(iter(same), by_stem[close[0]] if close else None)
