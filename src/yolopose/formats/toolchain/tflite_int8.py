"""TFLite in whole numbers from end to end, by TensorFlow's own converter: what small chips compute.

The outputs are level by level (`levels.py`). It is computed by ai-edge-litert where that is installed, else by the
toolchain `tf`; and on a Coral Edge TPU what its compiler made of it, which was never run by the authors.
"""

from __future__ import annotations

import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose.base.cpu import physical_cores
from yolopose.formats.levels import level_names
from yolopose.formats.metadata import read_record, record_text
from yolopose.formats.toolchain.tensorflow import MODULE, TOOLCHAIN, write
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, by_level, strides_of
from yolopose.toolchains import Worker, require_toolchain

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

RECORD_FILE = "metadata.json"  # in a zip archive behind the graph, as in any TFLite file
_CHIP = {"linux": "libedgetpu.so.1", "darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}


def load(path: Path, found: dict[str, Any], *, chip: bool = False) -> WorkerRuntime:
    """Open a TFLite file of whole numbers.

    Args:
        path: the file.
        found: keys of its record.
        chip: whether a Coral Edge TPU computes, which the file was compiled for.

    Raises:
        DependencyError: neither ai-edge-litert nor the toolchain is installed.
        WeightsError: it is damaged, or no pose network that can be understood.
    """
    metadata = read_record(path, found)
    strides = strides_of(path, metadata)
    values = {
        "path": str(path.resolve()), "threads": physical_cores(), "delegate": _CHIP[sys.platform] if chip else "",
        "names": level_names(strides, metadata.spec.keypoints.dims),
    }  # fmt: skip
    here = find_spec("ai_edge_litert") is not None
    python = (
        Path(sys.executable) if here else require_toolchain(TOOLCHAIN, f"{path} (or pip install ai-edge-litert: it)")
    )
    engine = WorkerRuntime(path, Worker.of_python(python, MODULE, values, path, "serve_integers"), found, strides)
    engine.try_out(path)
    return engine


def export(job: ExportJob, path: Path) -> str:
    """Write a network as TFLite of whole numbers.

    Args:
        job: the network, and images to fit ranges to.
        path: the file to write.

    Returns:
        A few words on the file, for the log.

    Raises:
        DependencyError: the toolchain is not installed.
        ExportError: the network cannot be converted.
    """
    job = by_level(job)
    write(job, path, "tflite")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(RECORD_FILE, record_text(job))
    return f"whole numbers from end to end, {len(job.outputs)} outputs, {job.precision}"
