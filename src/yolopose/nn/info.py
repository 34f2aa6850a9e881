"""How large a network is: layers, parameters, computation, and a table of its rows."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from yolopose.base.log import LOGGER
from yolopose.nn.area import AAttn
from yolopose.nn.attention import Attention
from yolopose.nn.head import Pose
from yolopose.nn.head26 import Pose26

if TYPE_CHECKING:
    from yolopose.nn.model import PoseModel


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Sizes of a network.

    Attributes:
        name: its name.
        layers: modules without submodules, a shared one counted once.
        parameters: numbers that it holds, those of the fixed bins included.
        gradients: parameters that training changes.
        gflops: 10⁹ operations for one image: two for each multiply-add of convolutions and attention,
            eight for each element of a batch norm. What a head has for learning alone is not counted.
    """

    name: str
    layers: int
    parameters: int
    gradients: int
    gflops: float

    def __iter__(self) -> Iterator[float]:
        """Return layers, parameters, gradients, GFLOPs: what the public interface has as a tuple."""
        return iter((self.layers, self.parameters, self.gradients, self.gflops))

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.layers} layers, {self.parameters:,} parameters, {self.gradients:,} gradients, "
            f"{self.gflops:.1f} GFLOPs"
        )


def describe(model: PoseModel, detailed: bool, verbose: bool, imgsz: int | tuple[int, int]) -> ModelInfo:
    """Count and, where asked for, logs the numbers of a network (see `PoseModel.info`)."""
    info = ModelInfo(
        name=model.name + (" (fused)" if model.is_fused else ""),
        layers=sum(1 for module in model.modules() if next(module.children(), None) is None),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gradients=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        gflops=count_operations(model, imgsz) / 1e9,
    )
    if detailed:
        LOGGER.info(row_table(model))
    if verbose:
        LOGGER.info(str(info))
    return info


def row_table(model: PoseModel) -> str:
    """Return the rows of a network as a plain table: number, from, repeats, parameters, module, arguments."""
    lines = [("row", "from", "n", "params", "module", "arguments")]
    for row, block in zip(model.rows, model.model, strict=True):
        count = sum(parameter.numel() for parameter in block.parameters())
        source = ", ".join(str(index) for index in row.inputs)
        args = ", ".join(str(item) for item in row.args)
        lines.append((str(row.index), source, str(row.repeats), f"{count:,}", row.module, args))
    widths = [max(len(line[column]) for line in lines) for column in range(6)]
    return "\n".join(
        f"{line[0]:>{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:>{widths[2]}}  {line[3]:>{widths[3]}}  "
        f"{line[4]:<{widths[4]}}  {line[5]}".rstrip()
        for line in lines
    )


def count_operations(model: PoseModel, imgsz: int | tuple[int, int] = 640) -> int:
    """Return the operations for one image, counted on shapes alone."""
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
        elif isinstance(module, Pose):  # the expectation over the bins, whether or not this mode decodes
            cells = sum(x.shape[2] * x.shape[3] for x in inputs[0])
            counts.append(2 * 4 * module.reg_max * cells)

    kinds = (nn.Conv2d, nn.BatchNorm2d, Attention, AAttn, Pose)
    learning = {
        part for module in model.modules() if isinstance(module, Pose26) for part in module.training_only_modules()
    }
    counted = [module for module in model.modules() if isinstance(module, kinds) and module not in learning]
    hooks = [module.register_forward_hook(count) for module in counted]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()
