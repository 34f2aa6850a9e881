"""Rows of label files: which column holds which keypoint of which class, and instances to rows and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from yolopose.base.errors import DataError, UsageError
from yolopose.data.convert.instances import (
    clip_box,
    default_names,
    ensure_box,
    flip_from_mirror,
    mirror_from_flip,
    parse_visibility,
)
from yolopose.data.convert.record import Box, ClassTemplate, ImageRecord, Instance, IssueLog, Point, PointState
from yolopose.data.label_file import TOLERANCE
from yolopose.schema import COCO_PERSON_NAMES, COCO_PERSON_SIGMAS, KeypointSchema, PoseSpec


@dataclass(frozen=True, slots=True)
class RowLayout:
    """Meaning of the columns of label rows.

    All classes of a pose network share K keypoint slots and one `flip_idx`. Classes whose keypoints correspond one by
    one share slots by position. Otherwise the slots are all names of all classes, and a class uses those of its own.

    Attributes:
        spec: classes and keypoints, as in the data YAML.
        slots: for each class name the K keypoint names by slot; "" where the class does not have the keypoint.
    """

    spec: PoseSpec
    slots: Mapping[str, tuple[str, ...]]

    @property
    def own_names(self) -> dict[int, list[str]] | None:
        """Keypoint names of each class index, for the data YAML, if a class does not use all slots."""
        if all(all(names) for names in self.slots.values()):
            return None
        return {index: [name for name in self.slots[cls] if name] for index, cls in enumerate(self.spec.classes)}


def make_layout(classes: Sequence[ClassTemplate], dims: int) -> RowLayout:
    """Return the layout of classes; those without keypoints are not part of it.

    Args:
        classes: all classes.
        dims: 2 or 3 values for each keypoint.

    Raises:
        DataError: no class has keypoints.
        UsageError: `dims` is neither 2 nor 3.
    """
    templates = [template for template in classes if template.keypoints]
    if not templates:
        raise DataError(
            "No class of the source has keypoints, so no pose data set can be written. Is it a set of boxes only?"
        )
    flips = [flip_from_mirror(template.keypoints, template) for template in templates]
    same_count = len({len(template.keypoints) for template in templates}) == 1
    if same_count and len(set(flips)) == 1:
        slots = {template.name: template.keypoints for template in templates}
        flip_idx = flips[0]
        names = [template.keypoints for template in templates]
    else:
        union = tuple(dict.fromkeys(name for template in templates for name in template.keypoints))
        slots = {
            template.name: tuple(name if name in template.keypoints else "" for name in union) for template in templates
        }
        flip_idx = _union_flip(union, templates)
        names = [union] * len(templates)
    keypoints = KeypointSchema(
        count=len(names[0]),
        dims=dims,
        names={} if all(row == default_names(len(row)) for row in names) else dict(enumerate(names)),
        flip_idx=flip_idx,
        skeleton=_edges(names, templates),
        sigmas=_sigmas(names[0], templates),
    )
    return RowLayout(PoseSpec(classes=tuple(template.name for template in templates), keypoints=keypoints), slots)


def layout_from_spec(spec: PoseSpec, own_names: Mapping[str, Sequence[str]] | None = None) -> RowLayout:
    """Return the layout of a data YAML.

    Args:
        spec: classes and keypoints.
        own_names: keypoint names by class index, where a class does not use all slots; those of `spec` if None.
    """
    if own_names is None:
        own_names = {str(index): names for index, names in spec.keypoints.class_keypoints.items()}
    slots: dict[str, tuple[str, ...]] = {}
    for index, cls in enumerate(spec.classes):
        names = spec.keypoints.keypoint_names(index)
        own = own_names.get(str(index))
        slots[cls] = tuple(name if own is None or name in own else "" for name in names)
    return RowLayout(spec, slots)


def layout_classes(layout: RowLayout) -> tuple[ClassTemplate, ...]:
    """Return the classes of a layout, each with its own keypoints."""
    keypoints = layout.spec.keypoints
    classes: list[ClassTemplate] = []
    for index, cls in enumerate(layout.spec.classes):
        slots = layout.slots[cls]
        names = keypoints.keypoint_names(index)
        flip = keypoints.flip_idx
        classes.append(
            ClassTemplate(
                name=cls,
                keypoints=tuple(name for name in slots if name),
                skeleton=tuple((slots[a], slots[b]) for a, b in keypoints.skeleton if slots[a] and slots[b]),
                mirror=None
                if flip is None
                else tuple(pair for pair in mirror_from_flip(names, flip) if set(pair) <= set(slots)),
                sigmas=_class_sigmas(keypoints, index, slots),
            )
        )
    return tuple(classes)


def label_row(instance: Instance, image: ImageRecord, layout: RowLayout, issues: IssueLog) -> str | None:
    """Return the row of an instance, 8 decimals; None where our own loader would refuse it, which is logged.

    Args:
        instance: its class is part of the layout.
        image: its image, of known size.
        layout: meaning of the columns.
        issues: log of boxes that are computed or cut and of keypoints outside of the image.
    """
    size = image.size
    box = ensure_box(instance, image, issues)
    if size is None:
        issues.skip("instances of images of unknown size", image.name, "Give the folder of the images with images=…")
        return None
    if box is None:
        issues.skip("instances without area and labeled keypoints", instance.source or image.name)
        return None
    width, height = size
    values = _normalized_box(box, size)
    if any(value < -TOLERANCE or value > 1 + TOLERANCE for value in values):
        clipped = clip_box(box, size)
        if clipped is None:
            issues.skip("instances outside of the image", instance.source or image.name)
            return None
        issues.change("boxes were cut at the border of the image", instance.source or image.name)
        values = _normalized_box(clipped, size)
    fields = [str(layout.spec.classes.index(instance.category)), *(f"{value:.8f}" for value in values)]
    has_visibility = layout.spec.keypoints.dims == 3
    absent = ["0", "0", "0"] if has_visibility else ["-1", "-1"]
    for name in layout.slots[instance.category]:
        point = instance.points.get(name) if name else None
        if point is None or not point.state:
            fields += absent
            continue
        x = point.x / width
        y = point.y / height
        if min(x, y) < -TOLERANCE or max(x, y) > 1 + TOLERANCE:
            issues.change(
                "keypoints outside of the image were written as absent", f"{instance.source or image.name}: {name}"
            )
            fields += absent
            continue
        if not has_visibility:  # a negative coordinate would mark the keypoint as absent
            x = max(x, 0.0)
            y = max(y, 0.0)
        fields += [f"{x:.8f}", f"{y:.8f}", *([str(int(point.state))] if has_visibility else [])]
    return " ".join(fields)


def parse_row(
    fields: Sequence[str], image: ImageRecord, layout: RowLayout, scores: bool, where: str, issues: IssueLog
) -> Instance:
    """Return the instance of a label row that `read_label_file` accepts.

    Args:
        fields: the values as text.
        image: its image, of known size.
        layout: meaning of the columns.
        scores: whether v is a confidence, as in labels that a model wrote.
        where: place in the source.
        issues: log of unusual visibility flags.
    """
    width, height = image.size or (0, 0)
    cx, cy, w, h = (float(field) for field in fields[1:5])
    category = layout.spec.classes[int(float(fields[0]))]
    dims = layout.spec.keypoints.dims
    points: dict[str, Point] = {}
    for slot, name in enumerate(layout.slots[category]):
        x, y, *rest = (float(field) for field in fields[5 + dims * slot : 5 + dims * (slot + 1)])
        if not name:
            continue
        confidence = None
        if not rest:
            state = PointState.ABSENT if min(x, y) < 0 else PointState.VISIBLE
        elif scores and 0 < rest[0] <= 1:
            state = PointState.VISIBLE
            confidence = rest[0]
        else:
            state, confidence = parse_visibility(rest[0], issues, where)
        points[name] = Point(x * width, y * height, state, confidence) if rest or state else Point(0.0, 0.0, state)
    box = Box.from_center(cx * width, cy * height, w * width, h * height)
    return Instance(category=category, box=box, points=points, source=where)


def has_scores(rows: Sequence[Sequence[str]], dims: int) -> bool:
    """Return whether the v of label rows are confidences: one of them is a fraction between 0 and 1."""
    return dims == 3 and any(0 < float(value) < 1 for fields in rows for value in fields[7::3])


def _normalized_box(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    width, height = size
    return (
        (box.x + box.width / 2) / width,
        (box.y + box.height / 2) / height,
        box.width / width,
        box.height / height,
    )


def _union_flip(union: Sequence[str], templates: Sequence[ClassTemplate]) -> tuple[int, ...] | None:
    """Return the permutation of all names; None if the mirror pairs of a class are not known, or contradict another."""
    index = {name: position for position, name in enumerate(union)}
    partners: dict[str, str] = {}
    for template in templates:
        own = flip_from_mirror(template.keypoints, template)
        if own is None:
            return None
        for name, partner in zip(template.keypoints, own, strict=True):
            if partners.setdefault(name, template.keypoints[partner]) != template.keypoints[partner]:
                return None
    flip_idx = tuple(index[partners[name]] for name in union)
    return flip_idx if sorted(flip_idx) == list(range(len(union))) else None


def _edges(names: Sequence[Sequence[str]], templates: Sequence[ClassTemplate]) -> tuple[tuple[int, int], ...]:
    edges = (
        (row.index(a), row.index(b))
        for row, template in zip(names, templates, strict=True)
        for a, b in template.skeleton
    )
    return tuple(dict.fromkeys(edges))


def _sigmas(names: Sequence[str], templates: Sequence[ClassTemplate]) -> tuple[float, ...] | None:
    """Return σ by slot; those of a COCO person for its names; None where one is missing."""
    known: dict[str, float] = {}
    for template in templates:
        for name, sigma in template.sigmas.items():
            known.setdefault(name, sigma)
    if not known and tuple(names) == COCO_PERSON_NAMES:
        return COCO_PERSON_SIGMAS
    return tuple(known[name] for name in names) if all(name in known for name in names) else None


def _class_sigmas(keypoints: KeypointSchema, index: int, slots: Sequence[str]) -> dict[str, float]:
    """Return the given σ of a class by name; empty without."""
    if index in keypoints.class_sigmas:
        return dict(zip([name for name in slots if name], keypoints.class_sigmas[index], strict=True))
    if keypoints.sigmas is None:
        return {}
    return {name: sigma for name, sigma in zip(slots, keypoints.sigmas, strict=True) if name}


def check_dims(dims: int) -> None:
    """Check the number of values for each keypoint.

    Raises:
        UsageError: it is neither 2 nor 3.
    """
    if dims not in (2, 3):
        raise UsageError(f"kpt_dims must be 2 (x y) or 3 (x y visibility), got {dims!r}.")
