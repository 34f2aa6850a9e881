"""TensorFlow SavedModel folders, frozen graphs and TensorFlow.js, written in the toolchain `tf`.

The first two are run there as well, TensorFlow.js by Node.js (toolchain `tfjs`).
"""

from __future__ import annotations

from pathlib import Path

from yolopose.formats.graph_runtime import require_cpu, warn_half_is_fixed
from yolopose.formats.metadata import metadata_json, parse_metadata, read_metadata_file, write_metadata
from yolopose.formats.onnx import OPSET
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.formats.registry import get_format
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, convert, start_worker
from yolopose.toolchains import Worker, require_toolchain

TOOLCHAIN = "tf"
MODULE = "tensorflow_worker"
_NODE_TOOLCHAIN = "tfjs"


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open a SavedModel folder, a frozen graph or a TensorFlow.js folder; see `Format.load`."""
    title = "TensorFlow.js" if get_format("tfjs").info.matches(path) else "TensorFlow"
    require_cpu(device, title)
    warn_half_is_fixed(half, path)
    if title == "TensorFlow.js":
        worker = Worker.start_node(require_toolchain(_NODE_TOOLCHAIN, str(path)), path)
    else:
        worker = start_worker(TOOLCHAIN, MODULE, path)
    values = read_metadata_file(path) if path.is_dir() else parse_metadata(worker.info["record"])
    return WorkerRuntime(path, worker, values)


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network in the format of the job; its input is (B, H, W, C); see `Format.export`.

    `half` stores the weights of TensorFlow.js in 16 bits.
    """
    name = get_format(job.settings.format).info.name
    write(job, path, name)
    if path.is_dir():
        write_metadata(job, path)
    return ExportReport(
        f"input (B, H, W, {job.metadata.spec.channels}), {'weights ' * (name == 'tfjs')}{job.precision}"
    )


def write(job: ExportJob, path: Path, name: str) -> None:
    """Let TensorFlow write one of its formats; see `scripts/tensorflow_worker.py`.

    Raises:
        ExportError: the network cannot be converted.
    """
    metadata = metadata_json(job)
    convert(job, path, "TensorFlow", TOOLCHAIN, MODULE, OPSET, format=name, record=metadata, half=job.half)
