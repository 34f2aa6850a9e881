"""Model repository for NVIDIA Triton Inference Server: the network, and a model that takes image files.

`NAME` is the network itself, run by Triton's ONNX backend with dynamic batching. `NAME-images` has the inputs and
outputs of `yolo serve` (`protocol_v2.py`): a Python backend that decodes images, calls `NAME`, and suppresses
duplicates. Its environment needs yolopose, without torch.
"""

from __future__ import annotations

import json
import re
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose.base.errors import UsageError
from yolopose.base.files import atomic_folder, make_folder
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.config import TritonOptions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DATA_TYPES = {"tensor(float)": "TYPE_FP32", "tensor(float16)": "TYPE_FP16", "tensor(double)": "TYPE_FP64"}
_OUTPUTS = {"num_detections": "INT32", "boxes": "FP32", "scores": "FP32", "classes": "INT64", "keypoints": "FP32"}


def write_repository(options: TritonOptions) -> Path:
    """Write the two models of a repository; others in the same folder stay unchanged.

    Args:
        options: the ONNX file, the folder, and settings of Triton.

    Returns:
        The folder of the repository.

    Raises:
        NotFoundError, WeightsError: the file cannot be opened.
        UsageError: it is not an ONNX file, or the name is impossible.
        OutputError: the folder cannot be written.
    """
    from yolopose.formats import onnx
    from yolopose.model import YOLO

    path = Path(str(options.model))
    if path.suffix.lower() != ".onnx":
        raise UsageError(f"{path} is not an ONNX file: export it first, yolo export model={path} format=onnx.")
    name = options.name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem)
    if not _NAME.fullmatch(name):
        raise UsageError(f"name={name!r} is not possible: use letters, digits, '.', '_' and '-'.")
    YOLO(path)  # reports a missing or damaged file
    runtime = onnx.load(path, "cpu")
    root = make_folder(Path(options.output))
    with atomic_folder(root / name) as folder:
        make_folder(folder / "1")
        shutil.copyfile(path, folder / "1/model.onnx")
        (folder / "config.pbtxt").write_text(_network_config(name, runtime, options), encoding="utf-8")
    with atomic_folder(root / f"{name}-images") as folder:
        make_folder(folder / "1")
        backend = files("yolopose.serve") / "parts" / "triton_model.py"
        (folder / "1/model.py").write_text(backend.read_text(encoding="utf-8"), encoding="utf-8")
        details = {
            "network": name,
            "batch": _max_batch(runtime.metadata, options),
            "metadata": runtime.metadata.to_dict(),
        }
        (folder / "1/metadata.json").write_text(json.dumps(details, indent=1), encoding="utf-8")
        (folder / "config.pbtxt").write_text(_poses_config(name, runtime.metadata), encoding="utf-8")
    return root


def _max_batch(metadata: ModelMetadata, options: TritonOptions) -> int:
    """Return the largest batch; 0 for a file of a fixed batch, whose first dimension Triton must not add."""
    return options.batch if not metadata.batch else 0


def _network_config(name: str, runtime: Any, options: TritonOptions) -> str:
    batch = _max_batch(runtime.metadata, options)
    ports = [_port(port, batch) for port in (runtime._session.get_inputs()[0], runtime._session.get_outputs()[0])]
    kind = "KIND_GPU" if options.device == "gpu" else "KIND_CPU"
    lines = [
        f'name: "{name}"',
        'platform: "onnxruntime_onnx"',
        f"max_batch_size: {batch}",
        f"input [ {ports[0]} ]",
        f"output [ {ports[1]} ]",
        f"instance_group [ {{ count: {options.instances} kind: {kind} }} ]",
    ]
    if batch:
        delay = round(options.max_delay_ms * 1000)
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {delay} }}")
    return "\n".join(lines) + "\n"


def _port(port: Any, batch: int) -> str:
    sides = [side if isinstance(side, int) else -1 for side in port.shape][1 if batch else 0 :]
    return _tensor(port.name, _DATA_TYPES[port.type], sides)


def _tensor(name: str, data_type: str, dims: list[int]) -> str:
    return f'{{ name: "{name}" data_type: {data_type} dims: [ {", ".join(map(str, dims))} ] }}'


def _poses_config(name: str, metadata: ModelMetadata) -> str:
    count, dims = metadata.spec.keypoints.shape
    shapes = {"boxes": [-1, 4], "keypoints": [-1, count, dims]}
    outputs = [_tensor(key, f"TYPE_{kind}", shapes.get(key, [-1])) for key, kind in _OUTPUTS.items()]
    outputs.append(_tensor("poses", "TYPE_STRING", [-1]))
    return "\n".join(
        [
            f'name: "{name}-images"',
            'backend: "python"',
            "max_batch_size: 0",
            f"input [ {_tensor('image', 'TYPE_STRING', [-1])} ]",
            "output [",
            ",\n".join(f"  {output}" for output in outputs),
            "]",
            "instance_group [ { count: 1 kind: KIND_CPU } ]",
            "",
        ]
    )
