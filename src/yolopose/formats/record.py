"""What an exported file says of its network: written beside the graph, read with the graph's own shapes."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolopose._version import __version__
from yolopose.base.errors import UsageError, WeightsError
from yolopose.base.log import warn_once
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec, class_names

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

RECORD = "yolopose"  # key of our own record
_PERSON_CHANNELS = 4 + 1 + 17 * 3


def own_record(metadata: ModelMetadata) -> str:
    """Returns our own record as one line of JSON."""
    return json.dumps({**metadata.to_dict(), "names": list(metadata.spec.classes)}, ensure_ascii=False)


def public_record(job: ExportJob) -> dict[str, Any]:
    """Returns the keys that tools for files of the reference package look for."""
    metadata, batch = job.metadata, job.metadata.batch or 1
    spec = metadata.spec
    return {
        "description": f"{metadata.name} pose estimation, exported by yolopose", "version": __version__,
        "license": metadata.license, "task": "pose", "stride": metadata.stride, "batch": batch,
        "imgsz": list(metadata.imgsz), "names": spec.names, "kpt_shape": list(spec.keypoints.shape), "channels": 3,
        "end2end": metadata.end2end, "args": {"batch": batch, "half": job.half, "dynamic": metadata.dynamic},
        "kpt_names": {index: list(names) for index, names in spec.keypoints.names.items()},
    }  # fmt: skip


def read_record(
    path: Path, found: Mapping[str, Any], given: Sequence[int | str], output: Sequence[int | str]
) -> ModelMetadata:
    """Returns the record of a file; what its shapes say wins over what was written down.

    Args:
        path: the file, for error texts.
        found: its keys: our own record under `RECORD`, or those of the reference package, as values or as texts that
            hold Python literals.
        given: shape of the input, (B, 3, H, W); what is no whole number above 0 is free.
        output: shape of the output.

    Raises:
        WeightsError: the record is missing, not understood or of another task, or does not fit the shapes.
    """
    try:
        if RECORD in found:
            record = json.loads(found[RECORD])
        elif found.get("names"):
            record = _foreign(found, output)
        else:
            record = _guessed(path, output)
        metadata = ModelMetadata.from_dict(record)
    except (UsageError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError, AttributeError) as error:
        raise WeightsError(
            f"{path} does not say what it estimates, or in words that are not understood ({first_line(error)}). "
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


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text, as a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".") + "."


def _foreign(found: Mapping[str, Any], output: Sequence[int | str]) -> dict[str, Any]:
    """The record of a file of the reference package.

    Its `end2end` tells of the network, which may give all of its cells nevertheless: the shape of the output decides.
    """
    values = {key: _literal(value) for key, value in found.items()}
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
        end2end=_finished(output, schema) if values.get("end2end") else bool(arguments.get("nms")),
        license=str(values.get("license", "")),
        version=str(values.get("version", "")),
    ).to_dict()


def _finished(output: Sequence[int | str], schema: KeypointSchema) -> bool:
    """Whether an output is one of finished detections, (B, N, 6+K·D)."""
    return output[2] == 6 + schema.count * schema.dims


def _guessed(path: Path, output: Sequence[int | str]) -> dict[str, Any]:
    """The record of a file without any, from the one layout that tells itself: 56 channels are a COCO person."""
    if output[1] != _PERSON_CHANNELS:
        raise UsageError("it carries no record of its classes and keypoints")
    warn_once(f"{path} carries no record; its {_PERSON_CHANNELS} channels are taken for a person's 17 COCO points.")
    return ModelMetadata(spec=PoseSpec(classes=("person",), keypoints=KeypointSchema.coco_person())).to_dict()


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _check_channels(path: Path, metadata: ModelMetadata, output: Sequence[int | str]) -> None:
    spec = metadata.spec
    values = spec.keypoints.count * (spec.keypoints.dims + 2 * metadata.uncertainty)
    expected, place = (6 + values, 2) if metadata.end2end else (4 + spec.nc + values, 1)
    found = output[place]
    if isinstance(found, int) and found > 0 and found != expected:
        raise WeightsError(
            f"{path} contradicts itself: for {spec.nc} classes and kpt_shape {list(spec.keypoints.shape)} its output "
            f"should have {expected} values a cell, but has {found} ({list(output)}). Export it again."
        )
