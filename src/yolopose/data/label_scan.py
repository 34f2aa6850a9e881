"""Check every image and parse every label file of a split, and cache the result.

The cache is a file of plain arrays, never a pickle. A cache that is damaged, of another version, or made from
other files is rebuilt. Failure to write it is only logged, since data sets may be on a read-only disk.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, OutputError, SourceError
from yolopose.base.files import atomic_path, read_regular
from yolopose.base.log import LOGGER
from yolopose.base.prefetch import map_ordered
from yolopose.base.progress import progress
from yolopose.config import limit_workers
from yolopose.data.array_file import read_arrays, write_arrays
from yolopose.data.image_header import MAX_IMAGE_BYTES, complete_image_size
from yolopose.data.images import decode_reduced
from yolopose.data.label_file import (
    TOLERANCE,
    FileLabels,
    FloatArray,
    LabelError,
    LabelIssue,
    parse_label_files,
    read_label_bytes,
)
from yolopose.data.paths import PathList, group_by_folder, label_path, label_path_texts
from yolopose.schema import PoseSpec

LABELED, MISSING, EMPTY, REFUSED = range(4)
MIN_SIDE = 10  # pixels
CACHE_VERSION = 5  # part of the key, so that caches of other versions are rebuilt
_BATCH = 32  # images that a thread takes at once: handing over a single one takes as long as parsing its labels
_MAX_CACHE_BYTES = 64 << 30
_CHUNK = 4096  # images that are joined at once
_ARRAYS = {
    "status": np.uint8, "shapes": np.int32, "offsets": np.int64, "classes": np.int32, "boxes": np.float32,
    "keypoints": np.float32,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelScan:
    """The result for each of n listed images, as flat arrays.

    Attributes:
        status: (n,) uint8 LABELED, MISSING (no label file), EMPTY (a label file without rows) or REFUSED.
        shapes: (n, 2) int32 height, width in pixels after EXIF orientation; 0 for refused images.
        offsets: (n + 1,) int64; the instances of image i are rows offsets[i]…offsets[i+1] of the next three.
        classes: (N,) int32.
        boxes: (N, 4) float32 cx, cy, w, h, normalized.
        keypoints: (N, K, 3) float32 x, y, v, normalized.
        issues: why images were refused, in the order of the images.
        warnings: unusual values that were accepted: description → (number of images, index of the first).
        notes: descriptions of files that were not used.
    """

    status: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    issues: tuple[LabelIssue, ...]
    warnings: dict[str, tuple[int, int]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _ImageScan:
    shape: tuple[int, int] = (0, 0)
    labels: FileLabels | None = None
    issue: LabelIssue | None = None

    @property
    def status(self) -> int:
        if self.issue is not None:
            return REFUSED
        if self.labels is None:
            return MISSING
        return LABELED if len(self.labels.classes) else EMPTY


def load_scan(
    images: Sequence[Path],
    spec: PoseSpec,
    root: Path,
    *,
    title: str,
    cache: Path | None,
    workers: int | None,
    any_class: bool = False,
    decode: bool = False,
    find_unused: Callable[[], Sequence[str]] = list,
) -> LabelScan:
    """Return the scan from the cache if it is up to date; otherwise scan the files and write the cache.

    Args:
        images: the images.
        spec: number of classes and shape of the keypoints.
        root: folder of the data set.
        title: text of the progress bar.
        cache: the cache file, see `cache_path`; None neither reads nor writes one.
        workers: number of threads; None or 0 chooses.
        any_class: accept classes that the spec does not have.
        decode: decode every image, see `scan_labels`.
        find_unused: describes files that are not used; called when the files are scanned.
    """
    key = _fingerprint(images, spec, root, any_class, decode) if cache else ""
    scan = _read_cache(cache, key, images, None if any_class else spec.nc, spec.keypoints.count) if cache else None
    if scan is None:
        scan = scan_labels(images, spec, title=title, workers=workers, any_class=any_class, decode=decode)
        scan = replace(scan, notes=tuple(find_unused()))
        if cache:
            _write_cache(cache, key, images, scan)
    return scan


def scan_labels(
    images: Sequence[Path],
    spec: PoseSpec,
    *,
    title: str,
    workers: int | None = None,
    any_class: bool = False,
    decode: bool = False,
) -> LabelScan:
    """Check every image and parse every label file.

    Args:
        images: the images.
        spec: number of classes and shape of the keypoints.
        title: text of the progress bar.
        workers: number of threads; None or 0 chooses.
        any_class: accept classes that the spec does not have.
        decode: decode every image, which also finds damaged pixel data in files with intact headers and ends.
    """
    threads = limit_workers(workers or None)
    texts = PathList.of(images).texts
    batches = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    results = map_ordered(lambda batch: _scan_batch(batch, spec, any_class, decode), batches, threads=threads)
    scans = (scan for result in results for scan in result)
    visible = LOGGER.isEnabledFor(logging.INFO)
    parts: list[LabelScan] = []
    chunk: list[_ImageScan] = []
    for scan in progress(scans, title, len(images), visible):
        chunk.append(scan)
        if len(chunk) == _CHUNK:  # joined as they come, since small arrays take several times the memory
            parts.append(_join(chunk, spec.keypoints.count))
            chunk = []
    return _concatenate([*parts, _join(chunk, spec.keypoints.count)])


def _scan_batch(images: Sequence[str], spec: PoseSpec, any_class: bool, decode: bool) -> list[_ImageScan]:
    label_files = label_path_texts(images)
    scans: list[_ImageScan] = []
    contents: dict[int, bytes] = {}  # of label files, by index
    for index, image in enumerate(images):
        file = image
        try:
            shape = _image_shape(image, decode)
            file = label_files[index]
            data = read_label_bytes(file)
        except LabelError as error:
            scans.append(_refused(file, error))
            continue
        if data is not None:
            contents[index] = data
        scans.append(_ImageScan(shape))
    labels = parse_label_files(list(contents.values()), spec, any_class=any_class)
    for index, result in zip(contents, labels, strict=True):
        if isinstance(result, LabelError):
            scans[index] = _refused(label_files[index], result)
        else:
            scans[index] = _ImageScan(scans[index].shape, result)
    return scans


def _refused(file: str, error: LabelError) -> _ImageScan:
    return _ImageScan(issue=LabelIssue(Path(file), error.row, error.column, error.kind, error.reason))


def _image_shape(path: str, decode: bool) -> tuple[int, int]:
    """Return (height, width) from the header of a complete image; other images are decoded, and all with `decode`.

    A JPEG is decoded at 1/8 of its size: all its data are read, in half of the time.
    """
    try:
        size = None if decode else complete_image_size(path)
        if size is None:
            pixels, original = decode_reduced(read_regular(path, MAX_IMAGE_BYTES), os.path.basename(path), 1)
            size = original or (pixels.shape[0], pixels.shape[1])
    except FileNotFoundError:
        raise LabelError("image does not exist", "the image is listed but does not exist") from None
    except OSError as error:
        raise LabelError("image unreadable", f"the image cannot be read ({error.strerror or error})") from error
    except SourceError as error:
        raise LabelError("image does not decode", str(error)) from error
    height, width = size
    if min(size) < MIN_SIDE:
        raise LabelError(
            "image too small", f"the image is {width}×{height} pixels; both sides must have at least {MIN_SIDE}"
        )
    return size


def _join(scans: Sequence[_ImageScan], num_keypoints: int) -> LabelScan:
    labels = [scan.labels for scan in scans if scan.labels is not None]
    counts = [0 if scan.labels is None else len(scan.labels.classes) for scan in scans]
    warnings: dict[str, tuple[int, int]] = {}
    for index, scan in enumerate(scans):
        for warning in () if scan.labels is None else scan.labels.warnings:
            count, first = warnings.get(warning, (0, index))
            warnings[warning] = count + 1, first
    # each list starts with an empty array: np.concatenate needs at least one, and it sets shape and dtype
    return LabelScan(
        status=np.array([scan.status for scan in scans], dtype=np.uint8),
        shapes=np.array([scan.shape for scan in scans], dtype=np.int32).reshape(-1, 2),
        offsets=np.concatenate(([0], np.cumsum(counts, dtype=np.int64))),
        classes=np.concatenate([np.zeros(0, np.int32), *(file.classes for file in labels)]),
        boxes=np.concatenate([np.zeros((0, 4), np.float32), *(file.boxes for file in labels)]),
        keypoints=np.concatenate([np.zeros((0, num_keypoints, 3), np.float32), *(file.keypoints for file in labels)]),
        issues=tuple(scan.issue for scan in scans if scan.issue is not None),
        warnings=warnings,
    )


def _concatenate(parts: Sequence[LabelScan]) -> LabelScan:
    """Join the scans of successive images."""
    warnings: dict[str, tuple[int, int]] = {}
    offsets = [np.zeros(1, dtype=np.int64)]
    num_images = 0
    num_rows = 0
    for part in parts:
        for warning, (count, first) in part.warnings.items():
            total, earliest = warnings.get(warning, (0, num_images + first))
            warnings[warning] = total + count, earliest
        offsets.append(part.offsets[1:] + num_rows)
        num_images += len(part.status)
        num_rows += len(part.classes)
    return LabelScan(
        status=np.concatenate([part.status for part in parts]),
        shapes=np.concatenate([part.shapes for part in parts]),
        offsets=np.concatenate(offsets),
        classes=np.concatenate([part.classes for part in parts]),
        boxes=np.concatenate([part.boxes for part in parts]),
        keypoints=np.concatenate([part.keypoints for part in parts]),
        issues=tuple(issue for part in parts for issue in part.issues),
        warnings=warnings,
    )


def cache_path(image: Path, split: str) -> Path:
    """Return the cache file of a split: in the `labels` folder that belongs to its first image."""
    folders = image.parts[:-1][::-1]
    depth = folders.index("images") if "images" in folders else 0
    return label_path(image).parents[depth] / f"{split}.yolopose.cache"


def _fingerprint(images: Sequence[Path], spec: PoseSpec, root: Path, any_class: bool, decode: bool) -> str:
    """Return a hash of the spec and of names, sizes and times of all images and label files.

    Paths are relative to the root, so that a data set can be moved together with its cache.
    """
    digest = hashlib.blake2b(
        json.dumps([CACHE_VERSION, decode, None if any_class else spec.nc, *spec.keypoints.shape]).encode()
    )
    texts = PathList.of(images).texts
    names = "\0".join(("", *texts, "")).replace(f"\0{root}{os.sep}", "\0")
    digest.update(names.encode("utf-8", "surrogateescape"))  # file names need not be UTF-8 on Linux
    for files in (texts, label_path_texts(texts)):
        states = _file_states(files)
        try:
            digest.update(np.array(states, dtype=np.int64).tobytes())
        except OverflowError:  # times after the year 2262
            digest.update(repr(states).encode())
    return digest.hexdigest()


def _file_states(files: Sequence[str]) -> list[int]:
    """Return size and time of modification of each file; -1 for files that do not exist."""
    states: list[int] = []
    for folder, names in group_by_folder(files):
        with _open_folder(folder) as handle:
            if handle is None:
                names = [folder + name for name in names]
            states += _read_states(names, handle)
    return states


@contextmanager
def _open_folder(folder: str) -> Generator[int | None, None, None]:
    """Open a folder, so that the system need not look it up for each file; None where that is not possible."""
    try:
        handle = os.open(folder or ".", os.O_RDONLY) if os.stat in os.supports_dir_fd else None
    except (OSError, ValueError):  # ValueError: the name contains a NUL character
        handle = None
    try:
        yield handle
    finally:
        if handle is not None:
            os.close(handle)


def _read_states(names: Sequence[str], folder: int | None) -> list[int]:
    states: list[int] = []
    add = states.append
    read_status = os.stat
    for name in names:
        try:
            status = read_status(name, dir_fd=folder)
        except (OSError, ValueError):
            states += (-1, -1)
            continue
        add(status.st_size)
        add(status.st_mtime_ns)
    return states


def _read_cache(path: Path, key: str, images: Sequence[Path], nc: int | None, num_keypoints: int) -> LabelScan | None:
    """Return the cached scan, or None if there is none with this key."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_CACHE_BYTES:  # a pipe would block
            return None
        header, arrays = read_arrays(path, _ARRAYS)
        if header["key"] != key:
            return None
        from yolopose.base.records import LabelCache, check_record  # costs start-up time

        report = check_record(header, LabelCache, "The header is not valid", DataError).report
        if any(first >= len(images) or count > len(images) for count, first in report.warnings.values()):
            raise ValueError("a warning is about an image that does not exist")
        scan = LabelScan(
            **arrays,
            issues=tuple(_decode_issue(images, *issue) for issue in report.issues),
            warnings=report.warnings,
            notes=tuple(report.notes),
        )
    except FileNotFoundError:
        return None
    except Exception:  # a damaged file raises errors of many types; the labels themselves can always be read
        LOGGER.info(f"The label cache {path} is damaged and is rebuilt.")
        return None
    return scan if _is_consistent(scan, len(images), nc, num_keypoints) else None


def _write_cache(path: Path, key: str, images: Sequence[Path], scan: LabelScan) -> None:
    """Write a scan; failure is logged."""
    if not path.parent.is_dir():
        return  # no labels exist; the caller raises an error
    indices = np.flatnonzero(scan.status == REFUSED).tolist()
    report = {
        "issues": [
            [index, issue.file == images[index], issue.row, issue.column, issue.kind, issue.reason]
            for index, issue in zip(indices, scan.issues, strict=True)
        ],
        "warnings": scan.warnings,
        "notes": scan.notes,
    }
    arrays = {name: getattr(scan, name) for name in _ARRAYS}
    try:
        with atomic_path(path) as temporary:
            write_arrays(temporary, {"key": key, "report": report}, arrays)
    except OutputError as error:
        LOGGER.info(f"The labels are not cached and will be read again next time. {error}")


def _decode_issue(
    images: Sequence[Path], index: int, is_image: bool, row: int | None, column: int | None, kind: str, reason: str
) -> LabelIssue:
    # indices instead of paths, so that the cache can be moved
    return LabelIssue(images[index] if is_image else label_path(images[index]), row, column, kind, reason)


def _is_consistent(scan: LabelScan, count: int, nc: int | None, num_keypoints: int) -> bool:
    """Return whether the arrays fit each other, so that a modified file cannot yield labels that no file contains."""
    total = len(scan.classes)
    fits = (
        scan.status.shape == (count,)
        and scan.shapes.shape == (count, 2)
        and scan.offsets.shape == (count + 1,)
        and scan.classes.shape == (total,)
        and scan.boxes.shape == (total, 4)
        and scan.keypoints.shape == (total, num_keypoints, 3)
    )
    if not fits:
        return False
    usable = scan.status != REFUSED
    low, high = -2 * TOLERANCE, 1 + 2 * TOLERANCE
    return (
        scan.offsets[0] == 0
        and scan.offsets[-1] == total
        and bool((np.diff(scan.offsets) >= 0).all())
        and bool((scan.status <= REFUSED).all())
        and int((~usable).sum()) == len(scan.issues)
        and bool((scan.shapes[usable] >= MIN_SIDE).all())
        and bool((scan.classes >= 0).all())
        and (nc is None or bool((scan.classes < nc).all()))
        and bool(((scan.boxes >= low) & (scan.boxes <= high)).all())  # False for NaN, too
        and bool((scan.boxes[:, 2:] >= 0).all())
        and _are_keypoints_consistent(scan.keypoints, low, high)
    )


def _are_keypoints_consistent(keypoints: FloatArray, low: float, high: float) -> bool:
    """Return whether v is not negative, and x and y are within the limits where v is not 0; False for NaN."""
    if not keypoints.size:
        return True
    x, y, v = np.moveaxis(keypoints, -1, 0)
    # extremes first: that takes a third of the time, and the details are only needed for points that are not labeled
    if not (v.min() >= 0 and v.max() < np.inf):
        return False
    if keypoints.min() >= low and x.max() <= high and y.max() <= high:
        return True
    inside = (x >= low) & (x <= high) & (y >= low) & (y <= high)
    return bool(np.isfinite(keypoints).all()) and bool((inside | (v == 0)).all())
