"""What formats of a toolchain share: an engine in another process, conversion from ONNX, outputs per level."""

from __future__ import annotations

import os
import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats.graph_runtime import GraphRuntime, InputBuffer
from yolopose.formats.int8 import Calibration
from yolopose.formats.metadata import LEVELS, first_line, read_metadata
from yolopose.formats.protocol import ExportJob
from yolopose.runtime import Batch
from yolopose.schema import ModelMetadata
from yolopose.toolchains import Worker, require_toolchain, run_in_env

Float32 = npt.NDArray[np.float32]


class WorkerRuntime(GraphRuntime):
    """Inference in a process of a toolchain; implements `yolopose.runtime.Replicated` without replicas.

    Args:
        path: the file or folder, for error messages.
        worker: the process.
        values: stored metadata.
        strides: strides of the levels, for outputs per level.
    """

    def __init__(
        self, path: Path, worker: Worker, values: Mapping[str, Any], strides: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        self._worker = worker
        self._buffer = InputBuffer()
        self._strides = strides
        weakref.finalize(self, _close_worker, worker, os.getpid())
        shape = worker.info.get("input")
        output = worker.info.get("output")
        if shape is not None and (len(shape) != 4 or (output is not None and len(output) != 3)):
            raise WeightsError(
                f"{path} is not a pose network that can be run: its input is {shape}, its output {output}. Expected: "
                "images (B, H, W, C), in the layout of its library, and (B, 4+nc+K·D, A), as exported by yolopose."
            )
        self.metadata = read_metadata(path, values, shape, output)

    def _run(self, batch: Batch, size: int) -> Float32:
        outputs = self._worker.run(self._buffer.fill(batch, size))
        whole = outputs[0] if self._strides is None else join_levels(outputs, self.metadata, self._strides)
        return whole[: len(batch)]


def _close_worker(worker: Worker, pid: int) -> None:
    """End the process that runs the file, unless this process is a fork of the one that uses it."""
    if os.getpid() == pid:
        worker.close()


def start_worker(toolchain: str, module: str, path: Path) -> Worker:
    """Start the process that runs a file; see `Worker.start_python`.

    Raises:
        DependencyError: the toolchain is not installed.
        WeightsError: the file cannot be opened.
    """
    python = require_toolchain(toolchain, str(path))
    return Worker.start_python(python, module, {"path": str(path.resolve()), "threads": physical_cores()}, path)


# -- write --------------------------------------------------------------------------------------------------------


@contextmanager
def onnx_source(job: ExportJob, title: str, opset: int, *, slim: bool = False) -> Generator[dict[str, Any], None, None]:
    """Write a network as ONNX, and its calibration images, for a process of a toolchain.

    Args:
        job: the network and the settings.
        title: title of the format, for error messages.
        opset: opset of the graph.
        slim: whether onnxslim simplifies the graph: constant shapes, no unused nodes.

    Yields:
        Paths `source` and, with calibration, `calibration`; they are removed at the end of the block.

    Raises:
        ExportError: the network cannot be converted.
    """
    from yolopose.formats.onnx import write_graph

    with TemporaryDirectory() as folder:
        source = Path(folder) / "network.onnx"
        try:
            write_graph(replace(job, half=False), source, opset)
            if slim:
                onnx: Any = import_module("onnx")
                onnx.save(import_module("onnxslim").slim(onnx.load(str(source))), str(source))
        except Exception as error:  # the converter may raise anything
            raise ExportError(f"Converting the network to {title} failed: {first_line(error)}") from error
        files = {"source": str(source)}
        if job.calibration:
            files["calibration"] = str(_write_images(job.calibration, Path(folder) / "images.npy"))
        yield files


def _write_images(calibration: Calibration, path: Path) -> Path:
    """Write the images as (N, B, C, H, W) uint8, one after the other, since all may exceed the memory."""
    shape = (len(calibration), calibration.batch, calibration.channels, *calibration.imgsz)
    values = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    for index, batch in enumerate(calibration):
        values[index] = np.rint(batch * 255)
    values.flush()
    return path


def convert(
    job: ExportJob,
    target: Path,
    title: str,
    toolchain: str,
    module: str,
    opset: int,
    *,
    slim: bool = False,
    **more: Any,
) -> None:
    """Let a toolchain write a file or folder.

    Args:
        job: the network and the settings.
        target: the file to write, or an empty folder.
        title: title of the format, for error messages.
        toolchain: name of the toolchain.
        module: file of `toolchains/scripts` whose `convert` writes the format.
        opset: opset of the ONNX graph.
        slim: see `onnx_source`.
        more: further arguments of `convert`.

    Raises:
        DependencyError: the toolchain is not installed.
        ExportError: the network cannot be converted.
    """
    python = require_toolchain(toolchain, f"Export to {title}")
    with onnx_source(job, title, opset, slim=slim) as files:
        values = {**files, "target": str(target.resolve()), **more}
        run_in_env(python, module, "convert", values, f"Converting the network to {title} failed")


# -- outputs per level --------------------------------------------------------------------------------------------


def with_level_outputs(job: ExportJob, **args: Any) -> ExportJob:
    """Return the job with outputs per level (`export_modules.LevelOutputs`), whose strides the metadata stores.

    Args:
        job: the network and the settings.
        args: further values for `metadata.args`.

    Raises:
        UsageError: the job asks for outputs that are computed after the levels: final detections, or σ.
    """
    option = "end2end" if job.metadata.end2end else "uncertainty" if job.metadata.uncertainty else ""
    if option and job.nms is None:
        raise UsageError(f"{option}=True is not supported by 8-bit files with outputs per level: omit it or int8=True.")
    args = {**job.metadata.args, "strides": [int(stride) for stride in job.network.stride], **args}
    return replace(job, metadata=replace(job.metadata, outputs=LEVELS, args=args))


def read_strides(path: Path, metadata: ModelMetadata) -> list[int]:
    """Return the strides of the levels, as stored in the metadata.

    Raises:
        WeightsError: they are missing or invalid.
    """
    strides = metadata.args.get("strides")
    if not isinstance(strides, list) or not strides or not all(isinstance(x, int) and x > 0 for x in strides):
        raise WeightsError(f"{path} does not store the strides of its outputs per level. Export it again.")
    return strides


def join_levels(parts: Sequence[Float32], metadata: ModelMetadata, strides: Sequence[int]) -> Float32:
    """Decode outputs per level to pixels.

    Args:
        parts: in the order of `level_names`: (B, 4, A), (B, nc, A), (B, 2·K, A) and, for D = 3, (B, K, A) per level;
            with three states, another (B, K, A).
        metadata: metadata of the file.
        strides: strides of the levels.

    Returns:
        (B, 4+nc+K·D, A) float32, the output of other formats; K more values with three states.
    """
    count, dims = metadata.spec.keypoints.shape
    height, width = metadata.imgsz
    per_level = dims + 1 + (metadata.spec.keypoints.visibility == 3)
    levels: list[Float32] = []
    for level, stride in enumerate(strides):
        distances, scores, points, *visibilities = parts[level * per_level : (level + 1) * per_level]
        centers = _anchor_points(height // stride, width // stride)
        near, far = distances[:, :2], distances[:, 2:]
        boxes = np.concatenate((centers + (far - near) / 2, near + far), 1) * stride
        keypoints = (points.reshape(len(points), count, 2, -1) + centers) * stride
        if visibilities:
            keypoints = np.concatenate((keypoints, visibilities[0][:, :, None]), 2)
        keypoints = keypoints.reshape(len(points), count * dims, -1)
        states = [conf * state for conf, state in pairwise(visibilities)]
        levels.append(np.concatenate((boxes, scores, keypoints, *states), 1))
    return np.concatenate(levels, 2).astype(np.float32, copy=False)


def _anchor_points(rows: int, columns: int) -> Float32:
    """Return (2, A) x and y of the anchor points of a level, in grid units."""
    y, x = np.mgrid[:rows, :columns].astype(np.float32) + np.float32(0.5)
    return np.stack((x.ravel(), y.ravel()))
