"""MNN: one small file for phones, converted from ONNX. Running it takes no torch.

Importing the package's own `MNN.tools` installs another package and reports to its maker, so nothing here does: the
converter is called where it lies, in the extension module `_tools`.
"""

from __future__ import annotations

import copy
import tempfile
import threading
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.devices import cpu_only, say_half_is_settled
from yolopose.formats.graph_runtime import GraphRuntime, InputMemory
from yolopose.formats.metadata import first_line, read_record, record_in_text, record_text
from yolopose.formats.onnx import QUICK_OPSET, write_graph
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> MnnRuntime:
    """Open an MNN file: one of ours, or one that the reference package wrote.

    Args:
        path: the file.
        device: `cpu`.
        half: has no effect: it is computed in float32.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    cpu_only(device, "MNN")
    say_half_is_settled(half, path)
    return MnnRuntime(path)


class MnnRuntime(GraphRuntime):
    """Inference with MNN; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.

    Attributes:
        metadata: classes, keypoints, stride, the input sizes and batches that go.
        device: `cpu`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._memory = path, InputMemory()
        self._use(physical_cores())
        about = self._module.get_info()
        shape = [int(side) for side in about["inputs"][0].shape]
        fixed = len(shape) == 4 and min(shape) > 0  # it takes a free batch for one of 1
        self.metadata = read_record(path, record_in_text(about["bizCode"]), shape if fixed else None)
        self._try_out(path)

    def _use(self, threads: int) -> None:
        """Open the file for so many threads; a module computes for one caller at a time."""
        # without the wish for high precision an Arm processor might compute in 16 bits, whatever the file holds
        settings = {"backend": 0, "precision": "high", "numThread": threads}
        try:
            with quiet_libraries():
                nn: Any = import_module("MNN").nn
                manager = nn.create_runtime_manager((settings,))
                self._module = nn.load_module_from_file(str(self._path), [], [], runtime_manager=manager)
        except SystemError as error:  # its way of saying that a file is none of its own
            raise WeightsError(
                f"{self._path} cannot be run by MNN {import_module('MNN').version()}. The file may be cut off or "
                "damaged (export or copy it again), or need a newer MNN."
            ) from error
        self._alone = threading.Lock()

    def _replica(self, threads: int) -> MnnRuntime:
        replica = copy.copy(self)
        replica._use(threads)
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        expr: Any = import_module("MNN").expr
        values = self._memory.filled(batch, size)
        with self._alone:
            given = expr.const(values, list(values.shape), expr.data_format.NCHW)
            output = self._module.forward([given])[0]
            return np.array(expr.convert(output, expr.data_format.NCHW).read(), copy=True)[: len(batch)]


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as MNN.

    Args:
        job: the network and what is asked for; half stores the weights in 16 bits.
        path: the file to write.

    Returns:
        A few words on the file, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    with tempfile.TemporaryDirectory() as workshop:
        source = Path(workshop) / "network.onnx"
        try:
            # the graph computes in float32 whatever its weights are stored in
            write_graph(replace(job, half=False), source, QUICK_OPSET)
        except Exception as error:  # whatever the converter meets
            raise ExportError(f"The network cannot be written for MNN: {first_line(error)}") from error
        command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(path)]
        command += ["--bizCode", record_text(job), *["--fp16"] * job.half]
        with quiet_libraries():
            import_module("_tools").mnnconvert(command)
    if not path.is_file() or not path.stat().st_size:
        raise ExportError("The network cannot be written for MNN: its converter gives nothing.")
    return f"weights {job.precision}"
