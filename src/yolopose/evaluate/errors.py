"""What is wrong with poses: the four kinds of error of Ronchi & Perona (ICCV 2017), and the AP that each costs.

"Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation", arxiv.org/abs/1707.05388.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.export import TableMixin
from yolopose.evaluate.ranking import mean_ap
from yolopose.evaluate.record import Record

Float = npt.NDArray[np.floating[Any]]
NEAR, GOOD = 0.5, 0.85
"""Similarity of a single point from which on it is near a place, and from which on it is good."""


class Kind(IntEnum):
    """What became of a keypoint."""

    UNLABELED = 0
    GOOD = 1
    JITTER = 2
    INVERSION = 3
    SWAP = 4
    MISS = 5


KINDS = (Kind.JITTER, Kind.INVERSION, Kind.SWAP, Kind.MISS)
"""The four errors, in the order of `Record.mended`."""


@dataclass(frozen=True, slots=True)
class ClassifiedKeypoints:
    """The points of P pairs, judged one by one.

    Attributes:
        kinds: (P, K) int8 `Kind`.
        own: (P, K) similarity of each point with its own truth, 0…1; 0 where it is not labeled.
        mended: (P, K) the similarity that it would have without its error: .85 instead of jitter, .50 instead of a
            miss, and for an inversion or a swap the similarity with the point that it sits on.
    """

    kinds: npt.NDArray[np.int8]
    own: Float
    mended: Float


def classify_errors(
    points: Float, rows: npt.NDArray[np.int64], truth: Float, area: Float, sigmas: Float, flip: npt.NDArray[np.int64]
) -> ClassifiedKeypoints:
    """Log of each detected point whether it is good, and if not, which error it is.

    A point whose similarity with its own truth is .85 or more is good, and .50 or more jitter. Else it is an
    inversion when it is near (.50 or more) its mirror point of the same object, a swap when it is nearer to that point
    of another object or its mirror point, and a miss when it is near none of these.

    Args:
        points: (P, K, 2) points of the detection of each pair, pixels.
        rows: (P,) number of the truth of each pair.
        truth: (N, K, 3) x, y, v of all truths of the image.
        area: (N,) area of each, as in OKS.
        sigmas: (K,) σ.
        flip: (K,) the mirror point of each; itself where there is none.
    """
    pairs, count = len(rows), truth.shape[1]
    labeled = truth[..., 2] != 0
    plain = _similarity(points, truth, area, sigmas, np.arange(count))
    mirrored = _similarity(points, truth, area, sigmas, flip)
    mirrored[..., flip == np.arange(count)] = -1
    numbers = np.arange(pairs)
    own, inverted = plain[numbers, rows], mirrored[numbers, rows]
    plain[numbers, rows] = mirrored[numbers, rows] = -1
    foreign = np.maximum(plain.max(axis=1, initial=-1), mirrored.max(axis=1, initial=-1))
    near = np.maximum(inverted, foreign)
    wrong = np.where(inverted >= foreign, Kind.INVERSION, Kind.SWAP)
    kinds = np.where(near >= NEAR, wrong, Kind.MISS)
    kinds = np.where(own >= NEAR, Kind.JITTER, kinds)
    kinds = np.where(own >= GOOD, Kind.GOOD, kinds)
    kinds = np.where(labeled[rows], kinds, Kind.UNLABELED).astype(np.int8)
    own = np.where(labeled[rows], own, 0.0)
    mended = np.select(
        [kinds == Kind.JITTER, kinds == Kind.MISS, (kinds == Kind.INVERSION) | (kinds == Kind.SWAP)],
        [np.full_like(own, GOOD), np.full_like(own, NEAR), near],
        own,
    )
    return ClassifiedKeypoints(kinds, own, mended)


def _similarity(points: Float, truth: Float, area: Float, sigmas: Float, places: npt.NDArray[np.int64]) -> Float:
    """(P, N, K) similarity of point k with the point `places[k]` of each truth; -1 where that is not labeled."""
    squared = ((points[:, None] - truth[None, :, places, :2]) ** 2).sum(axis=-1)
    scale = 2 * (2 * sigmas) ** 2 * (area[:, None] + 1e-7)
    return np.where(truth[None, :, places, 2] != 0, np.exp(-squared / scale[None]), -1.0)


class PoseErrors(TableMixin):
    """How many points have which error, and the mean AP that would be gained if all errors of a kind were mended.

    Attributes:
        points: kind → number of labeled points of paired truths; `good` among them.
        cost: kind → mAP50-95 of poses gained by mending it alone.
        cost50: the same for mAP50.
    """

    def __init__(self, record: Record) -> None:
        kinds = np.bincount((record.pair_kind & 7).reshape(-1), minlength=len(Kind))
        self.points = {kind.name.lower(): int(kinds[kind]) for kind in Kind if kind != Kind.UNLABELED}
        bits = 1 << np.arange(record.pose_hit.shape[1], dtype=np.int16)
        usual = mean_ap(record, record.hits("pose"))
        self.cost: dict[str, float] = {}
        self.cost50: dict[str, float] = {}
        for column, kind in enumerate(KINDS):
            gained = mean_ap(record, (record.mended[:, column, None] & bits) != 0) - usual
            self.cost[kind.name.lower()] = float(gained.mean())
            self.cost50[kind.name.lower()] = float(gained[0])

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dict a kind: `Error`, `Points`, `Share` of all labeled points, `mAP50-95` and `mAP50` gained.

        Args:
            normalize: without effect here.
            decimals: digits after the point.
        """
        total = max(sum(self.points.values()), 1)
        return [
            {
                "Error": name,
                "Points": self.points[name],
                "Share": round(self.points[name] / total, decimals),
                "mAP50-95": round(self.cost[name], decimals),
                "mAP50": round(self.cost50[name], decimals),
            }
            for name in self.cost
        ]
