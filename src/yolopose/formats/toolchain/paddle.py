"""PaddlePaddle: a folder with an inference program, written and run in the toolchain `paddle`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.formats.devices import cpu_only, say_half_is_settled
from yolopose.formats.metadata import record_in_folder, write_record
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, convert, started

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_TITLE, _TOOLCHAIN, _MODULE = "PaddlePaddle", "paddle", "on_paddle"
_OPSET = 13  # its converter knows operator sets up to 15


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open an inference program of PaddlePaddle.

    Args:
        path: the folder.
        device: `cpu`.
        half: has no effect: it is computed in float32.

    Raises:
        UsageError: the device is not here.
        DependencyError: there is no PaddlePaddle, neither here nor in the toolchain.
        WeightsError: it is damaged, or no pose network that can be understood.
    """
    cpu_only(device, _TITLE)
    say_half_is_settled(half, path)
    found = WorkerRuntime(path, started(_TOOLCHAIN, _MODULE, path), record_in_folder(path))
    found.try_out(path)
    return found


def export(job: ExportJob, path: Path) -> str:
    """Write a network as an inference program.

    Args:
        job: the network and what is asked for.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    convert(job, path, _TITLE, (_TOOLCHAIN, _MODULE), _OPSET, slim=True)
    write_record(job, path)
    return job.precision
