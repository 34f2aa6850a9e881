"""Read all images and label files of a data set leniently: what the loader refuses is recorded, row by row."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, SourceError
from yolopose.base.log import LOGGER
from yolopose.base.prefetch import map_ordered
from yolopose.base.progress import progress
from yolopose.config import limit_workers
from yolopose.data.dataset import SPLITS, Dataset, Split
from yolopose.data.doctor.image_hash import THUMB_SIDE, difference_hash
from yolopose.data.images import IMAGE_SUFFIXES, read_reduced
from yolopose.data.label_file import LabelError, parse_labels
from yolopose.data.label_scan import MIN_SIDE
from yolopose.data.labels import Annotations
from yolopose.data.paths import label_path
from yolopose.schema import PoseSpec

FloatArray = npt.NDArray[np.float32]
_HASH_SIDE = 72  # least longer side of the reduced decoding, pixels: eight times the grid of the hash
_NOT_LABELS = {"classes.txt", "readme.txt", "train.txt", "val.txt", "test.txt", "obj.names.txt"}
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that the loader refuses, with the whole file.

    Attributes:
        image: index of the image in its split.
        line: line of the label file, from 1; None if the file cannot be read.
        kind: short description, equal for all rows with the same problem (see `LabelError`).
        reason: full description.
        values: number of values in the row.
    """

    image: int
    line: int | None
    kind: str
    reason: str
    values: int = 0


@dataclass(frozen=True, slots=True)
class BadImage:
    """An image that cannot be used: index in its split, short and full description."""

    image: int
    kind: str
    reason: str


@dataclass(slots=True, kw_only=True, eq=False)
class SplitSurvey:
    """Images and instances of a split, as flat arrays; rows that the loader refuses are not among the instances.

    Attributes:
        name: `train`, `val` or `test`.
        files: the n images.
        sizes: (n, 2) int32 height, width in pixels; 0 where the image cannot be used.
        has_labels: (n,) bool, whether the label file exists.
        offsets: (n + 1,) int64; the instances of image i are rows offsets[i]…offsets[i+1] of the next four.
        lines: (N,) int32 line of the label file, from 1; 0 where it is unknown.
        classes: (N,) int32.
        boxes: (N, 4) float32 cx, cy, w, h, normalized.
        keypoints: (N, K, 3) float32 x, y, v as in the label file; v of K×2 rows is 0 or 1.
        bad_images: images that cannot be used.
        bad_rows: rows that the loader refuses.
        repeated_rows: (image, line) of rows that equal an earlier row of the same file.
        digests: (n,) uint64 hash of the file contents; 0 where it was not read.
        hashes: (n,) uint64 difference hash of the pixels.
        thumbs: (n, S, S) uint8 gray thumbnails.
        orphans: label files without an image.
        error: why the images of the split cannot be listed, or "".
    """

    name: Split
    files: Sequence[Path]
    sizes: npt.NDArray[np.int32]
    has_labels: npt.NDArray[np.bool_]
    offsets: npt.NDArray[np.int64]
    lines: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int32]
    boxes: FloatArray
    keypoints: FloatArray
    bad_images: Sequence[BadImage] = ()
    bad_rows: Sequence[BadRow] = ()
    repeated_rows: Sequence[tuple[int, int]] = ()
    digests: npt.NDArray[np.uint64] | None = None
    hashes: npt.NDArray[np.uint64] | None = None
    thumbs: npt.NDArray[np.uint8] | None = None
    orphans: Sequence[Path] = ()
    error: str = ""

    @property
    def image_index(self) -> npt.NDArray[np.int64]:
        """(N,) index of the image of each instance."""
        return np.repeat(np.arange(len(self.files)), np.diff(self.offsets))

    def pixel_points(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return (n, K, 2) x, y in pixels of some instances."""
        sizes = np.maximum(self.sizes[self.image_index[rows]], 1)[:, None, ::-1]
        return self.keypoints[rows, :, :2].astype(np.float64) * sizes


@dataclass(slots=True, kw_only=True, eq=False)
class Survey:
    """All that the checks read.

    Attributes:
        dataset: the data set.
        splits: its splits, in the order train, val, test.
        imgsz: side of the network input, pixels, with which box sizes are compared.
        max_shapes: instances that the checks of shapes look at; larger sets are sampled.
        memo: results that several checks share.
    """

    dataset: Dataset
    splits: Sequence[SplitSurvey]
    imgsz: int = 640
    max_shapes: int = 12_000
    memo: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def spec(self) -> PoseSpec:
        """Classes and keypoints."""
        return self.dataset.spec

    def split(self, name: str) -> SplitSurvey | None:
        """Return a split, or None."""
        return next((split for split in self.splits if split.name == name), None)

    @property
    def distinct_splits(self) -> list[SplitSurvey]:
        """Splits without those that list the same images as an earlier one."""
        seen: set[tuple[str, ...]] = set()
        distinct: list[SplitSurvey] = []
        for split in self.splits:
            key = tuple(map(str, split.files))
            if key not in seen:
                seen.add(key)
                distinct.append(split)
        return distinct


def survey_dataset(dataset: Dataset, *, imgsz: int = 640, workers: int | None = None) -> Survey:
    """Read every image and label file of a data set.

    Images are decoded at reduced size; 118 000 images need about 60 MB for hashes and thumbnails besides the labels.

    Args:
        dataset: the data set.
        imgsz: side of the network input, pixels.
        workers: number of threads; None or 0 chooses.
    """
    splits = [_survey_split(dataset, name, workers) for name in SPLITS if name in dataset.entries]
    known = {label_path(file) for split in splits for file in split.files}
    counted: set[Path] = set()
    for split in splits:
        split.orphans = [path for path in _orphans(dataset, split, known) if path not in counted]
        counted.update(split.orphans)
    return Survey(dataset=dataset, splits=splits, imgsz=imgsz)


def survey_annotations(dataset: Dataset, annotations: Mapping[str, Annotations], imgsz: int) -> Survey:
    """Make a survey from labels that are loaded already, without reading any file.

    Args:
        dataset: the data set.
        annotations: labels by split.
        imgsz: side of the network input, pixels.
    """
    splits: list[SplitSurvey] = []
    for name in SPLITS:
        if name in annotations:
            labels = annotations[name]
            splits.append(
                SplitSurvey(
                    name=name,
                    files=labels.files,
                    sizes=labels.shapes,
                    has_labels=np.ones(len(labels), dtype=np.bool_),
                    offsets=labels.offsets,
                    lines=np.zeros(len(labels.classes), dtype=np.int32),
                    classes=labels.classes,
                    boxes=labels.boxes,
                    keypoints=labels.keypoints,
                )
            )
    return Survey(dataset=dataset, splits=splits, imgsz=imgsz, max_shapes=1000)


@dataclass(frozen=True, slots=True)
class FileRows:
    """The rows of a label file: those that are valid as arrays, and the others.

    Attributes:
        lines: (n,) line of each valid row, from 1.
        table: (n, 5 + 3·K) float32: class, box, x y v of each keypoint.
        bad: (line, kind, reason, number of values) of rows that the loader refuses.
        repeated: lines that equal an earlier row.
    """

    lines: npt.NDArray[np.int32]
    table: FloatArray
    bad: tuple[tuple[int | None, str, str, int], ...] = ()
    repeated: tuple[int, ...] = ()


def read_rows(data: bytes, spec: PoseSpec) -> FileRows:
    """Parse a label file row by row, so that one bad row does not hide the others."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    try:
        labels = parse_labels(data, spec)
    except LabelError:
        return _read_each(lines, spec)
    if len(labels.classes) != len(lines):
        return _read_each(lines, spec)
    return FileRows(np.array([number for number, _ in lines], dtype=np.int32), _as_table(labels))


def _read_each(lines: Iterable[tuple[int, bytes]], spec: PoseSpec) -> FileRows:
    bad: list[tuple[int | None, str, str, int]] = []
    repeated: list[int] = []
    numbers: list[int] = []
    rows: list[FloatArray] = []
    seen: set[bytes] = set()
    for number, line in lines:
        try:
            row = _as_table(parse_labels(line, spec))
        except LabelError as error:
            bad.append((number, error.kind, error.reason, len(line.split())))
            continue
        key = row.tobytes()
        if key in seen:
            repeated.append(number)
        elif len(row):
            seen.add(key)
            numbers.append(number)
            rows.append(row)
    empty = np.zeros((0, 5 + 3 * spec.keypoints.count), dtype=np.float32)
    return FileRows(np.array(numbers, dtype=np.int32), np.concatenate([empty, *rows]), tuple(bad), tuple(repeated))


def _as_table(labels: Any) -> FloatArray:
    count = len(labels.classes)
    points = labels.keypoints.reshape(count, 3 * labels.keypoints.shape[1])
    columns = (labels.classes[:, None].astype(np.float32), labels.boxes, points)
    return np.concatenate(columns, axis=1)


@dataclass(frozen=True, slots=True)
class _ImageSurvey:
    size: tuple[int, int] = (0, 0)
    digest: int = 0
    hash: int = 0
    thumb: npt.NDArray[np.uint8] | None = None
    error: tuple[str, str] | None = None
    rows: FileRows | None = None


def _survey_split(dataset: Dataset, name: Split, workers: int | None) -> SplitSurvey:
    error = ""
    try:
        files = dataset.image_files(name)
    except DataError as problem:
        error = str(problem)
        files = []
    threads = limit_workers(workers or None)
    surveys = map_ordered(partial(_survey_image, spec=dataset.spec), files, threads=threads, ahead=4 * threads)
    visible = LOGGER.isEnabledFor(logging.INFO)
    split = _join(name, files, progress(surveys, f"examining {name}", len(files), visible), dataset.spec)
    split.error = error
    return split


def _survey_image(path: Path, spec: PoseSpec) -> _ImageSurvey:
    rows: FileRows | None = None
    try:
        rows = read_rows(label_path(path).read_bytes(), spec)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        empty = np.zeros((0, 5 + 3 * spec.keypoints.count), dtype=np.float32)
        reason = f"the file cannot be read ({error.strerror or error})"
        rows = FileRows(np.zeros(0, np.int32), empty, ((None, "unreadable", reason, 0),))
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _ImageSurvey(error=("does not exist", "the image is listed but does not exist"), rows=rows)
    except OSError as error:
        return _ImageSurvey(error=("unreadable", f"cannot be read ({error.strerror or error})"), rows=rows)
    digest = int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") or 1
    try:
        image, original = read_reduced(path, _HASH_SIDE)
    except SourceError as error:
        return _ImageSurvey(digest=digest, error=("does not decode", str(error)), rows=rows)
    size = original or (image.shape[0], image.shape[1])
    if min(size) < MIN_SIDE:
        reason = f"{size[1]}×{size[0]} pixels; both sides must have at least {MIN_SIDE}"
        return _ImageSurvey(digest=digest, error=("too small", reason), rows=rows)
    gray = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    thumb = np.asarray(cv2.resize(gray, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return _ImageSurvey(size, digest, difference_hash(gray), thumb, None, rows)


def _join(name: Split, files: Sequence[Path], surveys: Iterator[_ImageSurvey], spec: PoseSpec) -> SplitSurvey:
    """Gather the surveys of single images in flat arrays; the single ones are released chunk by chunk."""
    count = len(files)
    width = 5 + 3 * spec.keypoints.count
    sizes = np.zeros((count, 2), dtype=np.int32)
    digests = np.zeros(count, dtype=np.uint64)
    hashes = np.zeros(count, dtype=np.uint64)
    thumbs = np.zeros((count, THUMB_SIDE, THUMB_SIDE), dtype=np.uint8)
    has_labels = np.zeros(count, dtype=np.bool_)
    numbers = np.zeros(count, dtype=np.int64)
    bad_images: list[BadImage] = []
    bad_rows: list[BadRow] = []
    repeated: list[tuple[int, int]] = []
    tables: list[FloatArray] = [np.zeros((0, width), dtype=np.float32)]
    lines: list[npt.NDArray[np.int32]] = [np.zeros(0, dtype=np.int32)]
    chunk: list[FileRows] = []
    for index, survey in enumerate(surveys):
        sizes[index] = survey.size
        digests[index] = survey.digest
        hashes[index] = survey.hash
        if survey.thumb is not None:
            thumbs[index] = survey.thumb
        if survey.error:
            bad_images.append(BadImage(index, *survey.error))
        if survey.rows is None:
            continue
        has_labels[index] = True
        numbers[index] = len(survey.rows.lines)
        bad_rows += [BadRow(index, *row) for row in survey.rows.bad]
        repeated += [(index, line) for line in survey.rows.repeated]
        chunk.append(survey.rows)
        if len(chunk) == _CHUNK:
            tables.append(np.concatenate([rows.table for rows in chunk]))
            lines.append(np.concatenate([rows.lines for rows in chunk]))
            chunk = []
    table = np.concatenate([*tables, *(rows.table for rows in chunk)])
    return SplitSurvey(
        name=name,
        files=files,
        sizes=sizes,
        has_labels=has_labels,
        offsets=np.concatenate(([0], np.cumsum(numbers))),
        lines=np.concatenate([*lines, *(rows.lines for rows in chunk)]),
        classes=table[:, 0].astype(np.int32),
        boxes=table[:, 1:5],
        keypoints=table[:, 5:].reshape(len(table), spec.keypoints.count, 3),
        bad_images=bad_images,
        bad_rows=bad_rows,
        repeated_rows=repeated,
        digests=digests,
        hashes=hashes,
        thumbs=thumbs,
    )


def _orphans(dataset: Dataset, split: SplitSurvey, known: set[Path]) -> list[Path]:
    """Return the label files of a split's label folders that belong to no image; lists of classes are not labels."""
    folders = {label_path(file).parent for file in split.files if "images" in file.parts}
    for entry in dataset.entries[split.name] if not split.files else ():
        folder = Path(os.path.abspath(dataset.root / entry))
        if "images" in folder.parts and not folder.suffix:
            folders.add(label_path(folder / f"x{min(IMAGE_SUFFIXES)}").parent)
    orphans: list[Path] = []
    for folder in sorted(folders):
        paths = sorted(folder.glob("*.txt")) if folder.is_dir() else []
        orphans += [path for path in paths if path not in known and path.name.lower() not in _NOT_LABELS]
    return orphans
