"""A network as a graph of torch's own, from which converters go on: traced, or as an exported program."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from yolopose.formats.exporting import ExportJob


def example(job: ExportJob) -> Tensor:
    """Return an input such as the file shall take: (B, 3, H, W) float32."""
    import torch

    # of one image torch would make the batch a constant of the graph
    return torch.zeros(2 if job.metadata.dynamic else job.metadata.batch, 3, *job.metadata.imgsz)


def traced(job: ExportJob) -> Any:
    """Return the network as a traced module; what a trace takes for constant is met when the file is compared."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer's own future, and of what it takes for constant
        return torch.jit.trace(job.module(), example(job), check_trace=False)  # pyright: ignore[reportPrivateImportUsage]


def program(job: ExportJob) -> Any:
    """Return the network of one input size as an exported program."""
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.export.export(job.module(), (example(job),))
