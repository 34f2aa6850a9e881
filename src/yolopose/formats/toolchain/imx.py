"""Sony's IMX500: a folder with the archive for the sensor, and the 8-bit graph that it was made from.

The archive runs on the sensor alone; what is opened here is the graph, computed slowly (seconds for an image).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.formats.devices import cpu_only, say_half_is_settled
from yolopose.formats.metadata import read_record, record_in_folder, write_record
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, by_level, convert, started, strides_of

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_TITLE, _TOOLCHAIN, _MODULE = "the IMX500", "imx", "on_sony"
_OPSET = 17


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open the 8-bit graph of a folder for the IMX500.

    Args:
        path: the folder.
        device: `cpu`.
        half: has no effect.

    Raises:
        UsageError: the device is not here.
        DependencyError: the toolchain is not installed.
        WeightsError: it is damaged, or no pose network that can be understood.
    """
    cpu_only(device, _TITLE)
    say_half_is_settled(half, path)
    found = record_in_folder(path)
    strides = strides_of(path, read_record(path, found))
    return WorkerRuntime(path, started(_TOOLCHAIN, _MODULE, path), found, strides)


def export(job: ExportJob, path: Path) -> str:
    """Write a network for the IMX500.

    Args:
        job: the network, and images to fit ranges to.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted, or does not fit the sensor.
    """
    job = by_level(job)
    convert(job, path, _TITLE, (_TOOLCHAIN, _MODULE), _OPSET, slim=True)
    write_record(job, path)
    return f"{len(job.outputs)} outputs, {job.precision}, the archive never run on a sensor by its authors"
