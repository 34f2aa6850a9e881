"""PaddlePaddle: a folder with an inference program, written and run in the toolchain `paddle`."""

from __future__ import annotations

from pathlib import Path

from yolopose.formats.graph_runtime import require_cpu, warn_half_is_fixed
from yolopose.formats.metadata import read_metadata_file, write_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, convert, start_worker

_TITLE = "PaddlePaddle"
_TOOLCHAIN = "paddle"
_MODULE = "paddle_worker"
_OPSET = 13  # its converter supports opsets up to 15


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open an inference program of PaddlePaddle; see `Format.load`. It computes in float32."""
    require_cpu(device, _TITLE)
    warn_half_is_fixed(half, path)
    runtime = WorkerRuntime(path, start_worker(_TOOLCHAIN, _MODULE, path), read_metadata_file(path))
    runtime.check_runs(path)
    return runtime


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as an inference program; see `Format.export`."""
    convert(job, path, _TITLE, _TOOLCHAIN, _MODULE, _OPSET, slim=True)
    write_metadata(job, path)
    return ExportReport(job.precision)
