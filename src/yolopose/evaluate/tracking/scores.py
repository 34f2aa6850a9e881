"""CLEAR MOT, identity and HOTA scores of one video, and their combination over videos.

Definitions: CLEAR: Bernardin and Stiefelhagen, 2008 (doi:10.1155/2008/246309). IDF1: Ristani et al., 2016
(arXiv:1609.01775). HOTA: Luiten et al., 2020 (arXiv:2009.07736). The numbers are those of TrackEval, also where a
definition leaves a choice: switches are counted against the last id of a ground-truth track, however long ago, matches
of the previous evaluated frame are continued before the similarity decides, and a video without tracks or ground truth
has the localization accuracy 1.
"""

from __future__ import annotations

import functools
import importlib
import operator
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from yolopose.base.errors import DependencyError
from yolopose.data.tracks.tracks import Floats, Integers
from yolopose.evaluate.tracking.association import Association

ALPHAS = np.arange(0.05, 0.99, 0.05)
"""(19,) similarity thresholds of HOTA."""
_EPS = float(np.finfo(np.float64).eps)
_CONTINUE = 1000.0  # outweighs every sum of similarities
_MOSTLY_TRACKED = 0.8
_MOSTLY_LOST = 0.2

Scores = TypeVar("Scores", "ClearScores", "IdentityScores", "HotaScores")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearScores:
    """CLEAR MOT counts of one or several videos.

    Attributes:
        tp: matched instances.
        fn: ground-truth instances without a match.
        fp: tracked instances without a match.
        switches: how often the id of a ground-truth track changes.
        fragments: how often a ground-truth track is interrupted and found again.
        mostly_tracked: ground-truth tracks that are matched in more than 80 % of their frames.
        partly_tracked: those that are matched in 20 % to 80 %.
        mostly_lost: those that are matched in less than 20 %.
        frames: number of frames.
        similarity_sum: sum of the similarities of the matches.
    """

    tp: int = 0
    fn: int = 0
    fp: int = 0
    switches: int = 0
    fragments: int = 0
    mostly_tracked: int = 0
    partly_tracked: int = 0
    mostly_lost: int = 0
    frames: int = 0
    similarity_sum: float = 0.0

    @property
    def mota(self) -> float:
        """Accuracy, 1 - (fn + fp + switches) / ground-truth instances; can be negative; 0 without ground truth."""
        total = self.tp + self.fn
        return (self.tp - self.fp - self.switches) / total if total else 0.0

    @property
    def motp(self) -> float:
        """Precision, the mean similarity of the matches; 0 without matches."""
        return self.similarity_sum / max(self.tp, 1)

    @property
    def recall(self) -> float:
        """Matched share of the ground-truth instances."""
        return self.tp / max(self.tp + self.fn, 1)

    @property
    def precision(self) -> float:
        """Matched share of the tracked instances."""
        return self.tp / max(self.tp + self.fp, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityScores:
    """Counts of the best one-to-one assignment of whole tracks.

    Attributes:
        tp: instances of assigned tracks that match.
        fn: ground-truth instances without such a match.
        fp: tracked instances without such a match.
    """

    tp: int = 0
    fn: int = 0
    fp: int = 0

    @property
    def idf1(self) -> float:
        """Harmonic mean of precision and recall."""
        return self.tp / max(self.tp + 0.5 * self.fp + 0.5 * self.fn, 1)

    @property
    def idp(self) -> float:
        """Precision."""
        return self.tp / max(self.tp + self.fp, 1)

    @property
    def idr(self) -> float:
        """Recall."""
        return self.tp / max(self.tp + self.fn, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HotaScores:
    """HOTA sums for each of the thresholds `ALPHAS`; the properties without `_alpha` are means over them.

    Attributes:
        tp: (19,) matched instances.
        fn: (19,) ground-truth instances without a match.
        fp: (19,) tracked instances without a match.
        association_sum: (19,) sum over the matches of the Jaccard index of their two tracks.
        recall_sum: (19,) sum over the matches of the matched share of their ground-truth track.
        precision_sum: (19,) sum over the matches of the matched share of their track.
        similarity_sum: (19,) sum over the matches of their similarity.
    """

    tp: Floats
    fn: Floats
    fp: Floats
    association_sum: Floats
    recall_sum: Floats
    precision_sum: Floats
    similarity_sum: Floats

    @property
    def deta_alpha(self) -> Floats:
        """(19,) detection accuracy."""
        return self.tp / np.maximum(self.tp + self.fn + self.fp, 1)

    @property
    def assa_alpha(self) -> Floats:
        """(19,) association accuracy."""
        return self.association_sum / np.maximum(self.tp, 1)

    @property
    def hota_alpha(self) -> Floats:
        """(19,) geometric mean of detection and association accuracy."""
        return np.sqrt(self.deta_alpha * self.assa_alpha)

    @property
    def loca_alpha(self) -> Floats:
        """(19,) localization accuracy, the mean similarity of the matches; 1 without matches."""
        return np.maximum(1e-10, self.similarity_sum) / np.maximum(1e-10, self.tp)

    @property
    def hota(self) -> float:
        """Higher order tracking accuracy."""
        return float(self.hota_alpha.mean())

    @property
    def deta(self) -> float:
        """Detection accuracy."""
        return float(self.deta_alpha.mean())

    @property
    def assa(self) -> float:
        """Association accuracy."""
        return float(self.assa_alpha.mean())

    @property
    def loca(self) -> float:
        """Localization accuracy."""
        return float(self.loca_alpha.mean())

    @property
    def detre(self) -> float:
        """Detection recall."""
        return float((self.tp / np.maximum(self.tp + self.fn, 1)).mean())

    @property
    def detpr(self) -> float:
        """Detection precision."""
        return float((self.tp / np.maximum(self.tp + self.fp, 1)).mean())

    @property
    def assre(self) -> float:
        """Association recall."""
        return float((self.recall_sum / np.maximum(self.tp, 1)).mean())

    @property
    def asspr(self) -> float:
        """Association precision."""
        return float((self.precision_sum / np.maximum(self.tp, 1)).mean())


def combine(scores: Sequence[Scores]) -> Scores:
    """Combine the scores of several videos: all counts and sums are added.

    Args:
        scores: at least one, of the same kind.
    """
    kind = type(scores[0])
    sums: dict[str, Any] = {
        field.name: functools.reduce(operator.add, [getattr(score, field.name) for score in scores])
        for field in fields(kind)
    }
    return kind(**sums)


def require_scipy() -> Any:
    """Import `scipy.optimize`.

    Raises:
        DependencyError: scipy is not installed.
    """
    try:
        return importlib.import_module("scipy.optimize")
    except ImportError as error:
        raise DependencyError(
            'Tracking needs scipy, which is not installed. Install with: pip install "yolopose[track]"'
        ) from error


def clear_scores(association: Association, threshold: float = 0.5) -> ClearScores:
    """Compute the CLEAR MOT counts of one video.

    Args:
        association: ids and similarities.
        threshold: least similarity of a match.
    """
    num_gt, num_tracked = association.num_gt, association.num_tracked
    if num_tracked == 0:
        return ClearScores(fn=num_gt, mostly_lost=association.num_gt_ids, frames=len(association.gt_ids))
    if num_gt == 0:
        return ClearScores(fp=num_tracked, frames=len(association.gt_ids))
    assign = require_scipy().linear_sum_assignment
    count = association.num_gt_ids
    last_id = np.full(count, -1)  # of any earlier frame
    previous_id = np.full(count, -1)  # of the previous frame with instances on both sides
    present = np.zeros(count, np.int64)
    matched = np.zeros(count, np.int64)
    restarts = np.zeros(count, np.int64)
    tp = switches = 0
    similarity_sum = 0.0
    for gt_ids, track_ids, similarity in zip(
        association.gt_ids, association.track_ids, association.similarity, strict=True
    ):
        present[gt_ids] += 1
        if len(gt_ids) == 0 or len(track_ids) == 0:
            continue
        score = _CONTINUE * (track_ids[None] == previous_id[gt_ids][:, None]) + similarity
        score[similarity < threshold - _EPS] = 0
        rows, columns = assign(-score)
        is_match = score[rows, columns] > _EPS
        rows, columns = rows[is_match], columns[is_match]
        gt_matched, track_matched = gt_ids[rows], track_ids[columns]
        switches += int(((last_id[gt_matched] != -1) & (last_id[gt_matched] != track_matched)).sum())
        restarts[gt_matched[previous_id[gt_matched] == -1]] += 1
        last_id[gt_matched] = track_matched
        previous_id[:] = -1
        previous_id[gt_matched] = track_matched
        matched[gt_matched] += 1
        tp += len(rows)
        similarity_sum += float(similarity[rows, columns].sum())
    share = matched[present > 0] / present[present > 0]
    mostly_tracked = int((share > _MOSTLY_TRACKED).sum())
    partly_tracked = int((share >= _MOSTLY_LOST).sum()) - mostly_tracked
    return ClearScores(
        tp=tp,
        fn=num_gt - tp,
        fp=num_tracked - tp,
        switches=switches,
        fragments=int((restarts[restarts > 0] - 1).sum()),
        mostly_tracked=mostly_tracked,
        partly_tracked=partly_tracked,
        mostly_lost=count - mostly_tracked - partly_tracked,
        frames=len(association.gt_ids),
        similarity_sum=similarity_sum,
    )


def identity_scores(association: Association, threshold: float = 0.5) -> IdentityScores:
    """Compute the identity counts of one video.

    Args:
        association: ids and similarities.
        threshold: least similarity of a match.
    """
    num_gt, num_tracked = association.num_gt, association.num_tracked
    if num_gt == 0 or num_tracked == 0:
        return IdentityScores(fn=num_gt, fp=num_tracked)
    matches = np.zeros((association.num_gt_ids, association.num_track_ids))
    for gt_ids, track_ids, similarity in zip(
        association.gt_ids, association.track_ids, association.similarity, strict=True
    ):
        rows, columns = np.nonzero(similarity >= threshold)
        matches[gt_ids[rows], track_ids[columns]] += 1
    # Leaving a track unassigned never costs less than a pair without matches, so that the best assignment of the
    # usual square problem with dummy tracks is the one with the most matches.
    rows, columns = require_scipy().linear_sum_assignment(-matches)
    tp = int(matches[rows, columns].sum())
    return IdentityScores(tp=tp, fn=num_gt - tp, fp=num_tracked - tp)


def hota_scores(association: Association) -> HotaScores:
    """Compute the HOTA sums of one video.

    Args:
        association: ids and similarities.
    """
    gt_count, track_count, alignment = _alignment(association)
    pairs, values = _aligned_pairs(association, alignment)
    # only pairs of tracks that meet, since the matrix of all pairs for 19 thresholds can be large
    names, index = np.unique(pairs, return_inverse=True)
    is_match = values >= (ALPHAS - _EPS)[:, None]
    matches = np.stack([np.bincount(index[row], minlength=len(names)) for row in is_match]).astype(np.float64)
    tp = matches.sum(axis=1)
    gt_length = gt_count[names // max(association.num_track_ids, 1)]
    track_length = track_count[names % max(association.num_track_ids, 1)]
    return HotaScores(
        tp=tp,
        fn=association.num_gt - tp,
        fp=association.num_tracked - tp,
        association_sum=(matches * matches / np.maximum(1, gt_length + track_length - matches)).sum(axis=1),
        recall_sum=(matches * matches / gt_length).sum(axis=1),
        precision_sum=(matches * matches / track_length).sum(axis=1),
        similarity_sum=(values * is_match).sum(axis=1),
    )


def _aligned_pairs(association: Association, alignment: Floats) -> tuple[Integers, Floats]:
    """Assign instances in each frame; return of all frames (M,) gt index · num_track_ids + track index, similarity."""
    pairs: list[Integers] = [np.zeros(0, np.int64)]
    values: list[Floats] = [np.zeros(0)]
    if association.num_gt and association.num_tracked:
        assign = require_scipy().linear_sum_assignment
        for gt_ids, track_ids, similarity in zip(
            association.gt_ids, association.track_ids, association.similarity, strict=True
        ):
            if len(gt_ids) and len(track_ids):
                rows, columns = assign(-alignment[gt_ids[:, None], track_ids[None]] * similarity)
                pairs.append(gt_ids[rows] * association.num_track_ids + track_ids[columns])
                values.append(similarity[rows, columns])
    return np.concatenate(pairs), np.concatenate(values)


def _alignment(association: Association) -> tuple[Integers, Integers, Floats]:
    """Return (G,) and (T,) lengths of the tracks, and the (G, T) soft Jaccard index of each pair of tracks."""
    gt_count = np.zeros(association.num_gt_ids, np.int64)
    track_count = np.zeros(association.num_track_ids, np.int64)
    overlap = np.zeros((association.num_gt_ids, association.num_track_ids))
    for gt_ids, track_ids, similarity in zip(
        association.gt_ids, association.track_ids, association.similarity, strict=True
    ):
        gt_count[gt_ids] += 1
        track_count[track_ids] += 1
        total = similarity.sum(axis=0)[None] + similarity.sum(axis=1)[:, None] - similarity
        overlap[gt_ids[:, None], track_ids[None]] += np.divide(
            similarity, total, out=np.zeros_like(similarity), where=total > _EPS
        )
    union = gt_count[:, None] + track_count[None] - overlap
    return gt_count, track_count, overlap / np.maximum(union, _EPS)
