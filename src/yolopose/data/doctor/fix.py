"""Write a fixed copy of a data set: all edits of a report applied, everything else unchanged."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError, OutputError
from yolopose.base.files import expand_user
from yolopose.base.yamlfile import to_yaml
from yolopose.data.convert.output import OutputPlan, output_name
from yolopose.data.doctor.findings import Edit
from yolopose.data.doctor.report import Report
from yolopose.data.doctor.survey import SplitSurvey
from yolopose.data.paths import label_path

CHANGES_FILE = "changes.json"
_NOT_COPIED = ("path", "download", "figures")  # keys of the data YAML that describe the original


@dataclass(frozen=True, slots=True)
class FixedCopy:
    """A fixed copy of a data set.

    Attributes:
        yaml_path: its data YAML.
        changes: number of changed or removed rows and images, and of changed keys of the YAML.
    """

    yaml_path: Path
    changes: int


def write_fixed_copy(report: Report, target: str | Path) -> FixedCopy:
    """Write images, edited labels, data YAML and a list of all changes (`changes.json`) to a new folder.

    Rows without an edit are copied as they are, with all digits. Nothing of the data set itself is changed.

    Args:
        report: of `examine`.
        target: the folder; it must be absent or empty, and outside the data set's folders of images.

    Raises:
        OutputError: the folder exists and is not empty, or cannot be written.
        DataError: two files would have the same path, or a file cannot be read.
    """
    target = expand_user(target)
    survey = report.survey
    _check_outside(target, survey.distinct_splits)
    changes: list[dict[str, Any]] = []
    plan = OutputPlan(target)
    labels: dict[PurePosixPath, bytes] = {}
    edits = _grouped(edit for finding in report.findings for edit in finding.edits)
    folders: dict[tuple[str, ...], str] = {}
    entries: dict[str, str] = {}
    for split in survey.splits:
        key = tuple(map(str, split.files))
        if not split.files:
            continue
        if key not in folders:
            folders[key] = split.name
            labels |= _plan_split(plan, split, edits[split.name], changes)
        entries[split.name] = f"images/{folders[key]}"
        changes += [{"file": str(path), "reason": "label file without an image not copied"} for path in split.orphans]
    content = _yaml_content(report, entries, changes)
    plan.add("data.yaml", "the data YAML")
    plan.add(CHANGES_FILE, "the list of changes")
    plan.check()
    try:
        for path, data in labels.items():
            plan.write(path, data)
        for path in plan.copies:
            plan.copy(path)
        plan.write(CHANGES_FILE, json.dumps(changes, indent=1, ensure_ascii=False))
        plan.write("data.yaml", to_yaml(content))
    except (DataError, OutputError):
        plan.discard()
        raise
    return FixedCopy(target / "data.yaml", len(changes))


_ImageEdits = dict[int, list[Edit]]


def _grouped(edits: Iterable[Edit]) -> Mapping[str, _ImageEdits]:
    groups: defaultdict[str, _ImageEdits] = defaultdict(dict)
    for edit in edits:
        groups[edit.split].setdefault(edit.image, []).append(edit)
    return groups


def _check_outside(target: Path, splits: Sequence[SplitSurvey]) -> None:
    """Raise an error if the copy would become a part of the data set."""
    absolute = Path(os.path.abspath(target))
    for split in splits:
        for folder in {file.parent for file in split.files}:
            if absolute == folder or absolute.is_relative_to(folder):
                raise OutputError(
                    f"fix={target} lies inside of {folder}, which is a folder of images of {split.name}: the copy "
                    "would become a part of the data set. Choose a folder outside of it."
                )


def _plan_split(
    plan: OutputPlan, split: SplitSurvey, edits: _ImageEdits, changes: list[dict[str, Any]]
) -> dict[PurePosixPath, bytes]:
    """Plan the files of a split and return the contents of its label files."""
    labels: dict[PurePosixPath, bytes] = {}
    root = Path(os.path.commonpath([file.parent for file in split.files]))
    for image, file in enumerate(split.files):
        own = edits.get(image, [])
        removal = next((edit for edit in own if edit.row is None and edit.drop), None)
        if removal is not None:
            changes.append({"file": str(file), "reason": f"not copied: {removal.reason}"})
            continue
        name = output_name(file.relative_to(root).as_posix(), split.name)
        origin = f"{name.as_posix()!r} of {split.name}"
        plan.add(PurePosixPath("images", split.name, name), origin, file)
        if split.has_labels[image]:
            label = PurePosixPath("labels", split.name, name.with_suffix(".txt"))
            plan.add(label, origin)
            labels[label] = _edited(label_path(file), own, changes)
    return labels


def _edited(path: Path, edits: Sequence[Edit], changes: list[dict[str, Any]]) -> bytes:
    """Return the contents of a label file after the edits of its rows."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"The label file {path} cannot be read: {error.strerror or error}.") from error
    by_row: dict[int, list[Edit]] = {}
    for edit in edits:
        if edit.row:
            by_row.setdefault(edit.row, []).append(edit)
    if not by_row:
        return data
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    result: list[bytes] = []
    for number, line in enumerate(lines, 1):
        row_edits = by_row.get(number, [])
        changes += [{"file": str(path), "row": number, "reason": edit.reason} for edit in row_edits]
        if not any(edit.drop for edit in row_edits):
            result.append(_edited_row(line, row_edits))
    return b"\n".join(result)


def _edited_row(line: bytes, edits: Sequence[Edit]) -> bytes:
    if not edits:
        return line
    values = line.split()
    for edit in edits:
        if edit.replacement:
            values = [_format(value) for value in edit.replacement]
        for column, value in edit.columns.items():
            values[column] = _format(value)
    return b" ".join(values)


def _format(value: float) -> bytes:
    return f"{value:.6f}".rstrip("0").rstrip(".").encode()


def _yaml_content(report: Report, entries: Mapping[str, str], changes: list[dict[str, Any]]) -> dict[str, Any]:
    dataset = report.survey.dataset
    content: dict[str, Any] = {"path": ".", **entries}
    content |= {
        key: value for key, value in dataset.raw.items() if key not in (*_NOT_COPIED, *content, "train", "val", "test")
    }
    for finding in report.findings:
        for key, value in finding.yaml.items():
            content[key] = value
            changes.append({"file": str(dataset.yaml_path), "reason": f"{key} set to {value} ({finding.check})"})
    return content
