"""CVAT XML 1.1 with skeletons (docs.cvat.ai/docs/other/xml_format): image tasks, projects and video tracks.

A skeleton is an instance; its elements are keypoints: `outside` is absent, `occluded` is hidden. CVAT has no box for a
skeleton, so a rectangle with the label `CLASS_box` in the same group is the box of the skeleton.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from yolopose.base.errors import DataError
from yolopose.data.convert.class_file import ClassFile, read_class_file
from yolopose.data.convert.cvat_xml import BOX_SUFFIX, FIELDS, WRITER, write
from yolopose.data.convert.frames import VideoFrames, find_video
from yolopose.data.convert.instances import default_names, is_finite
from yolopose.data.convert.json_stream import peek
from yolopose.data.convert.locate import ImageLocator, complete_size
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions
from yolopose.data.convert.record import (
    Box,
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    IssueLog,
    Point,
    PointState,
)
from yolopose.data.convert.source_files import collect_classes
from yolopose.data.convert.xml_stream import iter_elements
from yolopose.data.paths import relative_name

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element  # only its type; nothing is parsed by it

_ROOT = "annotations"
_NODE = re.compile(r"<circle[^>]*>")
_EDGE = re.compile(r"<line[^>]*>")
_ATTRIBUTE = re.compile(r"([\w-]+)=\"([^\"]*)\"")
_OTHER_SHAPES = ("polygon", "polyline", "mask", "ellipse", "cuboid", "tag")
_FRAME_SUFFIXES = (".png", ".PNG", ".jpg", ".jpeg", ".JPG")


@dataclass(slots=True)
class _Labels:
    """The labels of a task.

    Attributes:
        classes: skeleton classes, and others that are not boxes of these.
        attribute_types: `input_type` of each attribute by name.
        size: (width, height) of the frames of a video, if stated.
        has_named_points: whether single points occur, whose labels are keypoint names.
        source: name of the video of a task.
        own: whether our writer wrote the file, so that the text of attributes is JSON.
    """

    classes: dict[str, ClassTemplate] = field(default_factory=dict[str, ClassTemplate])
    attribute_types: dict[str, str] = field(default_factory=dict[str, str])
    size: tuple[int, int] | None = None
    has_named_points: bool = False
    source: str = ""
    own: bool = False

    def category(self, label: str) -> str:
        """Return the class of a shape: `person_box` is a `person` if that is a skeleton."""
        base = label.removesuffix(BOX_SUFFIX)
        return base if base in self.classes and self.classes[base].keypoints else label


def detect(path: Path) -> bool:
    """Return whether a path is a CVAT XML file, or a folder with its `annotations.xml`."""
    if path.is_dir():
        path = path / "annotations.xml"
    head = peek(path, 1 << 12) if path.suffix.lower() == ".xml" else ""
    return all(re.search(pattern, head) for pattern in (r"<annotations[\s>]", r"<(version|meta|image)[\s>]"))


def read(path: Path, options: ReadOptions) -> DatasetRecord:
    """Read a CVAT XML file, or the folder of an export.

    Raises:
        DataError: the file is not XML or declares a document type.
    """
    file = path / "annotations.xml" if path.is_dir() else path
    issues = IssueLog()
    labels, has_tracks, names = _scan(file, issues)
    stored = read_class_file(file.parent)
    by_name = {template.name: template for template in stored.classes}
    for name, template in labels.classes.items():
        known = by_name.get(name)
        if known is not None and set(known.keypoints) == set(template.keypoints):
            labels.classes[name] = known
    locator = ImageLocator.beside(path, options.images, names)
    video = _open_video(file, options, labels) if has_tracks else None

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for element in iter_elements(file, _ROOT):
            if element.tag == "image":
                image = _image(element, file, options, labels, log)
                if image is not None:
                    yield from _finished(image, locator, stored, log)
        if has_tracks:
            for image in _frames(file, options, labels, log):
                image.name = _frame_name(image.name, locator)
                yield from _finished(image, locator, stored, log, video)

    classes = tuple(labels.classes.values())
    if labels.has_named_points:
        classes = collect_classes(read_images(IssueLog()), classes)
    return DatasetRecord(
        classes=classes,
        read_images=read_images,
        format="cvat",
        attributes=dict(stored.attributes),
        issues=issues,
    )


def _finished(
    image: ImageRecord, locator: ImageLocator, stored: ClassFile, log: IssueLog, video: VideoFrames | None = None
) -> Iterator[ImageRecord]:
    stored.restore(image, f"{image.split}/{image.name}")
    image.path = locator.find(image.name, log if video is None else IssueLog(), image.split)
    if image.path is None and video is not None:
        image.encoded = video.reader(int(image.attributes["frame"]))
        image.width, image.height = video.size
    complete_size(image, log)
    yield image


def _open_video(file: Path, options: ReadOptions, labels: _Labels) -> VideoFrames | None:
    """Return the video of a task if it is beside the annotations or in `images`."""
    stem = PurePosixPath(labels.source.replace("\\", "/")).stem
    folders = [options.images] if options.images else [file.parent, file.parent / "images", file.parent.parent]
    path = find_video(stem, folders) if stem else None
    return VideoFrames(path) if path else None


def _scan(file: Path, issues: IssueLog) -> tuple[_Labels, bool, list[str]]:
    """Return the labels, whether there are video tracks, and the names of the images."""
    labels = _Labels()
    has_tracks = False
    names: list[str] = []
    shape_labels: dict[str, int] = {}
    for element in iter_elements(file, _ROOT):
        if element.tag == "meta":
            _read_meta(element, labels, issues)
        elif element.tag == "image":
            names.append(element.get("name", ""))
        has_tracks = has_tracks or element.tag == "track"
        if element.tag in ("image", "track"):
            for shape in [element, *element]:
                _note_shape(shape, labels, shape_labels)
    for label in [*labels.classes]:
        # a label that is only the box of a skeleton is not a class
        if labels.category(label) != label:
            del labels.classes[label]
    for label, count in shape_labels.items():
        if labels.category(label) == label:
            template = labels.classes.setdefault(label, ClassTemplate(name=label))
            if not template.keypoints:
                labels.classes[label] = replace(template, keypoints=default_names(count))
    # labels without a shape, such as the sublabels of other tools, are kept as classes only if they are skeletons
    used = {labels.category(label) for label in shape_labels}
    labels.classes = {name: template for name, template in labels.classes.items() if template.keypoints or name in used}
    return labels, has_tracks, names


def _note_shape(shape: Element, labels: _Labels, shape_labels: dict[str, int]) -> None:
    """Collect the labels of shapes, and the keypoints of skeletons that the labels of the task do not declare."""
    labels.has_named_points |= shape.tag == "points" and ";" not in shape.get("points", "")
    label = shape.get("label")
    if label is None:
        return
    if shape.tag == "skeleton":
        names = [str(point.get("label")) for point in shape.findall("points")]
        template = labels.classes.setdefault(label, ClassTemplate(name=label))
        added = [name for name in dict.fromkeys(names) if name not in template.keypoints]
        if added:
            labels.classes[label] = replace(template, keypoints=(*template.keypoints, *added))
        shape_labels.setdefault(label, 0)
    elif shape.tag == "box":
        shape_labels.setdefault(label, 0)
    elif shape.tag == "points" and shape.get("group_id") in (None, "0"):
        count = len(shape.get("points", "").split(";"))
        if count > 1:
            shape_labels[label] = max(shape_labels.get(label, 0), count)


def _read_meta(meta: Element, labels: _Labels, issues: IssueLog) -> None:
    labels.own = meta.findtext("writer", "") == WRITER
    parents: dict[str, list[str]] = defaultdict(list)
    svgs: dict[str, str] = {}
    colors: dict[str, str] = {}
    for label in meta.iter("label"):
        name = label.findtext("name", "").strip()
        parent = label.findtext("parent", "").strip()
        kind = label.findtext("type", "any").strip()
        for attribute in label.iter("attribute"):
            labels.attribute_types[attribute.findtext("name", "")] = attribute.findtext("input_type", "text")
        if parent:
            parents[parent].append(name)
        else:
            svgs[name] = label.findtext("svg", "") if kind == "skeleton" else ""
            colors[name] = label.findtext("color", "").strip()
    for name, svg in svgs.items():
        keypoints = tuple(dict.fromkeys(parents.get(name, ())))
        attributes = {"color": colors[name]} if colors[name] else {}
        skeleton = _edges(svg, keypoints)
        labels.classes[name] = ClassTemplate(name=name, keypoints=keypoints, skeleton=skeleton, attributes=attributes)
    labels.source = meta.findtext(".//source", "").strip()
    width = meta.findtext(".//original_size/width", "")
    height = meta.findtext(".//original_size/height", "")
    if width.isdecimal() and height.isdecimal():
        labels.size = int(width), int(height)


def _edges(svg: str, keypoints: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the edges of a skeleton; nodes name their keypoint, or are in the order of the keypoints."""
    nodes: dict[str, str] = {}
    for index, node in enumerate(_NODE.findall(svg)):
        values = dict(_ATTRIBUTE.findall(node))
        name = values.get("data-label-name", "")
        if name not in keypoints:
            name = keypoints[index] if index < len(keypoints) else ""
        nodes[values.get("data-node-id", values.get("data-element-id", str(index + 1)))] = name
    edges: list[tuple[str, str]] = []
    for line in _EDGE.findall(svg):
        values = dict(_ATTRIBUTE.findall(line))
        first = nodes.get(values.get("data-node-from", ""))
        second = nodes.get(values.get("data-node-to", ""))
        if first and second:
            edges.append((first, second))
    return tuple(edges)


def _image(element: Element, file: Path, options: ReadOptions, labels: _Labels, issues: IssueLog) -> ImageRecord | None:
    where = f"{file.name}: image {element.get('name', '?')!r}"
    try:
        name = relative_name(element.get("name", "")).as_posix()
    except DataError as error:
        raise DataError(f"{file}: the name of image {element.get('id', '?')}: {error}.") from error
    width, height = _integer(element.get("width")), _integer(element.get("height"))
    image = ImageRecord(
        name=name,
        width=width if height else None,
        height=height if width else None,
        split=_split(element.get("subset")) or options.split or "",
        source=where,
    )
    groups: dict[str, list[Element]] = defaultdict(list)
    for shape in element:
        if shape.tag in _OTHER_SHAPES:
            issues.skip(f"shapes of the kind {shape.tag}", where, "Only skeletons, rectangles and points are converted")
        else:
            groups[shape.get("group_id", "0")].append(shape)
    image.instances = _instances(groups, where, labels, issues)
    return image


def _split(subset: str | None) -> str:
    """Return the split of a subset: CVAT writes Train, Validation and Test, and default where there is none."""
    names = {"train": "train", "validation": "val", "val": "val", "test": "test", "default": ""}
    return names.get((subset or "").lower(), subset or "")


def _instances(groups: dict[str, list[Element]], where: str, labels: _Labels, issues: IssueLog) -> list[Instance]:
    """Return the instances of an image in the order of their first shape."""
    ordered: list[tuple[int, Instance]] = []
    boxes: list[tuple[int, Instance]] = []
    loose: list[Element] = []
    position = 0
    for group, shapes in groups.items():
        skeletons = [shape for shape in shapes if shape.tag == "skeleton"]
        rectangles = [shape for shape in shapes if shape.tag == "box"]
        named = [shape for shape in shapes if shape.tag == "points"]
        grouped = group not in ("", "0")
        if grouped and len(rectangles) <= 1 and (len(skeletons) == 1 or (named and not skeletons)):
            instance = _grouped(skeletons, rectangles, named, where, labels, issues)
            ordered.append((position, instance))
            position += 1
            continue
        for shape in shapes:
            if shape.tag == "points" and len(_coordinates(shape)) == 1:
                loose.append(shape)
                continue
            instance = _single(shape, where, labels, issues)
            if instance is not None:
                (boxes if shape.tag == "box" else ordered).append((position, instance))
            position += 1
    _match_boxes(ordered, boxes, issues)
    instances = [instance for _, instance in sorted([*ordered, *boxes], key=lambda item: item[0])]
    for shape in loose:
        _add_loose_point(shape, instances, where, labels, issues)
    return instances


def _add_loose_point(shape: Element, instances: list[Instance], where: str, labels: _Labels, issues: IssueLog) -> None:
    """Add a point without a group, whose label is a keypoint name, to the smallest rectangle that contains it."""
    name = shape.get("label", "")
    x, y = _coordinates(shape)[0]
    matching: list[tuple[float, int]] = []
    for index, instance in enumerate(instances):
        template = labels.classes.get(instance.category)
        declared = template.keypoints if template else ()
        if instance.box is None or name in instance.points or name == instance.category:
            continue
        x1, y1, x2, y2 = instance.box.corners
        if x1 <= x <= x2 and y1 <= y <= y2 and (not declared or name in declared):
            matching.append((instance.box.area, index))
    if not matching:
        advice = "Draw a rectangle around the points of each instance, or group them with it"
        issues.skip("shapes of the kind points that belong to no instance", f"{where}: {name}", advice)
        return
    instances[min(matching)[1]].points[name] = Point(x, y, _state(shape))
    issues.change("points without a group were added to the smallest rectangle that contains them", f"{where}: {name}")


def _grouped(
    skeletons: list[Element],
    rectangles: list[Element],
    named: list[Element],
    where: str,
    labels: _Labels,
    issues: IssueLog,
) -> Instance:
    """Return the instance of a group: a skeleton, or points whose labels are keypoint names; with its rectangle."""
    if skeletons:
        instance = _skeleton(skeletons[0], where, labels, issues)
    else:
        label = rectangles[0].get("label", "") if rectangles else named[0].get("label", "")
        instance = Instance(category=labels.category(label), source=where)
    for shape in named:
        for x, y in _coordinates(shape)[:1]:
            instance.points[str(shape.get("label"))] = Point(x, y, _state(shape))
    if rectangles:
        instance.box, instance.rotation = _box(rectangles[0], where, issues)
        _set_attributes(instance, rectangles[0], labels)
    return instance


def _single(shape: Element, where: str, labels: _Labels, issues: IssueLog) -> Instance | None:
    if shape.tag == "skeleton":
        return _skeleton(shape, where, labels, issues)
    category = labels.category(shape.get("label", ""))
    if shape.tag == "box":
        box, rotation = _box(shape, where, issues)
        instance = Instance(category=category, box=box, rotation=rotation, source=where)
        _set_attributes(instance, shape, labels)
        return instance if box is not None else None
    coordinates = _coordinates(shape) if shape.tag == "points" else []
    if len(coordinates) < 2:
        issues.skip(f"shapes of the kind {shape.tag} that belong to no instance", where, "Group them with a rectangle")
        return None
    names = default_names(len(coordinates))
    state = _state(shape)
    points = {name: Point(x, y, state) for name, (x, y) in zip(names, coordinates, strict=True)}
    instance = Instance(category=category, points=points, source=where)
    _set_attributes(instance, shape, labels)
    return instance


def _skeleton(shape: Element, where: str, labels: _Labels, issues: IssueLog) -> Instance:
    instance = Instance(category=shape.get("label", ""), source=where)
    for element in shape.findall("points"):
        name = str(element.get("label"))
        coordinates = _coordinates(element)
        state = _state(element)
        if len(coordinates) != 1:
            if state:
                issues.skip("keypoints with faulty values", f"{where}: {name}")
            continue
        scores = [attribute.text for attribute in element.iter("attribute") if attribute.get("name") == "score"]
        score = _number(scores[0]) if scores and state else None
        instance.points[name] = Point(*coordinates[0], state, score)
    _set_attributes(instance, shape, labels)
    return instance


def _state(shape: Element) -> PointState:
    if shape.get("outside") == "1":
        return PointState.ABSENT
    return PointState.HIDDEN if shape.get("occluded") == "1" else PointState.VISIBLE


def _coordinates(shape: Element) -> list[tuple[float, float]]:
    """Return the points `x,y;x,y`; none if a value is not a finite number."""
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair]
    numbers = [[_number(value) for value in pair] for pair in pairs]
    if not all(len(pair) == 2 and is_finite(*pair) for pair in numbers):
        return []
    return [(float(x or 0), float(y or 0)) for x, y in numbers]


def _box(shape: Element, where: str, issues: IssueLog) -> tuple[Box | None, float]:
    corners = [_number(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
    if not is_finite(*corners):
        issues.skip("rectangles with faulty values", where)
        return None, 0.0
    x1, y1, x2, y2 = (float(value or 0) for value in corners)
    return Box.from_corners(x1, y1, x2, y2), _number(shape.get("rotation")) or 0.0


def _set_attributes(instance: Instance, shape: Element, labels: _Labels) -> None:
    """Set attributes of a shape; those that our writer names after fields of an instance become these fields."""
    values = {
        attribute.get("name", ""): _value(attribute.text or "", attribute.get("name", ""), labels)
        for attribute in shape.findall("attribute")
    }
    if is_finite(values.get("area")):
        instance.area = values.pop("area")
    if is_finite(values.get("score")):
        instance.confidence = values.pop("score")
    if "iscrowd" in values:
        instance.crowd = values.pop("iscrowd") in (True, 1, "true", "1")
    identity = values.pop("annotation_id", None)
    instance.id = identity if identity not in (None, "") else instance.id
    track = values.pop("track_id", None)
    instance.track_id = track if track not in (None, "") else instance.track_id
    instance.attributes |= values
    if shape.get("z_order", "0") != "0":
        instance.attributes["z_order"] = int(_number(shape.get("z_order")) or 0)
    if shape.get("source", "manual") != "manual":
        instance.attributes["source"] = shape.get("source")


def _value(text: str, name: str, labels: _Labels) -> Any:
    """Return the value of an attribute by the type that its label declares; our writer writes JSON."""
    kind = labels.attribute_types.get(name)
    if kind == "checkbox":
        return text.lower() == "true"
    if kind == "number" or labels.own or name in FIELDS:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _match_boxes(instances: list[tuple[int, Instance]], boxes: list[tuple[int, Instance]], issues: IssueLog) -> None:
    """Give skeletons without a rectangle in their group the smallest one of their class that contains their points."""
    free = [item for item in boxes if any(item[1].category == instance.category for _, instance in instances)]
    for _, instance in instances:
        if instance.box is not None or not instance.labeled:
            continue
        inside = [
            item
            for item in free
            if item[1].category == instance.category and item[1].box is not None and _contains(item[1].box, instance)
        ]
        if not inside:
            continue
        best = min(inside, key=lambda item: item[1].box.area if item[1].box else 0.0)
        instance.box = best[1].box
        instance.rotation = best[1].rotation
        instance.crowd = best[1].crowd
        free.remove(best)
        boxes.remove(best)
        issues.change("rectangles outside of groups became the boxes of the skeletons in them", instance.source)


def _contains(box: Box, instance: Instance) -> bool:
    x1, y1, x2, y2 = box.corners
    return all(x1 <= point.x <= x2 and y1 <= point.y <= y2 for point in instance.labeled)


def _frames(file: Path, options: ReadOptions, labels: _Labels, issues: IssueLog) -> Iterator[ImageRecord]:
    """Yield the frames of video tracks; all tracks are in memory, since each contains many frames."""
    frames: dict[int, list[tuple[str, Element]]] = defaultdict(list)
    for element in iter_elements(file, _ROOT):
        if element.tag != "track":
            continue
        for shape in element:
            shape.set("label", element.get("label", ""))
            shape.set("group_id", element.get("group_id", "0"))
            if shape.tag in _OTHER_SHAPES:
                issues.skip(f"shapes of the kind {shape.tag}", f"{file.name}: track {element.get('id')}")
            elif shape.get("outside") != "1":
                frames[_integer(shape.get("frame")) or 0].append((element.get("id", ""), shape))
    for frame in sorted(frames):
        where = f"{file.name}: frame {frame}"
        image = ImageRecord(
            name=f"frame_{frame:06d}.png",
            split=options.split or "",
            source=where,
            attributes={"frame": frame},
        )
        if labels.size is not None:
            image.width, image.height = labels.size
        groups: dict[str, list[Element]] = defaultdict(list)
        for track, shape in frames[frame]:
            group = shape.get("group_id", "0")
            is_loose = shape.tag == "points" and len(_coordinates(shape)) == 1
            groups[group if is_loose or group not in ("", "0") else f"track {track}"].append(shape)
        image.instances = _instances(groups, where, labels, issues)
        for instance, (track, _) in zip(image.instances, frames[frame], strict=False):
            if instance.track_id is None and len(image.instances) == len(frames[frame]):
                instance.track_id = _integer(track) if track.isdecimal() else track
        yield image


def _frame_name(name: str, locator: ImageLocator) -> str:
    """Return the file name of a frame with the suffix that exists; exports have that of the video task's images."""
    stem = PurePosixPath(name).stem
    names = [f"{stem}{suffix}" for suffix in _FRAME_SUFFIXES]
    return next((name for name in names if locator.find(name, IssueLog())), name)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _integer(text: str | None) -> int | None:
    number = _number(text)
    return int(number) if number is not None and is_finite(number) else None


FORMAT = AnnotationFormat(
    name="cvat",
    title="CVAT XML",
    capabilities=ALL_FEATURES - {Feature.SEGMENTATION},
    detect=detect,
    read=read,
    write=write,
    suffixes=(".xml",),
)
