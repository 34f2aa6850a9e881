"""Settings of trackers and the YAML files that hold them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from yolopose.base.errors import UsageError, did_you_mean
from yolopose.base.files import expand_user
from yolopose.base.log import warn_once
from yolopose.base.yamlfile import read_yaml
from yolopose.zoo import tracker_yaml_names, tracker_yaml_path

FRAME_RATE = 30.0
"""Frames per second to which `track_buffer` refers, and of a sequence whose frame rate is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackerSettings:
    """Settings of a tracker; the keys of its YAML file.

    Scores are confidences of detections. The `…_thresh` of an association is the largest cost, 1 - similarity.

    Attributes:
        tracker_type: name of the shipped file that holds the other defaults: `oks`, `bytetrack`, `ocsort`, `botsort`.
        track_high_thresh: smallest score of the first association.
        track_low_thresh: smallest score of the second association, which continues active tracks only.
        new_track_thresh: smallest score that starts a track.
        match_thresh: threshold of the first association.
        low_match_thresh: threshold of the second association.
        new_match_thresh: threshold of the association with tentative tracks.
        track_buffer: time after which a lost track ends, in frames of a video with 30 frames per second.
        buffer_seconds: the same time in seconds; None uses `track_buffer`.
        min_hits: observations after which a track gets an id; tracks of the first frame have one immediately.
        min_evidence: sum of the squared scores from which a track gets an id: with low scores it needs more
            observations than `min_hits`.
        duplicate_thresh: a detection starts no track if its pose is at least this similar to that of a detection with
            a higher score in the same frame; 1 disables that.
        duplicate_iou: the same if its box has at least this IoU with that of such a detection; 1 disables that.
        tentative_frames: frames within which a tentative track must be observed again.
        fuse_score: whether to multiply similarities by the score of the detection.
        class_aware: whether a track continues only with detections of its class.
        max_instances: number of instances in the scene: never more ids than that; None for no limit.
        gmc_method: camera-motion compensation: `sparseOptFlow` or `none`.
        pose_weight: weight of the pose in the similarity, 0…1; the box has the rest.
        kpt_tolerance: smallest tolerated distance of a keypoint, as a share of the square root of the box area.
        kpt_conf: smallest confidence of a keypoint that is compared.
        inertia: weight of the direction of motion in the first association.
        delta_t: number of observations over which that direction is measured.
        use_byte: whether to do the second association, with low scores.
        recovery: whether lost tracks are also associated by their last observation, and their motion is estimated
            again when they return.
        coast_frames: time constant with which the velocity of a lost track decreases, in frames of 1/30 second; 0
            keeps it.
        lost_weight: how fast the priority of a lost track decreases: 1 / (1 + lost_weight · frames of 1/30 second).
        observed_boxes: whether predictions start from the last measured box instead of the filtered one.
        remove_duplicates: whether the younger of an active and a lost track with nearly the same box ends.

    Examples:
        >>> from yolopose.track import read_tracker_settings
        >>> settings = read_tracker_settings("oks.yaml", max_instances=2)
        >>> settings.tracker_type, settings.max_instances
        ('oks', 2)
    """

    tracker_type: str
    track_high_thresh: float
    track_low_thresh: float
    new_track_thresh: float
    match_thresh: float
    low_match_thresh: float = 0.5
    new_match_thresh: float = 0.7
    track_buffer: float = 30
    buffer_seconds: float | None = None
    min_hits: int = 2
    min_evidence: float = 0.0
    duplicate_thresh: float = 1.0
    duplicate_iou: float = 1.0
    tentative_frames: int = 1
    fuse_score: bool = False
    class_aware: bool = False
    max_instances: int | None = None
    gmc_method: str = "none"
    pose_weight: float = 0.0
    kpt_tolerance: float = 0.1
    kpt_conf: float = 0.3
    inertia: float = 0.0
    delta_t: int = 3
    use_byte: bool = True
    recovery: bool = False
    coast_frames: float = 0.0
    lost_weight: float = 0.0
    observed_boxes: bool = False
    remove_duplicates: bool = False

    @property
    def buffer(self) -> float:
        """Time after which a lost track ends, seconds."""
        return self.track_buffer / FRAME_RATE if self.buffer_seconds is None else self.buffer_seconds

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


# Largest value of numbers that are shares; all numbers are at least the smallest value, 0 if not listed.
_SHARES = frozenset(
    {
        "track_high_thresh",
        "track_low_thresh",
        "new_track_thresh",
        "match_thresh",
        "low_match_thresh",
        "new_match_thresh",
        "duplicate_thresh",
        "duplicate_iou",
        "pose_weight",
        "kpt_conf",
    }
)
_SMALLEST = {"min_hits": 1, "tentative_frames": 1, "delta_t": 1, "max_instances": 1}
_CAMERA_METHODS = ("none", "sparseOptFlow")
# Keys of the same meaning in other packages.
_ALIASES = {
    "track_thresh": "track_high_thresh",
    "det_thresh": "track_high_thresh",
    "max_age": "track_buffer",
    "gmc": "gmc_method",
    "cmc_method": "gmc_method",
}
# Keys of other packages for features that do not exist here, and the values that mean "off".
_APPEARANCE = ("with_reid", "proximity_thresh", "appearance_thresh", "model", "reid_weights")


def read_tracker_settings(tracker: str | Path, **overrides: Any) -> TrackerSettings:
    """Read the settings of a tracker.

    Args:
        tracker: a shipped tracker (`oks`, `bytetrack.yaml`) or the path of a YAML file. Keys that the file lacks have
            the values of the shipped file of its `tracker_type`.
        **overrides: values that win over the file; None is ignored.

    Raises:
        UsageError: an unknown tracker, an unknown key or an impossible value.
        NotFoundError: the file does not exist.
    """
    path = _find_yaml(tracker)
    values = _rename_keys(read_yaml(path, "tracker YAML"), path)
    kind = values.get("tracker_type")
    if f"{kind}.yaml" not in tracker_yaml_names():
        known = [Path(name).stem for name in tracker_yaml_names()]
        raise UsageError(
            f"The tracker YAML {path} has tracker_type: {kind}.{did_you_mean(str(kind), known)} It is one of "
            f"{', '.join(known)}."
        )
    defaults = read_yaml(_shipped(f"{kind}.yaml"), "tracker YAML")
    given = {name: value for name, value in overrides.items() if value is not None}
    return make_tracker_settings({**defaults, **values, **given}, f"tracker YAML {path}")


def make_tracker_settings(values: Mapping[str, Any], where: str) -> TrackerSettings:
    """Check values and return them as settings.

    Args:
        values: values by name; `tracker_type` and the thresholds without a default are required.
        where: their origin, for errors.

    Raises:
        UsageError: a value is missing or impossible.
    """
    hints = get_type_hints(TrackerSettings)
    required = ("tracker_type", "track_high_thresh", "track_low_thresh", "new_track_thresh", "match_thresh")
    missing = [name for name in required if name not in values]
    unknown = [name for name in values if name not in hints]
    if missing or unknown:
        raise UsageError(f"The {where} lacks {', '.join(missing)}." if missing else _unknown_key(unknown[0], where))
    checked = {name: _check(name, value, hints[name], where) for name, value in values.items()}
    settings = TrackerSettings(**checked)
    if settings.gmc_method not in _CAMERA_METHODS:
        raise UsageError(
            f"gmc_method: {settings.gmc_method} in the {where} is not available: it is one of "
            f"{', '.join(_CAMERA_METHODS)}."
        )
    if settings.track_low_thresh > settings.track_high_thresh:
        raise UsageError(
            f"track_low_thresh: {settings.track_low_thresh} in the {where} is above track_high_thresh: "
            f"{settings.track_high_thresh}; it must not be larger."
        )
    return settings


def _find_yaml(tracker: str | Path) -> Path:
    """Return the path of a tracker YAML; a file in the current folder wins over a shipped one of the same name."""
    path = expand_user(tracker)
    is_name = len(path.parts) == 1
    if path.is_file() and (path.suffix or not is_name):
        return path
    name = path.name if path.suffix else f"{path.name}.yaml"
    shipped = tracker_yaml_path(name)
    if is_name and shipped is not None:
        return shipped
    if is_name:
        known = tracker_yaml_names()
        hint = did_you_mean(name, known, ".yaml")
        raise UsageError(
            f"Unknown tracker {str(tracker)!r}.{hint} The trackers are {', '.join(known)}, the path of your own YAML "
            f"file (current folder: {Path.cwd()}), or trackers:NAME for one of the package `trackers` (bytetrack, "
            "ocsort, botsort, …)."
        )
    return path  # reading it raises the error


def _shipped(name: str) -> Path:
    path = tracker_yaml_path(name)
    assert path is not None, name  # noqa: S101  # checked by the caller
    return path


def _rename_keys(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the values under our names; warn about those without effect.

    Raises:
        UsageError: an unknown key.
    """
    names = {field.name for field in fields(TrackerSettings)}
    where = f"tracker YAML {path}"
    renamed: dict[str, Any] = {}
    for key, value in values.items():
        if key in names:
            renamed[key] = value
        elif key in _ALIASES:
            renamed[_ALIASES[key]] = value
        elif key == "iou_threshold" and isinstance(value, (int, float)):
            renamed["match_thresh"] = 1 - value
        elif key in _APPEARANCE:
            if key == "with_reid" and value:
                warn_once(f"with_reid: {value} in the {where} is ignored: trackers here do not use appearance.")
        else:
            raise UsageError(_unknown_key(key, where))
    return renamed


def _unknown_key(key: str, where: str) -> str:
    names = [field.name for field in fields(TrackerSettings)]
    return f"Unknown key {key!r} in the {where}.{did_you_mean(key, names)} The keys are {', '.join(names)}."


def _check(name: str, value: Any, hint: Any, where: str) -> Any:
    """Return a value as its declared type.

    Raises:
        UsageError: another type, or out of range.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return None
    if str in kinds:
        text = str(value)
        return "none" if name == "gmc_method" and text.lower() in ("none", "false", "") else text
    if bool in kinds:
        if isinstance(value, bool):
            return value
        raise UsageError(f"{name}: {value} in the {where} is not possible: it is True or False.")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{name}: {value} in the {where} is not a number.")
    if int in kinds and value != int(value):
        raise UsageError(f"{name}: {value} in the {where} is not an integer.")
    low = _SMALLEST.get(name, 0)
    high = 1 if name in _SHARES else math.inf
    if not low <= value <= high:
        limits = f"from {low} to {high}" if name in _SHARES else f"{low} or larger"
        raise UsageError(f"{name}: {value} in the {where} is out of range: it is {limits}.")
    return int(value) if int in kinds else float(value)
