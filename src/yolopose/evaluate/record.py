"""The record of a validation run: flat columns of detections and ground truth that every metric is computed from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError
from yolopose.base.files import atomic_path
from yolopose.base.text import short_text
from yolopose.evaluate.matching import THRESHOLDS, BoolArray
from yolopose.geometry import Letterbox
from yolopose.schema import PoseSpec

RECORD_FILE = "detections.npz"
_FORMAT = 3  # 2: other column names, no det_any_match
_MAX_UINT16 = 65535

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]
Int16 = npt.NDArray[np.int16]
Int8 = npt.NDArray[np.int8]
UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]


def _column(dtype: type[np.generic], *shape: int | str) -> Any:
    """Declare a column by dtype and shape of a row; "T" and "K" are the numbers of thresholds and keypoints."""
    return field(metadata={"dtype": dtype, "shape": shape})


@dataclass(frozen=True, kw_only=True, eq=False)
class RunRecord:
    """Detections and ground truth of I images; T = 10 thresholds, K keypoints. It contains no pixels.

    A detection takes 60 bytes, a pair (a ground truth and the detection that matches it by box IoU .50) 16 + 5·K, and
    a ground truth or a detection with stored coordinates 12 + 5·K more. Coordinates are shares of the image sides in
    16 bits (`quantize`).

    Attributes:
        image_names: the I images, as paths relative to the root of the data set.
        run_info: what was measured, as JSON values (`record_builder.describe_run`); empty if unknown.
        image_size: (I, 2) height and width, pixels.
        det_image: (M,) image of each detection.
        det_score: (M,) confidence 0…1.
        det_class: (M,) class.
        det_box_match: (M, T) index, within its image, of the ground truth that it matches by box IoU, or -1.
        det_pose_match: (M, T) the same by OKS.
        det_any_match: (M,) the same by box IoU .45 in any class, for the confusion matrix; -2 if its score is
            below the threshold of the matrix.
        det_corrected: (M, 4) bit t is set if it matches at threshold t by OKS once all errors of one kind
            (`matching.ERROR_KINDS`) are corrected.
        gt_image: (N,) image of each ground truth, ascending.
        gt_class: (N,) class.
        gt_box_area: (N,) area of its box, pixels² of the original image.
        gt_labeled: (N,) number of labeled keypoints.
        gt_crowding: (N,) largest IoU of its box with another ground truth of the image, 0…1.
        gt_box: (N, 4) x1, y1, x2, y2.
        gt_keypoints: (N, K, 2) x, y.
        gt_visibility: (N, K) visibility as labeled, 0 for unlabeled.
        stored_det: (S,) rows of the detections whose coordinates are stored, for drawing.
        stored_box: (S, 4) x1, y1, x2, y2.
        stored_keypoints: (S, K, 2) x, y.
        stored_conf: (S, K) confidence of each keypoint in 1/255.
        pair_gt: (P,) row of the ground truth.
        pair_det: (P,) row of the detection.
        pair_diagonal: (P,) diagonal of the ground-truth box, pixels of the original image.
        pair_torso: (P,) distance of a shoulder from the opposite hip, pixels of the original image; NaN if unknown.
        pair_distance: (P, K) distance of each keypoint from its ground truth, pixels of the original image; NaN if
            not labeled.
        pair_outcome: (P, K) `matching.KeypointOutcome`; +8 if predicted labeled (confidence of .5 or more), +16 if not;
            with three states of visibility +32 if the most probable one is hidden, +64 if it is visible. Without these
            flags for keypoints that the class does not have.
    """

    image_names: tuple[str, ...]
    image_size: Int32 = _column(np.int32, 2)
    det_image: Int32 = _column(np.int32)
    det_score: Float32 = _column(np.float32)
    det_class: Int32 = _column(np.int32)
    det_box_match: Int16 = _column(np.int16, "T")
    det_pose_match: Int16 = _column(np.int16, "T")
    det_any_match: Int16 = _column(np.int16)
    det_corrected: Int16 = _column(np.int16, 4)
    gt_image: Int32 = _column(np.int32)
    gt_class: Int32 = _column(np.int32)
    gt_box_area: Float32 = _column(np.float32)
    gt_labeled: Int16 = _column(np.int16)
    gt_crowding: Float32 = _column(np.float32)
    gt_box: UInt16 = _column(np.uint16, 4)
    gt_keypoints: UInt16 = _column(np.uint16, "K", 2)
    gt_visibility: UInt8 = _column(np.uint8, "K")
    stored_det: Int32 = _column(np.int32)
    stored_box: UInt16 = _column(np.uint16, 4)
    stored_keypoints: UInt16 = _column(np.uint16, "K", 2)
    stored_conf: UInt8 = _column(np.uint8, "K")
    pair_gt: Int32 = _column(np.int32)
    pair_det: Int32 = _column(np.int32)
    pair_diagonal: Float32 = _column(np.float32)
    pair_torso: Float32 = _column(np.float32)
    pair_distance: Float32 = _column(np.float32, "K")
    pair_outcome: Int8 = _column(np.int8, "K")
    run_info: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def ranked(self) -> dict[int, Int32]:
        """For each class of the ground truth, the rows of its detections by descending confidence."""
        ranked: dict[int, Int32] = {}
        for cls in np.unique(self.gt_class).tolist():
            rows = np.flatnonzero(self.det_class == cls).astype(np.int32)
            ranked[cls] = rows[np.argsort(-self.det_score[rows], kind="stable")]
        return ranked

    def matches(self, kind: str) -> Int16:
        """Return (M, T) indices of matched ground truths: `box` by IoU, `pose` by OKS."""
        return self.det_box_match if kind == "box" else self.det_pose_match

    def hits(self, kind: str) -> BoolArray:
        """Return (M, T) which detections are true positives: `box` by IoU, `pose` by OKS."""
        return self.matches(kind) >= 0

    def gt_rows(self, det_rows: Int32, matches: npt.NDArray[np.integer[Any]]) -> Int64:
        """Return the rows of matched ground truths.

        Args:
            det_rows: (m,) rows of matched detections.
            matches: (m,) indices within their images, 0 or more.
        """
        # gt_image ascends, so that the first row of each image is found by bisection
        return np.searchsorted(self.gt_image, self.det_image[det_rows]) + matches

    def save(self, path: Path) -> None:
        """Write an .npz of plain arrays (no pickle).

        Raises:
            OutputError: the file cannot be written.
        """
        arrays = {name: getattr(self, name) for name in column_types()}
        # surrogateescape: file names that are not valid UTF-8 survive the round trip
        names = np.frombuffer("\0".join(self.image_names).encode(errors="surrogateescape"), np.uint8)
        info = np.frombuffer(json.dumps(dict(self.run_info)).encode(), np.uint8)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, format=np.array(_FORMAT), image_names=names, run_info=info, **arrays)


def column_types(keypoints: int = 0) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Return dtype and shape of a row of each column, for K keypoints."""
    sizes = {"T": len(THRESHOLDS), "K": keypoints}
    types: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {}
    for item in fields(RunRecord):
        if item.metadata:
            shape = tuple(sizes[n] if isinstance(n, str) else n for n in item.metadata["shape"])
            types[item.name] = item.metadata["dtype"], shape
    return types


def run_spec(record: RunRecord) -> PoseSpec:
    """Return the classes and keypoints of the data set that a run measured."""
    return PoseSpec.from_dict(record.run_info["spec"])


def load_record(run: str | Path) -> RunRecord:
    """Read the record of a run.

    Args:
        run: the run folder, or the file in it.

    Raises:
        NotFoundError: the file does not exist.
        DataError: it is damaged, or of another format version.
    """
    path = Path(run)
    path = path / RECORD_FILE if path.is_dir() else path
    # loaded here, since the record itself is also made by every validation of a training
    from yolopose.evaluate.record_file import check_columns, keypoint_count, parse_json, read_columns

    damaged = f"{path} is not the record of a validation run, or is damaged"
    try:
        _check_version(path, int(read_columns(path, ("format",))["format"]))
        columns = read_columns(path, ("image_names", "run_info", *column_types()))
        names = columns.pop("image_names").astype(np.uint8).tobytes().decode(errors="surrogateescape")
        info = _check_info(parse_json(columns.pop("run_info")), damaged)
    except FileNotFoundError:
        raise NotFoundError(
            f"{path} does not exist. `yolo val` writes it into its run folder (runs/pose/val…), unless plots=False is "
            "set and no other file is saved. Pass the folder of such a run."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, SyntaxError) as error:
        if isinstance(error, _VersionError):
            raise
        raise DataError(f"{damaged} ({short_text(str(error))}). Run `yolo val` again.") from error
    image_names = tuple(names.split("\0")) if names else ()
    count = len(info["names"]) if info else None
    problem = check_columns(columns, column_types(keypoint_count(columns)), len(image_names), count)
    if problem:
        raise DataError(f"{damaged}: {problem}. Run `yolo val` again.")
    return RunRecord(image_names=image_names, run_info=info, **columns)


class _VersionError(DataError):
    """A record of another version of the format."""


def _check_version(path: Path, version: int) -> None:
    if version > _FORMAT:
        raise _VersionError(f"{path} was written by a newer yolopose. Update it: pip install -U yolopose.")
    if version < _FORMAT:
        raise _VersionError(
            f"{path} was written by an older yolopose (record format {version}, expected {_FORMAT}). "
            "Run `yolo val` again."
        )


def _check_info(values: object, damaged: str) -> dict[str, Any]:
    """Return the checked description of a run; its data set must have as many classes as keypoint names need."""
    from yolopose.base.records import RunInfo, check_record  # costs start-up time

    if values == {}:
        return {}
    check_record(values, RunInfo, damaged, DataError)
    info: dict[str, Any] = dict(values)  # type: ignore[call-overload]  # a mapping, as has been checked
    PoseSpec.from_dict(info["spec"])  # raises a UsageError, which is a ValueError
    return info


def quantize(points: npt.NDArray[Any], letterbox: Letterbox) -> UInt16:
    """Store points as shares of the image sides in 16 bits; points outside are moved to the border.

    The resolution is 1/16 pixel for an image side of 4000.

    Args:
        points: (..., 2) network-input pixels.
        letterbox: placement of the image in the network input.
    """
    shift = np.array([letterbox.left, letterbox.top], dtype=np.float32)
    steps = np.array([_MAX_UINT16 / letterbox.inner[1], _MAX_UINT16 / letterbox.inner[0]], dtype=np.float32)
    # fmax turns NaN into 0: training may validate a network that has diverged
    return np.rint(np.fmin(np.fmax((points - shift) * steps, 0), _MAX_UINT16)).astype(np.uint16)


def dequantize(shares: UInt16, size: tuple[int, int] | Int32) -> Float32:
    """Return pixels of an image of (height, width) `size` from the (..., 2·n) shares of `quantize`."""
    sides = np.tile(np.array([size[1], size[0]], dtype=np.float32), shares.shape[-1] // 2)
    return (shares.astype(np.float32) * (sides / _MAX_UINT16)).astype(np.float32)
