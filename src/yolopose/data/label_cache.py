"""Parsed labels kept on disk: an .npz of plain arrays, never a pickle.

A cache that is damaged, of another version, or made from other files is made anew; one that cannot be
written is only a note, since data may lie on a read-only disk.
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
from yolopose.data.label_scan import REFUSED, Scan
from yolopose.data.paths import label_path
from yolopose.schema import PoseSpec

VERSION = 1
_ARRAYS = ("status", "shapes", "offsets", "classes", "boxes", "keypoints")


def cache_path(image: Path, split: str) -> Path:
    """Return where the cache of a split lies: in the `labels` folder that belongs to its first image."""
    folders = image.parts[:-1][::-1]
    depth = folders.index("images") if "images" in folders else 0
    return label_path(image).parents[depth] / f"{split}.yolopose.npz"


def fingerprint(images: Sequence[Path], spec: PoseSpec, root: Path) -> str:
    """Return a hash of the list of images and label files with sizes and times, and of the spec.

    Paths count relative to the root, so that a data set may be moved with its cache.
    """
    digest = hashlib.sha256(json.dumps([VERSION, spec.nc, *spec.keypoints.shape]).encode())
    prefix = f"{root}{os.sep}"
    for image in images:
        name = str(image).removeprefix(prefix)
        digest.update(f"{name}\0{_stamp(image)}\0{_stamp(label_path(image))}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"
    return f"{status.st_size} {status.st_mtime_ns}"


def read_cache(path: Path, key: str, images: Sequence[Path]) -> Scan | None:
    """Return the cached scan, or None when there is none that fits."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            arrays: dict[str, Any] = {name: stored[name] for name in _ARRAYS}
            words: Any = json.loads(str(stored["words"]))
        scan = Scan(
            **arrays,
            issues=tuple(_refusal(images, *item) for item in words["refused"]),
            notes={note: (int(count), int(first)) for note, (count, first) in words["notes"].items()},
        )
    except FileNotFoundError:
        return None
    except Exception:  # whatever is wrong with the file, the labels themselves are there to be read
        LOGGER.info(f"The label cache {path} is damaged and is made anew.")
        return None
    return scan if _sound(scan, len(images)) else None


def write_cache(path: Path, key: str, images: Sequence[Path], scan: Scan) -> None:
    """Write a scan; where that is not possible, a note says so."""
    if not path.parent.is_dir():
        return  # no labels at all: an error follows
    indices = np.flatnonzero(scan.status == REFUSED).tolist()
    words = {
        "refused": [
            [index, one.file == images[index], one.row, one.column, one.kind, one.reason]
            for index, one in zip(indices, scan.issues, strict=True)
        ],
        "notes": scan.notes,
    }
    arrays = {name: getattr(scan, name) for name in _ARRAYS}
    try:
        with atomic_path(path) as temporary:
            np.savez(temporary, key=np.array(key), words=np.array(json.dumps(words)), **arrays)
    except OutputError as error:
        LOGGER.info(f"The labels are not cached, so they are read again next time. {error}")


def _refusal(
    images: Sequence[Path], index: int, of_image: bool, row: int | None, column: int | None, kind: str, reason: str
) -> LabelIssue:
    return LabelIssue(images[index] if of_image else label_path(images[index]), row, column, kind, reason)


def _sound(scan: Scan, count: int) -> bool:
    """Whether the arrays fit each other, so that a tampered file cannot give labels of other images."""
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
