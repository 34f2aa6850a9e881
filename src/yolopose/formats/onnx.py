"""ONNX: written by torch, run by onnxruntime. Loading imports no torch."""

from __future__ import annotations

import ast
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from yolopose._version import __version__
from yolopose.base.errors import ExportError, NotFoundError, UsageError, WeightsError
from yolopose.base.log import LOGGER, warn_once
from yolopose.formats.devices import single_device
from yolopose.results import HostArray
from yolopose.runtime import Batch, Candidates, from_final, from_raw
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec, class_names

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

OPSET = 18
_OPSETS = (13, 23)  # the oldest that holds all operators of the networks, the newest that torch writes
_RECORD = "yolopose"  # key of our own record in the file's metadata
_PERSON_CHANNELS = 4 + 1 + 17 * 3
_NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


# -- run ----------------------------------------------------------------------------------------------------------


def load(path: Path, device: object = None, half: bool = False) -> OnnxRuntime:
    """Opens an ONNX file: one of ours, or one that the reference package wrote.

    Args:
        path: the file.
        device: `cpu`, or a GPU where onnxruntime was installed with one.
        half: has no effect: the file's numbers are what they were exported as.

    Raises:
        NotFoundError: there is no such file.
        UsageError: the device is not here.
        WeightsError: the file is damaged, or no pose network that can be understood.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no ONNX file {path}. Check the path (current folder: {Path.cwd()}).")
    if half:
        warn_once(f"half=True has no effect on {path.name}: export it with half=True for 16-bit numbers.")
    return OnnxRuntime(path, device)


class OnnxRuntime:
    """Inference with onnxruntime; implements `yolopose.runtime.Runtime`.

    Args:
        path: the file.
        device: see `load`.

    Attributes:
        metadata: classes, keypoints, stride, the input sizes and batches that go.
        device: `cpu` or `cuda:0`.
    """

    def __init__(self, path: Path, device: object = None) -> None:
        import onnxruntime

        self.device, provider = _provider(device, onnxruntime.get_available_providers())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # what it warns of concerns its own optimisations
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # its error types share no base of their own
            raise WeightsError(
                f"{path} cannot be run: onnxruntime {onnxruntime.__version__} says: {_first_line(error)} The file may "
                "be cut off or damaged (export or copy it again), or need a newer onnxruntime."
            ) from error
        found = self._session.get_modelmeta().custom_metadata_map
        given, output = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._input, self._output = given.name, output.name
        self._dtype = _NUMBERS.get(given.type)
        if self._dtype is None or len(given.shape) != 4 or len(output.shape) != 3:
            raise WeightsError(
                f"{path} is no pose network: its input {given.name} is {given.type} of shape {given.shape}, its output "
                f"{output.name} of shape {output.shape}. Expected: pictures (B, 3, H, W) and (B, 4+nc+K·D, A)."
            )
        self.metadata = _metadata(path, found, given.shape, output.shape)

    def candidates(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Runs the network and keeps what scores above `conf`; see `yolopose.runtime.Runtime.candidates`."""
        raw, shape = self.raw(batch), self.metadata.spec.keypoints.shape
        if self.metadata.end2end:
            return from_final(raw, shape, conf=conf, classes=classes)
        return from_raw(raw, shape, conf=conf, max_nms=max_nms, classes=classes, multi_label=multi_label)

    def raw(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Runs the network and returns its whole output, float32.

        Args:
            batch: (B, 3, H, W) RGB, uint8 0…255 or float32 0…1.
        """
        size = self.metadata.batch or len(batch)
        parts = [self._run(batch[start : start + size], size) for start in range(0, len(batch), size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def wrap(self, array: npt.NDArray[Any]) -> HostArray:
        """Returns a host array with a tensor's everyday methods."""
        return HostArray(array)

    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        """The output for at most `size` pictures; a file of a fixed batch gets empty ones beside them."""
        values = np.zeros((size, *batch.shape[1:]), dtype=np.float32)
        if np.issubdtype(batch.dtype, np.integer):
            np.divide(batch, np.float32(255), out=values[: len(batch)], dtype=np.float32)
        else:
            values[: len(batch)] = batch
        output = self._session.run([self._output], {self._input: values.astype(self._dtype, copy=False)})[0]
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


def _metadata(
    path: Path, found: Mapping[str, str], given: Sequence[int | str], output: Sequence[int | str]
) -> ModelMetadata:
    """The record of a file; what its shapes say wins over what was written down."""
    try:
        if _RECORD in found:
            record = json.loads(found[_RECORD])
        elif found.get("names"):
            record = _foreign(found)
        else:
            record = _guessed(path, output)
        metadata = ModelMetadata.from_dict(record)
    except (UsageError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError, AttributeError) as error:
        raise WeightsError(
            f"{path} does not say what it estimates, or in words that are not understood ({_first_line(error)}). "
            "Export it again, with yolopose or a current version of the package that it comes from."
        ) from error
    sizes = [side if isinstance(side, int) and side > 0 else 0 for side in given]
    dynamic = not (sizes[2] and sizes[3])
    metadata = ModelMetadata.from_dict(
        {
            **metadata.to_dict(),
            "dynamic": dynamic,
            "batch": sizes[0],
            "imgsz": sizes[2:] if not dynamic else record["imgsz"],
        }
    )
    _check_channels(path, metadata, output)
    return metadata


def _foreign(found: Mapping[str, str]) -> dict[str, Any]:
    """The record of a file of the reference package: texts that hold Python literals."""
    values = {key: _literal(text) for key, text in found.items()}
    task = values.get("task", "pose")
    if task != "pose":
        raise UsageError(f"it is a network for the task {task!r}, not for poses")
    arguments = values.get("args")
    arguments = arguments if isinstance(arguments, dict) else {}
    shape = values.get("kpt_shape")
    schema = KeypointSchema.coco_person() if shape == [17, 3] else KeypointSchema.from_dict({"kpt_shape": shape})
    if values.get("kpt_names"):
        schema = KeypointSchema.from_dict({**schema.to_dict(), "kpt_names": values["kpt_names"]})
    return ModelMetadata(
        spec=PoseSpec(classes=class_names(values.get("names"), None), keypoints=schema),
        name=str(values.get("description", "")).removeprefix("Ultralytics ").split(" model")[0],
        stride=int(values.get("stride", 32)),
        imgsz=tuple(values["imgsz"]) if "imgsz" in values else (640, 640),
        end2end=bool(values.get("end2end")) or bool(arguments.get("nms")),
        license=str(values.get("license", "")),
        version=str(values.get("version", "")),
    ).to_dict()


def _guessed(path: Path, output: Sequence[int | str]) -> dict[str, Any]:
    """The record of a file without any, from the one layout that tells itself: 56 channels are a COCO person."""
    if output[1] != _PERSON_CHANNELS:
        raise UsageError("it carries no record of its classes and keypoints")
    warn_once(f"{path} carries no record; its {_PERSON_CHANNELS} channels are taken for a person's 17 COCO points.")
    return ModelMetadata(spec=PoseSpec(classes=("person",), keypoints=KeypointSchema.coco_person())).to_dict()


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _check_channels(path: Path, metadata: ModelMetadata, output: Sequence[int | str]) -> None:
    spec = metadata.spec
    values = spec.keypoints.count * spec.keypoints.dims
    expected, place = (6 + values, 2) if metadata.end2end else (4 + spec.nc + values, 1)
    if isinstance(output[place], int) and output[place] != expected:
        raise WeightsError(
            f"{path} contradicts itself: for {spec.nc} classes and kpt_shape {list(spec.keypoints.shape)} its output "
            f"should have {expected} values a cell, but has {output[place]} ({list(output)}). Export it again."
        )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".") + "."


# -- write --------------------------------------------------------------------------------------------------------


def export(job: ExportJob, path: Path) -> str:
    """Writes a network as ONNX.

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
        _convert(job, path, opset)
    except Exception as error:  # whatever the converter meets, the operator set or a fault of its own
        raise ExportError(
            f"The network cannot be written as ONNX with opset {opset}: {_first_line(error)} The opset that is used "
            f"when none is given, {OPSET}, works with every network that ships."
        ) from error
    return f"opset {_finish(path, job)}, {'float16' if job.half else 'float32'}"


def _convert(job: ExportJob, path: Path, opset: int) -> None:
    """Lets torch write the graph. Its newer converter begins at opset 18, below that the older one serves."""
    import torch

    network, size = job.module(), job.metadata.imgsz
    # an example of one picture would make the batch a constant of the graph
    sample = torch.zeros(max(job.metadata.batch, 1) if not job.metadata.dynamic else 2, 3, *size)
    dynamic = {0: "batch", 2: "height", 3: "width"} if job.metadata.dynamic else None
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output0"], "opset_version": opset}
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
                axes = {"images": dynamic, "output0": {0: "batch", 2: "cells"}} if dynamic else None
                torch.onnx.export(network, (sample,), str(path), dynamo=False, dynamic_axes=axes, **names)
    finally:
        log.level = level


def _finish(path: Path, job: ExportJob) -> int:
    """Simplifies the graph where that is asked for, puts the record into the file, and returns its operator set."""
    onnx: Any = import_module("onnx")  # its types and those of onnxslim do not fit each other
    model = onnx.load(str(path))
    if job.options.simplify and find_spec("onnxslim") is None:
        LOGGER.info("The graph is left as torch wrote it: onnxslim is not installed (pip install onnxslim).")
    elif job.options.simplify:
        model = import_module("onnxslim").slim(model)
    metadata = job.metadata
    spec = metadata.spec
    record = {
        _RECORD: json.dumps({**metadata.to_dict(), "names": list(spec.classes)}, ensure_ascii=False),
        # the keys that tools for files of the reference package look for
        "description": f"{metadata.name} pose estimation, exported by yolopose", "version": __version__,
        "license": metadata.license, "task": "pose", "stride": metadata.stride, "batch": metadata.batch or 1,
        "imgsz": list(metadata.imgsz), "names": spec.names, "kpt_shape": list(spec.keypoints.shape), "channels": 3,
        "end2end": False, "args": {"batch": metadata.batch or 1, "half": job.half, "dynamic": metadata.dynamic},
        "kpt_names": {index: list(names) for index, names in spec.keypoints.names.items()},
    }  # fmt: skip
    del model.metadata_props[:]
    for key, value in record.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, str(value)
    model.producer_name, model.producer_version = "yolopose", __version__
    onnx.save(model, str(path))
    return next(entry.version for entry in model.opset_import if not entry.domain)
