"""Accuracy of the three states of keypoints: absent, hidden, visible."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.record import RunRecord
from yolopose.schema import PoseSpec

STATES = ("absent", "hidden", "visible")
HIDDEN_FLAG = 32
"""Bit of `RunRecord.pair_outcome`: the network predicts that the keypoint is hidden."""
VISIBLE_FLAG = 64
"""Bit of `RunRecord.pair_outcome`: the network predicts that the keypoint is visible."""
VISIBILITY_KEYS = tuple(f"visibility/{name}" for name in (*STATES, "mean"))
"""Names of the values of `VisibilityScores.to_dict`."""


@dataclass(frozen=True, slots=True, eq=False)
class VisibilityScores:
    """Confusion of the states of keypoints, over the ground truths that a detection matches by box IoU .50.

    A keypoint with v = 0 is absent, with v = 1 hidden, and otherwise visible. Keypoints that a class does not have do
    not count. The predicted state is the most probable one.

    Attributes:
        counts: (3, 3) number of keypoints by state in the labels (rows) and predicted state (columns): absent, hidden,
            visible.

    Examples:
        >>> import numpy as np
        >>> from yolopose.evaluate import VisibilityScores
        >>> scores = VisibilityScores(np.array([[8, 1, 1], [0, 6, 4], [1, 0, 9]]))
        >>> scores.accuracy["hidden"], round(scores.mean, 3)
        (0.6, 0.767)
    """

    counts: npt.NDArray[np.int64]

    @classmethod
    def from_record(cls, record: RunRecord, spec: PoseSpec) -> VisibilityScores | None:
        """Count the states of a run; None if the network distinguishes two states only.

        Args:
            record: the run.
            spec: classes and keypoints of its data set.
        """
        if record.run_info.get("visibility") != 3:
            return None
        v = record.gt_visibility[record.pair_gt]
        labeled = np.where(v == 0, 0, np.where(v == 1, 1, 2))
        hidden = (record.pair_outcome & HIDDEN_FLAG) != 0
        visible = (record.pair_outcome & VISIBLE_FLAG) != 0
        predicted = np.where(hidden, 1, np.where(visible, 2, 0))
        mask = spec.keypoints.point_mask(spec.nc)
        counted = np.ones(v.shape, dtype=np.bool_) if mask is None else mask[record.gt_class[record.pair_gt]]
        pairs = 3 * labeled[counted] + predicted[counted]
        return cls(np.bincount(pairs, minlength=9).reshape(3, 3))

    @property
    def accuracy(self) -> dict[str, float]:
        """State → share of the keypoints with that state in the labels that are predicted so; NaN without any."""
        totals = self.counts.sum(axis=1).tolist()
        correct = np.diag(self.counts).tolist()
        return {
            name: hits / total if total else float("nan")
            for name, hits, total in zip(STATES, correct, totals, strict=True)
        }

    @property
    def mean(self) -> float:
        """Mean of the accuracies of the states that occur; NaN without keypoints."""
        values = [value for value in self.accuracy.values() if not np.isnan(value)]
        return sum(values) / len(values) if values else float("nan")

    def to_dict(self) -> dict[str, float]:
        """Return the accuracies by their columns in results.csv, without those that are NaN."""
        values = dict(zip(VISIBILITY_KEYS, (*self.accuracy.values(), self.mean), strict=True))
        return {name: value for name, value in values.items() if not np.isnan(value)}

    def summary(self) -> list[dict[str, Any]]:
        """Return one dict per state in the labels: `State`, `Keypoints`, `Accuracy`, and counts of predicted states."""
        rows: list[dict[str, Any]] = []
        for name, row in zip(STATES, self.counts.tolist(), strict=True):
            predicted = dict(zip(STATES, row, strict=True))
            rows.append({"State": name, "Keypoints": sum(row), "Accuracy": self.accuracy[name], **predicted})
        return rows
