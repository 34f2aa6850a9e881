"""Graphs with any number of inputs and outputs, run by ONNX Runtime, OpenVINO or LiteRT."""

from __future__ import annotations

import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import DependencyError, UsageError, WeightsError
from yolopose.base.log import quiet_libraries
from yolopose.formats.metadata import find_file, first_line

Arrays = list[npt.NDArray[Any]]

_OPENVINO_FOLDER = "_openvino_model"


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph.

    Attributes:
        name: its name; may be empty.
        shape: its sides; None for a free one.
        dtype: `float32`, `int64`, ….
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    def __str__(self) -> str:
        sides = " × ".join("?" if side is None else str(side) for side in self.shape)
        return f"{self.name or 'unnamed'} ({sides or 'scalar'}, {self.dtype})"


class Graph(ABC):
    """An opened graph; `run` may be called by one thread at a time.

    Attributes:
        inputs: its inputs.
        outputs: its outputs.
        engine: `onnx`, `openvino` or `litert`.
        device: `cpu`, `cuda:0`.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    engine: str
    device: str = "cpu"

    def run(self, *inputs: npt.NDArray[Any]) -> Arrays:
        """Compute all outputs; each input is converted to the type of its port."""
        values = [
            np.ascontiguousarray(value, dtype=np.dtype(port.dtype))
            for value, port in zip(inputs, self.inputs, strict=True)
        ]
        return self._run(values)

    @abstractmethod
    def _run(self, inputs: Arrays) -> Arrays: ...

    def describe(self) -> str:
        """Return inputs and outputs as text, for error messages."""
        inputs, outputs = (", ".join(map(str, ports)) for ports in (self.inputs, self.outputs))
        return f"inputs {inputs or 'none'}; outputs {outputs or 'none'}"

    def output(self, name: str) -> int:
        """Return the index of the output with this name, or -1."""
        return next((index for index, port in enumerate(self.outputs) if port.name == name), -1)


def open_graph(
    source: Path | bytes, suffix: str, *, name: str, engine: str | None = None, device: object = None
) -> Graph:
    """Open a graph.

    Args:
        source: the file, or its content.
        suffix: `.onnx`, `.xml`, `_openvino_model` (a folder) or `.tflite`.
        name: what error messages call it.
        engine: `onnx`, `openvino` or `litert`; None for the default of the suffix.
        device: see `yolopose.formats.open_runtime`; only ONNX Runtime computes on a GPU.

    Raises:
        DependencyError: no engine for this file is installed.
        UsageError: the engine cannot run the file, or the device is not available.
        WeightsError: the file is damaged.
    """
    engines = _engines(suffix)
    if engine is not None and engine not in engines:
        raise UsageError(f"{name} runs on {' or '.join(engines)}, not on {engine}: omit runtime=.")
    for candidate in [engine] if engine else engines:
        if find_spec(_PACKAGES[candidate]) is not None:
            return _OPENERS[candidate](source, suffix, name, device)
    packages = " or ".join(f"pip install {_INSTALL[item]}" for item in ([engine] if engine else engines))
    raise DependencyError(f"{name} needs an engine that is not installed. Install with: {packages}.")


def _engines(suffix: str) -> tuple[str, ...]:
    """Return the engines of a file type, the default first."""
    if suffix == ".onnx":
        return "onnx", "openvino"
    return ("openvino", "litert") if suffix == ".tflite" else ("openvino",)


class OnnxGraph(Graph):
    """A graph in ONNX Runtime."""

    engine = "onnx"

    def __init__(self, source: Path | bytes, suffix: str, name: str, device: object) -> None:
        import onnxruntime

        from yolopose.formats.onnx import select_provider

        del suffix
        self.device, provider = select_provider(device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # its warnings are about its own optimizations
        options.intra_op_num_threads = physical_cores()
        content = source if isinstance(source, bytes) else str(source)
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=[provider])
        except Exception as error:  # the error types of onnxruntime have no common base
            raise _open_error(name, f"onnxruntime {onnxruntime.__version__}", error) from error
        self.inputs = tuple(self._port(item) for item in self._session.get_inputs())
        self.outputs = tuple(self._port(item) for item in self._session.get_outputs())

    @staticmethod
    def _port(item: Any) -> Port:
        sides = tuple(side if isinstance(side, int) and side > 0 else None for side in item.shape)
        name = str(item.type).removeprefix("tensor(").removesuffix(")")
        return Port(item.name, sides, {"float": "float32", "double": "float64"}.get(name, name))

    def _run(self, inputs: Arrays) -> Arrays:
        feeds = {port.name: value for port, value in zip(self.inputs, inputs, strict=True)}
        return [np.asarray(output) for output in self._session.run(None, feeds)]


class OpenvinoGraph(Graph):
    """A graph in OpenVINO, float32 on the CPU."""

    engine = "openvino"

    def __init__(self, source: Path | bytes, suffix: str, name: str, device: object) -> None:
        from yolopose.formats.graph_runtime import require_cpu
        from yolopose.formats.openvino import compile_file

        require_cpu(device, "OpenVINO")
        if isinstance(source, Path):
            path = find_file(source, ".xml", "the network's graph") if suffix == _OPENVINO_FOLDER else source
            self._compiled = compile_file(path)
        else:
            with tempfile.TemporaryDirectory(prefix="yolopose-", ignore_cleanup_errors=True) as folder:
                path = Path(folder) / f"graph{suffix}"
                path.write_bytes(source)
                try:
                    self._compiled = compile_file(path)
                except WeightsError as error:
                    raise WeightsError(str(error).replace(str(path), name)) from error
        self.inputs = tuple(self._port(item) for item in self._compiled.inputs)
        self.outputs = tuple(self._port(item) for item in self._compiled.outputs)
        self._lock = threading.Lock()

    @staticmethod
    def _port(item: Any) -> Port:
        shape = item.get_partial_shape()
        sides = [side.get_length() if side.is_static else None for side in shape] if shape.rank.is_static else []
        name = min(item.get_names(), default="")
        return Port(name, tuple(sides), np.dtype(item.get_element_type().to_dtype()).name)

    def _run(self, inputs: Arrays) -> Arrays:
        with self._lock:
            outputs = self._compiled(inputs)
            return [np.array(outputs[index]) for index in range(len(self.outputs))]


class LitertGraph(Graph):
    """A TFLite graph in LiteRT."""

    engine = "litert"

    def __init__(self, source: Path | bytes, suffix: str, name: str, device: object) -> None:
        from yolopose.formats.graph_runtime import require_cpu

        del suffix
        require_cpu(device, "TFLite")
        content = {"model_content": source} if isinstance(source, bytes) else {"model_path": str(source)}
        try:
            with quiet_libraries():  # it prints that it uses the CPU
                interpreter: Any = import_module("ai_edge_litert.interpreter").Interpreter
                self._interpreter = interpreter(**content, num_threads=physical_cores())
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise _open_error(name, "LiteRT", error) from error
        self._in, self._out = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs, self.outputs = (tuple(map(self._port, details)) for details in (self._in, self._out))
        self._lock = threading.Lock()

    @staticmethod
    def _port(details: Any) -> Port:
        return Port(str(details["name"]), tuple(map(int, details["shape"])), np.dtype(details["dtype"]).name)

    def _run(self, inputs: Arrays) -> Arrays:
        with self._lock:
            for details, value in zip(self._in, inputs, strict=True):
                self._interpreter.set_tensor(details["index"], value)
            self._interpreter.invoke()
            return [np.array(self._interpreter.get_tensor(details["index"])) for details in self._out]


def _open_error(name: str, engine: str, error: Exception) -> WeightsError:
    return WeightsError(
        f"{name} cannot be opened by {engine}: {first_line(error)} The file may be truncated or damaged (download or "
        "copy it again), or need a newer version."
    )


_OPENERS = {"onnx": OnnxGraph, "openvino": OpenvinoGraph, "litert": LitertGraph}
_PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
_INSTALL = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai-edge-litert"}


def image_side(port: Port) -> tuple[int, int] | None:
    """Return (height, width) of an input (B, 3, H, W) of fixed size; None for another input."""
    shape = port.shape
    if len(shape) != 4 or shape[1] != 3 or shape[2] is None or shape[3] is None:
        return None
    return shape[2], shape[3]


def last_sides(ports: Sequence[Port], rank: int) -> list[int | None]:
    """Return the last side of each port of this rank."""
    return [port.shape[-1] for port in ports if len(port.shape) == rank]
