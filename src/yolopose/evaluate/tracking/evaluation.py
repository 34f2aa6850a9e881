"""`evaluate_tracks`: all scores of tracks against a ground truth, as values, table and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.data.tracks import Tracks, read_tracks
from yolopose.data.tracks.files import match_videos
from yolopose.evaluate.tracking.association import Association, associate
from yolopose.evaluate.tracking.motion import jitter, point_error
from yolopose.evaluate.tracking.scores import (
    ALPHAS,
    ClearScores,
    HotaScores,
    IdentityScores,
    clear_scores,
    combine,
    hota_scores,
    identity_scores,
)
from yolopose.results.tables import TableMixin, to_json

TrackSource = str | Path | Tracks | Sequence[Tracks]

_PERCENT = ("HOTA", "DetA", "AssA", "LocA", "IDF1", "IDP", "IDR", "MOTA", "MOTP")
_COUNTS = ("switches", "fragments", "MT", "ML", "FP", "FN")
_POINTS = ("jitter", "gt jitter", "point error")
_TITLES = {"switches": "Switch", "fragments": "Frag", "gt jitter": "GtJit", "jitter": "Jitter", "point error": "Err"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoMetrics:
    """Scores of one video, or of several together.

    Attributes:
        name: name of the video.
        hota: HOTA sums.
        clear: CLEAR counts.
        identity: identity counts.
        jitter: mean acceleration of the points of the tracks, see `motion.jitter`; NaN for boxes.
        gt_jitter: that of the ground truth.
        point_error: mean distance of matched points from the ground truth, see `motion.point_error`; NaN for boxes.
    """

    name: str
    hota: HotaScores
    clear: ClearScores
    identity: IdentityScores
    jitter: float = float("nan")
    gt_jitter: float = float("nan")
    point_error: float = float("nan")

    def values(self) -> dict[str, float]:
        """Return the scores by name; shares are 0…1."""
        hota, clear, identity = self.hota, self.clear, self.identity
        return {
            "HOTA": hota.hota,
            "DetA": hota.deta,
            "AssA": hota.assa,
            "LocA": hota.loca,
            "DetRe": hota.detre,
            "DetPr": hota.detpr,
            "AssRe": hota.assre,
            "AssPr": hota.asspr,
            "IDF1": identity.idf1,
            "IDP": identity.idp,
            "IDR": identity.idr,
            "MOTA": clear.mota,
            "MOTP": clear.motp,
            "switches": clear.switches,
            "fragments": clear.fragments,
            "MT": clear.mostly_tracked,
            "PT": clear.partly_tracked,
            "ML": clear.mostly_lost,
            "TP": clear.tp,
            "FP": clear.fp,
            "FN": clear.fn,
            "frames": clear.frames,
            "jitter": self.jitter,
            "gt jitter": self.gt_jitter,
            "point error": self.point_error,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingMetrics(TableMixin):
    """Scores of tracks of one or several videos.

    Attributes:
        similarity: `box` or `oks`.
        threshold: least similarity of a match in CLEAR and IDF1.
        videos: scores of each video.
        combined: scores of all videos together: counts are added; jitter and point error are means of the videos.
    """

    similarity: str
    threshold: float
    videos: tuple[VideoMetrics, ...]
    combined: VideoMetrics

    @property
    def hota(self) -> float:
        """HOTA of all videos."""
        return self.combined.hota.hota

    @property
    def deta(self) -> float:
        """Detection accuracy of all videos."""
        return self.combined.hota.deta

    @property
    def assa(self) -> float:
        """Association accuracy of all videos."""
        return self.combined.hota.assa

    @property
    def idf1(self) -> float:
        """IDF1 of all videos."""
        return self.combined.identity.idf1

    @property
    def mota(self) -> float:
        """MOTA of all videos."""
        return self.combined.clear.mota

    @property
    def switches(self) -> int:
        """Number of id switches in all videos."""
        return self.combined.clear.switches

    @property
    def fragments(self) -> int:
        """Number of interruptions in all videos."""
        return self.combined.clear.fragments

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dictionary per video, and a last one for all videos if there are several.

        Args:
            normalize: without effect; shares are always 0…1.
            decimals: number of decimals.
        """
        return [
            {"video": video.name, **{name: round(value, decimals) for name, value in video.values().items()}}
            for video in self._rows()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as plain values, HOTA also for each threshold."""
        hota = self.combined.hota
        curves = {"HOTA": hota.hota_alpha, "DetA": hota.deta_alpha, "AssA": hota.assa_alpha, "LocA": hota.loca_alpha}
        return {
            "similarity": self.similarity,
            "threshold": self.threshold,
            "combined": self.combined.values(),
            "videos": {video.name: video.values() for video in self.videos},
            "alphas": ALPHAS.round(2).tolist(),
            "curves": {name: values.tolist() for name, values in curves.items()},
        }

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return `to_dict` as JSON; NaN becomes null, and all digits are kept."""
        return to_json(self.to_dict())

    def table(self) -> str:
        """Return the scores as lines of text: shares in percent, jitter and error in units of σ."""
        points = _POINTS if any(np.isfinite(video.jitter) for video in self.videos) else ()
        names = [*_PERCENT, *_COUNTS, *points]
        width = max(8, *(len(video.name) for video in self._rows()))
        lines = [" " * width + "".join(f"{_TITLES.get(name, name):>7}" for name in names)]
        for video in self._rows():
            values = video.values()
            texts = (_format(name, values[name]) for name in names)
            lines.append(f"{video.name:>{width}}" + "".join(f"{text:>7}" for text in texts))
        return "\n".join(lines)

    def _rows(self) -> Iterator[VideoMetrics]:
        yield from self.videos
        if len(self.videos) > 1:
            yield self.combined


def _format(name: str, value: float) -> str:
    if not np.isfinite(value):
        return "-"
    if name in _PERCENT:
        return f"{100 * value:.2f}"
    return f"{value:.3f}" if name in _POINTS else f"{value:.0f}"


def evaluate_tracks(
    tracks: TrackSource,
    gt: TrackSource,
    similarity: str = "box",
    *,
    threshold: float = 0.5,
    sigmas: npt.ArrayLike | None = None,
    stride: int = 1,
) -> TrackingMetrics:
    """Compare tracks with a ground truth.

    Several videos are matched by the stem of their names, and combined as TrackEval does: counts are added.

    Args:
        tracks: a track file, a folder of them, or tracks in memory.
        gt: the ground truth, in the same forms.
        similarity: `box` (IoU) or `oks` (object keypoint similarity of poses).
        threshold: least similarity of a match in CLEAR and IDF1; HOTA is the mean over 0.05…0.95.
        sigmas: (K,) σ of the keypoints; those of the ground truth by default (of a COCO person for its 17 keypoints,
            else 1/K).
        stride: evaluate every n-th frame of the ground truth, for tracks with `vid_stride=n`.

    Returns:
        The scores of each video and of all together.

    Raises:
        NotFoundError: a file does not exist.
        DataError: a file is not valid, videos or frames do not fit, or ids or keypoints are missing.
        UsageError: an impossible argument.
        DependencyError: scipy is not installed.

    Examples:
        >>> metrics = evaluate_tracks("runs/pose/track/predictions.jsonl", "walk-gt.jsonl", "oks")
        >>> print(metrics.table())
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"threshold={threshold!r} is not possible: it is above 0 and up to 1.")
    if stride < 1:
        raise UsageError(f"stride={stride!r} is not possible: it is an integer from 1.")
    videos: list[VideoMetrics] = []
    for video, video_gt in match_videos(_load(tracks), _load(gt)):
        association = associate(video, video_gt, similarity, sigmas=sigmas, stride=stride)
        values = _point_values(video, video_gt, sigmas, stride) if similarity == "oks" else {}
        name = Path(video_gt.name or video.name).stem or "video"
        videos.append(_video_metrics(name, association, threshold, values))
    return TrackingMetrics(similarity=similarity, threshold=threshold, videos=tuple(videos), combined=_combined(videos))


def _load(source: TrackSource) -> Sequence[Tracks]:
    if isinstance(source, Tracks):
        return [source]
    return read_tracks(source) if isinstance(source, (str, Path)) else source


def _video_metrics(name: str, association: Association, threshold: float, values: dict[str, float]) -> VideoMetrics:
    return VideoMetrics(
        name=name,
        hota=hota_scores(association),
        clear=clear_scores(association, threshold),
        identity=identity_scores(association, threshold),
        **values,
    )


def _point_values(tracks: Tracks, gt: Tracks, sigmas: npt.ArrayLike | None, stride: int) -> dict[str, float]:
    sigma = gt.sigmas if sigmas is None else sigmas
    return {
        "jitter": jitter(tracks, sigma),
        "gt_jitter": jitter(gt, sigma),
        "point_error": point_error(tracks, gt, sigmas=sigma, stride=stride),
    }


def _combined(videos: Sequence[VideoMetrics]) -> VideoMetrics:
    def mean(values: list[float]) -> float:
        finite = [value for value in values if np.isfinite(value)]
        return float(np.mean(finite)) if finite else float("nan")

    return VideoMetrics(
        name="COMBINED",
        hota=combine([video.hota for video in videos]),
        clear=combine([video.clear for video in videos]),
        identity=combine([video.identity for video in videos]),
        jitter=mean([video.jitter for video in videos]),
        gt_jitter=mean([video.gt_jitter for video in videos]),
        point_error=mean([video.point_error for video in videos]),
    )
