"""ncnn: a folder of a graph (.param), its weights (.bin) and a record. Running it takes no torch."""

from __future__ import annotations

import copy
import subprocess
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, WeightsError
from yolopose.base.log import warn_once
from yolopose.formats.capture import traced
from yolopose.formats.devices import cpu_only
from yolopose.formats.graph_runtime import GraphRuntime, InputMemory
from yolopose.formats.metadata import first_line, read_record, record_in_folder, sole_file, write_record
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_GRAPH, _WEIGHTS = "model.ncnn.param", "model.ncnn.bin"  # as the reference package names them


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> NcnnRuntime:
    """Open an ncnn folder, or the .param in it: one of ours, or one that the reference package wrote.

    Args:
        path: the folder or the .param.
        device: `cpu`.
        half: has no effect: it is computed in float32.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    cpu_only(device, "ncnn")
    if half:
        warn_once("half=True has no effect on ncnn files: yolopose lets them compute in float32.")
    return NcnnRuntime(sole_file(path, ".param", "the network's graph"))


class NcnnRuntime(GraphRuntime):
    """Inference with ncnn, image by image; implements `yolopose.runtime.Replicated`.

    Args:
        path: the .param.

    Attributes:
        metadata: classes, keypoints, stride, the input size.
        device: `cpu`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path, self._memory = path, InputMemory()
        self._net = self._open(physical_cores())
        # ncnn knows neither batches nor, in the files of its converter, other sizes than the one it was made for
        self.metadata = replace(read_record(path, record_in_folder(path.parent)), batch=1, dynamic=False)
        self._try_out(path)

    def _open(self, threads: int) -> Any:
        net: Any = import_module("ncnn").Net()
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        # without these an Arm processor would compute in 16 bits, whatever the file holds
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(net.opt, option, False)
        weights = self._path.with_suffix(".bin")
        if not weights.is_file() or net.load_param(str(self._path)) or net.load_model(str(weights)):
            raise _unusable(self._path)
        if len(net.input_names()) != 1 or len(net.output_names()) != 1:
            raise WeightsError(
                f"{self._path} is no pose network: its inputs are {net.input_names()}, its outputs "
                f"{net.output_names()}; expected is one of each."
            )
        return net

    def _replica(self, threads: int) -> NcnnRuntime:
        replica = copy.copy(self)
        replica._net = self._open(threads)
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = self._memory.filled(batch, size)
        extractor = self._net.create_extractor()
        given: Any = import_module("ncnn").Mat(values[0])
        if extractor.input(self._net.input_names()[0], given):
            raise _unusable(self._path)
        status, output = extractor.extract(self._net.output_names()[0])
        if status:
            raise _unusable(self._path)
        return np.array(output, dtype=np.float32)[None]


def _unusable(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} cannot be run by ncnn {import_module('ncnn').__version__}. The file or its .bin may be missing, cut "
        "off or damaged (export or copy the folder again), or need a newer ncnn."
    )


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as an ncnn folder.

    Args:
        job: the network and what is asked for; half stores the weights in 16 bits.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    with tempfile.TemporaryDirectory() as workshop:  # the converter leaves much beside what it reads
        source = Path(workshop) / "model.pt"
        try:
            # the graph computes in float32 whatever its weights are stored in
            traced(replace(job, half=False)).save(str(source))
        except Exception as error:  # whatever tracing meets
            raise ExportError(f"The network cannot be written for ncnn: {first_line(error)}") from error
        _convert(source, path, job)
    write_record(job, path)
    return f"weights {job.precision}"


def _convert(source: Path, folder: Path, job: ExportJob) -> None:
    """Let pnnx, a program, make ncnn's two files of a trace."""
    height, width = job.metadata.imgsz
    pnnx: Any = import_module("pnnx")
    command = [
        pnnx.EXEC_PATH, source.name, f"inputshape=[1,3,{height},{width}]f32", f"fp16={int(job.half)}",
        f"ncnnparam={folder.absolute() / _GRAPH}", f"ncnnbin={folder.absolute() / _WEIGHTS}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603  # its own program
    if done.returncode or not all((folder / name).is_file() for name in (_GRAPH, _WEIGHTS)):
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise ExportError(f"The network cannot be written for ncnn: its converter pnnx ends with: {said[-1][:300]}.")
