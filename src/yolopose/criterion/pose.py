"""The five losses of YOLOv8, YOLO11 and YOLO12 pose networks.

Sources: class targets of TOOD (arXiv 2108.07755), CIoU (1911.08287), distribution focal loss (2006.04388), keypoint
loss by object keypoint similarity (YOLO-Pose, 2204.06806).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from yolopose.criterion.assign import Assignment, assign
from yolopose.criterion.base import Criterion
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
from yolopose.nn.head import HeadOutput

TERMS = ("box", "pose", "kobj", "cls", "dfl")
"""The losses in the order in which they are reported."""

COUNTS = 3
"""Numbers that the parts of a batch sum up before their losses are known: target scores, positives, images."""


class PoseCriterion(Criterion):
    """Losses of a head with bins of distances.

    Args:
        kpt_shape, strides, sigmas, class_weights, assigner: see `Criterion`.
        gains: weights of the terms.
    """

    terms = TERMS

    def __init__(
        self,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float],
        gains: Gains | None = None,
        class_weights: Sequence[float] | None = None,
        assigner: str = "box",
    ) -> None:
        gains = gains or Gains()
        super().__init__(kpt_shape, strides, sigmas, [getattr(gains, name) for name in TERMS], class_weights, assigner)

    def __call__(
        self, output: HeadOutput, targets: Targets, together: Callable[[Tensor], Tensor] | None = None
    ) -> LossTerms:
        """Compute the losses; see `Criterion`."""
        device = output.scores.device
        self._move(device)
        boxes, scores, kpts = output.boxes.float(), output.scores.float(), output.kpts.float()
        points, strides = self._cells(output.shapes, device)
        corners, xy = _all_boxes(boxes.detach(), points, strides), kpts.unflatten(1, self._kpt_shape)[:, :, :2]
        found = assign(
            scores.detach().sigmoid(),
            corners,
            self._levels(output.shapes, targets.boxes.device),  # reading the device's would wait for it
            targets,
            smallest=self._smallest,
            likeness=self._likeness((2 * xy.detach() + (points - 0.5)) * strides, corners),
        )
        targets = targets.to(device)
        soft = soft_targets(scores, found, targets)
        normalizer, positives, images = soft.sum(), found.mask.sum(), len(scores)
        if together is not None:
            counts = torch.stack((normalizer, positives.float(), normalizer.new_full((), images)))
            normalizer, positives, images = together(counts)
        normalizer = normalizer.clamp(min=1)
        box, dfl = _box_losses(boxes, points, strides, found, targets)
        pose, kobj = self._keypoint_losses(kpts, points, strides, found, targets, positives)
        cls = functional.binary_cross_entropy_with_logits(scores, soft, self._class_weights, reduction="sum")
        gained = torch.stack((box / normalizer, pose, kobj, cls / normalizer, dfl / normalizer)) * self._gains
        return LossTerms(gained.sum() * images, gained.detach(), TERMS)

    def _keypoint_losses(
        self, kpts: Tensor, points: Tensor, strides: Tensor, found: Assignment, targets: Targets, positives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Position and visibility losses, means over positives and points; positions in grid units."""
        raw = rows_of(kpts, found).unflatten(1, self._kpt_shape)  # (R, K, D)
        predicted = 2 * raw[..., :2] + (points.T[found.cell][:, None] - 0.5)
        pose, _, labeled = position_loss(predicted, strides[found.cell], self._falloff, found, targets, positives)
        if self._kpt_shape[1] == 2:
            return pose, torch.zeros_like(pose)
        return pose, visibility_loss(raw[..., 2], labeled, found, positives)


def _box_losses(
    logits: Tensor, points: Tensor, strides: Tensor, found: Assignment, targets: Targets
) -> tuple[Tensor, Tensor]:
    """CIoU and distribution losses, sums over positives by weight; in grid units."""
    rows = rows_of(logits, found).unflatten(1, (4, -1))  # (R, 4, bins)
    point, stride = points.T[found.cell], strides[found.cell][:, None]
    truth = targets.boxes[found.target] / stride
    box = box_loss(_expected(rows.softmax(2)), point, truth, found)
    last = rows.shape[2] - 1
    wanted = torch.cat((point - truth[:, :2], truth[:, 2:] - point), 1).clamp(0, last - 0.01)
    left = wanted.floor()
    share = wanted - left
    likely = rows.log_softmax(2)
    index = left.long()[..., None]
    low, high = likely.gather(2, index)[..., 0], likely.gather(2, index + 1)[..., 0]
    dfl = -((low * (1 - share) + high * share).mean(1) * found.weight).sum()
    return box, dfl


def _all_boxes(logits: Tensor, points: Tensor, strides: Tensor) -> Tensor:
    """(B, 4·bins, A) logits → (B, A, 4) x1, y1, x2, y2 in pixels."""
    shares = logits.unflatten(1, (4, -1)).softmax(2)
    sides = _expected(shares.transpose(2, 3))  # (B, 4, A)
    corners = torch.cat((points - sides[:, :2], points + sides[:, 2:]), 1) * strides
    return corners.transpose(1, 2)


def _expected(shares: Tensor) -> Tensor:
    """(…, bins) shares → (…) mean bin."""
    return shares @ torch.arange(shares.shape[-1], dtype=shares.dtype, device=shares.device)
