"""TensorRT: an engine for the type of NVIDIA GPU that it is built on.

Unverified: written from TensorRT's documentation, never run by the maintainers.
"""

from __future__ import annotations

from yolopose.formats.pytorch import pick_device  # first: it sets how torch is loaded

# isort: split
import tempfile
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from yolopose.base.errors import ExportError, UsageError, WeightsError
from yolopose.formats.graph_runtime import GraphRuntime, warn_half_is_fixed
from yolopose.formats.metadata import first_line, metadata_json, parse_metadata, read_metadata
from yolopose.formats.onnx import LEGACY_OPSET, write_graph
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.runtime import Batch

_MAX_BATCH = 16  # of an engine with a free batch


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> TensorrtRuntime:
    """Open an engine; see `Format.load`.

    The file is the length of the metadata in four bytes, the metadata, and the engine, as in the reference package.
    """
    warn_half_is_fixed(half, path)
    return TensorrtRuntime(path, _pick_gpu(device))


class TensorrtRuntime(GraphRuntime):
    """Inference with TensorRT; implements `yolopose.runtime.Runtime`.

    Args:
        path: the file.
        device: a GPU.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        super().__init__()
        self._device = device
        self.device = str(device)
        content = path.read_bytes()
        length = int.from_bytes(content[:4], "little")
        self.metadata = read_metadata(path, parse_metadata(content[4 : 4 + length]))
        trt: Any = import_module("tensorrt")
        self._engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(content[4 + length :])
        if self._engine is None:
            raise WeightsError(
                f"{path} cannot be opened by TensorRT {trt.__version__}: it may be damaged, or built on another type "
                "of GPU or by another TensorRT. Export it again on this machine."
            )
        self._context = self._engine.create_execution_context()
        self._input = self._engine.get_tensor_name(0)
        self._output = self._engine.get_tensor_name(1)
        self._limit = self.metadata.batch or _MAX_BATCH

    def _outputs(self, batch: Batch) -> npt.NDArray[np.float32]:
        parts = [batch[start : start + self._limit] for start in range(0, len(batch), self._limit)]
        return np.concatenate([self._run(part, self.metadata.batch or len(part)) for part in parts])

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        pixels = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        values = pixels if pixels.is_floating_point() else pixels.float().div_(255)
        padded = torch.zeros(size, *values.shape[1:], device=self._device)
        padded[: len(batch)] = values
        self._context.set_input_shape(self._input, tuple(padded.shape))
        output = torch.empty(tuple(self._context.get_tensor_shape(self._output)), device=self._device)
        self._context.set_tensor_address(self._input, padded.data_ptr())
        self._context.set_tensor_address(self._output, output.data_ptr())
        stream = torch.cuda.current_stream(self._device)
        self._context.execute_async_v3(stream.cuda_stream)
        stream.synchronize()
        return output[: len(batch)].cpu().numpy()


def _pick_gpu(device: object) -> torch.device:
    gpu = pick_device(device)
    if gpu.type != "cuda":
        raise UsageError("TensorRT needs an NVIDIA GPU, and torch does not see one. Use format=onnx or openvino.")
    return gpu


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> ExportReport:
    """Build an engine for the GPU of this machine; see `Format.export`.

    Raises:
        UsageError: this machine does not have a GPU.
    """
    _pick_gpu(job.settings.device)
    trt: Any = import_module("tensorrt")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "network.onnx"
        try:
            write_graph(replace(job, half=False), source, LEGACY_OPSET)
        except Exception as error:  # the converter may raise anything
            raise ExportError(f"Converting the network to TensorRT failed: {first_line(error)}") from error
        engine = _build_engine(trt, job, source)
    metadata = metadata_json(job).encode()
    path.write_bytes(len(metadata).to_bytes(4, "little") + metadata + bytes(engine))
    return ExportReport(f"TensorRT {trt.__version__}, {job.precision}, unverified by the maintainers")


def _build_engine(trt: Any, job: ExportJob, source: Path) -> Any:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    config = builder.create_builder_config()
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(source)):
        raise ExportError(f"Converting the network to TensorRT failed: {parser.get_error(0)}.")
    if job.settings.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(job.settings.workspace * 2**30))
    config.clear_flag(trt.BuilderFlag.TF32)  # it rounds float32 products to 10 bits
    if job.half:
        config.set_flag(trt.BuilderFlag.FP16)
    if job.metadata.dynamic:
        config.add_optimization_profile(_dynamic_profile(builder, job))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise ExportError("Converting the network to TensorRT failed: see its messages above.")
    return engine


def _dynamic_profile(builder: Any, job: ExportJob) -> Any:
    """Return the input shapes of a dynamic engine: up to twice the height and width of imgsz."""
    height, width = job.metadata.imgsz
    stride = job.metadata.stride
    profile = builder.create_optimization_profile()
    channels = job.metadata.spec.channels
    smallest = (1, channels, stride, stride)
    largest = (_MAX_BATCH, channels, 2 * height, 2 * width)
    profile.set_shape("images", smallest, (1, channels, height, width), largest)
    return profile
