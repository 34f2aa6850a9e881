"""TensorFlow: SavedModel folders and frozen graphs, written and run in the toolchain `tf`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.formats.devices import cpu_only, say_half_is_settled
from yolopose.formats.metadata import record_in_folder, record_in_text, record_text, write_record
from yolopose.formats.onnx import OPSET
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, convert, started

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

TOOLCHAIN = "tf"
MODULE = "on_tensorflow"
TITLE = "TensorFlow"


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open a SavedModel folder or a frozen graph.

    Args:
        path: the folder or file.
        device: `cpu`.
        half: has no effect: it is computed in float32.

    Raises:
        UsageError: the device is not here.
        DependencyError: there is no TensorFlow, neither here nor in the toolchain.
        WeightsError: it is damaged, or no pose network that can be understood.
    """
    cpu_only(device, TITLE)
    say_half_is_settled(half, path)
    worker = started(TOOLCHAIN, MODULE, path)
    found = record_in_folder(path) if path.is_dir() else record_in_text(worker.info["record"])
    return WorkerRuntime(path, worker, found)


def export(job: ExportJob, path: Path) -> str:
    """Write a network as a SavedModel (a folder) or a frozen graph (a file); its input is (B, H, W, 3).

    Args:
        job: the network and what is asked for.
        path: the folder, empty, or the file to write.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    write(job, path, "saved_model" if path.is_dir() else "pb")
    if path.is_dir():
        write_record(job, path)
    return f"input (B, H, W, 3), {job.precision}"


def write(job: ExportJob, path: Path, kind: str) -> None:
    """Let TensorFlow write one of its formats; see `inside/on_tensorflow.py`.

    Raises:
        ExportError: the network cannot be converted.
    """
    record, place = record_text(job), (TOOLCHAIN, MODULE)
    convert(job, path, TITLE, place, OPSET, format=kind, record=record, half=job.half)
