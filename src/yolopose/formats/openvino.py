"""OpenVINO: a folder of a graph (.xml), its weights (.bin) and a record. Running it takes no torch.

OpenVINO reports each import and conversion to a web service of its maker through a package of its own,
`openvino_telemetry`. `library` is the one place that imports OpenVINO, and it does so with that package hidden.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import ExportError, WeightsError, YoloposeError
from yolopose.base.log import warn_once
from yolopose.base.yamlfile import to_yaml
from yolopose.formats.capture import example, traced
from yolopose.formats.devices import cpu_only
from yolopose.formats.graph_runtime import GraphRuntime
from yolopose.formats.metadata import (
    RECORD,
    RECORD_FILE,
    first_line,
    own_record,
    public_record,
    read_record,
    record_in_folder,
    sole_file,
)
from yolopose.formats.reporting import telemetry_disabled
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_SUFFIX = "_openvino_model"
_PLACE = ["model_info", RECORD]  # of our record in the graph
_NUMBERS = ("f32", "f16")


@cache
def library() -> Any:
    """Import OpenVINO so that it reports to nobody, neither now nor when it converts.

    A program that has imported OpenVINO before has made that choice itself.
    """
    with telemetry_disabled():
        return import_module("openvino")


@cache
def _core() -> Any:
    """The one `Core` of this process: several of them, freed out of order, crash it at its next fork."""
    core = library().Core()
    _use_once(core)
    return core


def _use_once(core: Any) -> None:
    """Run a graph of one addition.

    OpenVINO's Python binding sets up its conversions at their first use, and two threads that meet there wait for
    each other for ever: one holds Python's lock, the other that of the binding. So the first use is made here.
    """
    ops, numbers = import_module("openvino.opset13"), library().Type.f32
    given = ops.parameter([1, 1], numbers)
    graph = library().Model([ops.add(given, given)], [given], "first use")
    for kind, pixel in (("u8", np.uint8(255)), ("f32", np.float32(1))):
        request = core.compile_model(_with_input(graph, kind), "CPU").create_infer_request()
        request.infer([np.full((1, 1), pixel)], share_inputs=True, share_outputs=True)[0].astype(np.float32)


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> OpenvinoRuntime:
    """Open an OpenVINO folder, or the .xml in it: one of ours, or one that the reference package wrote.

    Args:
        path: the folder or the .xml.
        device: `cpu`.
        half: compute in bfloat16 where the processor has it.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    return OpenvinoRuntime(sole_file(path, ".xml", "the network's graph"), device, half)


class OpenvinoRuntime(GraphRuntime):
    """Inference with OpenVINO; implements `yolopose.runtime.Replicated`.

    Args:
        path: the .xml.
        device: see `load`.
        half: see `load`.

    Attributes:
        metadata: classes, keypoints, stride, the input sizes and batches that go.
        device: `cpu`.
        half: whether bfloat16 is in use.
    """

    def __init__(self, path: Path, device: object = None, half: bool = False) -> None:
        super().__init__()
        cpu_only(device, "OpenVINO")
        self.half = half and _has_bfloat16()
        if half and not self.half:
            warn_once("half=True has no effect: this processor has no bfloat16, so OpenVINO computes in float32.")
        model = _read(path)
        given, output = model.inputs[0], model.outputs[0]
        numbers = given.get_element_type().get_type_name()
        shapes = [[side.get_length() if side.is_static else -1 for side in port.get_partial_shape()]
                  if port.get_partial_shape().rank.is_static else [] for port in (given, output)]  # fmt: skip
        if numbers not in _NUMBERS or [len(shape) for shape in shapes] != [4, 3]:
            raise WeightsError(
                f"{path} is no pose network: its input is {numbers} of shape {given.get_partial_shape()}, its output "
                f"of shape {output.get_partial_shape()}. Expected: images (B, 3, H, W) and (B, 4+nc+K·D, A)."
            )
        self.metadata = read_record(path, _record(path, model), *shapes)
        # without the first, a processor with bfloat16 would compute in it, whatever the file holds
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.half else "f32",
            "INFERENCE_NUM_THREADS": physical_cores(),
            "ENABLE_CPU_PINNING": False,  # decoding wants the same cores, and so may another process
        }
        self._network = _Network(path, model, {**self._settings, "PERFORMANCE_HINT": "LATENCY"})

    def _make_replicas(self, count: int) -> Sequence[OpenvinoRuntime]:
        if count < 2:
            return [self]
        threads = max(physical_cores(), count)
        settings = {**self._settings, "NUM_STREAMS": count, "INFERENCE_NUM_THREADS": threads}
        network = _Network(self._network.path, self._network.model, settings)
        found = [copy.copy(self) for _ in range(count)]
        for replica in found:
            replica._network = network
        return found

    def raw(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Run the network and returns its whole output, float32.

        Args:
            batch: (B, 3, H, W) RGB, uint8 0…255 or float32 0…1.
        """
        return self._outputs(batch).copy()

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        """The output in OpenVINO's own memory: good until the thread's next call."""
        if not np.issubdtype(batch.dtype, np.integer):
            batch = batch.astype(np.float32, copy=False)
        count = len(batch)
        if count < size:
            batch = np.concatenate((batch, np.zeros((size - count, *batch.shape[1:]), dtype=batch.dtype)))
        request = self._network.request("u8" if batch.dtype == np.uint8 else "f32")
        found = request.infer([np.ascontiguousarray(batch)], share_inputs=True, share_outputs=True)
        return found[0][:count]


class _Network:
    """A graph, compiled when it is first asked for; each thread has a request, and so memory, of its own.

    Args:
        path: the .xml, for error texts.
        model: what was read from it.
        settings: OpenVINO's properties.
    """

    def __init__(self, path: Path, model: Any, settings: Mapping[str, Any]) -> None:
        self.path, self.model, self._settings = path, model, settings
        self._lock = threading.Lock()
        self._compiled: dict[str, Any] = {}
        self._requests = threading.local()
        self._compile("u8")  # what is wrong with a file is said when it is opened

    def request(self, numbers: str) -> Any:
        """Return this thread's request for inputs of one kind, `u8` 0…255 or `f32` 0…1."""
        name = f"request_{numbers}"
        if not hasattr(self._requests, name):
            setattr(self._requests, name, self._compile(numbers).create_infer_request())
        return getattr(self._requests, name)

    def _compile(self, numbers: str) -> Any:
        with self._lock:
            if numbers not in self._compiled:
                try:
                    graph = _with_input(self.model, numbers)
                    self._compiled[numbers] = _core().compile_model(graph, "CPU", dict(self._settings))
                except RuntimeError as error:
                    raise _unusable(self.path, error) from error
            return self._compiled[numbers]


def _with_input(model: Any, numbers: str) -> Any:
    """A copy of a graph that takes inputs of one kind, converted and divided by 255 where the network begins."""
    graph, library_ = model.clone(), library()
    steps = library_.preprocess.PrePostProcessor(graph)
    own = graph.inputs[0].get_element_type()
    steps.input(0).tensor().set_element_type(getattr(library_.Type, numbers))
    if numbers == "u8":
        steps.input(0).preprocess().convert_element_type(library_.Type.f32).scale(255.0)
    steps.input(0).preprocess().convert_element_type(own)
    steps.output(0).tensor().set_element_type(library_.Type.f32)
    return steps.build()


def _has_bfloat16() -> bool:
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _read(path: Path) -> Any:
    try:
        model = _core().read_model(str(path))
    except RuntimeError as error:
        raise _unusable(path, error) from error
    if not model.inputs or not model.outputs:
        raise WeightsError(f"{path} is no pose network: it has no input or no output.")
    return model


def _unusable(path: Path, error: RuntimeError) -> WeightsError:
    # its texts begin with the place in its own source
    lines = [
        line for line in str(error).splitlines() if line.strip() and not line.startswith(("Exception from", "Check"))
    ]
    said = first_line(RuntimeError(lines[-1] if lines else str(error)))
    return WeightsError(
        f"{path} cannot be run: OpenVINO {library().get_version().split('-')[0]} says: {said} The file or its .bin may "
        "be missing, cut off or damaged (export or copy the folder again), or need a newer OpenVINO."
    )


def _record(path: Path, model: Any) -> Mapping[str, Any]:
    """What a folder says of its network: our record in the graph, else the file beside it."""
    with suppress(RuntimeError):  # raised where others have put something else at a part of this place
        if model.has_rt_info(_PLACE):
            return {RECORD: model.get_rt_info(_PLACE).astype(str)}
    return record_in_folder(path.parent)


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Write a network as an OpenVINO folder.

    Args:
        job: the network and what is asked for; half stores the weights in 16 bits.
        path: the folder, empty.

    Returns:
        A few words on it, for the log.

    Raises:
        ExportError: the network cannot be converted.
    """
    try:
        model = _convert(job)
        if job.calibration:
            model = import_module("yolopose.formats.quantizing").quantized_openvino(model, job.calibration)
    except YoloposeError:
        raise
    except Exception as error:  # whatever the converter meets
        raise ExportError(f"The network cannot be written for OpenVINO: {first_line(error)}") from error
    model.set_rt_info(own_record(job.metadata), _PLACE)
    target = path / f"{path.name.removesuffix(_SUFFIX)}.xml"
    library().save_model(model, str(target), compress_to_fp16=job.half)
    (path / RECORD_FILE).write_text(to_yaml(public_record(job)), encoding="utf-8")
    return f"by version {library().get_version().split('-')[0]}, {job.precision}"


def _convert(job: ExportJob) -> Any:
    # the graph computes in float32 whatever its weights are stored in
    graph, shape = traced(replace(job, half=False)), [-1, 3, -1, -1]
    if not job.metadata.dynamic:
        shape = [job.metadata.batch, 3, *job.metadata.imgsz]
    # traced here, since OpenVINO would have torch run the trace thrice to check it; the file itself is compared
    model = library().convert_model(graph, input=[shape], example_input=example(job))
    model.inputs[0].get_tensor().set_names({"images"})
    model.outputs[0].get_tensor().set_names({"output0"})
    return model
