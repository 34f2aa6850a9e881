"""Tracks as MOTChallenge text (motchallenge.net): boxes only, one line per instance."""

from __future__ import annotations

import configparser
import csv
import io
from pathlib import Path

import numpy as np

from yolopose.base.errors import DataError
from yolopose.base.files import AtomicTextFile
from yolopose.data.tracks.tracks import MAX_FRAME, Floats, TrackFrame, Tracks, TrackWriter

_GT_COLUMNS = 9
"""Columns of a ground truth: frame, id, left, top, width, height, flag (0: ignore), class, visible share."""


class MotWriter(TrackWriter):
    """Writes `frame,id,left,top,width,height,confidence,-1,-1,-1`; the file appears when it is closed.

    Coordinates are written as they are, without the offset of 1 pixel of the original annotation tool.

    Args:
        path: final path.
    """

    def __init__(self, path: Path) -> None:
        self._file = AtomicTextFile(path)

    def write(self, frame: TrackFrame) -> None:
        """Add the instances of one frame."""
        corner = frame.boxes[:, :2]
        sides = frame.boxes[:, 2:] - corner
        for track_id, (left, top), (width, height), score in zip(
            frame.ids.tolist(), corner.tolist(), sides.tolist(), frame.scores.tolist(), strict=True
        ):
            line = f"{frame.number},{track_id},{left:.3f},{top:.3f},{width:.3f},{height:.3f},{score:.5f},-1,-1,-1\n"
            self._file.write(line)

    def close(self) -> None:
        """Rename the file to its final path."""
        self._file.close()

    def discard(self) -> None:
        """Remove the temporary file."""
        self._file.discard()


def read_mot(path: Path) -> Tracks:
    """Read a result, a detection or a ground-truth file.

    In a ground truth (9 columns), rows with the flag 0 are not to be evaluated and are dropped; the confidence of the
    others is 1. Length, frame rate and size come from `seqinfo.ini` in the folder above (`SEQUENCE/gt/gt.txt`) or
    beside the file, if there is one.

    Raises:
        DataError: a line has less than 6 columns or something other than numbers; the message has its number.
    """
    table = _read_numbers(path)
    info = _sequence_info(path)
    is_gt = table.shape[1] == _GT_COLUMNS
    if is_gt:
        table = table[table[:, 6] != 0]
    scores = table[:, 6] if table.shape[1] > 6 and not is_gt else np.ones(len(table))
    classes = table[:, 7] if is_gt else np.zeros(len(table))
    length = int(info.get("seqlength", 0))
    size = int(info.get("imheight", 0)), int(info.get("imwidth", 0))
    last = int(min(table[:, 0].max(), MAX_FRAME)) if len(table) else 0
    return Tracks.build(
        frames=table[:, 0],
        ids=table[:, 1],
        boxes=np.concatenate((table[:, 2:4], table[:, 2:4] + table[:, 4:6]), axis=1),
        scores=np.where(scores < 0, 1.0, scores),  # -1 where the confidence is missing
        classes=classes,
        frame_numbers=np.arange(1, max(length, last) + 1),
        name=path.parent.parent.name if _is_in_sequence(path) else path.stem,
        fps=info.get("framerate", 0.0),
        size=size if min(size) > 0 else None,
        where=str(path),
    )


def _read_numbers(path: Path) -> Floats:
    """Return (N, columns) numbers, separated by commas or blanks."""
    rows: list[list[float]] = []
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not a text file in UTF-8 ({error.reason}).") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        columns = next(csv.reader(io.StringIO(line))) if "," in line else line.split()
        try:
            values = [float(column) for column in columns if column.strip()]
        except ValueError as error:
            raise DataError(f"{path}, line {number}: not a MOTChallenge line ({error}).") from error
        if len(values) < 6 or (rows and len(values) != len(rows[0])):
            expected = f"{len(rows[0])} as before" if rows else "frame,id,left,top,width,height,confidence,-1,-1,-1"
            raise DataError(f"{path}, line {number}: {len(values)} columns, expected {expected}.")
        if not np.isfinite(values).all():
            raise DataError(f"{path}, line {number}: a value is NaN or infinite. Correct or remove this row.")
        rows.append(values)
    return np.array(rows, dtype=np.float64) if rows else np.zeros((0, 10))


def _is_in_sequence(path: Path) -> bool:
    """Return whether a file is `SEQUENCE/gt/gt.txt` or `SEQUENCE/det/det.txt`."""
    return path.stem == path.parent.name and path.stem in ("gt", "det")


def _sequence_info(path: Path) -> dict[str, float]:
    """Return the numbers of `seqinfo.ini`, with keys in lower case; empty without the file."""
    for folder in (path.parent, path.parent.parent) if _is_in_sequence(path) else (path.parent,):
        parser = configparser.ConfigParser()
        try:
            if not parser.read(folder / "seqinfo.ini", encoding="utf-8"):
                continue
            section = parser["Sequence"]
            values = {key: float(section[key]) for key in ("seqlength", "framerate", "imwidth", "imheight")}
            if not all(0 < value <= MAX_FRAME for value in values.values()):
                raise ValueError("seqLength, frameRate, imWidth and imHeight must be positive")
            return values
        except (configparser.Error, KeyError, ValueError, UnicodeDecodeError) as error:
            raise DataError(f"{folder / 'seqinfo.ini'} cannot be read: {error}.") from error
    return {}
