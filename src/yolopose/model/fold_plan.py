"""What the folder of a cross-validation stores of its call, so that an interrupted one can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolopose.base.errors import TrainError, UsageError
from yolopose.base.files import make_folder, write_text

FOLDS_FILE = "folds.json"
_FORMAT = 1
_NOT_REPEATED = ("folds", "repeats", "resume", "name", "exist_ok", "project")  # options that the folder itself states


def is_fold_run(path: object) -> bool:
    """Return whether `resume=` names the folder of a cross-validation."""
    return isinstance(path, str) and (Path(path) / FOLDS_FILE).is_file()


def fold_run_model(folder: str | Path) -> str:
    """Return the name of the network with which a cross-validation was started.

    Raises:
        TrainError: the folder is not that of a cross-validation.
    """
    return str(read_plan(Path(folder))["model"])


def write_plan(
    folder: Path, given: Mapping[str, Any], *, model: str, digest: str, data: str, folds: int | None, repeats: int
) -> None:
    """Write what a later call needs to continue.

    Args:
        folder: the run folder.
        given: options that the caller set.
        model: the network, as the caller named it.
        digest: SHA-256 of its file; empty for a model YAML.
        data: data YAML.
        folds: number of folds; None for repetitions on one split.
        repeats: number of repetitions.

    Raises:
        UsageError: an option cannot be stored.
    """
    values = {name: value for name, value in given.items() if name not in _NOT_REPEATED}
    values |= {"folds": folds, "repeats": repeats}
    plan = {
        "format": _FORMAT,
        "model": model,
        "digest": digest,
        "data": data,
        "given": values,
    }
    try:
        text = json.dumps(plan, indent=1)
    except TypeError as error:
        raise UsageError(
            "augmentations= and other Python objects are not possible with folds= and repeats=: the run folder stores "
            "all options, so that an interrupted run can be resumed."
        ) from error
    make_folder(folder)
    write_text(folder / FOLDS_FILE, text)


def read_plan(folder: Path) -> dict[str, Any]:
    """Read what `write_plan` wrote.

    Raises:
        TrainError: the file is missing, damaged or of another version.
    """
    path = folder / FOLDS_FILE
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["format"] != _FORMAT:
            raise ValueError(f"format {plan['format']}")
        missing = {"given", "model", "digest", "data"} - set(plan)
        if missing:
            raise ValueError(f"without {', '.join(sorted(missing))}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainError(
            f"{folder} cannot be resumed: {path.name} is missing, damaged or of another version ({error}). Begin a new "
            "run."
        ) from error
    return plan
