"""Metadata in exported files: what a file stores about its network, and how files of other packages are read."""

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
from yolopose.runtime.protocol import keypoint_values
from yolopose.schema import (
    MAX_IMAGE_CHANNELS,
    ConfidenceScale,
    KeypointSchema,
    ModelMetadata,
    PoseSpec,
    class_names,
)

if TYPE_CHECKING:
    from yolopose.formats.protocol import ExportJob

KEY = "yolopose"
"""Key of yolopose's own metadata, a JSON text."""
METADATA_FILE = "metadata.yaml"
LEVELS = "levels"
"""`ModelMetadata.outputs` of files with outputs per level."""
_LEVEL_KINDS = ("distances", "scores", "points", "visibilities", "states")
_PERSON_CHANNELS = 4 + 1 + 17 * 3


def level_names(strides: Sequence[int], dims: int, states: int = 2) -> list[str]:
    """Return the names of outputs per level: `distances_8`, `scores_8`, `points_8`, `visibilities_8`, ….

    Args:
        strides: strides of the levels.
        dims: D of the keypoints; with 2, visibilities are omitted.
        states: states of visibility; with 3, `states_8`, … follow.
    """
    kinds = _LEVEL_KINDS[: 3 if dims == 2 else 4 if states == 2 else 5]
    return [f"{kind}_{stride}" for stride in strides for kind in kinds]


class UnknownNetworkError(WeightsError):
    """A file without metadata whose inputs and outputs are not those of yolopose or the reference package."""


# -- write --------------------------------------------------------------------------------------------------------


def own_metadata(metadata: ModelMetadata) -> str:
    """Return the value of `KEY`: all metadata as one line of JSON."""
    return json.dumps({**metadata.to_dict(), "names": list(metadata.spec.classes)}, ensure_ascii=False)


def public_metadata(job: ExportJob) -> dict[str, Any]:
    """Return the keys that tools for files of the reference package read."""
    metadata = job.metadata
    spec = metadata.spec
    batch = metadata.batch or 1
    return {
        "description": f"{metadata.name} pose estimation, exported by yolopose",
        "version": __version__,
        "license": metadata.license,
        "task": "pose",
        "stride": metadata.stride,
        "batch": batch,
        "imgsz": list(metadata.imgsz),
        "names": spec.names,
        "kpt_shape": list(spec.keypoints.shape),
        "channels": spec.channels,
        "end2end": metadata.end2end and job.nms is None,
        "args": {
            "batch": batch,
            "half": job.half,
            "int8": job.bits == 8,
            "dynamic": metadata.dynamic,
            "nms": job.nms is not None,
        },
        "kpt_names": {index: list(names) for index, names in spec.keypoints.names.items()},
        **{key: value for key, value in spec.to_dict().items() if key in ("visibility", "class_keypoints")},
        **({"calibration": metadata.calibration.to_dict()} if metadata.calibration else {}),
    }


def file_metadata(job: ExportJob) -> dict[str, Any]:
    """Return all metadata of a file: own and public keys."""
    return {KEY: own_metadata(job.metadata), **public_metadata(job)}


def metadata_json(job: ExportJob) -> str:
    """Return all metadata as one JSON text, for formats that store one text."""
    return json.dumps(file_metadata(job), ensure_ascii=False)


def write_metadata(job: ExportJob, folder: Path) -> None:
    """Write all metadata into a folder, as the YAML file that the reference package writes."""
    values = {**public_metadata(job), KEY: own_metadata(job.metadata)}
    (folder / METADATA_FILE).write_text(to_yaml(values), encoding="utf-8")


def calibration_of(metadata: ModelMetadata, end2end: bool) -> ConfidenceScale | None:
    """Return the calibration of an output of a network; None, with a warning, if it was measured on the other one."""
    scale = metadata.calibration
    if scale is not None and scale.end2end != end2end:
        warn_once(
            f"The confidences of {metadata.name} are calibrated for end2end={scale.end2end}, and this output has "
            f"others: they are not calibrated. `yolo calibrate` with end2end={end2end} measures them."
        )
        return None
    return scale


_INVALID = (
    UsageError, ValueError, SyntaxError, TypeError, MemoryError, RecursionError, AttributeError, ArithmeticError,
    LookupError,
)  # fmt: skip
"""What values of any type and size can raise while they are converted."""


# -- read ---------------------------------------------------------------------------------------------------------


def parse_metadata(text: str | bytes) -> dict[str, Any]:
    """Return the keys of a JSON text; empty if it is not a JSON mapping."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def read_metadata_file(folder: Path) -> dict[str, Any]:
    """Return the keys of the YAML file in a folder; empty if there is none.

    Raises:
        WeightsError: the file is not a YAML mapping.
    """
    path = folder / METADATA_FILE
    return read_yaml(path, "metadata of the network", WeightsError) if path.exists() else {}


def output_layout(values: Mapping[str, Any]) -> str:
    """Return the output layout in yolopose's own metadata: `raw` or `LEVELS`; `raw` if there is none."""
    return str(parse_metadata(values.get(KEY, "")).get("outputs", "raw"))


def find_file(path: Path, suffix: str, description: str) -> Path:
    """Return the only file with a suffix in a folder; a path to a file is returned unchanged.

    Args:
        path: the folder or file.
        suffix: `.xml`.
        description: what such a file is, for the error: `the network's graph`.

    Raises:
        WeightsError: there is none, or several.
    """
    if not path.is_dir():
        return path
    files = sorted(path.glob(f"*{suffix}"))
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise WeightsError(
            f"{path} should hold one {suffix} ({description}), but holds {names}. Name the {suffix} to run."
        )
    return files[0]


def read_metadata(
    path: Path,
    values: Mapping[str, Any],
    input_shape: Sequence[int | str] | None = None,
    output_shape: Sequence[int | str] | None = None,
) -> ModelMetadata:
    """Return the metadata of a file; shapes of the graph override what was stored.

    Args:
        path: the file, for error messages.
        values: stored keys: yolopose's own under `KEY`, or those of the reference package, as values or as texts that
            hold Python literals.
        input_shape: (B, C, H, W) of the graph; anything but a positive integer is a free dimension. None if the graph
            does not store it.
        output_shape: shape of the output; None if it is not known yet (see `check_output`).

    Raises:
        WeightsError: the metadata is missing, invalid, of another task, or contradicts the shapes.
    """
    try:
        if KEY in values:
            record = json.loads(values[KEY])
        elif values.get("names"):
            record = _reference_metadata(values, output_shape)
        else:
            record = _guess_metadata(path, output_shape)
        metadata = ModelMetadata.from_dict(record)
    except UnknownNetworkError:
        raise
    except _INVALID as error:
        raise WeightsError(
            f"{path} has no valid metadata on its classes and keypoints ({first_line(error)}). Export it again, with "
            "yolopose or a current version of the package that it comes from."
        ) from error
    if input_shape is None:
        return metadata
    sizes = [side if isinstance(side, int) and side > 0 else 0 for side in input_shape]
    if sizes[1] > MAX_IMAGE_CHANNELS:
        raise WeightsError(f"{path} takes an input of {list(input_shape)}, but images are expected as (B, C, H, W).")
    dynamic = not (sizes[2] and sizes[3])
    shape = {"dynamic": dynamic, "batch": sizes[0], "imgsz": record["imgsz"] if dynamic else sizes[2:]}
    shape["channels"] = sizes[1] or metadata.spec.channels
    metadata = ModelMetadata.from_dict({**metadata.to_dict(), **shape})
    if output_shape is not None:
        check_output(path, metadata, output_shape)
    return metadata


def check_output(path: Path, metadata: ModelMetadata, shape: Sequence[int | str]) -> None:
    """Check that an output shape fits the classes and keypoints of the metadata.

    Raises:
        WeightsError: it does not.
    """
    spec = metadata.spec
    values = keypoint_values(spec.keypoints.shape, metadata.uncertainty, spec.keypoints.visibility)
    expected, axis = (6 + values, 2) if metadata.end2end else (4 + spec.nc + values, 1)
    size = shape[axis]
    if isinstance(size, int) and size > 0 and size != expected:
        raise WeightsError(
            f"{path} contradicts its metadata: for {spec.nc} classes and kpt_shape {list(spec.keypoints.shape)} its "
            f"output should have {expected} values per anchor, but has {size} ({list(shape)}). Export it again."
        )


def first_line(error: BaseException) -> str:
    """Return the first line of an error message, shortened, as a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".") + "."


def _reference_metadata(values: Mapping[str, Any], output_shape: Sequence[int | str] | None) -> dict[str, Any]:
    """Convert the metadata of the reference package."""
    values = {key: _literal(value) for key, value in values.items()}
    if isinstance(values["names"], dict):  # JSON turns integer keys into texts
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
    # `end2end` describes the network, which may output all anchors nevertheless: the shape of the output decides
    end2end = values.get("end2end")
    return ModelMetadata(
        spec=PoseSpec(
            classes=class_names(values.get("names"), None), keypoints=schema, channels=values.get("channels", 3)
        ),
        name=str(values.get("description", "")).removeprefix("Ultralytics ").split(" model")[0],
        stride=int(values.get("stride", 32)),
        imgsz=tuple(values["imgsz"]) if "imgsz" in values else (640, 640),
        batch=0 if dynamic else int(values.get("batch") or 1),
        dynamic=dynamic,
        end2end=_has_detections(output_shape, schema) if end2end else bool(arguments.get("nms")),
        license=str(values.get("license", "")),
        version=str(values.get("version", "")),
    ).to_dict()


def _has_detections(shape: Sequence[int | str] | None, schema: KeypointSchema) -> bool:
    """Return whether an output shape is (B, N, 6+K·D); assumed if the shape is unknown."""
    return shape is None or shape[2] == 6 + schema.count * schema.dims


def _guess_metadata(path: Path, output_shape: Sequence[int | str] | None) -> dict[str, Any]:
    """Return metadata for a file without any, if it has the 56 output channels of a COCO person."""
    if output_shape is None or output_shape[1] != _PERSON_CHANNELS:
        raise UnknownNetworkError(
            f"{path} has no valid metadata on its classes and keypoints (metadata is missing). Export it again, with "
            "yolopose or a current version of the package that it comes from."
        )
    warn_once(f"{path} has no metadata; its {_PERSON_CHANNELS} channels are read as a person's 17 COCO keypoints.")
    return ModelMetadata(spec=PoseSpec(classes=("person",), keypoints=KeypointSchema.coco_person())).to_dict()


def _literal(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
