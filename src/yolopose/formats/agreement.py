"""How far the output of a file is from that of the network, in the units that people think in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.schema import ModelMetadata

Float32 = npt.NDArray[np.float32]

_SHOWN = 20  # cells compared in an image: those that score highest, of which detections are made
_TIED = 0.001  # scores so near to one another change places by rounding


@dataclass(frozen=True, slots=True)
class Agreement:
    """Differences between a file and its network.

    Attributes:
        box: of box coordinates, pixels.
        score: of scores, 0…1.
        point: of keypoints, pixels.
        empty: whether nothing was there to compare, since neither found anything.
    """

    box: float
    score: float
    point: float
    empty: bool = False

    def __str__(self) -> str:
        if self.empty:
            return "neither finds anything on it"
        return f"boxes within {self.box:.2g} px, scores within {self.score:.1g}, keypoints within {self.point:.2g} px"

    def worse(self, other: Agreement) -> Agreement:
        """Return the larger difference of each kind."""
        if self.empty or other.empty:
            return other if self.empty else self
        pairs = ((self.box, other.box), (self.score, other.score), (self.point, other.point))
        box, score, point = (float(np.max(pair)) for pair in pairs)  # NaN stays NaN
        return Agreement(box, score, point)

    def within(self, pixels: float, share: float) -> bool:
        """Whether boxes and keypoints differ by at most so many pixels, and scores by that share; NaN never does."""
        return self.empty or (self.box <= pixels and self.point <= pixels and self.score <= share)


@dataclass(frozen=True, slots=True)
class Simulated:
    """What the `export` of a file for a chip that is not here says: a stand-in was run instead of the file.

    Attributes:
        words: a few on what is in the file.
        agreement: of the stand-in with the network.
        checked: a sentence on what was compared, and what was not.
    """

    words: str
    agreement: Agreement
    checked: str


NOTHING = Agreement(0.0, 0.0, 0.0, empty=True)


def of_cells(found: Float32, expected: Float32, metadata: ModelMetadata, least: float = 0.0) -> Agreement:
    """Compare (B, 4+nc+K·D[+2·K], A) outputs: the largest differences in the cells that score highest.

    Args:
        found: of the file.
        expected: of the network.
        metadata: of the file.
        least: share of an image's best score below which scores alone are compared: there is nothing in such a cell,
            and its box and points go anywhere with less exact numbers.
    """
    nc, (count, dims) = metadata.spec.nc, metadata.spec.keypoints.shape
    cells = np.argsort(-expected[:, 4 : 4 + nc].max(1), axis=1)[:, None, :_SHOWN]
    mine, theirs = (np.take_along_axis(values, cells, 2) for values in (found, expected))
    apart = np.abs(mine - theirs)
    score = float(apart[:, 4 : 4 + nc].max())
    apart *= _count(np.maximum(mine, theirs)[:, 4 : 4 + nc].max(1, keepdims=True), least)
    points = apart[:, 4 + nc : 4 + nc + count * dims].reshape(len(apart), count, dims, apart.shape[2])[:, :, :2]
    return Agreement(float(apart[:, :4].max()), score, float(points.max()))


def of_best(found: Float32, expected: Float32, metadata: ModelMetadata, least: float = 0.0) -> Agreement:
    """Compare the best of (B, N, 6+K·D[+2·K]) outputs, each with the nearest: near-tied ones change places.

    One that scores hardly more than the last of all may have lost its place in the other output, as all of a network do
    that has learned nothing; of those, scores alone are compared. For the arguments see `of_cells`.
    """
    count, dims = metadata.spec.keypoints.shape
    places = [*range(4), *(6 + dims * point + axis for point in range(count) for axis in (0, 1))]
    wanted = expected[:, :_SHOWN]
    apart = np.abs(wanted[:, :, None, places] - found[:, None, :, places]).max(3)
    nearest = np.take_along_axis(found, apart.argmin(2)[..., None], 1)
    values = np.abs(nearest - wanted)
    score = float(values[..., 4].max())
    last = np.minimum(found[:, -1:, 4], expected[:, -1:, 4])
    counts = _count(np.maximum(nearest, wanted)[..., 4], least) & (wanted[..., 4] >= last + _TIED)
    values *= counts[..., None]
    empty = not counts.any() and score < _TIED
    return Agreement(float(values[..., :4].max()), score, float(values[..., places[4:]].max()), empty)


def _count(scores: Float32, least: float) -> npt.NDArray[np.bool_]:
    """Which scores reach a share of the best along the last axis."""
    return scores >= least * scores.max(-1, keepdims=True, initial=0)


def of_detections(
    found: Float32, expected: Float32, metadata: ModelMetadata, conf: float, share: float, least: float = 0.0
) -> Agreement:
    """Compare (B, N, 6+K·D) outputs: the largest differences between each detection and the other's nearest.

    Args:
        found: of the file.
        expected: of the network.
        metadata: of the file.
        conf: what scores must exceed in both.
        share: rounding of scores: what exceeds `conf` by a smaller share may be missing on the other side.
        least: see `of_cells`.

    Returns:
        Infinite differences where one side has a detection and the other has none of its class at all.
    """
    total = NOTHING
    for mine, theirs in zip(found, expected, strict=True):
        for one, other in ((mine, theirs), (theirs, mine)):
            for row in one[(one[:, 4] * (1 - share) > conf) & _count(one[:, 4], least)]:
                total = total.worse(_nearest(row, other[(other[:, 4] > 0) & (other[:, 5] == row[5])], metadata))
    return total


def _nearest(row: Float32, others: Float32, metadata: ModelMetadata) -> Agreement:
    """Differences between a detection and the one whose box is nearest."""
    if not len(others):
        return Agreement(np.inf, np.inf, np.inf)
    apart = np.abs(others - row)
    nearest = apart[apart[:, :4].max(1).argmin()]
    points = nearest[6:].reshape(-1, metadata.spec.keypoints.dims)[:, :2]
    return Agreement(float(nearest[:4].max()), float(nearest[4]), float(points.max()))
