"""Size of a network: layers, parameters, operations, and a table of its layers."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from yolopose.base.log import LOGGER
from yolopose.nn.attention import AAttn, Attention
from yolopose.nn.head import Pose
from yolopose.nn.head26 import Pose26

if TYPE_CHECKING:
    from yolopose.nn.model import PoseModel


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Size of a network.

    Attributes:
        name: its name.
        layers: modules without submodules, a shared one counted once.
        parameters: number of parameters, including the fixed bins.
        gradients: number of trainable parameters.
        gflops: 10⁹ operations per image: two per multiply-add of convolutions and attention, eight per element of a
            batch norm. Modules of a head that only training uses are not counted.
    """

    name: str
    layers: int
    parameters: int
    gradients: int
    gflops: float

    def __iter__(self) -> Iterator[float]:
        """Iterate over layers, parameters, gradients, GFLOPs, so that the result unpacks like a tuple."""
        return iter((self.layers, self.parameters, self.gradients, self.gflops))

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.layers} layers, {self.parameters:,} parameters, {self.gradients:,} gradients, "
            f"{self.gflops:.1f} GFLOPs"
        )


def describe(model: PoseModel, detailed: bool, verbose: bool, imgsz: int | tuple[int, int]) -> ModelInfo:
    """Count and optionally log the size of a network; see `PoseModel.info`."""
    info = ModelInfo(
        name=model.name + (" (fused)" if model.is_fused else ""),
        layers=sum(1 for module in model.modules() if next(module.children(), None) is None),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gradients=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        gflops=count_operations(model, imgsz) / 1e9,
    )
    if detailed:
        LOGGER.info(layer_table(model))
    if verbose:
        LOGGER.info(str(info))
    return info


def layer_table(model: PoseModel) -> str:
    """Return the layers of a network as a text table: number, from, repeats, parameters, module, arguments."""
    lines = [("layer", "from", "n", "params", "module", "arguments")]
    for layer, block in zip(model.layers, model.model, strict=True):
        count = sum(parameter.numel() for parameter in block.parameters())
        source = ", ".join(str(index) for index in layer.inputs)
        args = ", ".join(str(item) for item in layer.args)
        lines.append((str(layer.index), source, str(layer.repeats), f"{count:,}", layer.module, args))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        f"{line[0]:>{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]:>{widths[3]}}  "
        f"{line[4]:<{widths[4]}}  {line[5]}".rstrip()
        for line in lines
    )


def count_operations(model: PoseModel, imgsz: int | tuple[int, int] = 640) -> int:
    """Return the operations per image, counted from shapes without computing values."""
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else imgsz
    with _counting(model) as counts:
        model.infer_shapes(height, width)
    return sum(counts)


@contextmanager
def _counting(model: nn.Module) -> Generator[list[int], None, None]:
    counts: list[int] = []

    def count(module: nn.Module, inputs: Any, output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            counts.append(2 * output.shape[1:].numel() * module.weight[0].numel())
        elif isinstance(module, nn.BatchNorm2d):
            counts.append(8 * output.shape[1:].numel())
        elif isinstance(module, (Attention, AAttn)):
            counts.append(2 * module.macs(output.shape[2] * output.shape[3]))
        elif isinstance(module, Pose):  # the expectation over the bins, which this mode does not compute
            anchors = sum(x.shape[2] * x.shape[3] for x in inputs[0])
            counts.append(2 * 4 * module.reg_max * anchors)

    kinds = (nn.Conv2d, nn.BatchNorm2d, Attention, AAttn, Pose)
    heads = [module for module in model.modules() if isinstance(module, Pose26)]
    excluded = {part for head in heads for part in head.training_only_modules()}
    counted = [module for module in model.modules() if isinstance(module, kinds) and module not in excluded]
    hooks = [module.register_forward_hook(count) for module in counted]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()
