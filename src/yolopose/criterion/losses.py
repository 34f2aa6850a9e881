"""The five losses of YOLOv8 and YOLO11 pose networks.

Sources: class targets of TOOD (arXiv 2108.07755), CIoU (1911.08287), distribution focal loss (2006.04388), keypoint
loss by object keypoint similarity (YOLO-Pose, 2204.06806).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from yolopose.criterion.assign import Assignment, assign
from yolopose.criterion.overlap import ciou
from yolopose.criterion.targets import Targets
from yolopose.nn.head import HeadOutput, Shapes, anchor_points

TERMS = ("box", "pose", "kobj", "cls", "dfl")
"""The losses in the order in which they are reported."""

COUNTS = 3
"""Numbers that the parts of a batch sum up before their losses are known: target scores, positives, pictures."""

_EPS = 1e-9
_KNOWN = 32  # shapes whose cells are remembered


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Weights of the losses."""

    box: float = 7.5
    pose: float = 12.0
    kobj: float = 1.0
    cls: float = 0.5
    dfl: float = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class LossTerms:
    """The losses of a batch.

    Attributes:
        total: what is differentiated: the sum of the gained terms × the batch size.
        items: (5,) the gained terms per picture, in the order of `TERMS`, without gradient.
    """

    total: Tensor
    items: Tensor

    def named(self) -> Mapping[str, float]:
        """Returns the terms by name as plain numbers; on a GPU this waits for the device."""
        return dict(zip(TERMS, self.items.tolist(), strict=True))


class PoseCriterion:
    """Losses of a head's raw output against the labelled objects.

    Args:
        nc: classes.
        kpt_shape: (K, D); with D = 2 there is no visibility loss.
        strides: pixels per cell of each level.
        sigmas: (K,) OKS σ of each keypoint.
        gains: weights of the terms.
        class_weights: (nc,) weights of the classes in the class loss; 1 each when left out.
    """

    def __init__(
        self,
        nc: int,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float],
        gains: Gains | None = None,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        self._nc = nc
        self._dims = kpt_shape[1]
        self._strides = tuple(strides)
        gains = gains or Gains()
        self._gains = torch.tensor([getattr(gains, name) for name in TERMS])
        self._falloff = (2 * torch.tensor(list(sigmas), dtype=torch.float32)).square()  # (2σ)², (K,)
        self._class_weights = None if class_weights is None else torch.tensor(list(class_weights))[:, None]
        self._known: dict[tuple[Shapes, torch.device], tuple[Tensor, Tensor]] = {}
        # a small object holds a cell of the second level even where it lies between all centres
        self._smallest = float(self._strides[min(1, len(self._strides) - 1)])

    def __call__(
        self, output: HeadOutput, targets: Targets, together: Callable[[Tensor], Tensor] | None = None
    ) -> LossTerms:
        """Computes the losses, in float32 whatever the network ran in.

        Args:
            output: raw output for B pictures.
            targets: their objects; left on the CPU, a GPU need not be waited for.
            together: where the pictures are a part of a batch: sums a tensor of `COUNTS` numbers over all parts, and
                the losses are then this part's share of those of the whole batch.
        """
        device = output.scores.device
        self._move(device)
        boxes, scores, kpts = output.boxes.float(), output.scores.float(), output.kpts.float()
        points, strides = self._cells(output.shapes, device)
        centres, sizes = self._cells(output.shapes, targets.boxes.device)  # reading the device's would wait for it
        found = assign(
            scores.detach().sigmoid(),
            _all_boxes(boxes.detach(), points, strides),
            centres * sizes,
            targets,
            smallest=self._smallest,
        )
        targets = targets.to(device)
        soft = self._soft_targets(scores, found, targets)
        normaliser, positives, pictures = soft.sum(), found.mask.sum(), len(scores)
        if together is not None:
            counts = torch.stack((normaliser, positives.float(), normaliser.new_full((), pictures)))
            normaliser, positives, pictures = together(counts)
        normaliser = normaliser.clamp(min=1)
        box, dfl = _box_losses(boxes, points, strides, found, targets)
        pose, kobj = self._keypoint_losses(kpts, points, strides, found, targets, positives)
        cls = functional.binary_cross_entropy_with_logits(scores, soft, self._class_weights, reduction="sum")
        gained = torch.stack((box / normaliser, pose, kobj, cls / normaliser, dfl / normaliser)) * self._gains
        return LossTerms(gained.sum() * pictures, gained.detach())

    def _cells(self, shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
        """`anchor_points` of the last few shapes and devices, remembered."""
        if (shapes, device) not in self._known:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            with torch.inference_mode(False):  # what validation made must serve training too
                self._known[shapes, device] = anchor_points(shapes, self._strides, device)
        return self._known[shapes, device]

    def _move(self, device: torch.device) -> None:
        if self._gains.device != device:
            self._gains, self._falloff = self._gains.to(device), self._falloff.to(device)
            if self._class_weights is not None:
                self._class_weights = self._class_weights.to(device)

    def _soft_targets(self, scores: Tensor, found: Assignment, targets: Targets) -> Tensor:
        """(B, nc, A) class targets."""
        soft = torch.zeros_like(scores)
        # added, not set: rows that do not count hold 0 and may name any cell
        soft.index_put_((found.picture, targets.classes[found.target], found.cell), found.weight, accumulate=True)
        return soft

    def _keypoint_losses(
        self, kpts: Tensor, points: Tensor, strides: Tensor, found: Assignment, targets: Targets, positives: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Position and visibility losses, means over positives and points; positions in grid units."""
        raw = kpts.permute(0, 2, 1)[found.picture, found.cell].unflatten(1, (-1, self._dims))  # (R, K, D)
        stride = strides[found.cell][:, None, None]
        truth, area = targets.keypoints[found.target], _areas(targets.boxes)[found.target]
        labelled = (truth[..., 2] != 0).float()
        distance = 2 * raw[..., :2] + (points.T[found.cell][:, None] - 0.5) - truth[..., :2] / stride
        spread = self._falloff * (area[:, None] / stride[..., 0].square() + _EPS) * 2
        near = 1 - torch.exp(-distance.square().sum(-1) / spread)
        factor = labelled.shape[1] / (labelled.sum(1, keepdim=True) + _EPS)
        pose = _mean(factor * near * labelled, found.mask, positives)
        if self._dims == 2:
            return pose, torch.zeros_like(pose)
        seen = functional.binary_cross_entropy_with_logits(raw[..., 2], labelled, reduction="none")
        return pose, _mean(seen, found.mask, positives)


def _box_losses(
    logits: Tensor, points: Tensor, strides: Tensor, found: Assignment, targets: Targets
) -> tuple[Tensor, Tensor]:
    """CIoU and distribution losses, sums over positives by weight; in grid units."""
    rows = logits.permute(0, 2, 1)[found.picture, found.cell].unflatten(1, (4, -1))  # (R, 4, bins)
    point, stride = points.T[found.cell], strides[found.cell][:, None]
    truth = targets.boxes[found.target] / stride
    sides = _expected(rows.softmax(2))
    predicted = torch.cat((point - sides[:, :2], point + sides[:, 2:]), 1)
    box = ((1 - ciou(predicted, truth)) * found.weight).sum()
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


def _areas(boxes: Tensor) -> Tensor:
    """(N, 4) corners → (N,) areas."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _mean(values: Tensor, mask: Tensor, rows: Tensor) -> Tensor:
    """Mean of (R, K) values over the rows that count, so many in all; 0, still with a gradient, when there are none."""
    return (values * mask[:, None]).sum() / (rows.clamp(min=1) * values.shape[1])
