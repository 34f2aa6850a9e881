"""CVAT XML 1.1 with skeletons (docs.cvat.ai/docs/other/xml_format): image tasks, projects and video tracks.

A skeleton is an instance; its elements are keypoints: `outside` is absent, `occluded` is hidden. CVAT has no box for a
skeleton, so a rectangle with the label `CLASS_box` in the same group is the box of the skeleton.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from yolopose.base.errors import DataError
from yolopose.data.convert.class_file import ClassFile, read_class_file
from yolopose.data.convert.cvat_shapes import Labels, parse_coordinates, parse_instances, parse_integer
from yolopose.data.convert.cvat_xml import WRITER, write
from yolopose.data.convert.frames import VideoFrames, find_video
from yolopose.data.convert.instances import default_names
from yolopose.data.convert.json_stream import peek
from yolopose.data.convert.locate import ImageLocator, complete_size
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions
from yolopose.data.convert.record import (
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    IssueLog,
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


def _open_video(file: Path, options: ReadOptions, labels: Labels) -> VideoFrames | None:
    """Return the video of a task if it is beside the annotations or in `images`."""
    stem = PurePosixPath(labels.source.replace("\\", "/")).stem
    folders = [options.images] if options.images else [file.parent, file.parent / "images", file.parent.parent]
    path = find_video(stem, folders) if stem else None
    return VideoFrames(path) if path else None


def _scan(file: Path, issues: IssueLog) -> tuple[Labels, bool, list[str]]:
    """Return the labels, whether there are video tracks, and the names of the images."""
    labels = Labels()
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


def _note_shape(shape: Element, labels: Labels, shape_labels: dict[str, int]) -> None:
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


def _read_meta(meta: Element, labels: Labels, issues: IssueLog) -> None:
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


def _image(element: Element, file: Path, options: ReadOptions, labels: Labels, issues: IssueLog) -> ImageRecord | None:
    where = f"{file.name}: image {element.get('name', '?')!r}"
    try:
        name = relative_name(element.get("name", "")).as_posix()
    except DataError as error:
        raise DataError(f"{file}: the name of image {element.get('id', '?')}: {error}.") from error
    width, height = parse_integer(element.get("width")), parse_integer(element.get("height"))
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
    image.instances = parse_instances(groups, where, labels, issues)
    return image


def _split(subset: str | None) -> str:
    """Return the split of a subset: CVAT writes Train, Validation and Test, and default where there is none."""
    names = {"train": "train", "validation": "val", "val": "val", "test": "test", "default": ""}
    return names.get((subset or "").lower(), subset or "")


def _frames(file: Path, options: ReadOptions, labels: Labels, issues: IssueLog) -> Iterator[ImageRecord]:
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
                frames[parse_integer(shape.get("frame")) or 0].append((element.get("id", ""), shape))
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
            is_loose = shape.tag == "points" and len(parse_coordinates(shape)) == 1
            groups[group if is_loose or group not in ("", "0") else f"track {track}"].append(shape)
        image.instances = parse_instances(groups, where, labels, issues)
        for instance, (track, _) in zip(image.instances, frames[frame], strict=False):
            if instance.track_id is None and len(image.instances) == len(frames[frame]):
                instance.track_id = parse_integer(track) if track.isdecimal() else track
        yield image


def _frame_name(name: str, locator: ImageLocator) -> str:
    """Return the file name of a frame with the suffix that exists; exports have that of the video task's images."""
    stem = PurePosixPath(name).stem
    names = [f"{stem}{suffix}" for suffix in _FRAME_SUFFIXES]
    return next((name for name in names if locator.find(name, IssueLog())), name)


FORMAT = AnnotationFormat(
    name="cvat",
    title="CVAT XML",
    capabilities=ALL_FEATURES - {Feature.SEGMENTATION},
    detect=detect,
    read=read,
    write=write,
    suffixes=(".xml",),
)
