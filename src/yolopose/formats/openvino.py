"""OpenVINO: a folder of a graph (.xml), its weights (.bin) and metadata. Loading does not import torch.

OpenVINO reports each import and conversion to a web service through the package `openvino_telemetry`. This module is
the only one that imports OpenVINO, and it does so with that package hidden.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, UsageError, WeightsError, YoloposeError
from yolopose.base.log import warn_once
from yolopose.base.yamlfile import to_yaml
from yolopose.formats.graph_runtime import GraphRuntime, require_cpu
from yolopose.formats.metadata import (
    KEY,
    METADATA_FILE,
    UnknownNetworkError,
    find_file,
    first_line,
    own_metadata,
    public_metadata,
    read_metadata,
    read_metadata_file,
)
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch

_SUFFIX = "_openvino_model"
_METADATA_PATH = ["model_info", KEY]  # in the graph's runtime info
_DTYPES = ("f32", "f16")
_TELEMETRY = "openvino_telemetry"


@contextmanager
def telemetry_disabled() -> Generator[None, None, None]:
    """Hide the telemetry package of OpenVINO and NNCF from imports in this block.

    If it cannot be imported, both fall back on a stub of their own that does nothing.
    """
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == _TELEMETRY}
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # None makes the import statement fail
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]
        sys.modules.update(hidden)


@cache
def import_openvino() -> Any:
    """Import OpenVINO without telemetry, now and for its conversions.

    A program that has imported OpenVINO before keeps its own choice.
    """
    with telemetry_disabled():
        return import_module("openvino")


_cores: dict[int, Any] = {}  # by process id; those of other processes belong to parents of this one
_warm: list[Any] = []
_freed_in: set[int] = set()  # processes in which a compiled network was freed


def _core() -> Any:
    """Return the only `Core` of the process: several, freed out of order, crash the process at its next fork.

    A forked process needs its own, since the threads of its parent's do not exist there; that one is never freed.
    """
    pid = os.getpid()
    if pid not in _cores:
        core = import_openvino().Core()
        if not _cores:  # a forked process has the binding as its parent has initialized it
            _warm_up(core)
        _cores[pid] = core
    return _cores[pid]


def _warm_up(core: Any) -> None:
    """Run a graph of one addition.

    The Python binding initializes its type conversions at first use. Two threads that do so at once deadlock: one holds
    the GIL, the other a lock of the binding. So the first use happens here, in one thread.
    """
    ops = import_module("openvino.opset13")
    value = ops.parameter([1, 1], import_openvino().Type.f32)
    graph = import_openvino().Model([ops.add(value, value)], [value], "warm-up")
    for dtype, pixel in (("u8", np.uint8(255)), ("f32", np.float32(1))):
        compiled = core.compile_model(_with_input_type(graph, dtype), "CPU")
        _warm.append(compiled)  # never freed, see `_check_not_forked`
        request = compiled.create_infer_request()
        request.infer([np.full((1, 1), pixel)], share_inputs=True, share_outputs=True)[0].astype(np.float32)


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> OpenvinoRuntime:
    """Open an OpenVINO folder, or the .xml in it, of yolopose or the reference package; see `Format.load`.

    `half` computes in bfloat16 if the CPU supports it.
    """
    return OpenvinoRuntime(find_file(path, ".xml", "the network's graph"), device, half)


def compile_file(path: Path) -> Any:
    """Return the compiled graph of a file (.xml, .onnx, .tflite) with its own inputs and outputs, float32 on the CPU.

    Raises:
        UsageError: see `_check_not_forked`.
        WeightsError: the file is damaged.
    """
    model = _read_graph(path)
    _check_not_forked(path)
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": physical_cores(),
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY",
    }
    try:
        compiled = _core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise _open_error(path, error) from error
    weakref.finalize(compiled, _note_freed).atexit = False
    return compiled


class OpenvinoRuntime(GraphRuntime):
    """Inference with OpenVINO; implements `yolopose.runtime.Replicated`.

    Args:
        path: the .xml.
        device: `cpu`.
        half: see `load`.

    Attributes:
        half: whether bfloat16 is used.
    """

    survives_fork = True  # without replicas: a request of the parent computes in the calling thread

    def __init__(self, path: Path, device: object = None, half: bool = False) -> None:
        super().__init__()
        require_cpu(device, "OpenVINO")
        self.half = half and _has_bfloat16()
        if half and not self.half:
            warn_once("half=True has no effect: this CPU does not support bfloat16, so OpenVINO computes in float32.")
        model = _read_graph(path)
        ports = model.inputs[0], model.outputs[0]
        dtype = ports[0].get_element_type().get_type_name()
        shapes = [_shape(port) for port in ports]
        if dtype not in _DTYPES or [len(shape) for shape in shapes] != [4, 3]:
            raise UnknownNetworkError(
                f"{path} is not a pose network: its input is {dtype} of shape {ports[0].get_partial_shape()}, its "
                f"output has shape {ports[1].get_partial_shape()}. Expected: images (B, C, H, W) and (B, 4+nc+K·D, A)."
            )
        self.metadata = read_metadata(path, _stored_metadata(path, model), *shapes)
        self._settings = {
            # by default, a CPU with bfloat16 computes in it at any precision of the file
            "INFERENCE_PRECISION_HINT": "bf16" if self.half else "f32",
            "INFERENCE_NUM_THREADS": physical_cores(),
            "ENABLE_CPU_PINNING": False,  # image decoding, and other processes, use the same cores
        }
        self._network = _Network(path, model, {**self._settings, "PERFORMANCE_HINT": "LATENCY"})

    def _make_replicas(self, count: int) -> Sequence[OpenvinoRuntime]:
        if count < 2:
            return [self]
        threads = max(physical_cores(), count)
        settings = {**self._settings, "NUM_STREAMS": count, "INFERENCE_NUM_THREADS": threads}
        network = _Network(self._network.path, self._network.model, settings)
        replicas = [self.clone() for _ in range(count)]
        for replica in replicas:
            replica._network = network
        return replicas

    def raw(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Run the network and return a copy of its whole output; see `GraphRuntime.raw`."""
        return self._outputs(batch).copy()

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        """Return the output in OpenVINO's memory, valid until the thread's next call."""
        if not np.issubdtype(batch.dtype, np.integer):
            batch = batch.astype(np.float32, copy=False)
        count = len(batch)
        if count < size:
            batch = np.concatenate((batch, np.zeros((size - count, *batch.shape[1:]), dtype=batch.dtype)))
        request = self._network.request("u8" if batch.dtype == np.uint8 else "f32")
        outputs = request.infer([np.ascontiguousarray(batch)], share_inputs=True, share_outputs=True)
        return outputs[0][:count]


def _note_freed() -> None:
    _freed_in.add(os.getpid())


def _check_not_forked(path: Path) -> None:
    """Check that a network can be compiled in this process.

    OpenVINO gives the threads of a freed network to the next one that is compiled. In a forked process they do not
    exist, and compiling would wait for them for ever. Networks that the parent has compiled can be used.

    Raises:
        UsageError: this process was forked from one that has freed a network.
    """
    if _freed_in - {os.getpid()}:
        raise UsageError(
            f"{path} cannot be opened by OpenVINO in this process, which was forked from one that has used OpenVINO "
            "before. Open the network before the fork and predict one image with it, start the process with "
            'multiprocessing.get_context("spawn"), or use an .onnx or .pt file.'
        )


class _Network:
    """A graph, compiled on first use for each input type; each thread has its own request, and so its own memory.

    Args:
        path: the .xml, for error messages.
        model: the graph.
        settings: properties of OpenVINO.
    """

    def __init__(self, path: Path, model: Any, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.model = model
        self._settings = settings
        self._lock = threading.Lock()
        self._compiled: dict[str, Any] = {}
        self._requests = threading.local()
        self._compile("u8")  # reports a damaged file when it is opened
        weakref.finalize(self, _note_freed).atexit = False

    def request(self, dtype: str) -> Any:
        """Return this thread's inference request for an input type: `u8` 0…255 or `f32` 0…1."""
        name = f"request_{dtype}"
        if not hasattr(self._requests, name):
            setattr(self._requests, name, self._compile(dtype).create_infer_request())
        return getattr(self._requests, name)

    def _compile(self, dtype: str) -> Any:
        with self._lock:
            if dtype not in self._compiled:
                _check_not_forked(self.path)
                try:
                    graph = _with_input_type(self.model, dtype)
                    self._compiled[dtype] = _core().compile_model(graph, "CPU", dict(self._settings))
                except RuntimeError as error:
                    raise _open_error(self.path, error) from error
            return self._compiled[dtype]


def _with_input_type(model: Any, dtype: str) -> Any:
    """Return a copy of a graph with another input type; `u8` is converted and divided by 255 in the graph."""
    openvino = import_openvino()
    graph = model.clone()
    steps = openvino.preprocess.PrePostProcessor(graph)
    own_dtype = graph.inputs[0].get_element_type()
    steps.input(0).tensor().set_element_type(getattr(openvino.Type, dtype))
    if dtype == "u8":
        steps.input(0).preprocess().convert_element_type(openvino.Type.f32).scale(255.0)
    steps.input(0).preprocess().convert_element_type(own_dtype)
    steps.output(0).tensor().set_element_type(openvino.Type.f32)
    return steps.build()


def _has_bfloat16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _shape(port: Any) -> list[int]:
    """Return the shape of an input or output, -1 for free dimensions; empty if the rank is free."""
    shape = port.get_partial_shape()
    return [side.get_length() if side.is_static else -1 for side in shape] if shape.rank.is_static else []


def _read_graph(path: Path) -> Any:
    try:
        model = _core().read_model(str(path))
    except RuntimeError as error:
        raise _open_error(path, error) from error
    if not model.inputs or not model.outputs:
        raise WeightsError(f"{path} is not a pose network: it does not have an input and an output.")
    return model


def _open_error(path: Path, error: RuntimeError) -> WeightsError:
    # the message starts with positions in OpenVINO's source; the reason is its last line
    lines = [
        line for line in str(error).splitlines() if line.strip() and not line.startswith(("Exception from", "Check"))
    ]
    reason = first_line(RuntimeError(lines[-1] if lines else str(error)))
    return WeightsError(
        f"{path} cannot be opened by OpenVINO {_version()}: {reason} The file or its .bin may be missing, truncated or "
        "damaged (export or copy the folder again), or need a newer OpenVINO."
    )


def _version() -> str:
    return import_openvino().get_version().split("-")[0]


def _stored_metadata(path: Path, model: Any) -> Mapping[str, Any]:
    """Return yolopose's metadata in the graph, else the YAML file in the folder."""
    with suppress(RuntimeError):  # other writers may store a value where a mapping is expected
        if model.has_rt_info(_METADATA_PATH):
            return {KEY: model.get_rt_info(_METADATA_PATH).astype(str)}
    return read_metadata_file(path.parent)


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write a network as an OpenVINO folder; see `Format.export`. `half` stores the weights in 16 bits."""
    try:
        model = _convert(job)
        if job.calibration:
            from yolopose.formats.int8 import quantize_openvino

            model = quantize_openvino(model, job.calibration)
    except YoloposeError:
        raise
    except Exception as error:  # the converter may raise anything
        raise ExportError(f"Converting the network to OpenVINO failed: {first_line(error)}") from error
    model.set_rt_info(own_metadata(job.metadata), _METADATA_PATH)
    target = path / f"{path.name.removesuffix(_SUFFIX)}.xml"
    import_openvino().save_model(model, str(target), compress_to_fp16=job.half)
    (path / METADATA_FILE).write_text(to_yaml(public_metadata(job)), encoding="utf-8")
    return ExportReport(f"by version {_version()}, {job.precision}")


def _convert(job: ExportJob) -> Any:
    # the graph computes in float32; `half` only changes how weights are stored
    graph = replace(job, half=False).trace()
    metadata = job.metadata
    channels = metadata.spec.channels
    shape = [-1, channels, -1, -1] if metadata.dynamic else [metadata.batch, channels, *metadata.imgsz]
    # traced before: OpenVINO would let torch run the trace three times to check it, and the file is compared anyway
    model = import_openvino().convert_model(graph, input=[shape], example_input=job.example_input())
    model.inputs[0].get_tensor().set_names({"images"})
    model.outputs[0].get_tensor().set_names({"output0"})
    return model
