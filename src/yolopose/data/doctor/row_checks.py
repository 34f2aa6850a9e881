"""Checks of label rows and boxes: refused rows by cause, repeated instances, box sizes, class balance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data.doctor.findings import Edit, Evidence, Example, check, listing, plural
from yolopose.data.doctor.survey import BadRow, SplitSurvey, Survey
from yolopose.data.paths import label_path
from yolopose.geometry import box_iou, cxcywh_to_xyxy
from yolopose.schema import PoseSpec

FloatArray = npt.NDArray[np.float32]

_REFUSED = "The loader refuses the whole label file and training skips its image, with all other instances."
_MAX_OUTSIDE = 0.5  # how far beyond the image a coordinate may be to be clipped by the fixed copy
_PIXEL_FROM = 1.5  # values above are pixels, not relative coordinates
_SAME_IOU = 0.9
_SAME_DISTANCE = 0.02  # mean distance of the keypoints of one instance that is labeled twice, as a share of its box
_TINY = 8.0  # pixels of the network input: the finest stride
_MAX_TINY_SHARE = 0.1
_MAX_IMBALANCE = 50
_MAX_INSTANCES = 300  # default of max_det


@check(
    "row-length",
    "error",
    why=_REFUSED,
    how="Each row is `class cx cy w h` and, for each keypoint of `kpt_shape: [K, D]`, D values.",
)
def row_length(survey: Survey) -> Iterator[Evidence]:
    """Report rows with a wrong number of values: box only, K×2 among K×3 or the reverse, ragged."""
    count, dims = survey.spec.keypoints.shape
    other_dims = 5 - dims
    kinds: dict[str, tuple[Callable[[BadRow], bool], str]] = {
        "box only": (
            lambda row: row.values == 5,
            "They are detection labels. Label their keypoints, or convert the data set with its keypoint export.",
        ),
        "other": (
            lambda row: row.values == 5 + count * other_dims,
            f"They have {other_dims} values per keypoint instead of {dims}. If all rows are like this, set "
            f"`kpt_shape: [{count}, {other_dims}]`; otherwise convert these rows.",
        ),
        "ragged": (lambda row: row.values not in (5, 5 + count * other_dims), ""),
    }
    for split in survey.distinct_splits:
        bad = [row for row in split.bad_rows if row.kind == "wrong number of values"]
        titles = {
            "box only": "without keypoints (5 values)",
            "other": f"of K×{other_dims} in a K×{dims} data set",
            "ragged": "of another length than kpt_shape needs",
        }
        for kind, (matches, how) in kinds.items():
            rows = [row for row in bad if matches(row)]
            if rows:
                yield Evidence(
                    count=len(rows),
                    title=f"{plural(len(rows), 'row')} {titles[kind]} in {split.name}",
                    examples=[_bad_example(split, row) for row in rows],
                    edits=list(_length_edits(split, rows, survey.spec, kind)),
                    how=how or None,
                )


def _bad_example(split: SplitSurvey, row: BadRow) -> Example:
    file = label_path(split.files[row.image])
    return Example(text=row.reason, split=split.name, image=row.image, file=file, row=row.line)


def _length_edits(split: SplitSurvey, rows: Sequence[BadRow], spec: PoseSpec, kind: str) -> Iterator[Edit]:
    count, dims = spec.keypoints.shape
    for row in rows:
        edit = partial(Edit, split=split.name, image=row.image, row=row.line)
        values = _row_values(split, row)
        if kind == "ragged" or values is None:
            yield edit(drop=True, reason="row of a wrong length dropped")
            continue
        points: npt.NDArray[Any] = np.zeros((count, 2))
        if len(values) > 5:
            points = np.array(values[5:]).reshape(count, -1)
        if dims == 3:
            is_labeled = np.asarray((points > 0).any(axis=1) & (points >= 0).all(axis=1) & (kind == "other"))
            table = np.where(is_labeled[:, None], np.column_stack((points, np.full(count, 2.0))), 0.0)
        elif kind == "other":
            table = np.where(points[:, 2:] > 0, points[:, :2], -1.0)
        else:
            table = np.full((count, 2), -1.0)
        yield edit(replacement=(*values[:5], *table.reshape(-1).tolist()), reason="row converted to kpt_shape")


def _row_values(split: SplitSurvey, row: BadRow) -> list[float] | None:
    """Return the values of a row, or None if one is not a number."""
    try:
        lines = label_path(split.files[row.image]).read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        values = [float(value) for value in lines[(row.line or 1) - 1].split()]
    except (OSError, ValueError, IndexError):
        return None
    return values if np.isfinite(values).all() else None


@check(
    "row-value",
    "error",
    why=_REFUSED,
    how="Correct the values, or remove the rows.",
)
def row_value(survey: Survey) -> Iterator[Evidence]:
    """Report rows with values that the loader refuses, by kind."""
    for split in survey.distinct_splits:
        by_kind: dict[str, list[BadRow]] = defaultdict(list)
        for row in split.bad_rows:
            if row.kind != "wrong number of values":
                by_kind[row.kind].append(row)
        for kind, rows in by_kind.items():
            yield _value_evidence(survey, split, kind, rows)


def _value_evidence(survey: Survey, split: SplitSurvey, kind: str, rows: Sequence[BadRow]) -> Evidence:
    title = f"{plural(len(rows), 'row')} refused in {split.name}: {kind}"
    how = None
    edits: list[Edit] = []
    if kind in ("not UTF-8", "unreadable"):
        title = f"{plural(len(rows), 'label file')} of {split.name} refused: {kind}"
        how = "Save the file as UTF-8 text, or correct its permissions. The fixed copy does not contain these images."
        edits = [
            Edit(split=split.name, image=image, row=None, drop=True, reason=f"its label file is {kind}")
            for image in dict.fromkeys(row.image for row in rows)
        ]
    elif kind in ("negative value", "above 1"):
        edits = [_clipped(split, row, survey.spec) for row in rows]
        pixels = sum("pixels" in edit.reason for edit in edits)
        if pixels:
            title += f" ({pixels} in pixels)"
            how = "Divide x and w by the width of the image, y and h by its height."
    else:
        edits = [
            Edit(split=split.name, image=row.image, row=row.line, drop=True, reason=f"row dropped: {kind}")
            for row in rows
        ]
    if kind == "wrong class":
        how = f"Classes are 0…{survey.spec.nc - 1}: correct the rows, or add the class to `names:`."
    return Evidence(
        count=len(rows), title=title, examples=[_bad_example(split, row) for row in rows], edits=edits, how=how
    )


def _clipped(split: SplitSurvey, row: BadRow, spec: PoseSpec) -> Edit:
    """Return the edit for a row outside the image: from pixels, clipped, or dropped."""
    edit = partial(Edit, split=split.name, image=row.image, row=row.line)
    values = _row_values(split, row)
    count, dims = spec.keypoints.shape
    if values is None or len(values) != 5 + count * dims:
        return edit(drop=True, reason="row dropped: outside the image")
    height, width = split.sizes[row.image].tolist()
    box = np.array(values[1:5])
    points: npt.NDArray[Any] = np.array(values[5:]).reshape(count, dims)
    is_labeled = np.asarray(points[:, 2] > 0 if dims == 3 else (points >= 0).all(axis=1))
    reason = "clipped to the image"
    if width and (box > _PIXEL_FROM).all() and (box <= np.array([width, height] * 2) * 1.05).all():
        box = box / [width, height, width, height]
        points[:, :2] = np.where(is_labeled[:, None], points[:, :2] / [width, height], points[:, :2])
        reason = "converted from pixels"
    if (box[2:] < 0).any():
        return edit(drop=True, reason="row dropped: negative box size")
    outside = np.maximum(-points[:, :2], points[:, :2] - 1).max(axis=1)
    low, high = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
    if (low > 1).any() or (high < 0).any() or np.maximum(-box[:2], box[:2] - 1).max() > _MAX_OUTSIDE:
        return edit(drop=True, reason="row dropped: outside the image")
    low, high = np.clip(low, 0, 1), np.clip(high, 0, 1)
    lost = is_labeled & (outside > 0.01)
    unlabeled = np.array([0.0, 0.0, 0.0] if dims == 3 else [-1.0, -1.0])
    points = np.where((lost | ~is_labeled)[:, None], unlabeled, points)
    points[:, :2] = np.where((is_labeled & ~lost)[:, None], np.clip(points[:, :2], 0, 1), points[:, :2])
    new = (values[0], *((low + high) / 2).tolist(), *(high - low).tolist(), *points.reshape(-1).tolist())
    return edit(replacement=tuple(new), reason=reason)


@check(
    "row-repeated",
    "warning",
    why="The loader drops equal rows; other tools train on them twice.",
    how="Remove the repetitions.",
)
def row_repeated(survey: Survey) -> Iterator[Evidence]:
    """Report rows that equal an earlier row of their file."""
    for split in survey.distinct_splits:
        rows = split.repeated_rows
        if rows:
            yield Evidence(
                count=len(rows),
                title=f"{plural(len(rows), 'row')} of {split.name} equal to an earlier row of the file",
                examples=[
                    Example(
                        text="equals an earlier row",
                        split=split.name,
                        image=image,
                        file=label_path(split.files[image]),
                        row=line,
                    )
                    for image, line in rows
                ],
                edits=[
                    Edit(split=split.name, image=image, row=line, drop=True, reason="repeated row dropped")
                    for image, line in rows
                ],
            )


@check(
    "instance-twice",
    "warning",
    why="An instance that is labeled twice teaches the network to detect it twice.",
    how="Remove one of the two rows.",
)
def instance_twice(survey: Survey) -> Iterator[Evidence]:
    """Report two instances of an image with nearly the same box and keypoints."""
    for split in survey.distinct_splits:
        pairs = list(_same_instances(split))
        if pairs:
            yield Evidence(
                count=len(pairs),
                title=f"{plural(len(pairs), 'instance')} of {split.name} labeled twice",
                examples=[
                    instance_example(split, second, f"box and keypoints nearly equal those of row {split.lines[first]}")
                    for first, second in pairs
                ],
                edits=[
                    instance_edit(split, second, drop=True, reason="instance labeled twice: dropped")
                    for _, second in pairs
                ],
            )


def _same_instances(split: SplitSurvey) -> Iterator[tuple[int, int]]:
    counts = np.diff(split.offsets)
    for image in np.flatnonzero(counts > 1).tolist():
        start, end = int(split.offsets[image]), int(split.offsets[image + 1])
        boxes = split.boxes[start:end]
        iou = np.triu(box_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(boxes)), 1)
        for a, b in np.argwhere(iou > _SAME_IOU).tolist():
            first, second = split.keypoints[start + a], split.keypoints[start + b]
            both = (first[:, 2] > 0) & (second[:, 2] > 0)
            same_labels = ((first[:, 2] > 0) == (second[:, 2] > 0)).mean() > 0.8
            size = np.maximum(boxes[a, 2:], 1e-6)
            distance = np.linalg.norm((first[both, :2] - second[both, :2]) / size, axis=1)
            is_same = split.classes[start + a] == split.classes[start + b] and same_labels
            if is_same and (not both.any() or distance.mean() < _SAME_DISTANCE):
                yield start + a, start + b


def instance_example(
    split: SplitSurvey, instance: int, text: str, keypoint: int | None = None, score: float = 0.0
) -> Example:
    """Return an example at an instance of a split."""
    image = int(np.searchsorted(split.offsets, instance, side="right")) - 1
    return Example(
        text=text,
        split=split.name,
        image=image,
        file=label_path(split.files[image]),
        row=int(split.lines[instance]) or None,
        instance=instance,
        keypoint=keypoint,
        score=score,
    )


def instance_edit(
    split: SplitSurvey, instance: int, *, reason: str, columns: dict[int, float] | None = None, drop: bool = False
) -> Edit:
    """Return an edit of the row of an instance."""
    image = int(np.searchsorted(split.offsets, instance, side="right")) - 1
    row = int(split.lines[instance])
    return Edit(split=split.name, image=image, row=row, columns=columns or {}, drop=drop, reason=reason)


@check(
    "box-empty",
    "error",
    why="A box without width or height counts as an instance that no detection can match.",
    how="Draw the box again, or remove the row. The fixed copy takes the box around the keypoints.",
)
def box_empty(survey: Survey) -> Iterator[Evidence]:
    """Report boxes without area."""
    for split in survey.distinct_splits:
        rows = np.flatnonzero((split.boxes[:, 2:] <= 0).any(axis=1)).tolist()
        if rows:
            yield Evidence(
                count=len(rows),
                title=f"{plural(len(rows), 'box', 'boxes')} of {split.name} without width or height",
                examples=[
                    instance_example(split, row, f"w {split.boxes[row, 2]:g}, h {split.boxes[row, 3]:g}")
                    for row in rows
                ],
                edits=[_box_from_points(split, row) for row in rows],
            )


def _box_from_points(split: SplitSurvey, row: int) -> Edit:
    points = split.keypoints[row]
    points = points[points[:, 2] > 0, :2].astype(float)
    if len(points) < 2 or (np.ptp(points, axis=0) <= 0).any():
        return instance_edit(split, row, drop=True, reason="empty box without keypoints dropped")
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.1 * (high - low)
    low, high = np.clip(low - margin, 0, 1), np.clip(high + margin, 0, 1)
    values = (*((low + high) / 2).tolist(), *(high - low).tolist())
    return instance_edit(split, row, columns=dict(enumerate(values, 1)), reason="box taken from the keypoints")


@check(
    "box-tiny",
    "notice",
    why="Boxes smaller than the finest stride of the network (8 pixels) are mostly missed.",
    how="Train with a larger imgsz, or cut the images into tiles.",
)
def box_tiny(survey: Survey) -> Iterator[Evidence]:
    """Report a share of boxes that is tiny at the input size."""
    for split in survey.distinct_splits:
        sides = box_sides(split) * survey.imgsz
        tiny = np.flatnonzero((sides > 0) & (sides < _TINY))
        if len(tiny) > _MAX_TINY_SHARE * max(len(sides), 1):
            yield Evidence(
                count=len(tiny),
                title=f"{len(tiny) / len(sides):.0%} of the boxes of {split.name} are smaller than {_TINY:g} pixels at "
                f"imgsz={survey.imgsz}",
                examples=[instance_example(split, int(row), f"{sides[row]:.1f} pixels") for row in tiny[:200]],
            )


def box_sides(split: SplitSurvey) -> npt.NDArray[np.float64]:
    """Return the root of each box's area as a share of the longer side of its image."""
    sizes = split.sizes[split.image_index].astype(np.float64)
    pixels = split.boxes[:, 2:].astype(np.float64) * sizes[:, ::-1]
    return np.sqrt(np.maximum(pixels.prod(axis=1), 0)) / np.maximum(sizes.max(axis=1), 1)


@check(
    "image-crowded",
    "notice",
    why="Prediction and validation return at most 300 detections per image by default, so that instances are lost.",
    how="Set max_det above the largest number of instances.",
)
def image_crowded(survey: Survey) -> Iterator[Evidence]:
    """Report images with more instances than `max_det`."""
    for split in survey.distinct_splits:
        counts = np.diff(split.offsets)
        images = np.flatnonzero(counts > _MAX_INSTANCES).tolist()
        if images:
            yield Evidence(
                count=len(images),
                title=f"{plural(len(images), 'image')} of {split.name} with up to {counts.max()} instances",
                examples=[
                    Example(
                        text=f"{counts[image]} instances",
                        split=split.name,
                        image=image,
                        file=split.files[image],
                        score=float(counts[image]),
                    )
                    for image in images
                ],
            )


@check(
    "class-balance",
    "notice",
    why="A class without training instances is never detected, and rare classes are detected badly.",
    how="Label more instances of these classes, merge classes, or raise cls_pw.",
    quick=True,
    needs_all=True,
)
def class_balance(survey: Survey) -> Iterator[Evidence]:
    """Report classes that are absent from train or val, and a strong imbalance."""
    train = survey.split("train")
    names = survey.spec.classes
    if train is None or not len(train.classes):
        return
    counts = np.bincount(train.classes, minlength=survey.spec.nc)
    absent = [names[index] for index in np.flatnonzero(counts == 0).tolist()]
    if absent:
        yield Evidence(
            count=len(absent),
            title=f"no training instance of {listing(absent)}",
            severity="warning",
            how="Label instances of these classes, or remove them from `names:`.",
        )
    val = survey.split("val")
    if val is not None and len(val.classes):
        only_train = [
            names[index]
            for index in np.flatnonzero((counts > 0) & (np.bincount(val.classes, minlength=len(names)) == 0)).tolist()
        ]
        if only_train:
            yield Evidence(
                count=len(only_train),
                title=f"no validation instance of {listing(only_train)}",
                severity="warning",
                how="Move some of their images to the validation split; mAP does not include these classes.",
            )
    present = counts[counts > 0]
    if len(present) > 1 and present.max() > _MAX_IMBALANCE * present.min():
        yield Evidence(
            count=int((present * _MAX_IMBALANCE < present.max()).sum()),
            title=f"{names[int(counts.argmax())]} has {present.max() / present.min():.0f} times as many training "
            f"instances as {names[int(np.where(counts > 0, counts, counts.max()).argmin())]}",
            values={"instances": {name: int(count) for name, count in zip(names, counts, strict=True)}},
        )
