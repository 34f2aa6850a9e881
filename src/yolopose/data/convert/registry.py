"""The table of annotation formats; `detect_format` chooses the one of a source."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from yolopose.base.errors import DataError, NotFoundError, UsageError, did_you_mean
from yolopose.base.suggestions import suggest_path
from yolopose.data.convert.protocol import AnnotationFormat

_MODULES = {
    "labelme": "yolopose.data.convert.labelme",
    "deeplabcut": "yolopose.data.convert.deeplabcut",
    "mpii": "yolopose.data.convert.mpii",
    "via": "yolopose.data.convert.via",
    "sleap": "yolopose.data.convert.sleap",
    "nwb": "yolopose.data.convert.nwb",
    "roboflow": "yolopose.data.convert.roboflow",
    "roboflowcoco": "yolopose.data.convert.roboflow_coco",
    "yolo": "yolopose.data.convert.yolo",
    "coco": "yolopose.data.convert.coco",
    "ndjson": "yolopose.data.convert.ndjson",
    "cvat": "yolopose.data.convert.cvat",
    "labelstudio": "yolopose.data.convert.labelstudio",
}
"""Module of each format, in the order in which `detect_format` asks them; each defines `FORMAT`."""


def format_names() -> list[str]:
    """Return the names of all formats."""
    return list(_MODULES)


def get_format(name: str) -> AnnotationFormat:
    """Return a format by name.

    Raises:
        UsageError: the format is unknown; the message lists all.
    """
    key = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    if key not in _MODULES:
        raise UsageError(
            f"Unknown annotation format {name!r}.{did_you_mean(key, _MODULES)} The formats are: {', '.join(_MODULES)}."
        )
    return import_module(_MODULES[key]).FORMAT


def detect_format(source: Path) -> AnnotationFormat:
    """Return the format of a file or folder.

    Raises:
        NotFoundError: it does not exist.
        DataError: it is of none of the formats.
    """
    if not source.exists():
        raise NotFoundError(f"{source} does not exist (current folder: {Path.cwd()}).{suggest_path(source)}")
    for name in _MODULES:
        candidate = get_format(name)
        if candidate.read and candidate.detect(source):
            return candidate
    raise DataError(
        f"The annotation format of {source} was not recognized. Name it with from=…, one of {', '.join(_MODULES)} "
        "(source_format in Python)."
    )
