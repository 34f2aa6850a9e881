"""The losses of YOLO26 pose networks: six for each of two branches, whose shares change over a run.

The one-to-many branch teaches the features, the one-to-one branch learns to answer once for each object (YOLOv10, arXiv
2405.14458). Objects take cells by the likeness of keypoints, and cells of levels that suit their size.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from yolopose.base.errors import ModelError
from yolopose.criterion.assign import Assignment, Rule, assign
from yolopose.criterion.base import Criterion
from yolopose.criterion.rle import point_weights, rle_loss
from yolopose.criterion.targets import Targets
from yolopose.criterion.terms import (
    Gains,
    LossTerms,
    box_loss,
    position_loss,
    rows_of,
    soft_targets,
    visibility_loss,
)
from yolopose.nn import Pose26, PoseModel, RealNVP
from yolopose.nn.head import HeadOutput, Shapes

TERMS26 = ("box", "pose", "kobj", "cls", "l1", "rle")
"""The losses in the order in which they are reported."""

MANY = Rule(topk=10, gated=True)
SINGLE = Rule(topk=7, single=True, gated=True)
_SHARES = (0.8, 0.1)  # of the one-to-many branch, at the start and at the end of a run


class DualCriterion(Criterion):
    """Losses of both branches of a `Pose26` head.

    Args:
        kpt_shape, strides, sigmas, class_weights, assigner: see `Criterion`.
        flow: the learned density of errors; it learns with the network that it belongs to.
        gains: weights of the terms.

    Attributes:
        share: of the one-to-many branch in what is differentiated; the other branch has the rest.
    """

    terms = TERMS26
    shared = False

    def __init__(
        self,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float],
        flow: RealNVP,
        gains: Gains | None = None,
        class_weights: Sequence[float] | None = None,
        assigner: str = "oks",
    ) -> None:
        gains = gains or Gains()
        weights = [gains.box, gains.pose, gains.kobj, gains.cls, gains.dfl, gains.rle]
        super().__init__(kpt_shape, strides, sigmas, weights, class_weights, assigner)
        self._flow, self._weights = flow, point_weights(kpt_shape[0])
        self.share = _SHARES[0]

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set the shares of the branches for an epoch, counted from 0, of so many."""
        done = epoch / (epochs - 1) if epochs > 1 else 0.0
        self.share = _SHARES[0] + (_SHARES[1] - _SHARES[0]) * min(done, 1.0)

    def for_network(self, network: PoseModel) -> DualCriterion:
        """Return the losses of another network of this kind, with a copy of its own density of errors.

        Raises:
            ModelError: the network has none any more.
        """
        twin = copy.copy(self)
        twin._flow = copy.deepcopy(flow_of(network)).float()
        return twin

    def __call__(
        self, output: HeadOutput, targets: Targets, together: Callable[[Tensor], Tensor] | None = None
    ) -> LossTerms:
        """Compute the losses; see `Criterion`.

        Returns:
            The sum of both branches, and the terms of the one-to-one branch.

        Raises:
            ModelError: the network was reduced to one branch.
        """
        assert together is None  # noqa: S101  # what is not `shared` is not asked for a part
        if output.one2one is None:
            raise _reduced()
        many = self.branch(output, targets, MANY)
        single = self.branch(output.one2one, targets, SINGLE)
        return LossTerms(self.share * many.total + (1 - self.share) * single.total, single.items, TERMS26)

    def branch(self, output: HeadOutput, targets: Targets, rule: Rule) -> LossTerms:
        """Compute the losses of one branch.

        Args:
            output: raw output of the branch.
            targets: the objects.
            rule: how cells are assigned to them.
        """
        if output.sigmas is None:
            raise _reduced()
        device = output.scores.device
        self._move(device)
        boxes, scores, kpts = output.boxes.float(), output.scores.float(), output.kpts.float()
        points, strides = self._cells(output.shapes, device)
        found = self._assign(boxes.detach(), scores.detach(), kpts.detach(), output.shapes, targets, rule)
        targets = targets.to(device)
        soft = soft_targets(scores, found, targets)
        normalizer = soft.sum().clamp(min=1)
        height, width = (side * self._strides[0] for side in output.shapes[0])
        box, l1 = _box_losses(boxes, points, strides, found, targets, (height, width))
        pose, kobj, rle = self._keypoint_losses(kpts, output.sigmas.float(), points, strides, found, targets)
        cls = functional.binary_cross_entropy_with_logits(scores, soft, self._class_weights, reduction="sum")
        gained = torch.stack((box / normalizer, pose, kobj, cls / normalizer, l1 / normalizer, rle)) * self._gains
        return LossTerms(gained.sum() * len(scores), gained.detach(), TERMS26)

    def _assign(
        self, boxes: Tensor, scores: Tensor, kpts: Tensor, shapes: Shapes, targets: Targets, rule: Rule
    ) -> Assignment:
        points, strides = self._cells(shapes, scores.device)
        place = targets.boxes.device  # reading what lies on the device would wait for it
        corners = (torch.cat((points - boxes[:, :2], points + boxes[:, 2:]), 1) * strides).transpose(1, 2)
        xy = (kpts.unflatten(1, self._kpt_shape)[:, :, :2] + points) * strides
        return assign(
            scores.sigmoid(),
            corners,
            self._levels(shapes, place),
            targets,
            smallest=self._smallest,
            rule=rule,
            strides=self._cells(shapes, place)[1],
            likeness=self._likeness(xy, corners),
        )

    def _keypoint_losses(
        self, kpts: Tensor, sigmas: Tensor, points: Tensor, strides: Tensor, found: Assignment, targets: Targets
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Position and visibility losses and the likelihood of the errors; in grid units."""
        positives = found.mask.sum()
        raw = rows_of(kpts, found).unflatten(1, self._kpt_shape)  # (R, K, D)
        predicted = raw[..., :2] + points.T[found.cell][:, None]
        pose, error, labeled = position_loss(predicted, strides[found.cell], self._falloff, found, targets, positives)
        logits = rows_of(sigmas, found).unflatten(1, (-1, 2))
        counts, gather = labeled * found.mask[:, None], error.device.type == "cpu"
        rle = rle_loss(error, logits, counts, self._weights, self._flow.log_density, gather=gather)
        if self._kpt_shape[1] == 2:
            return pose, torch.zeros_like(pose), rle
        return pose, visibility_loss(raw[..., 2], labeled, found, positives), rle

    def _move(self, device: torch.device) -> None:
        super()._move(device)
        self._weights = self._weights.to(device)


def _box_losses(
    distances: Tensor, points: Tensor, strides: Tensor, found: Assignment, targets: Targets, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """CIoU and distance losses, sums over positives by weight; distances as shares of the input's (height, width)."""
    sides, point, stride = rows_of(distances, found), points.T[found.cell], strides[found.cell][:, None]
    truth = targets.boxes[found.target] / stride
    wanted = torch.cat((point - truth[:, :2], truth[:, 2:] - point), 1)
    apart = (sides - wanted).abs() * stride / sides.new_tensor([size[1], size[0]] * 2)
    return box_loss(sides, point, truth, found), (apart.mean(1) * found.weight).sum()


def flow_of(network: PoseModel) -> RealNVP:
    """Return the learned density of errors of a network with a `Pose26` head.

    Raises:
        ModelError: it has none, or none any more.
    """
    flow = network.head.flow_model if isinstance(network.head, Pose26) else None
    if flow is None:
        raise _reduced()
    return flow


def _reduced() -> ModelError:
    return ModelError(
        "the network was reduced to one branch for inference (fuse()): open the weights again to train it."
    )
