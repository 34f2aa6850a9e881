"""Base class of the criteria: assignment, normalization over processes, and loss terms by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from yolopose.config import LossOptions
from yolopose.criterion.assign import AssignerConfig, Assignment, assign
from yolopose.criterion.similarity import box_similarity, keypoint_similarity
from yolopose.criterion.targets import Targets
from yolopose.criterion.terms import gather_positives, keypoint_loss, soft_targets, visibility_loss
from yolopose.nn import PoseModel
from yolopose.nn.head import HeadOutput, Shapes, anchor_points, level_centers

ReduceFn = Callable[[Tensor], Tensor]
"""Sums a tensor over the processes that share a batch."""

_MAX_CACHED_SHAPES = 32
_GAIN_NAMES = {"l1": "dfl"}  # terms whose gain is an option of another name

# the count that each term's sum is divided by
_NORMALIZERS = {
    "box": "scores", "cls": "scores", "dfl": "scores", "l1": "scores",
    "pose": "keypoints", "kobj": "keypoints", "rle": "rle_keypoints",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class LossTerms:
    """Losses of a batch.

    Attributes:
        total: the tensor to differentiate: sum of the gained terms × batch size.
        items: gained terms by name, averaged over images, without gradient.
    """

    total: Tensor
    items: Mapping[str, Tensor]

    @classmethod
    def from_values(cls, total: Tensor, names: Sequence[str], values: Tensor) -> LossTerms:
        """Make the losses from a (T,) tensor of terms."""
        return cls(total, dict(zip(names, values.unbind(), strict=True)))

    def stack(self) -> Tensor:
        """Return the terms as a (T,) tensor, in their order."""
        return torch.stack(list(self.items.values()))

    def to_dict(self) -> dict[str, float]:
        """Return the terms as floats; synchronizes with a GPU."""
        return dict(zip(self.items, self.stack().tolist(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class BranchSums:
    """Unnormalized losses of one branch of a head.

    Attributes:
        terms: sums over positives by name, with gradient.
        counts: by name what normalizes them, and what else is summed over processes, without gradient.
    """

    terms: dict[str, Tensor]
    counts: dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Positives:
    """What the loss terms read of the assignment's R rows.

    Attributes:
        assigned: the rows.
        points: (R, 2) anchor points, grid units.
        strides: (R,) pixels per grid unit.
        gt_boxes: (R, 4) x1, y1, x2, y2, grid units.
        targets: all ground truth, on the device of the network.
    """

    assigned: Assignment
    points: Tensor
    strides: Tensor
    gt_boxes: Tensor
    targets: Targets


class Criterion(ABC):
    """Losses of a head's raw output against ground truth.

    Args:
        kpt_shape: (K, D); with D = 2 the visibility loss is 0.
        strides: stride of each level, pixels.
        sigmas: (K,) OKS σ of each keypoint.
        gains: options with the gain of each term; the default gains if None.
        class_weights: (nc,) weights of the classes in the class loss; 1 each by default.
        assigner: similarity used for assignment, `box` (CIoU) or `oks`.

    Attributes:
        terms: names of the loss terms, in the order of meters and results.csv.
        num_counts: values that one call of the criterion passes to `reduce_fn`.
        kpt_scale: with `kpt_shift` the decoding of keypoints: scale · raw + anchor point + shift, in grid units.
    """

    terms: ClassVar[tuple[str, ...]]
    num_counts: ClassVar[int]
    kpt_scale: ClassVar[float]
    kpt_shift: ClassVar[float]

    def __init__(
        self,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float],
        gains: LossOptions | None,
        class_weights: Sequence[float] | None,
        assigner: str,
    ) -> None:
        gains = gains or LossOptions()
        self._kpt_shape = kpt_shape
        self._strides = tuple(strides)
        self._assigner = assigner
        self._l1_gain = gains.kpt_l1
        self._gains = torch.tensor([float(getattr(gains, _GAIN_NAMES.get(term, term))) for term in self.terms])
        self._kpt_variance = (2 * torch.tensor(list(sigmas), dtype=torch.float32)).square()  # (2σ)², (K,)
        self._class_weights = None if class_weights is None else torch.tensor(list(class_weights))[:, None]
        self._anchors_cache: dict[tuple[Shapes, torch.device], tuple[Tensor, Tensor]] = {}
        # widened to the second stride, a small instance contains an anchor even where it lies between all centers
        self._min_side = float(self._strides[min(1, len(self._strides) - 1)])

    @abstractmethod
    def __call__(self, output: HeadOutput, targets: Targets, reduce_fn: ReduceFn | None = None) -> LossTerms:
        """Compute the losses, in float32 for any precision of the network.

        Args:
            output: raw output for B images.
            targets: their ground truth; on the CPU no step synchronizes with a GPU.
            reduce_fn: for images that are a part of a batch, sums a (`num_counts`,) tensor over all parts. The losses
                are then this part's share of the losses of the whole batch: they sum up to them, and so do gradients.
        """

    def empty(self, device: torch.device, reduce_fn: ReduceFn) -> LossTerms:
        """Return zero losses of a part of a batch without images, and take part in the sum over processes."""
        reduce_fn(torch.zeros(self.num_counts, device=device))
        values = torch.zeros(1 + len(self.terms), device=device)
        return LossTerms.from_values(values[0], self.terms, values[1:])

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027  # most losses do not depend on it
        """Prepare for an epoch, counted from 0, of a run of `epochs`."""

    def for_network(self, network: PoseModel) -> Criterion:
        """Return the criterion for another network of the same kind; the same one where nothing in it is learned."""
        del network
        return self

    @abstractmethod
    def _decode_sides(self, boxes: Tensor) -> Tensor:
        """(B, C, A) raw boxes → (B, 4, A) distances to left, top, right, bottom in grid units."""

    @abstractmethod
    def _box_terms(self, boxes: Tensor, positives: Positives, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the sums of the box terms of (R, C) raw boxes; size is (height, width) of the input in pixels."""

    def _extra_sums(
        self, output: HeadOutput, error: Tensor, labeled: Tensor, positives: Positives
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return terms and counts beyond those of all heads."""
        del output, error, labeled, positives
        return {}, {}

    def _branch_sums(self, output: HeadOutput, targets: Targets, config: AssignerConfig) -> BranchSums:
        """Assign anchors and sum the loss terms of one branch."""
        device = output.scores.device
        self._move(device)
        boxes, scores, kpts = output.boxes.float(), output.scores.float(), output.kpts.float()
        points, strides = self._anchors(output.shapes, device)
        assigned = self._assign(boxes.detach(), scores.detach(), kpts.detach(), output.shapes, targets, config)
        targets = targets.to(device)
        row_strides = strides[assigned.anchor_idx]
        gt_boxes = targets.boxes[assigned.gt_idx] / row_strides[:, None]
        positives = Positives(assigned, points.T[assigned.anchor_idx], row_strides, gt_boxes, targets)
        soft = soft_targets(scores, assigned, targets)
        height, width = (side * self._strides[0] for side in output.shapes[0])
        terms = self._box_terms(gather_positives(boxes, assigned), positives, (height, width))
        raw = gather_positives(kpts, assigned).unflatten(1, self._kpt_shape)  # (R, K, D)
        xy = self.kpt_scale * raw[..., :2] + (positives.points[:, None] + self.kpt_shift)
        terms["pose"], error, labeled = keypoint_loss(
            xy, row_strides, self._kpt_variance, assigned, targets, self._l1_gain
        )
        has_visibility = self._kpt_shape[1] == 3
        terms["kobj"] = (
            visibility_loss(raw[..., 2], labeled, assigned) if has_visibility else torch.zeros_like(terms["pose"])
        )
        terms["cls"] = functional.binary_cross_entropy_with_logits(scores, soft, self._class_weights, reduction="sum")
        counts = {"scores": soft.sum(), "keypoints": assigned.mask.sum() * float(self._kpt_shape[0])}
        extra_terms, extra_counts = self._extra_sums(output, error, labeled, positives)
        return BranchSums(terms | extra_terms, counts | extra_counts)

    def _assign(
        self, boxes: Tensor, scores: Tensor, kpts: Tensor, shapes: Shapes, targets: Targets, config: AssignerConfig
    ) -> Assignment:
        points, strides = self._anchors(shapes, scores.device)
        sides = self._decode_sides(boxes)
        corners = (torch.cat((points - sides[:, :2], points + sides[:, 2:]), 1) * strides).transpose(1, 2)
        similarity = box_similarity(corners)
        if self._assigner == "oks":
            raw = kpts.unflatten(1, self._kpt_shape)[:, :, :2]
            xy = (self.kpt_scale * raw + (points + self.kpt_shift)) * strides
            similarity = keypoint_similarity(xy, corners, self._kpt_variance)
        labels_device = targets.boxes.device  # anchors beside the labels: reading them from a GPU would synchronize
        return assign(
            scores.sigmoid(),
            corners,
            level_centers(shapes, self._strides, labels_device),
            targets,
            min_side=self._min_side,
            config=config,
            strides=self._anchors(shapes, labels_device)[1] if config.match_level else None,
            similarity=similarity,
        )

    def _reduce(
        self, branches: Sequence[BranchSums], images: int, reduce_fn: ReduceFn | None
    ) -> tuple[list[dict[str, Tensor]], Tensor | int]:
        """Sum counts and number of images over the parts of a batch, with one call of `reduce_fn`."""
        if reduce_fn is None:
            return [branch.counts for branch in branches], images
        counts = [count.float() for branch in branches for count in branch.counts.values()]
        reduced = iter(reduce_fn(torch.stack([*counts, counts[0].new_full((), images)])).unbind())
        return [_take(branch.counts, reduced) for branch in branches], next(reduced)

    def _normalize(self, sums: BranchSums, counts: Mapping[str, Tensor], images: Tensor | int) -> LossTerms:
        """Divide the sums by the batch-wide counts and apply the gains."""
        means = [sums.terms[term] / counts[_NORMALIZERS[term]].clamp(min=1) for term in self.terms]
        values = torch.stack(means) * self._gains
        return LossTerms.from_values(values.sum() * images, self.terms, values.detach())

    def _anchors(self, shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `anchor_points` of these level shapes, cached."""
        if (shapes, device) not in self._anchors_cache:
            if len(self._anchors_cache) >= _MAX_CACHED_SHAPES:
                self._anchors_cache.clear()
            with torch.inference_mode(False):  # tensors cached during validation must be usable in training
                self._anchors_cache[shapes, device] = anchor_points(shapes, self._strides, device)
        return self._anchors_cache[shapes, device]

    def _move(self, device: torch.device) -> None:
        if self._gains.device != device:
            self._gains = self._gains.to(device)
            self._kpt_variance = self._kpt_variance.to(device)
            if self._class_weights is not None:
                self._class_weights = self._class_weights.to(device)


def _take(names: Mapping[str, Tensor], values: Iterator[Tensor]) -> dict[str, Tensor]:
    return {name: next(values) for name in names}
