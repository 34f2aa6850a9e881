"""ONNX: exported by torch, run by onnxruntime. Loading does not import torch."""

from __future__ import annotations

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
from yolopose.formats.graph_runtime import GraphRuntime, InputBuffer, single_device, warn_half_is_fixed
from yolopose.formats.metadata import UnknownNetworkError, file_metadata, first_line, read_metadata
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from collections.abc import Mapping

OPSET = 18
LEGACY_OPSET = (
    17  # newest of torch's TorchScript-based exporter, which is faster: for graphs that are converted further
)
_OPSETS = (13, 23)  # the oldest with all operators of the networks, the newest that torch writes
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> OnnxRuntime:
    """Open an ONNX file of yolopose or the reference package; see `Format.load`."""
    warn_half_is_fixed(half, path)
    return OnnxRuntime(path, device)


class OnnxRuntime(GraphRuntime):
    """Inference with onnxruntime; implements `yolopose.runtime.Replicated`.

    Args:
        path: the file.
        device: `cpu`, or a GPU with onnxruntime-gpu.
    """

    def __init__(self, path: Path, device: object = None) -> None:
        import onnxruntime

        super().__init__()
        self.device, self._provider = select_provider(device, onnxruntime.get_available_providers())
        self._path = path
        self._buffer = InputBuffer()
        # with 0, onnxruntime uses all cores and pins a thread to each, which is a few percent faster
        self._session = self._open(0 if has_all_cores() else physical_cores(), spin=True)
        graph_input = self._session.get_inputs()[0]
        graph_output = self._session.get_outputs()[0]
        self._input = graph_input.name
        self._output = graph_output.name
        self._dtype = _DTYPES.get(graph_input.type)
        if self._dtype is None or len(graph_input.shape) != 4 or len(graph_output.shape) != 3:
            raise UnknownNetworkError(
                f"{path} is not a pose network: its input {self._input} is {graph_input.type} of shape "
                f"{graph_input.shape}, its output {self._output} has shape {graph_output.shape}. Expected: images "
                "(B, C, H, W) and (B, 4+nc+K·D, A)."
            )
        values: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        self.metadata = read_metadata(path, values, graph_input.shape, graph_output.shape)

    def _open(self, threads: int, *, spin: bool) -> Any:
        """Return a session with a number of threads (0: one per core); with `spin`, idle threads poll for work."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # its warnings are about its own optimizations
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        try:
            return onnxruntime.InferenceSession(str(self._path), options, providers=[self._provider])
        except Exception as error:  # the error types of onnxruntime have no common base
            raise WeightsError(
                f"{self._path} cannot be opened by onnxruntime {onnxruntime.__version__}: {first_line(error)} The file "
                "may be truncated or damaged (export or copy it again), or need a newer onnxruntime."
            ) from error

    def _make_replicas(self, count: int) -> Sequence[OnnxRuntime]:
        if count < 2 or self.device != "cpu":
            return [self]
        threads = max(1, physical_cores() // count)
        replicas = [self.clone() for _ in range(count)]
        # a session of one thread computes in the calling thread, so that all replicas can share it
        shared = self._open(threads, spin=False) if threads == 1 else None
        for replica in replicas:
            replica._session = shared or self._open(threads, spin=False)
        return replicas

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        values = self._buffer.fill(batch, size, self._dtype)
        output = self._session.run([self._output], {self._input: values})[0]
        return np.asarray(output)[: len(batch)].astype(np.float32, copy=False)


def select_provider(device: object, available: Sequence[str]) -> tuple[str, Any]:
    """Return the device name and the execution provider of onnxruntime.

    Args:
        device: as given to `open_runtime`.
        available: names of the providers that this onnxruntime has.

    Raises:
        UsageError: the device is not available.
    """
    wanted = single_device(device)
    has_cuda = "CUDAExecutionProvider" in available
    if wanted == "cpu" or (not wanted and not has_cuda):
        return "cpu", "CPUExecutionProvider"
    kind, _, index = (wanted or "cuda:0").partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise UsageError(f"device={device!r} is not valid for an ONNX file: use cpu or 0 (the first GPU).")
    if not has_cuda:
        raise UsageError(
            f"device={device!r} is a GPU, but this onnxruntime supports none (only {', '.join(available)}). Use "
            "device=cpu, or replace it: pip uninstall onnxruntime; pip install onnxruntime-gpu."
        )
    return f"cuda:{int(index or 0)}", ("CUDAExecutionProvider", {"device_id": int(index or 0)})


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as ONNX; see `Format.export`.

    Raises:
        UsageError: the opset is not supported.
    """
    opset = job.settings.opset or OPSET
    oldest, newest = _OPSETS
    if not oldest <= opset <= newest:
        raise UsageError(f"opset={opset} is not supported: use {oldest} to {newest}; the default is {OPSET}.")
    try:
        write_graph(job, path, opset)
        used = _finish(path, job)
    except YoloposeError:
        raise
    except Exception as error:  # the converter may raise anything
        raise ExportError(
            f"Converting the network to ONNX with opset {opset} failed: {first_line(error)} The default opset, "
            f"{OPSET}, works with all networks of yolopose."
        ) from error
    return ExportReport(f"opset {used}, {job.precision}")


def write_graph(job: ExportJob, path: Path, opset: int = OPSET) -> None:
    """Let torch write the graph only; opsets below 18 need its older, TorchScript-based exporter."""
    import torch

    network = job.build_module()
    sample = job.example_input()
    dynamic = {0: "batch", 2: "height", 3: "width"} if job.metadata.dynamic else None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": job.output_names, "opset_version": opset}
    log = logging.getLogger("torch.onnx")
    level, log.level = log.level, logging.ERROR
    try:
        with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecation of the exporter
            if opset >= OPSET:
                torch.onnx.export(
                    network,
                    (sample,),
                    str(path),
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                    dynamic_shapes=(dynamic,) if dynamic else None,
                    **names,
                )
            else:
                output_axes = {0: "batch"} if job.metadata.end2end else {0: "batch", 2: "anchors"}
                axes = {"images": dynamic, "output0": output_axes} if dynamic else None
                torch.onnx.export(network, (sample,), str(path), dynamo=False, dynamic_axes=axes, **names)
    finally:
        log.level = level


def _finish(path: Path, job: ExportJob) -> int:
    """Simplify and quantize the graph as requested, add the metadata, and return the opset."""
    onnx: Any = import_module("onnx")  # untyped: its types and those of onnxslim contradict each other
    model = onnx.load(str(path))
    if job.settings.simplify and find_spec("onnxslim") is None:
        LOGGER.info("The graph is not simplified: onnxslim is not installed (pip install onnxslim).")
    elif job.settings.simplify:
        model = import_module("onnxslim").slim(model)
    if job.calibration:
        from yolopose.formats.int8 import quantize_onnx

        model = quantize_onnx(model, job.calibration)
    del model.metadata_props[:]
    for key, value in file_metadata(job).items():
        entry = model.metadata_props.add()
        entry.key = key
        entry.value = str(value)
    model.producer_name = "yolopose"
    model.producer_version = __version__
    onnx.save(model, str(path))
    return next(entry.version for entry in model.opset_import if not entry.domain)
