"""Schema of a pose network or data set: classes, keypoints, flip indices, skeleton, sigmas.

Flips, drawing, OKS, checks and export metadata use these frozen values, which are stored in checkpoints and exported
files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from yolopose.base.errors import UsageError
from yolopose.base.text import short_repr

MAX_CLASSES = 100_000
MAX_IMAGE_CHANNELS = 64
MAX_KEYPOINTS = 10_000
MAX_NAME = 500  # characters of the name of a class or keypoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

COCO_PERSON_NAMES = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
COCO_PERSON_FLIP = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
COCO_PERSON_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10),
    (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
# σ of the COCO keypoint evaluation, measured from repeated annotation (cocodataset.org/#keypoints-eval)
COCO_PERSON_SIGMAS = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
    0.089, 0.089,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KeypointSchema:
    """The keypoints of an instance: number, names, flip indices and skeleton.

    Attributes:
        count: K, number of keypoints, at least 1.
        dims: D, 2 for (x, y) or 3 for (x, y, visibility).
        names: keypoint names by class index, `{0: ("nose", …)}`; may be empty.
        flip_idx: permutation of 0…K-1 by a horizontal flip, or None where it is unknown.
        skeleton: edges as pairs of 0-based keypoint indices, for drawing; may be empty.
        sigmas: OKS σ per keypoint as given by the data set, or None for the defaults of `oks_sigmas`.
        visibility: states of a keypoint that the network distinguishes: 2 (labeled or not) or 3 (absent, hidden,
            visible; with D = 3 only).
        class_keypoints: by class index the names of the keypoints that the class has; classes that are not listed have
            all K keypoints. Keypoints that a class does not have are neither trained, measured nor drawn.
        class_sigmas: by class index the OKS σ of its keypoints, in the order of K; empty where σ are common.

    Raises:
        UsageError: a value contradicts K or D; the text names it.

    Examples:
        >>> from yolopose.schema import KeypointSchema
        >>> schema = KeypointSchema(count=3, names={0: ("nose", "left_ear", "right_ear")}, flip_idx=(0, 2, 1))
        >>> schema.shape, schema.keypoint_names(0)[1]
        ((3, 3), 'left_ear')
        >>> KeypointSchema.coco_person().count
        17
        >>> names = {0: ("beak", "tail", "left_ear", "right_ear")}
        >>> own = {0: ("beak", "tail"), 1: ("tail", "left_ear", "right_ear")}
        >>> KeypointSchema(count=4, names=names, class_keypoints=own).class_points(1)
        (1, 2, 3)
    """

    count: int
    dims: int = 3
    names: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    flip_idx: tuple[int, ...] | None = None
    skeleton: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] | None = None
    visibility: int = 2
    class_keypoints: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    class_sigmas: Mapping[int, tuple[float, ...]] = field(default_factory=dict[int, tuple[float, ...]])

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_KEYPOINTS or self.dims not in (2, 3):
            raise UsageError(
                f"kpt_shape {short_repr([self.count, self.dims])} is not possible: it is [K, D] with K from 1 to "
                f"{MAX_KEYPOINTS} and D 2 (x, y) or 3 (x, y, visibility)."
            )
        if self.flip_idx is not None and sorted(self.flip_idx) != list(range(self.count)):
            raise UsageError(
                f"flip_idx {short_repr(list(self.flip_idx))} must contain each of the {self.count} keypoints "
                f"0…{self.count - 1} exactly once: entry i is the keypoint that i becomes in a flipped image "
                "(left eye ↔ right eye)."
            )
        for index, names in self.names.items():
            if len(names) != self.count:
                raise UsageError(
                    f"kpt_names of class {index} has {len(names)} names, but kpt_shape has {self.count} keypoints."
                )
        for edge in self.skeleton:
            if len(edge) != 2 or not all(0 <= point < self.count for point in edge):
                raise UsageError(
                    f"skeleton edge {short_repr(list(edge))} must be two keypoint indices from 0 to {self.count - 1}."
                )
        if self.sigmas is not None and not _are_sigmas(self.sigmas, self.count):
            raise UsageError(
                f"kpt_oks_sigmas must be {self.count} positive numbers, one per keypoint; got "
                f"{short_repr(list(self.sigmas))}."
            )
        self._check_visibility()
        self._check_class_keypoints()

    def _check_visibility(self) -> None:
        if type(self.visibility) is not int or self.visibility not in (2, 3):
            raise UsageError(
                f"visibility must be 2 (labeled or not, the default) or 3 (absent, hidden, visible); got "
                f"{short_repr(self.visibility)}."
            )
        if self.visibility == 3 and self.dims != 3:
            raise UsageError(
                f"visibility: 3 needs labels with x y v, but kpt_shape is {list(self.shape)} (x y). Remove it, or "
                "label v as 0 (absent), 1 (hidden) or 2 (visible) and set D of kpt_shape to 3."
            )

    def _check_class_keypoints(self) -> None:
        for index, own in self.class_keypoints.items():
            names = self.names.get(index) or self.names.get(0)
            if names is None:
                raise UsageError("class_keypoints needs the names of all keypoints: add `kpt_names: [K names]`.")
            unknown = [name for name in own if name not in names]
            if unknown or not own or len(set(own)) < len(own):
                reason = f"{short_repr(unknown[0])} is not among kpt_names" if unknown else "it is empty or has doubles"
                raise UsageError(
                    f"class_keypoints of class {index} must be different names of kpt_names "
                    f"({short_repr(list(names))}): {reason}."
                )
            if self.flip_idx is None:
                continue
            points = self.class_points(index)
            wrong = next((point for point in points if self.flip_idx[point] not in points), None)
            if wrong is not None:
                raise UsageError(
                    f"flip_idx mirrors {short_repr(names[wrong])} to {short_repr(names[self.flip_idx[wrong]])}, which "
                    f"class {index} does not have: its class_keypoints must contain both or neither."
                )
        for index, sigmas in self.class_sigmas.items():
            count = len(self.class_points(index))
            if not _are_sigmas(sigmas, count):
                raise UsageError(
                    f"kpt_oks_sigmas of class {index} must be {count} positive numbers, one per keypoint of the class; "
                    f"got {short_repr(list(sigmas))}."
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(K, D)."""
        return self.count, self.dims

    @property
    def oks_sigmas(self) -> npt.NDArray[np.float64]:
        """(K,) float64 effective σ: the given ones, those of a COCO person for exactly [17, 3], else 1/K each."""
        import numpy as np  # half of the start-up time, and most commands need no array of σ

        if self.sigmas is not None:
            return np.array(self.sigmas, dtype=np.float64)
        if self.class_keypoints or self.class_sigmas:
            classes = sorted({*self.class_keypoints, *self.class_sigmas})
            rows = np.stack([self._class_row(index) for index in classes])
            known = np.isfinite(rows).any(axis=0)
            means = np.nansum(rows, axis=0) / np.maximum(np.isfinite(rows).sum(axis=0), 1)
            return np.where(known, means, 1.0 / self.count)
        if self.shape == (17, 3):
            return np.array(COCO_PERSON_SIGMAS, dtype=np.float64)
        return np.full(self.count, 1.0 / self.count)

    def sigmas_by_class(self, nc: int) -> npt.NDArray[np.float64]:
        """Return the effective σ: (K,) `oks_sigmas` where they are common to all classes, else (nc, K).

        Without given σ, a class of n keypoints has those of a network with these alone: 1/n, or of a COCO person. A
        keypoint that a class does not have has the σ of `oks_sigmas`; it is never used.
        """
        import numpy as np

        common = self.oks_sigmas
        if self.sigmas is not None or not (self.class_keypoints or self.class_sigmas):
            return common
        rows = np.stack([self._class_row(index) for index in range(nc)])
        return np.where(np.isfinite(rows), rows, common)

    def _class_row(self, class_index: int) -> npt.NDArray[np.float64]:
        """Return (K,) σ of a class, NaN for keypoints that it does not have."""
        import numpy as np

        points = self.class_points(class_index)
        names = tuple(self.keypoint_names(class_index)[point] for point in points)
        is_person = self.dims == 3 and names == COCO_PERSON_NAMES
        default = COCO_PERSON_SIGMAS if is_person else (1.0 / len(points),) * len(points)
        row = np.full(self.count, np.nan)
        row[list(points)] = self.class_sigmas.get(class_index, default)
        return row

    def class_points(self, class_index: int) -> tuple[int, ...]:
        """Return the indices of the keypoints that a class has, ascending."""
        own = self.class_keypoints.get(class_index)
        if own is None:
            return tuple(range(self.count))
        return tuple(point for point, name in enumerate(self.keypoint_names(class_index)) if name in own)

    def point_mask(self, nc: int) -> npt.NDArray[np.bool_] | None:
        """Return (nc, K) which keypoints each class has; None if every class has all of them."""
        import numpy as np

        if not self.class_keypoints:
            return None
        mask = np.zeros((nc, self.count), dtype=np.bool_)
        for index in range(nc):
            mask[index, list(self.class_points(index))] = True
        return None if mask.all() else mask

    def keypoint_names(self, class_index: int) -> tuple[str, ...]:
        """Return the K keypoint names of a class; `keypoint 0`, … where there are none."""
        names = self.names.get(class_index) or self.names.get(0)
        return names or tuple(f"keypoint {index}" for index in range(self.count))

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and values under the keys of a data YAML."""
        return {
            "kpt_shape": [self.count, self.dims],
            "kpt_names": {int(index): list(names) for index, names in self.names.items()},
            "flip_idx": None if self.flip_idx is None else list(self.flip_idx),
            "skeleton": [list(edge) for edge in self.skeleton],
            "kpt_oks_sigmas": self._sigma_values(),
            **({} if self.visibility == 2 else {"visibility": self.visibility}),
            **({"class_keypoints": _lists(self.class_keypoints)} if self.class_keypoints else {}),
        }

    def _sigma_values(self) -> Any:
        if self.class_sigmas:
            return _lists(self.class_sigmas)
        return None if self.sigmas is None else list(self.sigmas)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KeypointSchema:
        """Read the keys of a data YAML (`kpt_shape`, `kpt_names`, `flip_idx`, …).

        Raises:
            UsageError: a value has the wrong form or length.
        """
        count, dims = _kpt_shape(values.get("kpt_shape"))
        flip = values.get("flip_idx")
        sigmas = values.get("kpt_oks_sigmas")
        class_sigmas = _by_class(sigmas, "kpt_oks_sigmas") if isinstance(sigmas, Mapping) else {}
        own = values.get("class_keypoints")
        visibility = values.get("visibility")
        return cls(
            count=count,
            dims=dims,
            names=_keypoint_names(values.get("kpt_names")),
            flip_idx=None if flip is None else tuple(_integers(flip, "flip_idx")),
            skeleton=_edges(values.get("skeleton")),
            sigmas=None if sigmas is None or class_sigmas else tuple(_numbers(sigmas, "kpt_oks_sigmas")),
            visibility=2 if visibility is None else visibility,
            class_keypoints={
                index: _name_tuple(names, f"class_keypoints of class {index}")
                for index, names in ({} if own is None else _by_class(own, "class_keypoints")).items()
            },
            class_sigmas={
                index: tuple(_numbers(row, f"kpt_oks_sigmas of class {index}")) for index, row in class_sigmas.items()
            },
        )

    @classmethod
    def coco_person(cls) -> KeypointSchema:
        """Return the 17 keypoints of a COCO person with names, flip indices, skeleton and σ."""
        return cls(
            count=17,
            dims=3,
            names={0: COCO_PERSON_NAMES},
            flip_idx=COCO_PERSON_FLIP,
            skeleton=COCO_PERSON_SKELETON,
            sigmas=COCO_PERSON_SIGMAS,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoseSpec:
    """Classes, keypoints and image channels of a network or data set.

    Attributes:
        classes: class names by index.
        keypoints: the keypoint schema, common to all classes.
        channels: C, channels of the images: 1 (gray), 3 (color) or 4 (color and alpha, or another band). A network can
            have another number, for arrays with as many channels.

    Examples:
        >>> from yolopose.schema import PoseSpec
        >>> spec = PoseSpec.from_dict({"names": ["mouse"], "kpt_shape": [4, 3]})
        >>> spec.nc, spec.names, spec.keypoints.count
        (1, {0: 'mouse'}, 4)
    """

    classes: tuple[str, ...]
    keypoints: KeypointSchema
    channels: int = 3

    def __post_init__(self) -> None:
        channels = self.channels
        if not isinstance(channels, int) or isinstance(channels, bool) or not 1 <= channels <= MAX_IMAGE_CHANNELS:
            raise UsageError(f"channels must be an integer from 1 to {MAX_IMAGE_CHANNELS}, got {short_repr(channels)}.")
        for key, values in (
            ("class_keypoints", self.keypoints.class_keypoints),
            ("kpt_oks_sigmas", self.keypoints.class_sigmas),
        ):
            if excess := [index for index in values if index >= len(self.classes)]:
                raise UsageError(
                    f"{key} has class {excess[0]}, but there are only {len(self.classes)} classes "
                    f"(0…{len(self.classes) - 1})."
                )

    def with_one_class(self, name: str) -> PoseSpec:
        """Return the spec with one class in place of all, which has the keypoints of all of them."""
        return replace(self.without_templates(), classes=(name,))

    def without_templates(self) -> PoseSpec:
        """Return the spec in which every class has all keypoints, with common σ."""
        keypoints = self.keypoints
        if not keypoints.class_keypoints and not keypoints.class_sigmas:
            return self
        return replace(self, keypoints=replace(keypoints, class_keypoints={}, class_sigmas={}))

    @property
    def nc(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def names(self) -> dict[int, str]:
        """Class names as `{index: name}`."""
        return dict(enumerate(self.classes))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values under the keys of a data YAML; `channels` only if they are not 3."""
        channels = {} if self.channels == 3 else {"channels": self.channels}
        return {"names": self.names, **self.keypoints.to_dict(), **channels}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PoseSpec:
        """Read the keys of a data YAML (`names`, `channels` and those of `KeypointSchema.from_dict`).

        Raises:
            UsageError: a value has the wrong form or length.
        """
        return cls(
            classes=class_names(values.get("names"), None),
            keypoints=KeypointSchema.from_dict(values),
            channels=values.get("channels", 3),
        )


ScalePair = tuple[float, float]
"""Factor and offset on the logit of a confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidenceScale:
    """Calibration of confidences: sigmoid(factor · logit + offset), where 1 / factor is the temperature.

    A factor is above 0, so that the order of the confidences of a class, and with it mAP, does not change.

    Attributes:
        classes: factor and offset of each class, for the confidence of boxes.
        keypoints: the same of each keypoint; empty where keypoint confidences are not changed.
        end2end: whether the NMS-free output was measured, which has layers and confidences of its own.
    """

    classes: tuple[ScalePair, ...]
    keypoints: tuple[ScalePair, ...] = ()
    end2end: bool = False

    def __post_init__(self) -> None:
        for factor, offset in (*self.classes, *self.keypoints):
            if not (0 < factor < math.inf and math.isfinite(offset)):
                raise UsageError(f"A calibration has factors above 0 and finite offsets, got {factor}, {offset}.")

    def of_classes(self, conf: float) -> tuple[float, ...]:
        """Return the calibrated confidence, in each class, of a detection whose confidence 0…1 was `conf`."""
        logit = math.log(conf / (1 - conf))
        return tuple(1 / (1 + math.exp(-(factor * logit + offset))) for factor, offset in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        pairs = {"classes": self.classes, "keypoints": self.keypoints}
        return {**{key: [list(pair) for pair in value] for key, value in pairs.items()}, "end2end": self.end2end}

    @classmethod
    def from_dict(cls, values: object) -> ConfidenceScale:
        """Read the output of `to_dict`.

        Raises:
            UsageError: a value is missing or has the wrong form.
        """
        try:
            if not isinstance(values, Mapping):
                raise TypeError
            pairs = {
                key: tuple((float(pair[0]), float(pair[1])) for pair in values[key]) for key in ("classes", "keypoints")
            }
            return cls(classes=pairs["classes"], keypoints=pairs["keypoints"], end2end=bool(values["end2end"]))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise UsageError(f"The model metadata's calibration has the wrong form: {short_repr(values)}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetadata:
    """Metadata stored in checkpoints and exported files.

    Attributes:
        spec: classes, keypoints and channels of the input.
        name: family and scale, such as `yolo11n-pose`.
        stride: largest stride of the network; input sides are multiples of it.
        imgsz: (height, width) for which the network was trained or exported, pixels.
        batch: images per call; 0 for any number.
        dynamic: whether input sizes other than `imgsz` are supported.
        end2end: whether the output needs no NMS.
        uncertainty: whether the output ends in σ of each keypoint, x and y, 2·K values in pixels.
        outputs: layout of the output, `raw` for (B, 4+nc+K·D, A).
        native_size: whether the engine takes images of any size, unscaled, and fits them to the network itself; such
            engines run networks of other packages (`yolopose.foreign`), and the value is not stored in files.
        license: license of the weights, where it is known.
        version: version of the package that wrote the file.
        calibration: of the confidences; None for those that training has produced. The weights of a checkpoint are
            unchanged, and inference applies it to the last layers; an exported file contains the changed layers.
        args: plain values: training arguments in a checkpoint; in an exported file `nms` (settings of built-in NMS) or
            `strides` (of a raw multi-level output).

    Examples:
        >>> from yolopose.schema import ModelMetadata, PoseSpec
        >>> spec = PoseSpec.from_dict({"names": ["mouse"], "kpt_shape": [4, 3]})
        >>> metadata = ModelMetadata(spec=spec, name="yolo11n-pose", imgsz=(320, 320))
        >>> ModelMetadata.from_dict(metadata.to_dict()) == metadata
        True
    """

    spec: PoseSpec
    name: str = ""
    stride: int = 32
    imgsz: tuple[int, int] = (640, 640)
    batch: int = 0
    dynamic: bool = True
    end2end: bool = False
    uncertainty: bool = False
    outputs: str = "raw"
    native_size: bool = False
    license: str = ""
    version: str = ""
    calibration: ConfidenceScale | None = None
    args: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values (for YAML and JSON)."""
        return {
            **self.spec.to_dict(),
            "task": "pose",
            "name": self.name,
            "stride": self.stride,
            "imgsz": list(self.imgsz),
            "batch": self.batch,
            "dynamic": self.dynamic,
            "end2end": self.end2end,
            "uncertainty": self.uncertainty,
            "outputs": self.outputs,
            "license": self.license,
            "version": self.version,
            **({"calibration": self.calibration.to_dict()} if self.calibration else {}),
            "args": dict(self.args),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelMetadata:
        """Read the output of `to_dict`.

        Raises:
            UsageError: a value is missing or has the wrong form; the text names the key.
        """
        from yolopose.base.records import Metadata, check_record  # costs start-up time

        record = check_record(dict(values), Metadata, "The model metadata is not valid", UsageError)
        spec = PoseSpec.from_dict(values)
        calibration = values.get("calibration")
        return cls(
            spec=spec,
            calibration=None if calibration is None else _calibration(calibration, spec),
            uncertainty=values.get("uncertainty") is True,  # missing in files of earlier versions
            **{key: getattr(record, key) for key in record.__struct_fields__},
        )


def _calibration(values: object, spec: PoseSpec) -> ConfidenceScale:
    scale = ConfidenceScale.from_dict(values)
    if len(scale.classes) != spec.nc or len(scale.keypoints) not in (0, spec.keypoints.count):
        raise UsageError(
            f"The calibration has {len(scale.classes)} classes and {len(scale.keypoints)} keypoints, the network has "
            f"{spec.nc} and {spec.keypoints.count}."
        )
    return scale


def class_names(names: object, nc: object) -> tuple[str, ...]:
    """Read class names from a list or `{index: name}` mapping, or make `class0`, … from only `nc`.

    Raises:
        UsageError: neither is given, indices have gaps, or `nc` and the names disagree.
    """
    if nc is not None and (not isinstance(nc, int) or isinstance(nc, bool) or not 1 <= nc <= MAX_CLASSES):
        raise UsageError(f"nc must be an integer from 1 to {MAX_CLASSES}, got {short_repr(nc)}.")
    if names is None:
        if nc is None:
            raise UsageError("Class names are missing: give `names: {0: person}` (or `nc: 1`).")
        return tuple(f"class{index}" for index in range(nc))
    if isinstance(names, Mapping):
        by_index = {short_repr(index) if isinstance(index, int) else str(index): name for index, name in names.items()}
        indices = [str(index) for index in range(len(names))]  # JSON turns the keys into text
        if set(by_index) != set(indices):
            raise UsageError(
                f"names must have the indices 0…{len(names) - 1} without gaps, got {short_repr(list(names))}."
            )
        classes = _name_tuple([by_index[index] for index in indices], "names")
    elif isinstance(names, Sequence) and not isinstance(names, str):
        classes = _name_tuple(names, "names")
    else:
        raise UsageError(f"names must be a list or a mapping of index to name, got {short_repr(names)}.")
    if len(classes) > MAX_CLASSES:
        raise UsageError(f"names has {len(classes)} classes; at most {MAX_CLASSES} are possible.")
    if not classes or (nc is not None and nc != len(classes)):
        raise UsageError(f"names has {len(classes)} classes but nc is {nc}; make them agree (nc may be omitted).")
    return classes


def _name_tuple(names: Sequence[Any], key: str) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if name is None:
            raise UsageError(f"{key}: entry {index} has no name. Write one, in quotes if it is 'null' or '~'.")
        if isinstance(name, Sequence | Mapping) and not isinstance(name, str):
            raise UsageError(f"{key}: entry {index} must be a name, got {short_repr(name)}.")
        text = short_repr(name) if isinstance(name, int) else str(name)
        if len(text) > MAX_NAME or any("\ud800" <= letter <= "\udfff" for letter in text):
            reason = f"longer than {MAX_NAME} characters" if len(text) > MAX_NAME else "not valid Unicode"
            raise UsageError(f"{key}: the name of entry {index} is {reason}: {short_repr(text)}. Write a shorter name.")
    return tuple(short_repr(name) if isinstance(name, int) else str(name) for name in names)


def _kpt_shape(value: object) -> tuple[int, int]:
    if value is None:
        raise UsageError("kpt_shape is missing: give `kpt_shape: [K, D]`, such as [17, 3] (D: 2 = x y, 3 = x y v).")
    if isinstance(value, int):
        raise UsageError(
            f"kpt_shape must be two numbers, [K, D], got {short_repr(value)}: write `kpt_shape: "
            f"[{short_repr(value)}, 3]` if labels have x y v for each keypoint, `kpt_shape: [{short_repr(value)}, 2]` "
            "if they have x y."
        )
    return _pair(value, "kpt_shape")


def _pair(value: object, key: str) -> tuple[int, int]:
    values = _integers(value, key)
    if len(values) != 2:
        example = "[17, 3]" if key == "kpt_shape" else "[640, 640]"
        raise UsageError(f"{key} must be two integers, such as {example}; got {short_repr(value)}.")
    return values[0], values[1]


def _integers(value: object, key: str) -> list[int]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UsageError(f"{key} must be a list of integers, got {short_repr(value)}.")
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in value):
        raise UsageError(f"{key} must be a list of integers, got {short_repr(list(value))}.")
    return list(value)


def _numbers(value: object, key: str) -> list[float]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UsageError(f"{key} must be a list of numbers, got {short_repr(value)}.")
    if not all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value):
        raise UsageError(f"{key} must be a list of numbers, got {short_repr(list(value))}.")
    try:
        return [float(item) for item in value]
    except OverflowError:
        raise UsageError(f"{key} has a number that is too large, got {short_repr(list(value))}.") from None


def _keypoint_names(value: object) -> dict[int, tuple[str, ...]]:
    if value is None:
        return {}
    if isinstance(value, Mapping):
        result: dict[int, tuple[str, ...]] = {}
        for key, names in value.items():
            text = key if isinstance(key, str) else short_repr(key)
            is_index = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_CLASSES))
            if not is_index or not isinstance(names, Sequence) or isinstance(names, str):
                raise UsageError(
                    f"kpt_names must map a class index to its list of names, got {short_repr(key)}: "
                    f"{short_repr(names)}."
                )
            result[int(text)] = _name_tuple(names, f"kpt_names of class {text}")
        return result
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {0: _name_tuple(value, "kpt_names")}
    raise UsageError(
        f"kpt_names must be a list of names or a mapping of class index to names, got {short_repr(value)}."
    )


def _by_class(value: object, key: str) -> dict[int, Sequence[Any]]:
    """Read a mapping of class index to a list; JSON turns the indices into text."""
    form = f"{key} must map class indices to lists, as in `{key}: {{0: [...], 1: [...]}}`"
    if not isinstance(value, Mapping):
        raise UsageError(f"{form}; got {short_repr(value)}.")
    result: dict[int, Sequence[Any]] = {}
    for index, row in value.items():
        text = index if isinstance(index, str) else short_repr(index)
        is_index = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_CLASSES))
        if not is_index or not isinstance(row, Sequence) or isinstance(row, str):
            raise UsageError(f"{form}; got {short_repr(index)}: {short_repr(row)}.")
        result[int(text)] = row
    return result


def _lists(values: Mapping[int, Sequence[Any]]) -> dict[int, list[Any]]:
    return {int(index): list(row) for index, row in values.items()}


def _are_sigmas(values: Sequence[float], count: int) -> bool:
    return len(values) == count and all(math.isfinite(value) and value > 0 for value in values)


def _edges(value: object) -> tuple[tuple[int, int], ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UsageError(f"skeleton must be a list of [a, b] pairs of keypoint indices, got {short_repr(value)}.")
    edges = [tuple(_integers(edge, "skeleton edge")) for edge in value]
    return tuple(edges)  # type: ignore[return-value]  # the length of each is checked by the schema
