"""Coral Edge TPU: TFLite of whole numbers, compiled for the chip by its maker's compiler.

Unverified: its authors had neither the compiler nor the chip. What goes into the compiler is computed on the processor
and compared with torch before.
"""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from yolopose.base.errors import DependencyError, ExportError
from yolopose.formats import tflite
from yolopose.formats.agreement import Simulated
from yolopose.formats.metadata import first_line
from yolopose.formats.toolchain import tflite_int8
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_COMPILER = "edgetpu_compiler"


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open a compiled file on an Edge TPU.

    Args:
        path: the file.
        device: left to the chip.
        half: has no effect.

    Raises:
        WeightsError: there is no such chip here, or the file is damaged.
    """
    del device, half
    return tflite_int8.load(path, tflite.record_behind(path), chip=True)


def export(job: ExportJob, path: Path) -> Simulated:
    """Write a network for an Edge TPU.

    Args:
        job: the network, and images to fit ranges to.
        path: the file to write.

    Raises:
        DependencyError: the compiler is not on PATH.
        ExportError: the network cannot be converted or compiled.
    """
    compiler = shutil.which(_COMPILER)
    if compiler is None:
        raise DependencyError(
            f"format=edgetpu needs Coral's {_COMPILER}, which is not on PATH (Google's apt repository has it: "
            "coral.ai/docs/edgetpu/compiler). format=tflite int8=True writes the file that it takes."
        )
    with TemporaryDirectory() as workshop:
        plain = Path(workshop) / "network_full_integer_quant.tflite"
        words = tflite_int8.export(job, plain)
        agreement = job.compare(tflite.load(plain))
        record = zipfile.ZipFile(plain).read(tflite_int8.RECORD_FILE)
        command = [compiler, "-s", "-o", workshop, str(plain)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
        compiled = plain.with_name(f"{plain.stem}_edgetpu.tflite")
        if done.returncode or not compiled.is_file():
            fault = first_line(ExportError(done.stderr.strip() or done.stdout.strip()))
            raise ExportError(f"The network cannot be compiled for the Edge TPU: {fault}")
        shutil.copyfile(compiled, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(tflite_int8.RECORD_FILE, record)
    return Simulated(
        f"{words}; unverified by its authors",
        agreement,
        f"Before it was compiled, compared with torch on an image, on the processor: {agreement}. What the compiler "
        "made of it was not run.",
    )
