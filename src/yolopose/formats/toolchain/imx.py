"""Sony IMX500: a folder with the archive for the sensor, and the 8-bit graph that it was made from.

The archive runs on the sensor only; the graph is opened here, and takes seconds per image.
"""

from __future__ import annotations

from pathlib import Path

from yolopose.formats.graph_runtime import require_cpu, warn_half_is_fixed
from yolopose.formats.metadata import read_metadata, read_metadata_file, write_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.formats.toolchain.worker_runtime import (
    WorkerRuntime,
    convert,
    read_strides,
    start_worker,
    with_level_outputs,
)

_TITLE = "the IMX500"
_TOOLCHAIN = "imx"
_MODULE = "imx_worker"
_OPSET = 17


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open the 8-bit graph of a folder for the IMX500; see `Format.load`."""
    require_cpu(device, _TITLE)
    warn_half_is_fixed(half, path)
    values = read_metadata_file(path)
    strides = read_strides(path, read_metadata(path, values))
    return WorkerRuntime(path, start_worker(_TOOLCHAIN, _MODULE, path), values, strides)


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network for the IMX500; see `Format.export`.

    Raises:
        ExportError: the network cannot be converted, or does not fit the sensor.
    """
    job = with_level_outputs(job)
    convert(job, path, _TITLE, _TOOLCHAIN, _MODULE, _OPSET, slim=True)
    write_metadata(job, path)
    count = len(job.output_names)
    return ExportReport(f"{count} outputs, {job.precision}, archive never run on a sensor by the maintainers")
