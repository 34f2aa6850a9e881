"""The network that a run starts from: built for the data set, with all the weights that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from yolopose.base.log import LOGGER
from yolopose.nn import PoseModel, build_network
from yolopose.schema import PoseSpec
from yolopose.weights import load_matching


@dataclass(frozen=True, slots=True)
class InitialWeights:
    """Weights to start from.

    Attributes:
        state: parameters and buffers by name.
        classes: the names of its classes, to move class weights by name; empty when they are not known.
        source: where they come from, for the log.
        license: their license, where it is known; it goes on to what is trained from them.
    """

    state: Mapping[str, Tensor]
    classes: tuple[str, ...]
    source: str
    license: str = ""


def initial_network(
    yaml: Mapping[str, object], spec: PoseSpec, seed: int, weights: InitialWeights | None, *, remap: bool = True
) -> PoseModel:
    """Build a network for a data set and moves in the weights that agree by name and shape.

    Args:
        yaml: content of the model YAML, as `PoseModel.yaml`.
        spec: classes and keypoints of the data set.
        seed: of the fresh weights; the same seed gives the same network.
        weights: what to start from; None starts fresh.
        remap: where the classes differ, move the weights of a class by its name.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(yaml, spec=spec)
    if weights is None:
        LOGGER.info(f"{network.name or 'network'}: fresh weights, seed {seed}.")
        return network
    moved = load_matching(network, weights.state)
    note = _remap(network, weights) if remap else ""
    LOGGER.info(f"{moved.summary(weights.source, 'start fresh')}{note}.")
    return network


@torch.no_grad()
def _remap(network: PoseModel, weights: InitialWeights) -> str:
    """Copy the rows of known classes into the last convolutions of the class branches; says which."""
    ours, theirs = network.spec.classes, weights.classes
    shared = [name for name in ours if name in theirs]
    if not shared or ours == theirs:
        return ""
    own = network.state_dict()
    branches = tuple(f"model.{len(network.model) - 1}.{name}." for name in ("cv3", "one2one_cv3"))
    ends = [name for name in own if name.startswith(branches) and name.count(".") == 5]  # cv3.level.2.weight
    for name in ends:
        if name not in weights.state or weights.state[name].shape[1:] != own[name].shape[1:]:
            return ""
        if len(weights.state[name]) != len(theirs) or len(own[name]) != len(ours):
            return ""
    for name in ends:
        for label in shared:
            own[name][ours.index(label)] = weights.state[name][theirs.index(label)]
    return f"; class weights by name: {_listed(shared)}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
