"""Formats whose libraries live in a toolchain: the graph is handed over as ONNX, and batches go to a process there."""

from __future__ import annotations

import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats.calibration import Calibration
from yolopose.formats.graph_runtime import GraphRuntime, InputMemory
from yolopose.formats.levels import LEVELS, joined
from yolopose.formats.metadata import first_line, read_record
from yolopose.runtime import Batch
from yolopose.schema import ModelMetadata
from yolopose.toolchains import Worker, require_toolchain, run_in_env

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob


class WorkerRuntime(GraphRuntime):
    """Inference in a process of a toolchain; implements `yolopose.runtime.Replicated`, with one replica.

    Args:
        path: the file or folder, for error texts.
        worker: what computes it.
        found: keys of its record; those that the worker tells where None.
        strides: of the levels, where the outputs are level by level (`metadata.outputs`).

    Attributes:
        metadata: classes, keypoints, stride, the one input size and batch.
        device: `cpu`.
    """

    def __init__(
        self, path: Path, worker: Worker, found: Mapping[str, Any], strides: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self._worker, self._memory, self._strides = worker, InputMemory(), strides
        weakref.finalize(self, worker.close)
        given, output = worker.info.get("input"), worker.info.get("output")
        if given is not None and (len(given) != 4 or given[1] != 3 or (output is not None and len(output) != 3)):
            raise WeightsError(
                f"{path} is no pose network that can be run: its input is {given}, its output {output}. Expected: "
                "images (B, H, W, 3), as its library lays them out, and (B, 4+nc+K·D, A), as yolopose writes them."
            )
        self.metadata = read_record(path, found, given, output)

    def try_out(self, path: Path) -> None:
        """Run the network on nothing, where the worker cannot tell its shapes; see `GraphRuntime._try_out`."""
        self._try_out(path)

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        outputs = self._worker.run(self._memory.filled(batch, size))
        whole = outputs[0] if self._strides is None else joined(outputs, self.metadata, self._strides)
        return whole[: len(batch)]


def started(toolchain: str, module: str, path: Path, action: str = "serve", **values: Any) -> Worker:
    """Start the process that runs a file; see `Worker.of_python`.

    Raises:
        DependencyError: the toolchain is not installed.
        WeightsError: the file cannot be opened.
    """
    python = require_toolchain(toolchain, str(path))
    values = {"path": str(path.resolve()), "threads": physical_cores(), **values}
    return Worker.of_python(python, module, values, path, action)


@contextmanager
def handed_over(job: ExportJob, title: str, opset: int, *, slim: bool = False) -> Generator[dict[str, Any], None, None]:
    """Write a network as ONNX, and the images that 8-bit numbers are fitted to, for another Python to read.

    Args:
        job: the network and what is asked for.
        title: of the format, for error texts.
        opset: of the graph.
        slim: whether its shapes are settled and what is idle in it goes, by onnxslim.

    Yields:
        `source` and, with 8-bit numbers, `calibration`: paths; they are gone when the block ends.

    Raises:
        ExportError: the network cannot be converted.
    """
    from yolopose.formats.onnx import write_graph

    with TemporaryDirectory() as workshop:
        source = Path(workshop) / "network.onnx"
        try:
            write_graph(replace(job, half=False), source, opset)
            if slim:
                onnx: Any = import_module("onnx")
                onnx.save(import_module("onnxslim").slim(onnx.load(str(source))), str(source))
        except Exception as error:  # whatever the converter meets
            raise ExportError(f"The network cannot be written for {title}: {first_line(error)}") from error
        found = {"source": str(source)}
        if job.calibration:
            found["calibration"] = str(_kept(job.calibration, Path(workshop) / "images.npy"))
        yield found


def _kept(calibration: Calibration, path: Path) -> Path:
    """Write the images as (N, B, 3, H, W) uint8, one after the other: all of them may not fit the memory."""
    shape = (len(calibration), calibration.batch, 3, *calibration.imgsz)
    values = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for place, batch in enumerate(calibration):
        values[place] = np.rint(batch * 255)
    values.flush()
    return path


def convert(
    job: ExportJob, target: Path, title: str, place: tuple[str, str], opset: int, *, slim: bool = False, **more: Any
) -> None:
    """Let a toolchain write a file or folder.

    Args:
        job: the network and what is asked for.
        target: the file to write, or the folder, empty.
        title: of the format, for error texts.
        place: name of the toolchain and of the file of `toolchains/inside` whose `convert` writes it.
        opset: of the graph that is handed over.
        slim: see `handed_over`.
        more: what `convert` is told beside.

    Raises:
        DependencyError: the toolchain is not installed.
        ExportError: the network cannot be converted.
    """
    toolchain, module = place
    python = require_toolchain(toolchain, f"Export to {title}")
    with handed_over(job, title, opset, slim=slim) as found:
        values = {**found, "target": str(target.resolve()), **more}
        run_in_env(python, module, "convert", values, f"The network cannot be written for {title}")


def by_level(job: ExportJob, **args: Any) -> ExportJob:
    """Return the job with outputs level by level, whose strides its record keeps.

    Args:
        job: the network and what is asked for.
        args: what the record keeps beside.

    Raises:
        UsageError: what is asked for is computed behind the levels: final detections, or σ.
    """
    inside = "end2end" if job.metadata.end2end else "uncertainty" if job.metadata.uncertainty else ""
    if inside and job.suppression is None:
        raise UsageError(
            f"{inside}=True is not in a file whose outputs are whole numbers, by level: leave it or int8=True out."
        )
    kept = {**job.metadata.args, "strides": [int(stride) for stride in job.network.stride], **args}
    return replace(job, metadata=replace(job.metadata, outputs=LEVELS, args=kept))


def strides_of(path: Path, metadata: ModelMetadata) -> list[int]:
    """Return the strides of the levels, as the record of a file of whole numbers keeps them.

    Raises:
        WeightsError: it keeps none.
    """
    found = metadata.args.get("strides")
    if not isinstance(found, list) or not found or not all(isinstance(stride, int) and stride > 0 for stride in found):
        raise WeightsError(f"{path} does not say the strides of its outputs, level by level. Export it again.")
    return found
