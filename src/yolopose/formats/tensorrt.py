"""TensorRT: an engine for the one kind of NVIDIA GPU that it is built on.

Unverified: written by TensorRT's documentation and never run by its authors, who had no such GPU. So it is as thin as
can be.
"""

from __future__ import annotations

from yolopose.formats.pytorch import pick_device  # it loads torch in the way that is wanted, so it comes first

# isort: split
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats.devices import say_half_is_settled
from yolopose.formats.graph_runtime import GraphRuntime
from yolopose.formats.metadata import first_line, read_record, record_in_text, record_text
from yolopose.formats.onnx import QUICK_OPSET, write_graph
from yolopose.runtime import Batch

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

_LARGEST = 16  # images at once that an engine of any batch is built for


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> EngineRuntime:
    """Open an engine: the length of the record as four bytes, the record, and what TensorRT built.

    Args:
        path: the file.
        device: a GPU of the kind that it was built on.
        half: has no effect: the engine's numbers are what they were exported as.

    Raises:
        UsageError: the device is not here.
        WeightsError: the file is damaged, or of another TensorRT or GPU.
    """
    say_half_is_settled(half, path)
    return EngineRuntime(path, _gpu(device))


class EngineRuntime(GraphRuntime):
    """Inference with TensorRT; implements `yolopose.runtime.Runtime`.

    Args:
        path: the file.
        device: a GPU.

    Attributes:
        metadata: classes, keypoints, stride, the input sizes and batches that go.
        device: `cuda:0`.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__()
        self._device, self.device = device, str(device)
        content = path.read_bytes()
        length = int.from_bytes(content[:4], "little")
        self.metadata = read_record(path, record_in_text(content[4 : 4 + length]))
        trt: Any = import_module("tensorrt")
        self._engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(content[4 + length :])
        if self._engine is None:
            raise WeightsError(
                f"{path} cannot be run by TensorRT {trt.__version__}: it may be damaged, or built on another kind of "
                "GPU or by another TensorRT. Export it again on this machine."
            )
        self._context = self._engine.create_execution_context()
        self._input, self._output = self._engine.get_tensor_name(0), self._engine.get_tensor_name(1)
        self._limit = self.metadata.batch or _LARGEST

    def _outputs(self, batch: Batch) -> npt.NDArray[np.float32]:
        parts = [batch[start : start + self._limit] for start in range(0, len(batch), self._limit)]
        return np.concatenate([self._run(part, self.metadata.batch or len(part)) for part in parts])

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        pixels = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        values = pixels if pixels.is_floating_point() else pixels.float().div_(255)
        given = torch.zeros(size, *values.shape[1:], device=self._device)
        given[: len(batch)] = values
        self._context.set_input_shape(self._input, tuple(given.shape))
        output = torch.empty(tuple(self._context.get_tensor_shape(self._output)), device=self._device)
        self._context.set_tensor_address(self._input, given.data_ptr())
        self._context.set_tensor_address(self._output, output.data_ptr())
        stream = torch.cuda.current_stream(self._device)
        self._context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return output[: len(batch)].cpu().numpy()


def _gpu(device: object) -> torch.device:
    found = pick_device(device)
    if found.type != "cuda":
        raise UsageError("TensorRT needs an NVIDIA GPU, and torch sees none here. format=onnx or openvino need none.")
    return found


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Build an engine for the GPU of this machine.

    Args:
        job: the network and what is asked for.
        path: the file to write.

    Returns:
        A few words on it, for the log.

    Raises:
        UsageError: there is no GPU here.
        ExportError: the network cannot be converted.
    """
    _gpu(job.options.device)
    trt: Any = import_module("tensorrt")
    with tempfile.TemporaryDirectory() as workshop:
        source = Path(workshop) / "network.onnx"
        try:
            write_graph(replace(job, half=False), source, QUICK_OPSET)
        except Exception as error:  # whatever the converter meets
            raise ExportError(f"The network cannot be written for TensorRT: {first_line(error)}") from error
        plan = _build(trt, job, source)
    record = record_text(job).encode()
    path.write_bytes(len(record).to_bytes(4, "little") + record + bytes(plan))
    return f"TensorRT {trt.__version__}, {job.precision}, unverified by its authors"


def _build(trt: Any, job: ExportJob, source: Path) -> Any:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network, config = builder.create_network(0), builder.create_builder_config()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(source)):
        raise ExportError(f"The network cannot be written for TensorRT: {parser.get_error(0)}.")
    if job.options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(job.options.workspace * 2**30))
    config.clear_flag(trt.BuilderFlag.TF32)  # which would round what is called float32 to 10 bits
    if job.half:
        config.set_flag(trt.BuilderFlag.FP16)
    if job.metadata.dynamic:
        config.add_optimization_profile(_profile(builder, job))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError("The network cannot be written for TensorRT: it builds no engine, and says why above.")
    return plan


def _profile(builder: Any, job: ExportJob) -> Any:
    """The input sizes that an engine of any size goes for: up to twice the height and width of imgsz."""
    (height, width), stride = job.metadata.imgsz, job.metadata.stride
    profile = builder.create_optimization_profile()
    smallest, usual, largest = (
        (1, 3, stride, stride), (1, 3, height, width), (_LARGEST, 3, 2 * height, 2 * width)
    )  # fmt: skip
    profile.set_shape("images", smallest, usual, largest)
    return profile
