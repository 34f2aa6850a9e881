"""Boxes that the user gives to a top-down network: COCO JSON, label files, or values in Python."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, UsageError
from yolopose.base.files import read_regular
from yolopose.base.log import warn_once

Float32 = npt.NDArray[np.float32]

_MAX_BYTES = 2 << 30


@dataclass(slots=True)
class BoxTable:
    """Boxes by image.

    Attributes:
        origin: where they come from, for messages.
        common: boxes of every image; None if they differ.
        by_name: by file name without suffix.
        folder: folder of label files, with boxes as shares of the image; None if there is none.
    """

    origin: str
    common: Float32 | None = None
    by_name: dict[str, Float32] = field(default_factory=dict[str, Float32])
    folder: Path | None = None

    def of_image(self, path: str | Path, size: tuple[int, int]) -> Float32:
        """Return (n, 5) x1, y1, x2, y2, score of an image, in pixels; score 1 where none is given.

        Args:
            path: path of the image.
            size: its (height, width).
        """
        if self.common is not None:
            return self.common
        name = Path(path).stem
        if self.folder is not None:
            return _read_label_file(self.folder / f"{name}.txt", size)
        boxes = self.by_name.get(name)
        if boxes is None and name.isdigit():
            boxes = self.by_name.get(str(int(name)))  # COCO's image_id of 000000000139.jpg is 139
        if boxes is None:
            warn_once(f"{self.origin} has no boxes for {Path(path).name}, and possibly others: no pose is estimated.")
            return np.zeros((0, 5), np.float32)
        return boxes


def read_boxes(value: object) -> BoxTable:
    """Read `given_boxes=`.

    Args:
        value: a COCO JSON file (results, or annotations), a folder of label files, a list of boxes x1, y1, x2, y2[,
            score] that applies to every image, or a mapping from file name to such a list.

    Raises:
        DataError: the file cannot be read.
        UsageError: it is none of these.
    """
    if isinstance(value, BoxTable):
        return value
    if isinstance(value, str | Path):
        path = Path(value)
        if path.is_dir():
            return BoxTable(str(path), folder=path)
        return BoxTable(str(path), by_name=_read_json(path))
    if isinstance(value, Mapping):
        return BoxTable(
            "given_boxes=", by_name={Path(str(name)).stem: _rows(rows, name) for name, rows in value.items()}
        )
    return BoxTable("given_boxes=", common=_rows(value, None))


def _rows(value: object, name: object) -> Float32:
    """Return boxes as (n, 5)."""
    where = "given_boxes=" if name is None else f"given_boxes= of {name}"
    try:
        rows: Float32 = np.array(value, np.float32)
    except (TypeError, ValueError):
        rows = np.zeros(0, np.float32)
    if rows.size == 0 and isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return np.zeros((0, 5), np.float32)
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or rows.shape[1] not in (4, 5) or not np.isfinite(rows).all():
        raise UsageError(
            f"{where} is not a list of boxes: give rows of x1, y1, x2, y2 or x1, y1, x2, y2, score in pixels, the path "
            "of a COCO JSON file, or a folder of label files."
        )
    return rows if rows.shape[1] == 5 else np.column_stack((rows, np.ones(len(rows), np.float32)))


def _read_json(path: Path) -> dict[str, Float32]:
    """Return the boxes of COCO results (a list), or of annotations (a mapping)."""
    try:
        content = json.loads(read_regular(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"given_boxes={path} cannot be read as JSON ({error}). It must be COCO results or annotations."
        ) from None
    names: dict[Any, str] = {}
    records = content
    if isinstance(content, Mapping):
        records = content.get("annotations")
        images = content.get("images")
        names = {image["id"]: Path(image["file_name"]).stem for image in images or [] if "file_name" in image}
    grouped: dict[str, list[list[float]]] = {}
    try:
        for record in records or []:
            x, y, width, height = map(float, record["bbox"])
            image_id = record["image_id"]
            row = [x, y, x + width, y + height, float(record.get("score", 1))]
            grouped.setdefault(names.get(image_id, Path(str(image_id)).stem), []).append(row)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"given_boxes={path} is not COCO JSON: each entry needs image_id and bbox (x, y, width, height); one "
            f"of them has {error!r}."
        ) from None
    return {name: np.array(rows, np.float32) for name, rows in grouped.items()}


def _read_label_file(path: Path, size: tuple[int, int]) -> Float32:
    """Return the boxes of a label file (class, center x, center y, width, height, …); none if it does not exist."""
    if not path.is_file():
        return np.zeros((0, 5), np.float32)
    rows: list[list[float]] = []
    for number, line in enumerate(read_regular(path, _MAX_BYTES).decode("utf-8", "replace").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            cx, cy, width, height = map(float, line.split()[1:5])
        except ValueError:
            raise DataError(
                f"{path}, line {number} is not a label: class, center x, center y, width, height."
            ) from None
        rows.append([cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2, 1])
    boxes = np.array(rows, np.float32).reshape(-1, 5)
    boxes[:, :4] *= np.tile((size[1], size[0]), 2)
    return boxes
