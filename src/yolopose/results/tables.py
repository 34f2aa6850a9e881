"""Results as plain values and text: log lines, dictionaries, JSON, CSV, data frames."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError
from yolopose.base.text import csv_field
from yolopose.results.arrays import to_numpy
from yolopose.results.instances import Boxes, Keypoints
from yolopose.schema import KeypointSchema

Row = dict[str, Any]


def class_name(names: Mapping[int, str], index: int) -> str:
    """Return the name of a class, `class7` if it has none."""
    return names.get(index, f"class{index}")


def format_counts(boxes: Boxes, names: Mapping[int, str]) -> str:
    """Return the number of instances of each class, `"4 persons, 1 dog, "`."""
    indices, counts = np.unique(to_numpy(boxes.cls).astype(int), return_counts=True)
    return "".join(
        f"{count} {class_name(names, int(index))}{'s' if count > 1 else ''}, "
        for index, count in zip(indices, counts, strict=True)
    )


def summary_rows(
    boxes: Boxes,
    keypoints: Keypoints,
    names: Mapping[int, str],
    normalize: bool,
    decimals: int,
) -> list[Row]:
    """Return one dictionary per instance (see `Results.summary`)."""
    rows = _box_rows(boxes, names, normalize, decimals)
    if not keypoints.shape[1]:
        return rows
    columns = _keypoint_columns(keypoints, normalize)
    for index, row in enumerate(rows):
        row["keypoints"] = {
            name: values[index].tolist()
            if name == "state"
            else [round(float(value), decimals) for value in values[index]]
            for name, values in columns.items()
        }
    return rows


def _keypoint_columns(keypoints: Keypoints, normalize: bool) -> dict[str, npt.NDArray[Any]]:
    """Return (N, K) values by name: x, y, visible if D = 3, states with three, sigma_x and sigma_y with uncertainty."""
    xy = to_numpy(keypoints.xyn if normalize else keypoints.xy)
    columns = {"x": xy[..., 0], "y": xy[..., 1]}
    if keypoints.has_visible:
        columns["visible"] = to_numpy(keypoints.conf)
    if (visibility := keypoints.visibility) is not None:
        probs = to_numpy(visibility.probs)
        columns["state"] = to_numpy(visibility.states)
        columns["p_hidden"] = probs[..., 1]
        columns["p_visible"] = probs[..., 2]
    if keypoints.sigma is not None:
        sigma = to_numpy(keypoints.sigma).astype(float)
        if normalize:
            sigma = sigma / np.array(keypoints.orig_shape[::-1])
        columns["sigma_x"] = sigma[..., 0]
        columns["sigma_y"] = sigma[..., 1]
    return columns


def _box_rows(boxes: Boxes, names: Mapping[int, str], normalize: bool, decimals: int) -> list[Row]:
    height, width = boxes.orig_shape if normalize else (1, 1)
    rows: list[Row] = []
    for values in to_numpy(boxes.data).tolist():
        x1, y1, x2, y2 = values[:4]
        index = int(values[-1])
        row: Row = {
            "name": class_name(names, index),
            "class": index,
            "confidence": round(values[-2], decimals),
            "box": {
                "x1": round(x1 / width, decimals),
                "y1": round(y1 / height, decimals),
                "x2": round(x2 / width, decimals),
                "y2": round(y2 / height, decimals),
            },
        }
        if boxes.is_track:
            row["track_id"] = int(values[4])
        rows.append(row)
    return rows


def keypoint_columns(keypoints: Keypoints, schema: KeypointSchema | None) -> list[str]:
    """Return the columns of flat tables: for each keypoint `NAME_x, NAME_y, NAME_conf`, then states and σ, if any.

    NAME is `keypoint_0`, … if the names are unknown or differ between the classes.
    """
    count, dims = keypoints.shape[1:]
    by_class = set(schema.names.values()) if schema else set[tuple[str, ...]]()
    names = by_class.pop() if len(by_class) == 1 else keypoints.names or ()
    if len(names) != count or len(set(names)) < count:  # unknown, different between the classes, or doubled
        names = [f"keypoint_{index}" for index in range(count)]
    fields = [
        *("x", "y", "conf")[:dims],
        *(() if keypoints.visible is None else ("state", "p_hidden", "p_visible")),
        *(() if keypoints.sigma is None else ("sigma_x", "sigma_y")),
    ]
    return [f"{name}_{field}" for name in names for field in fields]


def flat_columns(boxes: Boxes, keypoints: Keypoints, schema: KeypointSchema | None) -> list[str]:
    """Return the columns of `flat_rows`, also without rows."""
    track_id = ["track_id"] if boxes.is_track else []
    return ["name", "class", "confidence", "x1", "y1", "x2", "y2", *track_id, *keypoint_columns(keypoints, schema)]


def flat_rows(
    boxes: Boxes,
    keypoints: Keypoints,
    names: Mapping[int, str],
    schema: KeypointSchema | None,
    normalize: bool,
    decimals: int,
) -> list[Row]:
    """Return one flat dictionary per instance (see `Results.to_df`)."""
    columns = _keypoint_columns(keypoints, normalize)
    values = np.stack([to_numpy(column).astype(float) for column in columns.values()], axis=-1)
    flat = values.round(decimals).reshape(len(values), values.shape[1] * values.shape[2]).tolist()
    keys = keypoint_columns(keypoints, schema)
    rows: list[Row] = []
    for row, points in zip(_box_rows(boxes, names, normalize, decimals), flat, strict=True):
        box = row.pop("box")
        track_id = {"track_id": row.pop("track_id")} if boxes.is_track else {}
        named = dict(zip(keys, points, strict=True))
        if keypoints.visible is not None:
            named |= {key: int(value) for key, value in named.items() if key.endswith("_state")}
        rows.append({**row, **box, **track_id, **named})
    return rows


def to_json(values: Any) -> str:
    """Return rows, or any plain values, as compact JSON; NaN and infinity become null."""
    return json.dumps(_replace_non_finite(values), separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(rows: Sequence[Row], header: Sequence[str]) -> str:
    """Return CSV text with a header line."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_field(name) for name in header])
    writer.writerows([csv_field(row.get(name, "")) for name in header] for row in rows)
    return text.getvalue()


def to_dataframe(rows: Sequence[Row], header: Sequence[str]) -> Any:
    """Return a polars DataFrame, or a pandas DataFrame if polars is not installed.

    Raises:
        DependencyError: neither is installed.
    """
    polars = _import_optional("polars")
    if polars is not None:
        return polars.DataFrame(list(rows)) if rows else polars.DataFrame(schema=list(header))
    pandas = _import_optional("pandas")
    if pandas is not None:
        return pandas.DataFrame(list(rows), columns=list(header))
    raise DependencyError(
        "A data frame needs polars (or pandas), and neither is installed: `pip install polars`. "
        "Without them, `result.summary()` returns the same rows as dictionaries and `result.to_csv()` as text."
    )


def _import_optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class TableMixin(ABC):
    """Text forms of classes whose `summary()` returns rows with the same keys."""

    @abstractmethod
    def summary(self, normalize: bool = False, decimals: int = 5) -> list[Row]:
        """Return one dictionary per row.

        Args:
            normalize: shares instead of counts, where a class supports both.
            decimals: digits after the decimal point.
        """

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as CSV text with a header line."""
        rows = self.summary(normalize, decimals)
        return to_csv(rows, list(rows[0]) if rows else [])

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as a JSON list of objects."""
        return to_json(self.summary(normalize, decimals))

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Return the summary as a polars (or else pandas) data frame.

        Raises:
            DependencyError: neither is installed.
        """
        rows = self.summary(normalize, decimals)
        return to_dataframe(rows, list(rows[0]) if rows else [])
