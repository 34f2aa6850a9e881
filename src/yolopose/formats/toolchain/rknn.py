"""Rockchip's NPUs: a folder with the file that they run. Here their simulator computes it, while it is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from yolopose.base.errors import ExportError, UsageError
from yolopose.formats.agreement import Simulated
from yolopose.formats.metadata import RECORD, own_record, write_record
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, by_level, handed_over
from yolopose.toolchains import Worker, require_toolchain

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_TITLE, _TOOLCHAIN = "RKNN", "rknn"
_OPSET = 17
CHIPS = ("rk3588", "rk3576", "rk3568", "rk3566", "rk3562", "rv1103b", "rv1106b", "rk2118", "rv1126b")
_USUAL = CHIPS[0]


def load(path: Path, device: object = None, half: bool = False) -> NoReturn:
    """Log why such a file is not run here.

    Raises:
        UsageError: always: the maker's simulator runs no file, only what it has just written.
    """
    del device, half
    raise UsageError(
        f"{path} is for Rockchip's chips, which alone can run it (with rknn-toolkit-lite2, on the board). It was "
        "compared with torch in their simulator when it was written. Export to another format for this system: "
        "format=onnx."
    )


def export(job: ExportJob, path: Path) -> Simulated:
    """Write a network for a chip of Rockchip's.

    Args:
        job: the network and what is asked for; 16 bits, or 8 that are fitted to images.
        path: the folder, empty.

    Raises:
        ExportError: the network cannot be converted, or the simulator computes something else.
    """
    chip = (job.options.name or _USUAL).lower()
    job = replace(by_level(job, chip=chip), half=not job.calibration)
    python = require_toolchain(_TOOLCHAIN, f"Export to {_TITLE}")
    target = path / f"{path.name.removesuffix('_rknn_model')}-{chip}.rknn"
    with handed_over(job, _TITLE, _OPSET, slim=True) as found:
        values = {"calibration": "", **found, "target": str(target.resolve()), "chip": chip}
        worker = Worker.of_python(python, "on_rockchip", values, target, error=ExportError)
        simulator = WorkerRuntime(target, worker, {RECORD: own_record(job.metadata)}, job.network.stride)
        agreement = job.compare(simulator)
    write_record(job, path)
    return Simulated(
        f"for {chip}, {len(job.outputs)} outputs, {job.precision}",
        agreement,
        f"Compared with torch on an image, in Rockchip's simulator: {agreement}. It was not run on the chip.",
    )
