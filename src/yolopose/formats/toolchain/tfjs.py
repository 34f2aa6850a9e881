"""TensorFlow.js: a folder for browsers and Node.js, written in the toolchain `tf`; here Node.js runs it (`tfjs`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.formats.devices import cpu_only, say_half_is_settled
from yolopose.formats.metadata import record_in_folder, write_record
from yolopose.formats.toolchain.tensorflow import write
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime
from yolopose.toolchains import Worker, require_toolchain

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_TOOLCHAIN = "tfjs"


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open a graph of TensorFlow.js, for WebAssembly under Node.js.

    Args:
        path: the folder.
        device: `cpu`.
        half: has no effect: it is computed in float32.

    Raises:
        UsageError: the device is not here.
        DependencyError: there is no Node.js, or the toolchain is not installed.
        WeightsError: it is damaged, or no pose network that can be understood.
    """
    cpu_only(device, "TensorFlow.js")
    say_half_is_settled(half, path)
    node = require_toolchain(_TOOLCHAIN, str(path))
    return WorkerRuntime(path, Worker.of_node(node, path), record_in_folder(path))


def export(job: ExportJob, path: Path) -> str:
    """Write a network as a graph of TensorFlow.js; its input is (B, H, W, 3).

    Args:
        job: the network and what is asked for; half stores the weights in 16 bits.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    write(job, path, "tfjs")
    write_record(job, path)
    return f"input (B, H, W, 3), weights {job.precision}"
