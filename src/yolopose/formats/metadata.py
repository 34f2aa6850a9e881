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
from yolopose.base.yamlfile import read_yaml, to_yaml
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec, class_names

if TYPE_CHECKING:
    from yolopose.formats.exporting import ExportJob

RECORD = "yolopose"  # key of our own record
RECORD_FILE = "metadata.yaml"
_PERSON_CHANNELS = 4 + 1 + 17 * 3


def own_record(metadata: ModelMetadata) -> str:
    """Return our own record as one line of JSON."""
    return json.dumps({**metadata.to_dict(), "names": list(metadata.spec.classes)}, ensure_ascii=False)


def public_record(job: ExportJob) -> dict[str, Any]:
    """Return the keys that tools for files of the reference package look for."""
    metadata, batch = job.metadata, job.metadata.batch or 1
    spec = metadata.spec
    return {
        "description": f"{metadata.name} pose estimation, exported by yolopose", "version": __version__,
        "license": metadata.license, "task": "pose", "stride": metadata.stride, "batch": batch,
        "imgsz": list(metadata.imgsz), "names": spec.names, "kpt_shape": list(spec.keypoints.shape), "channels": 3,
        "end2end": metadata.end2end and job.suppression is None,
        "args": {
            "batch": batch, "half": job.half, "int8": job.bits == 8, "dynamic": metadata.dynamic,
            "nms": job.suppression is not None,
        },
        "kpt_names": {index: list(names) for index, names in spec.keypoints.names.items()},
    }  # fmt: skip


def record_text(job: ExportJob) -> str:
    """Return both records as one JSON text, for formats with room for a text."""
    return json.dumps({RECORD: own_record(job.metadata), **public_record(job)}, ensure_ascii=False)


def write_record(job: ExportJob, folder: Path) -> None:
    """Write both records into a folder, as the YAML file that the reference package writes there."""
    values = {**public_record(job), RECORD: own_record(job.metadata)}
    (folder / RECORD_FILE).write_text(to_yaml(values), encoding="utf-8")


def record_in_text(text: str | bytes) -> dict[str, Any]:
    """Return the keys of what `record_text` or the reference package wrote; none where it is no JSON mapping."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def outputs_of(found: Mapping[str, Any]) -> str:
    """Return the layout of the outputs that our own record names; `raw` where there is none."""
    own = record_in_text(found.get(RECORD, ""))
    return str(own.get("outputs", "raw"))


def record_in_folder(folder: Path) -> dict[str, Any]:
    """Return the keys of the YAML file in a folder; none where there is no such file.

    Raises:
        WeightsError: it is no YAML mapping.
    """
    path = folder / RECORD_FILE
    return read_yaml(path, "record of the network", WeightsError) if path.exists() else {}


def sole_file(path: Path, suffix: str, what: str) -> Path:
    """Return the one file with a suffix that a folder holds; a file is returned as it is.

    Args:
        path: the folder or file.
        suffix: `.xml`.
        what: what such a file is, for the error: `the network's graph`.

    Raises:
        WeightsError: there is none, or several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.glob(f"*{suffix}"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise WeightsError(f"{path} should hold one {suffix}, {what}, but holds {names}. Name the {suffix} to run.")
    return found[0]


def read_record(
    path: Path,
    found: Mapping[str, Any],
    given: Sequence[int | str] | None = None,
    output: Sequence[int | str] | None = None,
) -> ModelMetadata:
    """Return the record of a file; what its shapes say wins over what was written down.

    Args:
        path: the file, for error texts.
        found: its keys: our own record under `RECORD`, or those of the reference package, as values or as texts that
            hold Python literals.
        given: shape of the input, (B, 3, H, W); what is no whole number above 0 is free. None where the graph does
            not tell, and the record must.
        output: shape of the output; None where it is not known yet (see `check_output`).

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
    if given is None:
        return metadata
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
    if output is not None:
        check_output(path, metadata, output)
    return metadata


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, as a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".") + "."


def _foreign(found: Mapping[str, Any], output: Sequence[int | str] | None) -> dict[str, Any]:
    """The record of a file of the reference package.

    Its `end2end` tells of the network, which may give all of its cells nevertheless: the shape of the output decides.
    """
    values = {key: _literal(value) for key, value in found.items()}
    if isinstance(values["names"], dict):  # JSON has no whole numbers as keys
        values["names"] = {int(index): name for index, name in values["names"].items()}
    task = values.get("task", "pose")
    if task != "pose":
        raise UsageError(f"it is a network for the task {task!r}, not for poses")
    arguments = values.get("args")
    arguments = arguments if isinstance(arguments, dict) else {}
    dynamic = bool(arguments.get("dynamic"))
    shape = values.get("kpt_shape")
    schema = KeypointSchema.coco_person() if shape == [17, 3] else KeypointSchema.from_dict({"kpt_shape": shape})
    if values.get("kpt_names"):
        schema = KeypointSchema.from_dict({**schema.to_dict(), "kpt_names": values["kpt_names"]})
    return ModelMetadata(
        spec=PoseSpec(classes=class_names(values.get("names"), None), keypoints=schema),
        name=str(values.get("description", "")).removeprefix("Ultralytics ").split(" model")[0],
        stride=int(values.get("stride", 32)),
        imgsz=tuple(values["imgsz"]) if "imgsz" in values else (640, 640),
        batch=0 if dynamic else int(values.get("batch") or 1),
        dynamic=dynamic,
        end2end=_finished(output, schema) if values.get("end2end") else bool(arguments.get("nms")),
        license=str(values.get("license", "")),
        version=str(values.get("version", "")),
    ).to_dict()


def _finished(output: Sequence[int | str] | None, schema: KeypointSchema) -> bool:
    """Whether an output is one of finished detections, (B, N, 6+K·D), as it is taken to be where it is not known."""
    return output is None or output[2] == 6 + schema.count * schema.dims


def _guessed(path: Path, output: Sequence[int | str] | None) -> dict[str, Any]:
    """The record of a file without any, from the one layout that tells itself: 56 channels are a COCO person."""
    if output is None or output[1] != _PERSON_CHANNELS:
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


def check_output(path: Path, metadata: ModelMetadata, output: Sequence[int | str]) -> None:
    """Make sure that an output's shape is that of the classes and keypoints that a record names.

    Raises:
        WeightsError: it is not.
    """
    spec = metadata.spec
    values = spec.keypoints.count * (spec.keypoints.dims + 2 * metadata.uncertainty)
    expected, place = (6 + values, 2) if metadata.end2end else (4 + spec.nc + values, 1)
    found = output[place]
    if isinstance(found, int) and found > 0 and found != expected:
        raise WeightsError(
            f"{path} contradicts itself: for {spec.nc} classes and kpt_shape {list(spec.keypoints.shape)} its output "
            f"should have {expected} values a cell, but has {found} ({list(output)}). Export it again."
        )
