"""The losses that go with a network's head."""

from __future__ import annotations

from collections.abc import Sequence

from yolopose.criterion.base import Criterion
from yolopose.criterion.dual import DualCriterion, flow_of
from yolopose.criterion.pose import PoseCriterion
from yolopose.criterion.terms import Gains
from yolopose.nn import Pose26, PoseModel
from yolopose.schema import PoseSpec


def build_criterion(
    network: PoseModel,
    spec: PoseSpec,
    gains: Gains | None = None,
    class_weights: Sequence[float] | None = None,
    assigner: str | None = None,
) -> Criterion:
    """Make the losses of a network.

    Args:
        network: its head says which; one with a learned density of errors shares it with the losses.
        spec: classes and keypoints of the data.
        gains: weights of the terms.
        class_weights: (nc,) weights of the classes in the class loss.
        assigner: `box` or `oks`; the head's own when None.

    Raises:
        ModelError: the network was reduced to one branch.
    """
    sigmas = spec.keypoints.oks_sigmas.tolist()
    shape, strides = spec.keypoints.shape, network.stride
    if isinstance(network.head, Pose26):
        flow = flow_of(network)
        return DualCriterion(shape, strides, sigmas, flow, gains, class_weights, assigner or "oks")
    return PoseCriterion(shape, strides, sigmas, gains, class_weights, assigner or "box")
