"""Base class of the criteria: assignment, normalization over processes, and loss terms by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from yolopose.config import LossOptions
from yolopose.criterion.assign import AssignerConfig, Assignment, assign
from yolopose.criterion.candidates import Pairs, candidate_rectangles, list_pairs
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
        names: names of the terms.
        values: (T,) gained terms, averaged over images, without gradient.
    """

    total: Tensor
    names: tuple[str, ...]
    values: Tensor

    @property
    def items(self) -> Mapping[str, Tensor]:
        """The terms by name."""
        return dict(zip(self.names, self.values.unbind(), strict=True))

    def to_dict(self) -> dict[str, float]:
        """Return the terms as floats; synchronizes with a GPU."""
        return dict(zip(self.names, self.values.tolist(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class BranchSums:
    """Unnormalized losses of the G branches of a head.

    Attributes:
        terms: (T, G) sums of each term, with gradient.
        counts: (C, G) what normalizes them, and what else is summed over processes, without gradient.
    """

    terms: Tensor
    counts: Tensor


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


class PreparedTargets(NamedTuple):
    """What the losses of a batch read beside the outputs of the network, on its device.

    Attributes:
        targets: ground truth; that of each branch of the head, one after the other.
        pairs: candidates of the assigner.
        points: (2, A) anchor points, grid units.
        strides: (A,) pixels per grid unit.
    """

    targets: Targets
    pairs: Pairs
    points: Tensor
    strides: Tensor


class Criterion(ABC):
    """Losses of a head's raw output against ground truth.

    Args:
        kpt_shape: (K, D); with D = 2 the visibility loss is 0.
        strides: stride of each level, pixels.
        sigmas: (K,) OKS σ of each keypoint, or (nc, K) where classes have different ones.
        gains: options with the gain of each term; the default gains if None.
        class_weights: (nc,) weights of the classes in the class loss; 1 each by default.
        assigner: similarity used for assignment, `box` (CIoU) or `oks`.
        point_mask: (nc, K) which keypoints each class has; None if every class has all of them.

    Attributes:
        terms: names of the loss terms, in the order of meters and results.csv.
        counts: names of the counts that normalize the terms.
        configs: configuration of the assigner for each branch of the head.
        kpt_scale: with `kpt_shift` the decoding of keypoints: scale · raw + anchor point + shift, in grid units.
    """

    terms: ClassVar[tuple[str, ...]]
    counts: ClassVar[tuple[str, ...]]
    configs: ClassVar[tuple[AssignerConfig, ...]]
    kpt_scale: ClassVar[float]
    kpt_shift: ClassVar[float]

    def __init__(
        self,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float] | Sequence[Sequence[float]],
        gains: LossOptions | None,
        class_weights: Sequence[float] | None,
        assigner: str,
        point_mask: Sequence[Sequence[bool]] | None = None,
    ) -> None:
        gains = gains or LossOptions()
        self._kpt_shape = kpt_shape
        self._strides = tuple(strides)
        self._assigner = assigner
        self._l1_gain = gains.kpt_l1
        self._gains = torch.tensor([float(getattr(gains, _GAIN_NAMES.get(term, term))) for term in self.terms])
        self._kpt_variance = (2 * torch.tensor(list(sigmas), dtype=torch.float32)).square()  # (2σ)², (K,) or (nc, K)
        self._point_weights = None if point_mask is None else _point_weights(torch.tensor(point_mask))
        self._class_weights = None if class_weights is None else torch.tensor(list(class_weights))[:, None]
        self._normalizers = torch.tensor([self.counts.index(_NORMALIZERS[term]) for term in self.terms])
        self._anchors_cache: dict[tuple[Shapes, torch.device], tuple[Tensor, Tensor]] = {}
        self._centers_cache: dict[Shapes, list[tuple[Tensor, Tensor]]] = {}
        # widened to the second stride, a small instance contains an anchor even where it lies between all centers
        self._min_side = float(self._strides[min(1, len(self._strides) - 1)])

    def __call__(self, output: HeadOutput, targets: Targets, reduce_fn: ReduceFn | None = None) -> LossTerms:
        """Compute the losses, in float32 for any precision of the network.

        Args:
            output: raw output for B images.
            targets: their ground truth; on the CPU no step synchronizes with a GPU.
            reduce_fn: for images that are a part of a batch, sums a (`num_counts`,) tensor over all parts. The losses
                are then this part's share of the losses of the whole batch: they sum up to them, and so do gradients.

        Returns:
            The total of all branches, and the terms of the last one.

        Raises:
            ModelError: the network was pruned to one branch.
        """
        device = output.scores.device
        return self.compute(output, self.prepare(targets, output.shapes, len(output.scores), device), reduce_fn)

    def prepare(
        self,
        targets: Targets,
        shapes: Shapes,
        images: int,
        device: torch.device,
        configs: Sequence[AssignerConfig] | None = None,
    ) -> PreparedTargets:
        """List the candidate pairs and copy the targets to the device; nothing here depends on the network.

        Args:
            targets: ground truth of a batch; on the CPU no step synchronizes with a GPU.
            shapes: (height, width) of each level, in anchors.
            images: images of the batch.
            device: where the network computes.
            configs: of each branch; `configs` of the class by default.
        """
        configs = configs or self.configs
        self._move(device)
        targets = targets.repeat(len(configs), images)
        match_level = any(config.match_level for config in configs)
        rectangles = candidate_rectangles(
            targets.boxes, self._level_centers(shapes), self._min_side, self._strides if match_level else None
        )
        return PreparedTargets(targets.to(device), list_pairs(rectangles, device), *self._anchors(shapes, device))

    def compute(self, output: HeadOutput, prepared: PreparedTargets, reduce_fn: ReduceFn | None = None) -> LossTerms:
        """Compute the losses of prepared targets, see `__call__`; `torch.compile` captures it in one graph."""
        branches = self._branches(output)
        sums = self._sums(branches, prepared, self.configs)
        images: Tensor | int = len(output.scores)
        if reduce_fn is not None:
            reduced = reduce_fn(torch.cat((sums.counts.flatten(), sums.counts.new_full((1,), images))))
            sums = BranchSums(sums.terms, reduced[:-1].view_as(sums.counts))
            images = reduced[-1]
        values = self._normalize(sums)
        total = self._combine(values.sum(0)) * images
        return LossTerms(total, self.terms, values[:, -1].detach())

    @property
    def num_counts(self) -> int:
        """Values that one call of the criterion passes to `reduce_fn`."""
        return len(self.counts) * len(self.configs) + 1

    def empty(self, device: torch.device, reduce_fn: ReduceFn) -> LossTerms:
        """Return zero losses of a part of a batch without images, and take part in the sum over processes."""
        reduce_fn(torch.zeros(self.num_counts, device=device))
        return LossTerms(torch.zeros((), device=device), self.terms, torch.zeros(len(self.terms), device=device))

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
    def _box_rows(self, boxes: Tensor, positives: Positives, size: tuple[int, int]) -> dict[str, Tensor]:
        """Return the (R,) box terms of (R, C) raw boxes; size is (height, width) of the input in pixels."""

    def _extra_rows(
        self, outputs: Sequence[HeadOutput], error: Tensor, labeled: Tensor, positives: Positives
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return (R,) terms and counts beyond those of all heads."""
        del outputs, error, labeled, positives
        return {}, {}

    def _branches(self, output: HeadOutput) -> Sequence[HeadOutput]:
        """Return the outputs of each branch."""
        return (output,)

    def _combine(self, totals: Tensor) -> Tensor:
        """Return the loss of a batch from the (G,) losses of its branches."""
        return totals[0]

    def _sums(
        self, outputs: Sequence[HeadOutput], prepared: PreparedTargets, configs: Sequence[AssignerConfig]
    ) -> BranchSums:
        """Assign anchors and sum the loss terms of each branch; the branches are computed as one batch of images."""
        boxes, scores, kpts = (join_branches(outputs, name) for name in ("boxes", "scores", "kpts"))
        targets, _, points, strides = prepared
        assigned = self._assign(boxes.detach(), scores.detach(), kpts.detach(), prepared, configs)
        row_strides = strides[assigned.anchor_idx]
        gt_boxes = targets.boxes[assigned.gt_idx] / row_strides[:, None]
        positives = Positives(assigned, points.T[assigned.anchor_idx], row_strides, gt_boxes, targets)
        height, width = (side * self._strides[0] for side in outputs[0].shapes[0])
        rows = self._box_rows(gather_positives(boxes, assigned), positives, (height, width))
        raw = gather_positives(kpts, assigned).unflatten(1, self._kpt_shape)  # (R, K, D)
        xy = torch.add(positives.points[:, None] + self.kpt_shift, raw[..., :2], alpha=self.kpt_scale)
        variance = self._kpt_variance
        if variance.ndim == 2:
            variance = variance[targets.classes[assigned.gt_idx]]
        rows["pose"], error, labeled = keypoint_loss(xy, row_strides, variance, assigned, targets, self._l1_gain)
        rows["kobj"] = self._visibility_rows(raw, outputs, labeled, positives)
        soft = soft_targets(scores, assigned, targets)
        cls = self._class_losses(scores, soft, len(outputs))
        counts = {"scores": assigned.weight, "keypoints": assigned.mask * float(self._kpt_shape[0])}
        extra_rows, extra_counts = self._extra_rows(outputs, error, labeled, positives)
        rows |= extra_rows
        counts |= extra_counts
        names = [term for term in self.terms if term != "cls"]
        columns = [rows[name] for name in names] + [counts[name] for name in self.counts]
        sums = torch.stack(columns).view(len(columns), len(outputs), -1).sum(2)
        index = self.terms.index("cls")
        terms = torch.cat((sums[:index], cls[None], sums[index : len(names)]))
        return BranchSums(terms, sums[len(names) :].detach())

    def _class_losses(self, scores: Tensor, soft: Tensor, branches: int) -> Tensor:
        """Return the (G,) sums of the binary cross entropy of the scores of each branch."""
        losses = [
            functional.binary_cross_entropy_with_logits(*pair, self._class_weights, reduction="sum")
            for pair in zip(scores.chunk(branches), soft.chunk(branches), strict=True)
        ]
        return torch.stack(losses)

    def _visibility_rows(
        self, raw: Tensor, outputs: Sequence[HeadOutput], labeled: Tensor, positives: Positives
    ) -> Tensor:
        """Return the (R,) `visibility_loss` of (R, K, D) raw keypoints; 0 with D = 2."""
        assigned, targets = positives.assigned, positives.targets
        if self._kpt_shape[1] == 2:
            return torch.zeros_like(positives.strides)
        weights = None if self._point_weights is None else self._point_weights[targets.classes[assigned.gt_idx]]
        if outputs[0].states is None:
            return visibility_loss(raw[..., 2], labeled, assigned, weights=weights)
        hidden = (targets.keypoints[assigned.gt_idx][..., 2] == 1).float()
        states = gather_positives(join_branches(outputs, "states"), assigned)
        return visibility_loss(raw[..., 2], labeled, assigned, states=states, hidden=hidden, weights=weights)

    def _assign(
        self, boxes: Tensor, scores: Tensor, kpts: Tensor, prepared: PreparedTargets, configs: Sequence[AssignerConfig]
    ) -> Assignment:
        targets, pairs, points, strides = prepared
        sides = self._decode_sides(boxes)
        corners = (torch.cat((points - sides[:, :2], points + sides[:, 2:]), 1) * strides).transpose(1, 2)
        similarity = box_similarity(corners)
        if self._assigner == "oks":
            raw = kpts.unflatten(1, self._kpt_shape)[:, :, :2]
            xy = torch.add(points + self.kpt_shift, raw, alpha=self.kpt_scale) * strides
            similarity = keypoint_similarity(xy, corners, self._kpt_variance)
        return assign(scores.sigmoid(), corners, pairs, targets, configs, similarity)

    def _normalize(self, sums: BranchSums) -> Tensor:
        """Return the (T, G) terms: sums divided by the batch-wide counts, times the gains."""
        return sums.terms / sums.counts.clamp(min=1)[self._normalizers] * self._gains[:, None]

    def _level_centers(self, shapes: Shapes) -> list[tuple[Tensor, Tensor]]:
        """Return `level_centers` of these level shapes on the CPU, cached."""
        if shapes not in self._centers_cache:
            if len(self._centers_cache) >= _MAX_CACHED_SHAPES:
                self._centers_cache.clear()
            self._centers_cache[shapes] = level_centers(shapes, self._strides)
        return self._centers_cache[shapes]

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
            self._normalizers = self._normalizers.to(device)
            if self._point_weights is not None:
                self._point_weights = self._point_weights.to(device)
            if self._class_weights is not None:
                self._class_weights = self._class_weights.to(device)


def join_branches(outputs: Sequence[HeadOutput], name: str) -> Tensor:
    """Return an output of all branches as one batch in float32: (G·B, C, A)."""
    values: list[Tensor] = [getattr(output, name).float() for output in outputs]
    return values[0] if len(values) == 1 else torch.cat(values)


def _point_weights(mask: Tensor) -> Tensor:
    """(nc, K) which keypoints each class has → their weights, so that all instances weigh alike: K / number, or 0."""
    return mask * (mask.shape[1] / mask.sum(1, keepdim=True).clamp(min=1))
