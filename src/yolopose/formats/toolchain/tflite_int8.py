"""TFLite with 8-bit integers from input to output, converted by TensorFlow; and its compiled form for the Edge TPU.

Small chips compute such files only. Their outputs are per level. They are run by ai-edge-litert if it is installed,
else by the toolchain `tf`. Unverified: the maintainers had neither the compiler of the Edge TPU nor the chip; the input
of the compiler is run on the CPU and compared with torch.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import DependencyError, ExportError
from yolopose.formats import tflite
from yolopose.formats.agreement import compare_with_torch
from yolopose.formats.metadata import first_line, level_names, metadata_json, read_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.formats.toolchain.tensorflow import MODULE, TOOLCHAIN, write
from yolopose.formats.toolchain.worker_runtime import WorkerRuntime, read_strides, with_level_outputs
from yolopose.toolchains import Worker, require_toolchain

_DELEGATES = {"linux": "libedgetpu.so.1", "darwin": "libedgetpu.1.dylib", "win32": "edgetpu.dll"}
_COMPILER = "edgetpu_compiler"


# -- 8-bit TFLite -------------------------------------------------------------------------------------------------


def load_int8(path: Path, values: dict[str, Any], *, edgetpu: bool = False) -> WorkerRuntime:
    """Open an 8-bit TFLite file.

    Args:
        path: the file.
        values: its stored metadata.
        edgetpu: whether to run it on a Coral Edge TPU, for which it was compiled.

    Raises:
        DependencyError: neither ai-edge-litert nor the toolchain is installed.
        WeightsError: the file is damaged or is not a pose network.
    """
    metadata = read_metadata(path, values)
    strides = read_strides(path, metadata)
    if find_spec("ai_edge_litert") is not None:
        python = Path(sys.executable)
    else:
        python = require_toolchain(TOOLCHAIN, f"{path} (if ai-edge-litert is not installed)")
    arguments = {
        "path": str(path.resolve()),
        "threads": physical_cores(),
        "delegate": _DELEGATES[sys.platform] if edgetpu else "",
        "names": level_names(strides, metadata.spec.keypoints.dims, metadata.spec.keypoints.visibility),
    }
    worker = Worker.start_python(python, MODULE, arguments, path, "serve_int8")
    runtime = WorkerRuntime(path, worker, values, strides)
    runtime.check_runs(path)
    return runtime


def export_int8(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as 8-bit TFLite; see `Format.export`."""
    job = with_level_outputs(job)
    write(job, path, "tflite")
    tflite.append_metadata(path, metadata_json(job))
    return ExportReport(f"8-bit integers only, {len(job.output_names)} outputs, {job.precision}")


# -- Edge TPU -----------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> WorkerRuntime:
    """Open a compiled file on an Edge TPU; see `Format.load`. `device` and `half` have no effect."""
    del device, half
    return load_int8(path, tflite.read_appended_metadata(path), edgetpu=True)


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network for an Edge TPU; see `Format.export`.

    Raises:
        DependencyError: the compiler is not on PATH.
    """
    compiler = shutil.which(_COMPILER)
    if compiler is None:
        raise DependencyError(
            f"format=edgetpu needs Coral's {_COMPILER}, which is not on PATH (install it from Google's apt repository: "
            "coral.ai/docs/edgetpu/compiler). format=tflite int8=True writes the file that it takes."
        )
    with TemporaryDirectory() as folder:
        plain = Path(folder) / "network_full_integer_quant.tflite"
        report = export_int8(job, plain)
        agreement = compare_with_torch(job, tflite.load(plain))
        command = [compiler, "-s", "-o", folder, str(plain)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)  # noqa: S603
        compiled = plain.with_name(f"{plain.stem}_edgetpu.tflite")
        if done.returncode or not compiled.is_file():
            reason = first_line(ExportError(done.stderr.strip() or done.stdout.strip()))
            raise ExportError(f"Compiling the network for the Edge TPU failed: {reason}")
        shutil.copyfile(compiled, path)
    # the compiler drops what is appended to the graph
    tflite.append_metadata(path, metadata_json(with_level_outputs(job)))
    return ExportReport(
        f"{report.summary}; unverified by the maintainers",
        f"Compared with torch on an image, on the CPU before compilation: {agreement}. The compiled file was not run.",
        agreement,
    )
