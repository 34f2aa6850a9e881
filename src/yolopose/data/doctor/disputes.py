"""Labels that a model disputes: instances without a label, labeled twice, swapped sides, moved keypoints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from yolopose.data.doctor.findings import Evidence, Example, Severity, check, plural
from yolopose.data.doctor.row_checks import instance_example
from yolopose.data.doctor.shapes import Pair, mirror_pairs
from yolopose.data.doctor.sigmas import instance_scale
from yolopose.data.doctor.survey import SplitSurvey, Survey
from yolopose.geometry import box_iou, cxcywh_to_xyxy
from yolopose.schema import PoseSpec

DisputeKind = Literal["missed", "unsupported", "doubled", "swapped", "moved", "class"]
FloatArray = npt.NDArray[np.floating[Any]]

MIN_CONF = 0.1
"""Confidence from which detections are needed."""

_SURE = 0.5  # confidence of a detection that disputes a label
_SURE_POINT = 0.7  # confidence of a keypoint that does
_MATCH_IOU = 0.5
_NO_IOU = 0.3
_SWAP_RATIO = 0.5  # distance after the swap relative to that before
_FAR = 4.0  # distance of a moved keypoint in units of 2σ·√area
_MIN_FAR = 0.15  # and of √area


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """Detections in an image, in pixels.

    Attributes:
        boxes: (n, 4) corners.
        scores: (n,) confidences.
        classes: (n,) classes.
        keypoints: (n, K, 3) x, y, confidence.
    """

    boxes: FloatArray
    scores: FloatArray
    classes: npt.NDArray[np.integer[Any]]
    keypoints: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dispute:
    """A label that a model disputes.

    Attributes:
        kind: `missed` (a detection without a label), `unsupported` (a label without a detection), `doubled` (two
            labels for one detection), `swapped`, `moved` (keypoints) or `class`.
        split: name of the split.
        image: index of the image in its split.
        instance: index of the instance in its split; None for `missed`.
        score: 0…1, by which disputes are ranked.
        text: description with values.
        keypoint: index of the keypoint with the largest difference, or None.
        pairs: swapped pairs.
        box: (4,) corners of the detection, pixels, or None.
        points: (K, 3) its keypoints, or None.
    """

    kind: DisputeKind
    split: str
    image: int
    instance: int | None
    score: float
    text: str
    keypoint: int | None = None
    pairs: tuple[Pair, ...] = ()
    box: FloatArray | None = None
    points: FloatArray | None = None


def find_disputes(survey: Survey, detections: Iterable[tuple[SplitSurvey, int, Detections]]) -> list[Dispute]:
    """Compare the labels of images with detections; the disputes with the highest score first.

    Args:
        survey: the data set.
        detections: split, index of the image and its detections from a confidence of `MIN_CONF`.
    """
    disputes: list[Dispute] = []
    for split, image, image_detections in detections:
        disputes += _Comparison(survey.spec, split, image, image_detections).disputes()
    disputes.sort(key=lambda dispute: -dispute.score)
    survey.memo["disputes"] = disputes
    return disputes


class _Comparison:
    """The labels of an image beside the detections in it."""

    def __init__(self, spec: PoseSpec, split: SplitSurvey, image: int, detections: Detections) -> None:
        self.spec = spec
        self.split = split
        self.image = image
        self.detections = detections
        self.start = int(split.offsets[image])
        rows = slice(self.start, int(split.offsets[image + 1]))
        self.size = split.sizes[image][::-1].astype(np.float64)
        self.boxes = cxcywh_to_xyxy(split.boxes[rows].astype(np.float64)) * np.tile(self.size, 2)
        self.keypoints = split.keypoints[rows].astype(np.float64) * np.append(self.size, 1)
        self.classes = split.classes[rows].tolist()
        self.iou = box_iou(self.boxes, detections.boxes.astype(np.float64))
        self.matches = _match(self.iou, detections.scores)

    def disputes(self) -> Iterator[Dispute]:
        """Yield the disputes of the image."""
        yield from self._unmatched_detections()
        yield from self._unmatched_labels()
        for row, number in self.matches.items():
            if self.detections.scores[number] >= _SURE:
                yield from self._matched(row, number)

    def _dispute(self, kind: DisputeKind, row: int | None, number: int | None, score: float, text: str) -> Dispute:
        return Dispute(
            kind=kind,
            split=self.split.name,
            image=self.image,
            instance=None if row is None else self.start + row,
            score=score,
            text=text,
            box=None if number is None else self.detections.boxes[number],
            points=None if number is None else self.detections.keypoints[number],
        )

    def _class_name(self, cls: int) -> str:
        return self.spec.classes[cls] if cls < self.spec.nc else f"class {cls}"

    def _unmatched_detections(self) -> Iterator[Dispute]:
        used = set(self.matches.values())
        for number, score in enumerate(self.detections.scores.tolist()):
            overlap = float(self.iou[:, number].max()) if len(self.iou) else 0.0
            if number not in used and score >= _SURE and overlap < _NO_IOU:
                name = self._class_name(int(self.detections.classes[number]))
                yield self._dispute("missed", None, number, score, f"{name} without a label, confidence {score:.2f}")

    def _unmatched_labels(self) -> Iterator[Dispute]:
        own = box_iou(self.boxes, self.boxes)
        for row, box in enumerate(self.boxes):
            if row in self.matches:
                continue
            twins = [other for other in self.matches if own[row, other] >= _MATCH_IOU]
            best = float(self.iou[row].max()) if self.iou.shape[1] else 0.0
            if twins and best >= _MATCH_IOU:
                twin = max(twins, key=lambda other: own[row, other])
                number = self.matches[twin]
                score = float(self.detections.scores[number]) * float(own[row, twin])
                yield self._dispute("doubled", row, number, score, "the model sees one instance for two labels")
            elif best < _NO_IOU:
                share = float(np.sqrt(np.prod(np.maximum(box[2:] - box[:2], 0)) / max(float(self.size.prod()), 1.0)))
                text = f"no detection from confidence {MIN_CONF} overlaps this label"
                yield self._dispute("unsupported", row, None, 0.5 * min(share, 1.0), text)

    def _matched(self, row: int, number: int) -> Iterator[Dispute]:
        score = float(self.detections.scores[number])
        label, detected = self.classes[row], int(self.detections.classes[number])
        if label != detected:
            names = f"labeled {self._class_name(label)}, detected as {self._class_name(detected)}"
            overlap = float(self.iou[row, number])
            yield self._dispute("class", row, number, score * overlap, f"{names} with confidence {score:.2f}")
        schema = self.spec.keypoints
        width, height = self.boxes[row, 2:] - self.boxes[row, :2]
        scale = max(float(instance_scale(width, height)), 1e-6)
        dispute = _compare_points(
            self.keypoints[row], self.detections.keypoints[number], scale, schema.oks_sigmas,
            mirror_pairs(schema.flip_idx), schema.keypoint_names(label),
        )  # fmt: skip
        if dispute:
            kind, strength, text, keypoint, pairs = dispute
            yield replace(
                self._dispute(kind, row, number, score * strength, text), keypoint=keypoint, pairs=pairs
            )  # fmt: skip


def _match(iou: FloatArray, scores: FloatArray) -> dict[int, int]:
    """Return label → detection, the pairs of highest IoU first; each at most once."""
    matches: dict[int, int] = {}
    used: set[int] = set()
    pairs = np.argwhere(iou >= _MATCH_IOU)
    rank = iou[pairs[:, 0], pairs[:, 1]] + 1e-3 * scores[pairs[:, 1]]
    for row, number in pairs[np.argsort(-rank)].tolist():
        if row not in matches and number not in used:
            matches[row] = number
            used.add(number)
    return matches


_PointDispute = tuple[DisputeKind, float, str, "int | None", tuple[Pair, ...]]


def _compare_points(
    label: FloatArray, detected: FloatArray, scale: float, sigmas: FloatArray, pairs: Sequence[Pair],
    names: Sequence[str],
) -> _PointDispute | None:  # fmt: skip
    """Return the dispute of the keypoints of a matched instance: swapped sides, otherwise moved points."""
    usable = (label[:, 2] > 0) & (detected[:, 2] >= _SURE_POINT)
    distance = np.linalg.norm(label[:, :2] - detected[:, :2], axis=1)
    limit = np.maximum(_FAR * 2 * sigmas * scale, _MIN_FAR * scale)
    swapped: list[Pair] = []
    before = after = 0.0
    for a, b in pairs:
        if not (usable[a] and usable[b]):
            continue
        direct = distance[a] + distance[b]
        crossed = float(np.linalg.norm(label[[a, b], :2] - detected[[b, a], :2], axis=1).sum())
        apart = float(np.linalg.norm(label[a, :2] - label[b, :2]))
        if crossed < _SWAP_RATIO * direct and apart > 0.25 * scale and crossed < apart:
            swapped.append((a, b))
            before += direct
            after += crossed
    if swapped:
        confidence = float(np.mean([detected[[a, b], 2].mean() for a, b in swapped]))
        strength = confidence * (1 - after / max(before, 1e-9))
        pair_names = ", ".join(f"{names[a]} ↔ {names[b]}" for a, b in swapped[:3])
        text = f"{pair_names}: {before / max(after, 1e-9):.1f} times closer to the detection when exchanged"
        return "swapped", strength, text, swapped[0][0], tuple(swapped)
    moved = np.flatnonzero(usable & (distance > limit))
    if not len(moved):
        return None
    worst = int(moved[np.argmax(distance[moved] / limit[moved])])
    strength = float(detected[worst, 2]) * float(1 - limit[worst] / distance[worst] / 2)
    text = f"{names[worst]} is {distance[worst]:.0f} pixels from the detected position" + (
        f", and {len(moved) - 1} more" if len(moved) > 1 else ""
    )
    return "moved", strength, text, worst, ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _ModelCheck:
    """A check `model-KIND` that reports the disputes of a kind.

    Attributes:
        kind: the kind.
        severity: severity of the finding.
        why: why it matters.
        how: how to fix it.
        one: title for one dispute, without the number.
        many: title for several.
    """

    kind: DisputeKind
    severity: Severity
    why: str
    how: str
    one: str
    many: str


_MODEL_CHECKS = (
    _ModelCheck(
        kind="missed",
        severity="warning",
        why="An instance without a label is trained as background and counts against the model in validation.",
        how="Label the instances that exist; the others show what the model confuses.",
        one="confident detection without a label",
        many="confident detections without a label",
    ),
    _ModelCheck(
        kind="doubled",
        severity="warning",
        why="Two labels for one instance teach the network to detect it twice.",
        how="Remove one of the labels.",
        one="label of an instance that another label describes",
        many="labels of instances that other labels describe",
    ),
    _ModelCheck(
        kind="swapped",
        severity="warning",
        why="Instances with exchanged sides teach the network that left is right.",
        how="Look at them and exchange left and right where the model is right.",
        one="instance has left and right exchanged, in the view of the model",
        many="instances have left and right exchanged, in the view of the model",
    ),
    _ModelCheck(
        kind="moved",
        severity="notice",
        why="Keypoints far from a confident prediction are often labeled at a wrong place.",
        how="Look at the first ones of the list, and move those that are wrong.",
        one="instance has keypoints far from the prediction",
        many="instances have keypoints far from the prediction",
    ),
    _ModelCheck(
        kind="class",
        severity="notice",
        why="An instance that the model takes for another class may be labeled with the wrong class.",
        how="Correct the class where the model is right.",
        one="instance has another class in the view of the model",
        many="instances have another class in the view of the model",
    ),
    _ModelCheck(
        kind="unsupported",
        severity="notice",
        why="A label that the model does not see at all is a hard example, or is not there.",
        how="Look at the first ones of the list.",
        one="label without any detection",
        many="labels without any detection",
    ),
)


def _evidence(row: _ModelCheck, survey: Survey) -> Iterator[Evidence]:
    disputes: list[Dispute] = survey.memo.get("disputes", [])
    chosen = [dispute for dispute in disputes if dispute.kind == row.kind]
    if not chosen:
        return
    examples: list[Example] = []
    for dispute in chosen:
        split = survey.split(dispute.split)
        if split is None:
            continue
        if dispute.instance is None:
            file = split.files[dispute.image]
            example = Example(
                text=dispute.text, split=split.name, image=dispute.image, file=file, score=dispute.score
            )  # fmt: skip
        else:
            example = instance_example(split, dispute.instance, dispute.text, dispute.keypoint, dispute.score)
        examples.append(example)
    yield Evidence(count=len(chosen), title=plural(len(chosen), row.one, row.many), examples=examples)


for _row in _MODEL_CHECKS:
    check(f"model-{_row.kind}", _row.severity, why=_row.why, how=_row.how)(partial(_evidence, _row))
