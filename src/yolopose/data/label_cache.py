"""Cache of parsed labels: an .npz file of plain arrays, never a pickle.

A cache that is damaged, of another version, or made from other files is rebuilt. Failure to write it is only logged,
since data sets may be on a read-only disk.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import OutputError
from yolopose.base.files import atomic_path
from yolopose.base.log import LOGGER
from yolopose.data.label_file import LabelIssue
from yolopose.data.label_scan import REFUSED, LabelScan
from yolopose.data.paths import label_path
from yolopose.schema import PoseSpec

VERSION = 2  # part of the key, so that caches of other versions are rebuilt
_ARRAYS = ("status", "shapes", "offsets", "classes", "boxes", "keypoints")


def cache_path(image: Path, split: str) -> Path:
    """Return the cache file of a split: in the `labels` folder that belongs to its first image."""
    folders = image.parts[:-1][::-1]
    depth = folders.index("images") if "images" in folders else 0
    return label_path(image).parents[depth] / f"{split}.yolopose.npz"


def fingerprint(images: Sequence[Path], spec: PoseSpec, root: Path) -> str:
    """Return a hash of the spec and of names, sizes and times of all images and label files.

    Paths are relative to the root, so that a data set can be moved together with its cache.
    """
    digest = hashlib.sha256(json.dumps([VERSION, spec.nc, *spec.keypoints.shape]).encode())
    prefix = f"{root}{os.sep}"
    for image in images:
        name = str(image).removeprefix(prefix)
        line = f"{name}\0{_file_state(image)}\0{_file_state(label_path(image))}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))  # file names need not be UTF-8 on Linux
    return digest.hexdigest()


def _file_state(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def read_cache(path: Path, key: str, images: Sequence[Path]) -> LabelScan | None:
    """Return the cached scan, or None if there is none with this key."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            arrays: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
            report: Any = json.loads(str(stored["report"]))
        scan = LabelScan(
            **arrays,
            issues=tuple(_decode_issue(images, *issue) for issue in report["issues"]),
            warnings={warning: (int(count), int(first)) for warning, (count, first) in report["warnings"].items()},
        )
    except FileNotFoundError:
        return None
    except Exception:  # a damaged archive raises errors of many types; the labels themselves can always be read
        LOGGER.info(f"The label cache {path} is damaged and is rebuilt.")
        return None
    return scan if _is_consistent(scan, len(images)) else None


def write_cache(path: Path, key: str, images: Sequence[Path], scan: LabelScan) -> None:
    """Write a scan; failure is logged."""
    if not path.parent.is_dir():
        return  # there are no labels at all; the caller raises an error
    indices = np.flatnonzero(scan.status == REFUSED).tolist()
    report = {
        "issues": [
            [index, issue.file == images[index], issue.row, issue.column, issue.kind, issue.reason]
            for index, issue in zip(indices, scan.issues, strict=True)
        ],
        "warnings": scan.warnings,
    }
    arrays = {name: getattr(scan, name) for name in _ARRAYS}
    try:
        with atomic_path(path) as temporary:
            np.savez(temporary, key=np.array(key), report=np.array(json.dumps(report)), **arrays)
    except OutputError as error:
        LOGGER.info(f"The labels are not cached and will be read again next time. {error}")


def _decode_issue(
    images: Sequence[Path], index: int, is_image: bool, row: int | None, column: int | None, kind: str, reason: str
) -> LabelIssue:
    # indices instead of paths, so that the cache can be moved
    return LabelIssue(images[index] if is_image else label_path(images[index]), row, column, kind, reason)


def _is_consistent(scan: LabelScan, count: int) -> bool:
    """Return whether the arrays fit each other, so that a modified file cannot yield labels of other images."""
    total = len(scan.classes)
    return (
        scan.status.shape == (count,)
        and scan.shapes.shape == (count, 2)
        and scan.offsets.shape == (count + 1,)
        and scan.offsets[0] == 0
        and scan.offsets[-1] == total
        and bool((np.diff(scan.offsets) >= 0).all())
        and scan.boxes.shape == (total, 4)
        and scan.keypoints.shape[::2] == (total, 3)
    )
