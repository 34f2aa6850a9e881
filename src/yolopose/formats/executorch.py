"""ExecuTorch: a folder of a program (.pte) for phones and a record. Its Python runtime takes torch's tensors."""

from __future__ import annotations

import yolopose.nn.openmp  # noqa: F401  # pyright: ignore[reportUnusedImport]  # it loads torch as is wanted: first

# isort: split
import logging
import threading
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from yolopose.base.errors import ExportError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.capture import program
from yolopose.formats.devices import cpu_only, say_half_is_settled
from yolopose.formats.graph_runtime import GraphRuntime, InputMemory
from yolopose.formats.metadata import first_line, read_record, record_in_folder, sole_file, write_record
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_PROGRAM = "model.pte"  # as the reference package names it


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> ExecutorchRuntime:
    """Open an ExecuTorch folder, or the .pte in it.

    Args:
        path: the folder or the .pte.
        device: `cpu`.
        half: has no effect: the file's numbers are what they were exported as.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    cpu_only(device, "ExecuTorch")
    say_half_is_settled(half, path)
    return ExecutorchRuntime(sole_file(path, ".pte", "the program"))


class ExecutorchRuntime(GraphRuntime):
    """Inference with ExecuTorch; implements `yolopose.runtime.Runtime`. It has one pool of threads for all callers.

    Args:
        path: the .pte.

    Attributes:
        metadata: classes, keypoints, stride, the one input size and batch.
        device: `cpu`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._alone, self._memory = threading.Lock(), InputMemory()
        try:
            with quiet_libraries():  # it tells what it could not find out about the processor
                runtime: Any = import_module("executorch.runtime")
                self._method = runtime.Runtime.get().load_program(path).load_method("forward")
        except RuntimeError as error:
            raise _unusable(path, error) from error
        self.metadata = read_record(path, record_in_folder(path.parent))
        try:
            self._try_out(path)
        except RuntimeError as error:
            raise _unusable(path, error) from error

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = torch.from_numpy(self._memory.filled(batch, size))
        with self._alone:
            return self._method.execute([values])[0].numpy()[: len(batch)].copy()


def _unusable(path: Path, error: RuntimeError) -> WeightsError:
    return WeightsError(
        f"{path} cannot be run: ExecuTorch says: {first_line(error)} The file may be cut off or damaged (export or "
        "copy the folder again), or need a newer executorch."
    )


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as an ExecuTorch folder, for XNNPACK: processors of phones and computers.

    Args:
        job: the network and what is asked for.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    try:
        content = _convert(job)
    except Exception as error:  # whatever the converter meets
        raise ExportError(f"The network cannot be written for ExecuTorch: {first_line(error)}") from error
    (path / _PROGRAM).write_bytes(content)
    write_record(job, path)
    return f"XNNPACK, {job.precision}"


def _convert(job: ExportJob) -> bytes:
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), quiet_libraries():
            warnings.simplefilter("ignore")
            xnnpack: Any = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
            lower = import_module("executorch.exir").to_edge_transform_and_lower
            return lower(program(job), partitioner=[xnnpack.XnnpackPartitioner()]).to_executorch().buffer
    finally:
        logging.disable(level)
