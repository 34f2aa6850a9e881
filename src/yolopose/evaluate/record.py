"""What a run keeps of each detection and truth: small columns, no image, from which all numbers are made again."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError
from yolopose.base.files import atomic_path
from yolopose.evaluate.matching import BoolArray

FILE = "detections.npz"
_FORMAT = 2
_TEXTS = ("names", "about")

Int32 = npt.NDArray[np.int32]
Int16 = npt.NDArray[np.int16]
Int8 = npt.NDArray[np.int8]
UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Record:
    """All detections, truths and pairs of a run; T = 10 thresholds, K keypoints.

    A pair is a truth and the detection that takes it by box IoU .50. A detection costs 58 bytes, a pair 16 + 5·K, and
    a detection or truth whose places are kept 12 + 5·K more. Places are shares of the image (`places.packed`).

    Attributes:
        names: the I images, as paths below the folder of the data set.
        about: plain values that say what was measured (`about.about_run`); empty where nobody said.
        size: (I, 2) height and width of each image, pixels.
        image: (M,) image of each detection.
        score: (M,) 0…1.
        cls: (M,) class of each detection.
        box_hit: (M, T) number, within its image, of the truth that the detection takes by box IoU, or -1.
        pose_hit: (M, T) the same by OKS.
        mended: (M, 4) bit t is set where the detection takes a truth at threshold t by OKS once all errors of one kind
            (`errors.KINDS`) are mended.
        truth_image: (N,) image of each truth, rising.
        truth_cls: (N,) class.
        truth_area: (N,) area of the box, pixels² of the original image.
        truth_points: (N,) number of labeled keypoints.
        truth_crowd: (N,) largest IoU of its box with another truth's of the image, 0…1.
        truth_box: (N, 4) corners of its box.
        truth_place: (N, K, 2) its keypoints.
        truth_seen: (N, K) visibility as labeled, 0 for points that are not.
        drawn: (S,) rows of the detections whose places are kept: those that can be of interest in an image.
        drawn_box: (S, 4) corners of their boxes.
        drawn_place: (S, K, 2) their keypoints.
        drawn_seen: (S, K) confidence of each keypoint in 1/255.
        pair_truth: (P,) row of the truth.
        pair_detection: (P,) row of the detection.
        pair_diagonal: (P,) diagonal of the truth's box, pixels of the original image.
        pair_torso: (P,) distance of a shoulder from the opposite hip, pixels of the original image; NaN: unknown.
        pair_error: (P, K) distance of each keypoint from its truth, pixels of the original image; NaN: not labeled.
        pair_kind: (P, K) what became of the keypoint (`errors.Kind`); +8 where the network calls it visible, +16 where
            it does not.
    """

    names: tuple[str, ...]
    size: Int32
    image: Int32
    score: Float32
    cls: Int32
    box_hit: Int16
    pose_hit: Int16
    mended: Int16
    truth_image: Int32
    truth_cls: Int32
    truth_area: Float32
    truth_points: Int16
    truth_crowd: Float32
    truth_box: UInt16
    truth_place: UInt16
    truth_seen: UInt8
    drawn: Int32
    drawn_box: UInt16
    drawn_place: UInt16
    drawn_seen: UInt8
    pair_truth: Int32
    pair_detection: Int32
    pair_diagonal: Float32
    pair_torso: Float32
    pair_error: Float32
    pair_kind: Int8
    about: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @cached_property
    def orders(self) -> dict[int, Int32]:
        """For each class that occurs in the truth, its detections by falling confidence."""
        found: dict[int, Int32] = {}
        for cls in np.unique(self.truth_cls).tolist():
            mine = np.flatnonzero(self.cls == cls).astype(np.int32)
            found[cls] = mine[np.argsort(-self.score[mine], kind="stable")]
        return found

    def save(self, path: Path) -> None:
        """Write it as an .npz of plain arrays.

        Raises:
            OutputError: it cannot be written.
        """
        arrays = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _TEXTS}
        # a file name that is no text anywhere comes back as it was
        names = np.frombuffer("\0".join(self.names).encode(errors="surrogateescape"), np.uint8)
        about = np.frombuffer(json.dumps(dict(self.about)).encode(), np.uint8)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, format=np.array(_FORMAT), names=names, about=about, **arrays)

    def hits(self, kind: str) -> BoolArray:
        """(M, T) which detections are hits: `box` by IoU, `pose` by OKS."""
        return (self.box_hit if kind == "box" else self.pose_hit) >= 0


def load_record(place: str | Path) -> Record:
    """Read the record of a run.

    Args:
        place: the run's folder, or the file in it.

    Raises:
        NotFoundError: there is none.
        DataError: it is damaged, or of a newer version.
    """
    path = Path(place)
    path = path / FILE if path.is_dir() else path
    try:
        with np.load(path, allow_pickle=False) as found:
            if int(found["format"]) > _FORMAT:
                raise DataError(f"{path} was written by a newer yolopose. Update it: pip install -U yolopose.")
            if int(found["format"]) < _FORMAT:
                raise DataError(f"{path} was written by an older yolopose and lacks a part. Run `yolo val` again.")
            arrays: dict[str, Any] = {item.name: found[item.name] for item in fields(Record)}
    except FileNotFoundError:
        raise NotFoundError(
            f"There is no {path}: it is what `yolo val` leaves in its run folder (runs/pose/val…; not with "
            "plots=False alone). Give the folder of such a run."
        ) from None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} is no record of a validation run, or is damaged ({error}). Run `yolo val` again."
        ) from error
    names = arrays.pop("names").tobytes().decode(errors="surrogateescape")
    about = json.loads(arrays.pop("about").tobytes())
    record = Record(names=tuple(names.split("\0")) if names else (), about=about, **arrays)
    if len(record.box_hit) != len(record.image) or len(record.truth_cls) != len(record.truth_image):
        raise DataError(f"{path} is damaged: its columns differ in length. Run `yolo val` again.")
    return record


class RecordBuilder:
    """The columns of a record while a run fills them image by image.

    Each grows in one block of memory, so that a run costs its rows and nothing for its images.

    Args:
        keypoints: K.
        thresholds: T.
    """

    def __init__(self, keypoints: int, thresholds: int) -> None:
        self._names: list[str] = []
        rows: dict[str, tuple[Any, tuple[int, ...]]] = {
            "size": (np.int32, (2,)),
            "image": (np.int32, ()),
            "score": (np.float32, ()),
            "cls": (np.int32, ()),
            "box_hit": (np.int16, (thresholds,)),
            "pose_hit": (np.int16, (thresholds,)),
            "mended": (np.int16, (4,)),
            "truth_image": (np.int32, ()),
            "truth_cls": (np.int32, ()),
            "truth_area": (np.float32, ()),
            "truth_points": (np.int16, ()),
            "truth_crowd": (np.float32, ()),
            "truth_box": (np.uint16, (4,)),
            "truth_place": (np.uint16, (keypoints, 2)),
            "truth_seen": (np.uint8, (keypoints,)),
            "drawn": (np.int32, ()),
            "drawn_box": (np.uint16, (4,)),
            "drawn_place": (np.uint16, (keypoints, 2)),
            "drawn_seen": (np.uint8, (keypoints,)),
            "pair_truth": (np.int32, ()),
            "pair_detection": (np.int32, ()),
            "pair_diagonal": (np.float32, ()),
            "pair_torso": (np.float32, ()),
            "pair_error": (np.float32, (keypoints,)),
            "pair_kind": (np.int8, (keypoints,)),
        }
        self._rows = rows
        self._bytes = {name: bytearray() for name in rows}
        self.detections = 0
        self.truths = 0

    def add(self, name: str, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add an image.

        Args:
            name: the image.
            columns: every column but `image` and `truth_image`; `pair_truth`, `pair_detection` and `drawn` are
                numbers within the image.
        """
        number = len(self._names)
        self._names.append(name)
        detections, truths = len(columns["score"]), len(columns["truth_cls"])
        whole = {
            **columns,
            "image": np.full(detections, number),
            "truth_image": np.full(truths, number),
            "pair_truth": columns["pair_truth"] + self.truths,
            "pair_detection": columns["pair_detection"] + self.detections,
            "drawn": columns["drawn"] + self.detections,
        }
        for column, (kind, _) in self._rows.items():
            self._bytes[column] += np.ascontiguousarray(whole[column], dtype=kind).tobytes()
        self.detections += detections
        self.truths += truths

    def finish(self, about: Mapping[str, Any] | None = None) -> Record:
        """Return the record, with what is to say about the run.

        The blocks of memory become its columns, and nothing can be added any more.
        """
        arrays: dict[str, Any] = {
            name: np.frombuffer(self._bytes[name], kind).reshape(-1, *shape)
            for name, (kind, shape) in self._rows.items()
        }
        return Record(names=tuple(self._names), about=about or {}, **arrays)
