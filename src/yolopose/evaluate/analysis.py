"""Everything that is told of a run beyond the mean AP, made when it is asked for."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from yolopose.base.errors import UsageError
from yolopose.evaluate.accumulate import AREA_SHARE
from yolopose.evaluate.comparison import Comparison, compare
from yolopose.evaluate.errors import PoseErrors
from yolopose.evaluate.intervals import Interval, intervals
from yolopose.evaluate.points import KeypointScores
from yolopose.evaluate.record import Record, load_record
from yolopose.evaluate.reliability import BINS, Reliability, reliability
from yolopose.evaluate.slices import Slices
from yolopose.schema import PoseSpec


class Analysis:
    """Mixin of the metrics object: numbers that are made of the record of a run.

    Attributes:
        record: what the run keeps of each detection and truth; None before a run, and where `update_stats` alone was
            used.
        spec: classes and keypoints of its data set.
    """

    record: Record | None = None
    spec: PoseSpec | None = None

    def keep(self, record: Record, spec: PoseSpec) -> None:
        """Take the record of a run."""
        self.record, self.spec = record, spec
        for name in ("keypoints", "errors", "slices", "intervals"):
            self.__dict__.pop(name, None)

    @cached_property
    def keypoints(self) -> KeypointScores:
        """Each keypoint by its name: OKS, PCK, distance, visibility, left and right inverted."""
        record, spec = self.kept()
        return KeypointScores(record, spec, AREA_SHARE)

    @cached_property
    def errors(self) -> PoseErrors:
        """Jitter, inversions, swaps and misses: how many, and the AP that each kind costs."""
        return PoseErrors(self.kept()[0])

    @cached_property
    def slices(self) -> Slices:
        """AP by size, crowding and number of labeled points."""
        record, spec = self.kept()
        return Slices(record, spec.keypoints.count)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Bootstrap interval (95 %, over images) of `mAP50(B)`, `mAP50-95(B)`, `mAP50(P)` and `mAP50-95(P)`."""
        return intervals(self.kept()[0])

    def reliability(self, kind: str = "pose", bins: int = BINS) -> Reliability:
        """Return how far confidences can be believed, and the one with the best F1.

        Args:
            kind: `box` (hits by IoU .50) or `pose` (by OKS .50).
            bins: number of bins of the curve.

        Raises:
            UsageError: another kind.
        """
        if kind not in ("box", "pose"):
            raise UsageError(f"kind={kind!r} is not possible: it is box or pose.")
        return reliability(self.kept()[0], kind, bins)

    def compare(self, other: Analysis | str | Path) -> Comparison:
        """Compare this run (A) with another on the same images (B).

        Args:
            other: its metrics, or its folder.

        Raises:
            DataError: the runs measured different sets.
        """
        theirs = other.kept()[0] if isinstance(other, Analysis) else load_record(other)
        return compare(self.kept()[0], theirs)

    def kept(self) -> tuple[Record, PoseSpec]:
        """Return the record of the run, and the classes and keypoints of its data set.

        Raises:
            UsageError: these metrics are of no run.
        """
        if self.record is None or self.spec is None:
            raise UsageError(
                "These metrics hold no record of detections: they are of no validation run. `model.val(…)` returns "
                "metrics that do."
            )
        return self.record, self.spec
