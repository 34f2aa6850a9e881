"""How good each keypoint is, by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.errors import Kind
from yolopose.evaluate.export import TableMixin
from yolopose.evaluate.record import Record
from yolopose.schema import PoseSpec

PCK = (0.05, 0.1, 0.2)
"""Shares of the box diagonal (or of the torso) within which a point counts as correct."""
VISIBLE = 0.5
"""Confidence of a point from which on the network calls it visible."""
_COLUMNS = ("OKS", *(f"PCK@{limit:g}" for limit in PCK), "Median", "Visibility", "Inverted")


class KeypointScores(TableMixin):
    """Numbers of each keypoint, over the truths that a detection takes by box IoU .50.

    Args:
        record: the run.
        spec: classes and keypoints.
        area_share: area of an object as a share of its box, as OKS takes it.
    """

    def __init__(self, record: Record, spec: PoseSpec, area_share: float) -> None:
        self.paired = len(record.pair_truth)
        self.truths = len(record.truth_cls)
        self.rows = [
            _row(record, rows, name, index, spec, area_share)
            for rows, names in _groups(record, spec)
            for index, name in enumerate(names)
        ]

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict a keypoint.

        Its keys: `Keypoint`; `Labeled`, how often; `OKS`, mean similarity of the single point; `PCK@0.05` … the share
        within that share of the box diagonal, and `PCK-torso@0.05` … of the torso (left shoulder to right hip)
        where it is known; `Mean` and `Median` of the distance from the truth, pixels of the original image, and
        `Mean-share`, `Median-share` as a share of the box diagonal; `Visibility`, how often a confidence of .5 or
        more tells labeled points from others; `Inverted`, the share that sits on its mirror point.
        NaN stands where there is nothing to tell.

        Args:
            normalize: without effect here.
            decimals: digits after the point.
        """
        return [
            {key: round(value, decimals) if isinstance(value, float) else value for key, value in row.items()}
            for row in self.rows
        ]

    def lines(self) -> list[str]:
        """Return the short table that validation prints."""
        width = max([8, *(len(row["Keypoint"]) for row in self.rows)])
        share = self.paired / max(self.truths, 1)
        head = f"{'Keypoint':>{width}}{'Labeled':>10}" + "".join(f"{name:>12}" for name in _COLUMNS)
        lines = [
            f"Keypoints of the {self.paired} objects ({share:.0%}) whose box was found; distances in pixels:",
            head,
        ]
        for row in self.rows:
            values = "".join(f"{row[name]:>12.3g}" if row[name] == row[name] else f"{'-':>12}" for name in _COLUMNS)
            lines.append(f"{row['Keypoint']:>{width}}{row['Labeled']:>10}{values}")
        return lines


def _groups(record: Record, spec: PoseSpec) -> Iterator[tuple[npt.NDArray[np.int64], tuple[str, ...]]]:
    """The pairs whose classes share names of keypoints, and these names; with the class where there are several."""
    classes = record.truth_cls[record.pair_truth]
    by_names: dict[tuple[str, ...], list[int]] = {}
    for index in range(spec.nc):
        by_names.setdefault(spec.keypoints.keypoint_names(index), []).append(index)
    for names, members in by_names.items():
        whose = ", ".join(spec.classes[index] for index in members[:3])
        shown = names if len(by_names) == 1 else tuple(f"{whose}: {name}" for name in names)
        yield np.flatnonzero(np.isin(classes, members)), shown


def _row(
    record: Record, rows: npt.NDArray[np.int64], name: str, index: int, spec: PoseSpec, area_share: float
) -> dict[str, Any]:
    error = record.pair_error[rows, index].astype(np.float64)
    flags = record.pair_kind[rows, index]
    labeled = ~np.isnan(error)
    error, kinds = error[labeled], flags[labeled] & 7
    share = error / np.maximum(record.pair_diagonal[rows][labeled], 1e-9)
    torso = error / record.pair_torso[rows][labeled]
    torso = torso[np.isfinite(torso)]
    area = record.truth_area[record.pair_truth[rows]][labeled] * area_share
    sigma = spec.keypoints.oks_sigmas[index]
    similarity = np.exp(-(error**2) / (2 * (2 * sigma) ** 2 * (area + 1e-7)))
    told = (flags & 24) != 0  # the others are of a network that says nothing of visibility
    flip = spec.keypoints.flip_idx
    mirrored = flip is not None and flip[index] != index
    result: dict[str, Any] = {"Keypoint": name, "Labeled": int(labeled.sum()), "OKS": _mean(similarity)}
    result |= {f"PCK@{limit:g}": _mean(share <= limit) for limit in PCK}
    if np.isfinite(record.pair_torso).any():
        result |= {f"PCK-torso@{limit:g}": _mean(torso <= limit) for limit in PCK}
    return {
        **result,
        "Mean": _mean(error),
        "Median": _median(error),
        "Mean-share": _mean(share),
        "Median-share": _median(share),
        "Visibility": _mean(((flags & 8) != 0)[told] == labeled[told]),
        "Inverted": _mean(kinds == Kind.INVERSION) if mirrored else float("nan"),
    }


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _median(values: npt.NDArray[Any]) -> float:
    return float(np.median(values)) if len(values) else float("nan")
