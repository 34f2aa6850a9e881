"""What the losses of all heads have in common, whatever their terms are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from yolopose.criterion.assign import Levels
from yolopose.criterion.similarity import Likeness, by_box, by_points
from yolopose.criterion.targets import Targets
from yolopose.criterion.terms import LossTerms
from yolopose.nn import PoseModel
from yolopose.nn.head import HeadOutput, Shapes, anchor_points, level_centers

_KNOWN = 32  # shapes whose cells are remembered


class Criterion(ABC):
    """Losses of a head's raw output against the labeled objects.

    Args:
        kpt_shape: (K, D); with D = 2 there is no visibility loss.
        strides: pixels per cell of each level.
        sigmas: (K,) OKS σ of each keypoint.
        gains: weights of the terms, in their order.
        class_weights: (nc,) weights of the classes in the class loss; 1 each when left out.
        assigner: `box` or `oks`: what cells are assigned by, the overlap of boxes or the likeness of keypoints.

    Attributes:
        terms: names of the losses, in the order in which they are reported.
        shared: whether the losses of a part of a batch can be computed, so that several processes may train.
    """

    terms: ClassVar[tuple[str, ...]]
    shared: ClassVar[bool] = True

    def __init__(
        self,
        kpt_shape: tuple[int, int],
        strides: Sequence[int],
        sigmas: Sequence[float],
        gains: Sequence[float],
        class_weights: Sequence[float] | None,
        assigner: str,
    ) -> None:
        self._kpt_shape, self._strides, self._assigner = kpt_shape, tuple(strides), assigner
        self._gains = torch.tensor(list(gains))
        self._falloff = (2 * torch.tensor(list(sigmas), dtype=torch.float32)).square()  # (2σ)², (K,)
        self._class_weights = None if class_weights is None else torch.tensor(list(class_weights))[:, None]
        self._known: dict[tuple[Shapes, torch.device], tuple[Tensor, Tensor]] = {}
        # a small object holds a cell of the second level even where it lies between all centers
        self._smallest = float(self._strides[min(1, len(self._strides) - 1)])

    @abstractmethod
    def __call__(
        self, output: HeadOutput, targets: Targets, together: Callable[[Tensor], Tensor] | None = None
    ) -> LossTerms:
        """Compute the losses, in float32 whatever the network ran in.

        Args:
            output: raw output for B images.
            targets: their objects; left on the CPU, a GPU need not be waited for.
            together: where the images are a part of a batch: sums a tensor of `COUNTS` numbers over all parts, and
                the losses are then this part's share of those of the whole batch. None where they are not `shared`.
        """

    def begin_epoch(self, epoch: int, epochs: int) -> None:  # noqa: B027  # most losses do not depend on it
        """Prepare for an epoch, counted from 0, of so many."""

    def for_network(self, network: PoseModel) -> Criterion:
        """Return the losses of another network of this kind: the same where nothing in them is learned."""
        del network
        return self

    def _cells(self, shapes: Shapes, device: torch.device) -> tuple[Tensor, Tensor]:
        """`anchor_points` of the last few shapes and devices, remembered."""
        if (shapes, device) not in self._known:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            with torch.inference_mode(False):  # what validation made must serve training too
                self._known[shapes, device] = anchor_points(shapes, self._strides, device)
        return self._known[shapes, device]

    def _levels(self, shapes: Shapes, device: torch.device) -> Levels:
        return level_centers(shapes, self._strides, device)

    def _likeness(self, xy: Tensor, corners: Tensor) -> Likeness:
        """What cells are assigned by, from (B, K, 2, A) keypoints and (B, A, 4) corners, pixels."""
        return by_box(corners) if self._assigner == "box" else by_points(xy, corners, self._falloff)

    def _move(self, device: torch.device) -> None:
        if self._gains.device != device:
            self._gains, self._falloff = self._gains.to(device), self._falloff.to(device)
            if self._class_weights is not None:
                self._class_weights = self._class_weights.to(device)
