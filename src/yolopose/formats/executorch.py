"""ExecuTorch: a folder of a program (.pte) for phones and metadata. Its Python runtime takes tensors of torch."""

from __future__ import annotations

import yolopose.nn.openmp  # noqa: F401  # pyright: ignore[reportUnusedImport]  # first: it sets how torch is loaded

# isort: split
import logging
import threading
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from yolopose.base.errors import ExportError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.graph_runtime import GraphRuntime, InputBuffer, require_cpu, warn_half_is_fixed
from yolopose.formats.metadata import find_file, first_line, read_metadata, read_metadata_file, write_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch

_PROGRAM = "model.pte"  # name in the reference package


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> ExecutorchRuntime:
    """Open an ExecuTorch folder, or the .pte in it; see `Format.load`."""
    require_cpu(device, "ExecuTorch")
    warn_half_is_fixed(half, path)
    return ExecutorchRuntime(find_file(path, ".pte", "the program"))


class ExecutorchRuntime(GraphRuntime):
    """Inference with ExecuTorch, which has one thread pool for all callers; implements `yolopose.runtime.Runtime`.

    Args:
        path: the .pte.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._buffer = InputBuffer()
        try:
            with quiet_libraries():  # it prints what it cannot detect about the CPU
                runtime: Any = import_module("executorch.runtime")
                self._method = runtime.Runtime.get().load_program(path).load_method("forward")
            self.metadata = read_metadata(path, read_metadata_file(path.parent))
            self.check_runs(path)
        except RuntimeError as error:
            raise WeightsError(
                f"{path} cannot be opened by ExecuTorch: {first_line(error)} The file may be truncated or damaged "
                "(export or copy the folder again), or need a newer executorch."
            ) from error

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = torch.from_numpy(self._buffer.fill(batch, size))
        with self._lock:
            return self._method.execute([values])[0].numpy()[: len(batch)].copy()


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as an ExecuTorch folder for XNNPACK: CPUs of phones and computers; see `Format.export`."""
    try:
        content = _convert(job)
    except Exception as error:  # the converter may raise anything
        raise ExportError(f"Converting the network to ExecuTorch failed: {first_line(error)}") from error
    (path / _PROGRAM).write_bytes(content)
    write_metadata(job, path)
    return ExportReport(f"XNNPACK, {job.precision}")


def _convert(job: ExportJob) -> bytes:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # its loggers have no common parent
    try:
        with warnings.catch_warnings(), quiet_libraries():
            warnings.simplefilter("ignore")
            xnnpack: Any = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
            lower = import_module("executorch.exir").to_edge_transform_and_lower
            return lower(job.export_program(), partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch().buffer
    finally:
        logging.disable(level)
