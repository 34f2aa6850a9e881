"""Tracks as CSV of DeepLabCut: one row per frame, and x, y, likelihood of every point of every individual.

The header has the rows `scorer`, `individuals` (missing with one animal), `bodyparts` and `coords`.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError
from yolopose.base.files import AtomicTextFile
from yolopose.data.tracks.tracks import NO_ID, Floats, Integers, TrackFrame, Tracks, TrackWriter, schema_of

_COORDS = ("x", "y", "likelihood")
_NAME = re.compile(r"individual(\d+)")
_DECIMALS = 5


class DeepLabCutWriter(TrackWriter):
    """Writes the file when it is closed, since the header has all individuals; they are named `individual1`, ….

    The numbers are the ids. Instances without an id are omitted. Points that were not detected (confidence 0) are
    empty, as in files of DeepLabCut.

    Args:
        path: final path.
        video: tracks whose keypoint names are written; instances are ignored.
        scorer: first row of the header.
    """

    def __init__(self, path: Path, video: Tracks, scorer: str = "yolopose") -> None:
        self._path = path
        self._names: tuple[str, ...] | None = video.keypoint_names or None
        self._scorer = scorer
        self._numbers: list[int] = []
        self._ids: list[int] = []
        self._rows: list[npt.NDArray[np.float32]] = []
        self._lengths: list[int] = []
        self._is_open = True

    def write(self, frame: TrackFrame) -> None:
        """Add the instances of one frame."""
        if self._names is None:
            self._names = tuple(f"keypoint_{index}" for index in range(frame.keypoints.shape[1]))
        tracked = frame.ids != NO_ID
        self._numbers.append(frame.number)
        self._lengths.append(int(tracked.sum()))
        self._ids += frame.ids[tracked].tolist()
        self._rows.append(frame.keypoints[tracked].astype(np.float32))

    def close(self) -> None:
        """Write the file.

        Raises:
            DataError: the instances have no keypoints.
        """
        if not self._is_open:
            return
        self._is_open = False
        if not self._names:
            raise DataError(f"{self._path}: DeepLabCut files hold keypoints, but the tracks have boxes only.")
        ids = sorted(set(self._ids))
        columns = [(f"individual{track_id}", name, coord) for track_id in ids for name in self._names
                   for coord in _COORDS]  # fmt: skip
        file = AtomicTextFile(self._path)
        try:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["scorer", *[self._scorer] * len(columns)])
            for level, label in enumerate(("individuals", "bodyparts", "coords")):
                writer.writerow([label, *(column[level] for column in columns)])
            self._write_rows(writer, ids)
        except BaseException:
            file.discard()
            raise
        file.close()

    def _write_rows(self, writer: Any, ids: list[int]) -> None:
        width = len(self._names or ()) * len(_COORDS)
        start = {track_id: 1 + index * width for index, track_id in enumerate(ids)}
        by_number = dict(zip(self._numbers, range(len(self._numbers)), strict=True))
        offsets = np.concatenate(([0], np.cumsum(self._lengths))).tolist()
        for number in range(1, max(self._numbers, default=0) + 1):
            row: list[object] = [number - 1, *[""] * (width * len(ids))]
            index = by_number.get(number)
            if index is not None:
                frame_ids = self._ids[offsets[index] : offsets[index + 1]]
                for track_id, points in zip(frame_ids, self._rows[index], strict=True):
                    row[start[track_id] : start[track_id] + width] = _point_values(points)
            writer.writerow(row)

    def discard(self) -> None:
        """Forget what was written."""
        self._is_open = False


def _point_values(points: npt.NDArray[np.float32]) -> list[object]:
    values: list[object] = []
    for x, y, confidence in points.astype(float).round(_DECIMALS).tolist():
        values += [x, y, confidence] if confidence > 0 else ["", "", ""]
    return values


def is_deeplabcut(path: Path) -> bool:
    """Return whether a CSV file starts with the header of DeepLabCut."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline(64).startswith("scorer,")


def read_deeplabcut(path: Path) -> Tracks:
    """Read a file; boxes are the bounds of the points of an instance, and its confidence their mean likelihood.

    Frame numbers are the index of the file plus 1. Ids are the numbers of individuals named `individual1`, …, else
    their order from 1.

    Raises:
        DataError: it is not such a file; the message names the line.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file ({error}).") from error
    header: dict[str, list[str]] = {}
    while lines and lines[0][0] in ("scorer", "individuals", "bodyparts", "coords"):
        row = lines.pop(0)
        header[row[0]] = row[1:]
    if not {"bodyparts", "coords"} <= set(header):
        raise DataError(f"{path} is not a DeepLabCut file: its header needs the rows `bodyparts` and `coords`.")
    individuals = header.get("individuals") or ["individual1"] * len(header["coords"])
    ids = _individual_ids(individuals)
    names = tuple(dict.fromkeys(header["bodyparts"]))
    expected = [(individual, name, coord) for individual in ids for name in names for coord in _COORDS]
    if list(zip(individuals, header["bodyparts"], header["coords"], strict=False)) != expected:
        raise DataError(
            f"{path}: every individual must have the same bodyparts with the coords x, y, likelihood, in this order."
        )
    numbers, values = _read_rows(path, lines, len(header), len(expected))
    points = values.reshape(len(numbers), len(ids), len(names), 3)
    visible = np.isfinite(points[..., :2]).all(axis=3) & ~(points[..., 2] <= 0)
    points[..., 2] = np.where(np.isnan(points[..., 2]), 1.0, points[..., 2])
    points[~visible] = 0
    frame, individual = np.nonzero(visible.any(axis=2))
    keypoints, shown = points[frame, individual], visible[frame, individual]
    low = np.where(shown[..., None], keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(shown[..., None], keypoints[..., :2], -np.inf).max(axis=1)
    return Tracks.build(
        frames=numbers[frame] + 1,
        ids=np.array(list(ids.values()), dtype=np.int64)[individual],
        boxes=np.concatenate((low, high), axis=1),
        scores=keypoints[..., 2].sum(axis=1) / np.maximum(shown.sum(axis=1), 1),
        keypoints=keypoints,
        frame_numbers=numbers + 1,
        name=path.stem,
        schema=schema_of(names, len(names)),
        where=str(path),
    )


def _individual_ids(individuals: list[str]) -> dict[str, int]:
    names = list(dict.fromkeys(individuals))
    matches = [_NAME.fullmatch(name) for name in names]
    if all(matches):
        return {name: int(match[1]) for name, match in zip(names, matches, strict=True) if match}
    return {name: index for index, name in enumerate(names, 1)}


def _read_rows(path: Path, lines: list[list[str]], skipped: int, width: int) -> tuple[Integers, Floats]:
    """Return (F,) frame indices and (F, width) values; NaN for empty cells."""
    numbers: list[int] = []
    rows: list[list[float]] = []
    for number, row in enumerate(lines, skipped + 1):
        try:
            if len(row) != width + 1:
                raise ValueError(f"{len(row)} columns, expected {width + 1}")
            numbers.append(int(float(row[0])))
            rows.append([float(text) if text.strip() else np.nan for text in row[1:]])
        except ValueError as error:
            raise DataError(f"{path}, line {number}: {error}.") from error
    indices = np.array(numbers, dtype=np.int64)
    if len(np.unique(indices)) != len(indices):
        raise DataError(f"{path}: a frame index is used twice.")
    return indices, np.array(rows, dtype=np.float64).reshape(len(rows), width)
