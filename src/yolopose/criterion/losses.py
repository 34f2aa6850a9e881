"""The criteria of the two kinds of heads: one branch with bins (YOLOv8, YOLO11, YOLO12), two branches (YOLO26)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from yolopose.base.errors import ModelError
from yolopose.config import LossOptions
from yolopose.criterion.assign import AssignerConfig
from yolopose.criterion.base import BranchSums, Criterion, Positives, join_branches
from yolopose.criterion.terms import box_loss, distribution_focal_loss, gather_positives, rle_loss, rle_weights
from yolopose.nn import Pose26, PoseModel, RealNVP
from yolopose.nn.head import HeadOutput
from yolopose.schema import PoseSpec

ONE_TO_MANY = AssignerConfig(match_level=True)
ONE_TO_ONE = AssignerConfig(topk=7, one_to_one=True, match_level=True)
_O2M_WEIGHTS = (0.8, 0.1)  # share of the one-to-many branch at the start and at the end of a run


class PoseCriterion(Criterion):
    """Losses of a head with one branch and bins of distances (YOLOv8, YOLO11, YOLO12).

    Args:
        kpt_shape, strides, sigmas, gains, class_weights, assigner, point_mask: see `Criterion`.
    """

    terms = ("box", "pose", "kobj", "cls", "dfl")
    counts = ("scores", "keypoints")
    configs = (AssignerConfig(),)
    kpt_scale = 2.0
    kpt_shift = -0.5

    def __init__(
        self,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float] | Sequence[Sequence[float]],
        gains: LossOptions | None = None,
        class_weights: Sequence[float] | None = None,
        assigner: str = "box",
        point_mask: Sequence[Sequence[bool]] | None = None,
    ) -> None:
        super().__init__(kpt_shape, strides, sigmas, gains, class_weights, assigner, point_mask)

    def _decode_sides(self, boxes: Tensor) -> Tensor:
        return _expectation(boxes.unflatten(1, (4, -1)).softmax(2).transpose(2, 3))

    def _box_rows(self, boxes: Tensor, positives: Positives, size: tuple[int, int]) -> dict[str, Tensor]:
        logits = boxes.unflatten(1, (4, -1))  # (R, 4, bins)
        sides = _expectation(logits.softmax(2))
        return {
            "box": box_loss(sides, positives.points, positives.gt_boxes, positives.assigned),
            "dfl": distribution_focal_loss(logits, _target_sides(positives), positives.assigned),
        }


class DualCriterion(Criterion):
    """Losses of both branches of a `Pose26` head, whose shares change over a run.

    The one-to-many branch trains the features, the one-to-one branch learns to predict each instance once (YOLOv10,
    arXiv 2405.14458).

    Args:
        kpt_shape, strides, sigmas, gains, class_weights, assigner, point_mask: see `Criterion`.
        flow: density of the keypoint errors; it belongs to the network and is trained with it.

    Attributes:
        o2m_weight: share of the one-to-many branch in the total; the one-to-one branch has the rest.
    """

    terms = ("box", "pose", "kobj", "cls", "l1", "rle")
    counts = ("scores", "keypoints", "rle_keypoints", "rle_total")
    configs = (ONE_TO_MANY, ONE_TO_ONE)
    kpt_scale = 1.0
    kpt_shift = 0.0

    def __init__(
        self,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float] | Sequence[Sequence[float]],
        flow: RealNVP,
        gains: LossOptions | None = None,
        class_weights: Sequence[float] | None = None,
        assigner: str = "oks",
        point_mask: Sequence[Sequence[bool]] | None = None,
    ) -> None:
        super().__init__(kpt_shape, strides, sigmas, gains, class_weights, assigner, point_mask)
        self._flow = flow
        self._rle_weights = rle_weights(kpt_shape[0])
        self.o2m_weight = _O2M_WEIGHTS[0]
        self._shares = self._branch_shares()

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the shares of the branches for an epoch, counted from 0, of a run of `epochs`."""
        progress = epoch / (epochs - 1) if epochs > 1 else 0.0
        self.o2m_weight = _O2M_WEIGHTS[0] + (_O2M_WEIGHTS[1] - _O2M_WEIGHTS[0]) * min(progress, 1.0)
        self._shares = self._branch_shares()

    def for_network(self, network: PoseModel) -> DualCriterion:
        """Return the criterion for another network of the same kind, with a copy of that network's flow.

        Raises:
            ModelError: the network was pruned to one branch.
        """
        criterion = copy.copy(self)
        criterion._flow = copy.deepcopy(get_flow(network)).float()
        return criterion

    def _branch_shares(self) -> Tensor:
        """Return the (2,) shares of the branches in the total."""
        return torch.tensor([self.o2m_weight, 1 - self.o2m_weight], device=self._gains.device)

    def _branches(self, output: HeadOutput) -> Sequence[HeadOutput]:
        if output.one2one is None:
            raise _pruned_error()
        return output, output.one2one

    def _combine(self, totals: Tensor) -> Tensor:
        return (totals * self._shares).sum()

    def _decode_sides(self, boxes: Tensor) -> Tensor:
        return boxes

    def _box_rows(self, boxes: Tensor, positives: Positives, size: tuple[int, int]) -> dict[str, Tensor]:
        # distances are compared as shares of the input size, so that all levels weigh alike
        scale = positives.strides[:, None] / boxes.new_tensor([size[1], size[0]] * 2)
        difference = (boxes - _target_sides(positives)).abs() * scale
        return {
            "box": box_loss(boxes, positives.points, positives.gt_boxes, positives.assigned),
            "l1": difference.mean(1) * positives.assigned.weight,
        }

    def _extra_rows(
        self, outputs: Sequence[HeadOutput], error: Tensor, labeled: Tensor, positives: Positives
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if any(output.sigmas is None for output in outputs):
            raise _pruned_error()
        logits = gather_positives(join_branches(outputs, "sigmas"), positives.assigned).unflatten(1, (-1, 2))
        on_cpu = error.device.type == "cpu"
        values, count = rle_loss(
            error,
            logits,
            labeled * positives.assigned.mask[:, None],
            self._rle_weights,
            self._flow.log_density,
            gather=on_cpu and not torch.compiler.is_compiling(),
        )
        return {"rle": values}, {"rle_keypoints": count, "rle_total": values.detach()}

    def _normalize(self, sums: BranchSums) -> Tensor:
        # a likelihood above 1 counts as loss 0; the sign is that of the whole batch, so it is decided after the
        # reduction. `where` and not `clamp`, so that NaN stays visible
        index = self.terms.index("rle")
        is_negative = sums.counts[self.counts.index("rle_total")] < 0
        rle = torch.where(is_negative, 0.0, sums.terms[index])
        terms = torch.cat((sums.terms[:index], rle[None], sums.terms[index + 1 :]))
        return super()._normalize(BranchSums(terms, sums.counts))

    def _move(self, device: torch.device) -> None:
        super()._move(device)
        if self._rle_weights.device != device:
            self._rle_weights = self._rle_weights.to(device)
            self._shares = self._shares.to(device)


def build_criterion(
    network: PoseModel,
    spec: PoseSpec,
    gains: LossOptions | None = None,
    class_weights: Sequence[float] | None = None,
    assigner: str | None = None,
) -> Criterion:
    """Build the criterion for a network's head.

    Args:
        network: the network; a `Pose26` head shares its flow with the criterion.
        spec: classes and keypoints of the data.
        gains: options with the gain of each term; the default gains if None.
        class_weights: (nc,) weights of the classes in the class loss.
        assigner: `box` or `oks`; None takes the default of the head.

    Raises:
        ModelError: the network was pruned to one branch.
    """
    sigmas = spec.keypoints.sigmas_by_class(spec.nc).tolist()
    shape, strides = spec.keypoints.shape, network.stride
    mask = spec.keypoints.point_mask(spec.nc)
    point_mask = None if mask is None else mask.tolist()
    if isinstance(network.head, Pose26):
        flow = get_flow(network)
        return DualCriterion(shape, strides, sigmas, flow, gains, class_weights, assigner or "oks", point_mask)
    return PoseCriterion(shape, strides, sigmas, gains, class_weights, assigner or "box", point_mask)


def get_flow(network: PoseModel) -> RealNVP:
    """Return the flow of a network with a `Pose26` head.

    Raises:
        ModelError: the network has no flow, or was pruned to one branch.
    """
    flow = network.head.flow_model if isinstance(network.head, Pose26) else None
    if flow is None:
        raise _pruned_error()
    return flow


def _target_sides(positives: Positives) -> Tensor:
    """Return (R, 4) distances from anchor points to the sides of the ground-truth boxes, grid units."""
    points, boxes = positives.points, positives.gt_boxes
    return torch.cat((points - boxes[:, :2], boxes[:, 2:] - points), 1)


def _expectation(probabilities: Tensor) -> Tensor:
    """(…, bins) probabilities → (…) expected bin."""
    count, device = probabilities.shape[-1], probabilities.device
    return probabilities @ (_bins(count, device) if torch.compiler.is_compiling() else _cached_bins(count, device))


def _bins(count: int, device: torch.device) -> Tensor:
    return torch.arange(count, dtype=torch.float32, device=device)


@cache
def _cached_bins(count: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return _bins(count, device)


def _pruned_error() -> ModelError:
    return ModelError(
        "The network was pruned to one branch by fuse(), so it cannot be trained: load the weights again."
    )
