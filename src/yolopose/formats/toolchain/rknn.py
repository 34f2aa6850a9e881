"""Rockchip NPUs: a folder with the file that they run. During export, their simulator runs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from yolopose.base.errors import ExportError, UsageError
from yolopose.formats.agreement import compare_with_torch
from yolopose.formats.metadata import KEY, own_metadata, write_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, onnx_source, with_level_outputs
from yolopose.toolchains import Worker, require_toolchain

_TITLE = "RKNN"
_TOOLCHAIN = "rknn"
_OPSET = 17
CHIPS = ("rk3588", "rk3576", "rk3568", "rk3566", "rk3562", "rv1103b", "rv1106b", "rk2118", "rv1126b")
_DEFAULT_CHIP = CHIPS[0]


def load(path: Path, device: object = None, half: bool = False) -> NoReturn:
    """Reject the file: the simulator runs only what it has just written.

    Raises:
        UsageError: always.
    """
    del device, half
    raise UsageError(
        f"{path} runs on Rockchip chips only (with rknn-toolkit-lite2, on the board). It was compared with torch in "
        "their simulator during export. For this system, export to another format: format=onnx."
    )


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network for a Rockchip chip in 16 bits, or 8 with calibration; see `Format.export`.

    Raises:
        ExportError: the network cannot be converted, or the simulator does not reproduce it.
    """
    chip = (job.settings.name or _DEFAULT_CHIP).lower()
    job = replace(with_level_outputs(job, chip=chip), half=not job.calibration)
    python = require_toolchain(_TOOLCHAIN, f"Export to {_TITLE}")
    target = path / f"{path.name.removesuffix('_rknn_model')}-{chip}.rknn"
    with onnx_source(job, _TITLE, _OPSET, slim=True) as files:
        values = {"calibration": "", **files, "target": str(target.resolve()), "chip": chip}
        worker = Worker.start_python(python, "rknn_worker", values, target, error=ExportError)
        simulator = WorkerRuntime(target, worker, {KEY: own_metadata(job.metadata)}, job.network.stride)
        agreement = compare_with_torch(job, simulator)
    write_metadata(job, path)
    return ExportReport(
        f"for {chip}, {len(job.output_names)} outputs, {job.precision}",
        f"Compared with torch on an image, in Rockchip's simulator: {agreement}. It was not run on the chip.",
        agreement,
    )
