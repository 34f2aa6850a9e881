"""ncnn: a folder of a graph (.param), its weights (.bin) and metadata. Loading does not import torch."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, WeightsError
from yolopose.base.log import warn_once
from yolopose.formats.graph_runtime import GraphRuntime, InputBuffer, require_cpu
from yolopose.formats.metadata import find_file, first_line, read_metadata, read_metadata_file, write_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch

_GRAPH = "model.ncnn.param"  # names in the reference package
_WEIGHTS = "model.ncnn.bin"


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> NcnnRuntime:
    """Open an ncnn folder, or the .param in it, of yolopose or the reference package; see `Format.load`."""
    require_cpu(device, "ncnn")
    if half:
        warn_once("half=True has no effect on ncnn files: yolopose runs them in float32.")
    return NcnnRuntime(find_file(path, ".param", "the network's graph"))


class NcnnRuntime(GraphRuntime):
    """Inference with ncnn, image by image; implements `yolopose.runtime.Replicated`.

    Args:
        path: the .param.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._buffer = InputBuffer()
        self._net = self._open(physical_cores())
        # ncnn has no batches, and its converter fixes the input size
        self.metadata = replace(read_metadata(path, read_metadata_file(path.parent)), batch=1, dynamic=False)
        self.check_runs(path)

    def _open(self, threads: int) -> Any:
        net: Any = import_module("ncnn").Net()
        net.opt.num_threads = threads
        net.opt.use_vulkan_compute = False
        # without these, an Arm CPU computes in 16 bits at any precision of the file
        for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
            setattr(net.opt, option, False)
        weights = self._path.with_suffix(".bin")
        if not weights.is_file() or net.load_param(str(self._path)) or net.load_model(str(weights)):
            raise _open_error(self._path)
        if len(net.input_names()) != 1 or len(net.output_names()) != 1:
            raise WeightsError(
                f"{self._path} is not a pose network: its inputs are {net.input_names()}, its outputs "
                f"{net.output_names()}; expected is one of each."
            )
        return net

    def _replica(self, threads: int) -> NcnnRuntime:
        replica = self.clone()
        replica._net = self._open(threads)
        return replica

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = self._buffer.fill(batch, size)
        extractor = self._net.create_extractor()
        value: Any = import_module("ncnn").Mat(values[0])
        if extractor.input(self._net.input_names()[0], value):
            raise _open_error(self._path)
        status, output = extractor.extract(self._net.output_names()[0])
        if status:
            raise _open_error(self._path)
        return np.array(output, dtype=np.float32)[None]


def _open_error(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} cannot be run by ncnn {import_module('ncnn').__version__}. The file or its .bin may be missing, "
        "truncated or damaged (export or copy the folder again), or need a newer ncnn."
    )


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as an ncnn folder; see `Format.export`. `half` stores the weights in 16 bits."""
    with tempfile.TemporaryDirectory() as folder:  # the converter writes many files beside its input
        source = Path(folder) / "model.pt"
        try:
            # the graph computes in float32; `half` only changes how weights are stored
            replace(job, half=False).trace().save(str(source))
        except Exception as error:  # tracing may raise anything
            raise ExportError(f"Converting the network to ncnn failed: {first_line(error)}") from error
        _run_pnnx(source, path, job)
    write_metadata(job, path)
    return ExportReport(f"weights {job.precision}")


def _run_pnnx(source: Path, folder: Path, job: ExportJob) -> None:
    """Convert a trace with the program pnnx."""
    height, width = job.metadata.imgsz
    pnnx: Any = import_module("pnnx")
    command = [
        pnnx.EXEC_PATH,
        source.name,
        f"inputshape=[1,{job.metadata.spec.channels},{height},{width}]f32",
        f"fp16={int(job.half)}",
        f"ncnnparam={folder.absolute() / _GRAPH}",
        f"ncnnbin={folder.absolute() / _WEIGHTS}",
    ]
    options: dict[str, Any] = {"cwd": source.parent, "capture_output": True, "text": True, "errors": "replace"}
    done = subprocess.run(command, check=False, **options)  # noqa: S603  # the program of the package
    if done.returncode or not all((folder / name).is_file() for name in (_GRAPH, _WEIGHTS)):
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise ExportError(f"Converting the network to ncnn failed: its converter pnnx ends with: {lines[-1][:300]}.")
