"""ONNX: written by torch, run by onnxruntime. Loading imports no torch."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose._version import __version__
from yolopose.base.cpu import has_all_cores, physical_cores
from yolopose.base.errors import ExportError, UsageError, WeightsError, YoloposeError
from yolopose.base.log import LOGGER
from yolopose.formats.capture import example
from yolopose.formats.devices import say_half_is_settled, single_device
from yolopose.formats.graph_runtime import GraphRuntime, InputMemory
from yolopose.formats.metadata import RECORD, first_line, own_record, public_record, read_record
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

OPSET = 18
QUICK_OPSET = 17  # the newest of torch's quicker converter, for what goes on to another format at once
_OPSETS = (13, 23)  # the oldest that holds all operators of the networks, the newest that torch writes
_NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> OnnxRuntime:
    """Open an ONNX file: one of ours, or one that the reference package wrote.

    Args:
        path: the file.
        device: `cpu`, or a GPU where onnxruntime was installed with one.
        half: has no effect: the file's numbers are what they were exported as.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    say_half_is_settled(half, path)
    return OnnxRuntime(path, device)


class OnnxRuntime(GraphRuntime):
    """Inference with onnxruntime; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.
        device: see `load`.

    Attributes:
        metadata: classes, keypoints, stride, the input sizes and batches that go.
        device: `cpu` or `cuda:0`.
    """

    def __init__(self, path: Path, device: object = None) -> None:
        import onnxruntime

        super().__init__()
        self.device, self._provider = _provider(device, onnxruntime.get_available_providers())
        self._path, self._memory = path, InputMemory()
        # left to itself, onnxruntime takes all cores and binds a thread to each, which is some per cent faster
        self._session = self._open(0 if has_all_cores() else physical_cores(), spin=True)
        found = self._session.get_modelmeta().custom_metadata_map
        given, output = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._input, self._output = given.name, output.name
        self._dtype = _NUMBERS.get(given.type)
        if self._dtype is None or len(given.shape) != 4 or len(output.shape) != 3:
            raise WeightsError(
                f"{path} is no pose network: its input {given.name} is {given.type} of shape {given.shape}, its output "
                f"{output.name} of shape {output.shape}. Expected: images (B, 3, H, W) and (B, 4+nc+K·D, A)."
            )
        self.metadata = read_record(path, found, given.shape, output.shape)

    def _open(self, threads: int, *, spin: bool) -> Any:
        """A session of so many threads (0: one a core); those that wait for work ask for it without rest if `spin`."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # what it warns of concerns its own optimizations
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        try:
            return onnxruntime.InferenceSession(str(self._path), options, providers=[self._provider])
        except Exception as error:  # its error types share no base of their own
            raise WeightsError(
                f"{self._path} cannot be run: onnxruntime {onnxruntime.__version__} says: {first_line(error)} The "
                "file may be cut off or damaged (export or copy it again), or need a newer onnxruntime."
            ) from error

    def _make_replicas(self, count: int) -> Sequence[OnnxRuntime]:
        if count < 2 or self.device != "cpu":
            return [self]
        threads = max(1, physical_cores() // count)
        found = [copy.copy(self) for _ in range(count)]
        shared = self._open(threads, spin=False) if threads == 1 else None  # computes in the thread that calls it
        for replica in found:
            replica._session = shared or self._open(threads, spin=False)
        return found

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = self._memory.filled(batch, size, self._dtype)
        output = self._session.run([self._output], {self._input: values})[0]
        return np.asarray(output)[: len(batch)].astype(np.float32, copy=False)


def _provider(device: object, available: Sequence[str]) -> tuple[str, Any]:
    """The device as words, and what onnxruntime shall run on."""
    wanted = single_device(device)
    gpu = "CUDAExecutionProvider" in available
    if wanted == "cpu" or (not wanted and not gpu):
        return "cpu", "CPUExecutionProvider"
    kind, _, number = (wanted or "cuda:0").partition(":")
    if kind != "cuda" or not (number or "0").isdigit():
        raise UsageError(f"device={device!r} is not understood for an ONNX file: give cpu or 0 (the first GPU).")
    if not gpu:
        raise UsageError(
            f"device={device!r} asks for a GPU, but this onnxruntime has none (it has {', '.join(available)}). "
            "Use device=cpu, or replace it: pip uninstall onnxruntime; pip install onnxruntime-gpu."
        )
    return f"cuda:{int(number or 0)}", ("CUDAExecutionProvider", {"device_id": int(number or 0)})


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as ONNX.

    Args:
        job: the network and what is asked for.
        path: the file to write.

    Returns:
        A few words on the file, for the log.

    Raises:
        UsageError: there is no way to this operator set.
        ExportError: the network cannot be converted.
    """
    opset, (oldest, newest) = job.options.opset or OPSET, _OPSETS
    if not oldest <= opset <= newest:
        raise UsageError(
            f"opset={opset} is not possible: networks go into {oldest} to {newest}; {OPSET} is the default."
        )
    try:
        write_graph(job, path, opset)
        used = _finish(path, job)
    except YoloposeError:
        raise
    except Exception as error:  # whatever the converter meets, the operator set or a fault of its own
        raise ExportError(
            f"The network cannot be written as ONNX with opset {opset}: {first_line(error)} The opset that is used "
            f"when none is given, {OPSET}, works with every network that ships."
        ) from error
    return f"opset {used}, {job.precision}"


def write_graph(job: ExportJob, path: Path, opset: int = OPSET) -> None:
    """Let torch write the graph alone. Its newer converter begins at opset 18, below that the older one serves."""
    import torch

    network, sample = job.module(), example(job)
    dynamic = {0: "batch", 2: "height", 3: "width"} if job.metadata.dynamic else None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": job.outputs, "opset_version": opset}
    log = logging.getLogger("torch.onnx")
    level, log.level = log.level, logging.ERROR
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # of the converter's own future
            if opset >= OPSET:
                shapes = (dynamic,) if dynamic else None
                torch.onnx.export(
                    network, (sample,), str(path), dynamo=True, external_data=False, verbose=False,
                    dynamic_shapes=shapes, **names,
                )  # fmt: skip
            else:
                found = {0: "batch"} if job.metadata.end2end else {0: "batch", 2: "cells"}
                axes = {"images": dynamic, "output0": found} if dynamic else None
                torch.onnx.export(network, (sample,), str(path), dynamo=False, dynamic_axes=axes, **names)
    finally:
        log.level = level


def _finish(path: Path, job: ExportJob) -> int:
    """Simplify the graph where that is asked for, puts the record into the file, and returns its operator set."""
    onnx: Any = import_module("onnx")  # its types and those of onnxslim do not fit each other
    model = onnx.load(str(path))
    if job.options.simplify and find_spec("onnxslim") is None:
        LOGGER.info("The graph is left as torch wrote it: onnxslim is not installed (pip install onnxslim).")
    elif job.options.simplify:
        model = import_module("onnxslim").slim(model)
    if job.calibration:
        model = import_module("yolopose.formats.quantizing").quantized_onnx(model, job.calibration)
    record = {RECORD: own_record(job.metadata), **public_record(job)}
    del model.metadata_props[:]
    for key, value in record.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    model.producer_name, model.producer_version = "yolopose", __version__
    onnx.save(model, str(path))
    return next(entry.version for entry in model.opset_import if not entry.domain)
