"""What the folder of a search stores of its call, so that it can be resumed and its workers can run trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolopose.base.errors import TrainError, UsageError
from yolopose.base.files import make_folder, write_text

PLAN_FILE = "tune.json"
STUDY_FILE = "study.db"
STUDY_NAME = "tune"
_FORMAT = 1
LARGE_ERROR = 1e4
"""Mean error in pixels of a trial that detects nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    """A search, as plain values.

    Attributes:
        model: the network, as the caller named it.
        digest: SHA-256 of its file; empty for a model YAML.
        data: data YAML of the caller.
        given: options of `tune` that the caller set.
        fixed: training options of every trial: those that the caller set, and what a searched option depends on.
        inner: data YAMLs that a trial trains on and is scored by.
        outer: data YAML whose `val` the search never sees.
        held_out: what those images are, for the report.
        space: `Dimension` of each searched option as a dictionary.
        metric: what is searched for.
    """

    model: str
    digest: str
    data: str
    given: Mapping[str, Any]
    fixed: Mapping[str, Any]
    inner: tuple[str, ...]
    outer: str
    held_out: str
    space: Mapping[str, Mapping[str, Any]]
    metric: str

    def write(self, folder: Path) -> None:
        """Write the plan.

        Raises:
            UsageError: an option is an object of Python, which a file cannot hold.
            OutputError: the file cannot be written.
        """
        try:
            text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)
        except TypeError as error:
            raise UsageError(
                "augmentations= and other Python objects are not possible in a search: its folder stores all options, "
                "so that it can be resumed."
            ) from error
        make_folder(folder)
        write_text(folder / PLAN_FILE, text)

    @classmethod
    def read(cls, folder: Path) -> SearchPlan:
        """Read the plan of a search.

        Raises:
            TrainError: the folder has none, or it is damaged or of another version.
        """
        try:
            values: dict[str, Any] = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
            if values.pop("format") != _FORMAT:
                raise ValueError("another version")
            values["inner"] = tuple(values["inner"])
            return cls(**values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainError(
                f"{folder} is not the folder of a search that can be resumed: {PLAN_FILE} is missing, damaged or of "
                f"another version ({error})."
            ) from error


def search_model(folder: str | Path) -> str:
    """Return the name of the network of a search; see `SearchPlan.read`."""
    return SearchPlan.read(Path(folder)).model
