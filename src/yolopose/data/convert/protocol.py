"""What an annotation format is: a reader and a writer of `DatasetRecord`, and the values that its files can hold.

What a conversion loses is computed here, for all formats, from the record and the capabilities of the target format.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.record import DatasetRecord, ImageRecord, Instance, IssueLog, PointState


class Feature(Enum):
    """Values that a format may be unable to hold; the text names them in the loss report."""

    SPLIT = "split names of images"
    IMAGE_ID = "ids of images"
    IMAGE_ATTRIBUTES = "attributes of images"
    EMPTY_IMAGE = "images without instances"
    SEVERAL_INSTANCES = "instances beyond the first of an image"
    CLASS = "class names, where a data set has several"
    INSTANCE_ID = "ids of instances"
    INSTANCE_ATTRIBUTES = "attributes of instances"
    BOX = "boxes"
    NO_POINTS = "instances without labeled keypoints"
    ROTATION = "rotations of boxes"
    CROWD = "crowd flags"
    AREA = "areas other than that of the box"
    SEGMENTATION = "segmentations"
    CONFIDENCE = "confidences of instances"
    TRACK_ID = "track ids"
    HIDDEN = "hidden states of keypoints"
    ABSENT_XY = "coordinates of absent keypoints"
    POINT_CONFIDENCE = "confidences of keypoints"
    CLASS_KEYPOINTS = "classes with other keypoints than the first class"
    KEYPOINT_NAMES = "keypoint names"
    SKELETON = "edges of the skeleton"
    MIRROR = "mirror pairs"
    SIGMAS = "OKS sigmas"
    CLASS_ATTRIBUTES = "attributes of classes"
    DATASET_ATTRIBUTES = "attributes of the data set"


ALL_FEATURES = frozenset(Feature)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read a source.

    Attributes:
        images: folder of the images; None searches beside the source.
        split: name of the split of images that the source assigns to none.
        classes: class names, for formats that do not store them.
        kpt_names: keypoint names, for formats that do not store them, or to select the points of a class by name.
        values: options of one format, by name; its module documents them.
    """

    images: Path | None = None
    split: str | None = None
    classes: tuple[str, ...] = ()
    kpt_names: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOptions:
    """How to write a target.

    Attributes:
        copy_images: whether to copy the images into the output; None does what the format needs.
        kpt_dims: 2 or 3 values for each keypoint, for formats that have both; None keeps those of the source.
        url: text in front of image names, for tools that load images from a server.
        values: options of one format, by name; its module documents them.
    """

    copy_images: bool | None = None
    kpt_dims: int | None = None
    url: str = ""
    values: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationFormat:
    """An annotation format. Its module defines one as `FORMAT`, and `registry` lists the module.

    Attributes:
        name: name for `to=` and `from=`, such as `coco`.
        title: name for messages, such as `COCO keypoints`.
        capabilities: what its files can hold; everything else is reported as lost.
        detect: whether a file or folder is of this format, by name and first bytes; it never raises.
        read: returns the record of a file or folder; None if the format is only written. Images are streamed, so `read`
            itself reads no more than classes and structure. It raises `DataError` for what is not of the format, and
            logs single values that it skips or changes in the `IssueLog`.
        write: plans all outputs, calls `OutputPlan.check`, writes, and returns the main file; None if the format is
            only read. It logs values that it changes, such as boxes computed from keypoints; not what the format
            cannot hold, which is computed from `capabilities`.
        suffixes: suffixes of its main file, for `output=` with a file name; empty if the output is always a folder.
        extra: optional dependencies, as in `pip install "yolopose[extra]"`.
    """

    name: str
    title: str
    capabilities: frozenset[Feature]
    detect: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions], DatasetRecord] | None = None
    write: Callable[[DatasetRecord, OutputPlan, WriteOptions, IssueLog], Path] | None = None
    suffixes: tuple[str, ...] = ()
    extra: str = ""


class LossCounter:
    """Count the values of a data set that a format cannot hold.

    Args:
        dataset: the data set; its images are counted by `watch`.
        target: the format.
    """

    def __init__(self, dataset: DatasetRecord, target: AnnotationFormat) -> None:
        self._target = target
        self._counts: Counter[Feature] = Counter()
        self._several_classes = len(dataset.classes) > 1
        self._count_classes(dataset)

    def watch(self, images: Iterator[ImageRecord]) -> Iterator[ImageRecord]:
        """Yield the images unchanged, and count them."""
        for image in images:
            self._count_image(image)
            yield image

    @property
    def losses(self) -> dict[Feature, int]:
        """Number of values by feature, for features that the format cannot hold."""
        return {
            feature: self._counts[feature]
            for feature in Feature
            if self._counts[feature] and feature not in self._target.capabilities
        }

    @property
    def messages(self) -> list[str]:
        """The losses as sentences."""
        return [
            f"{self._target.title} cannot hold {feature.value}: {count} value{'' if count == 1 else 's'}."
            for feature, count in self.losses.items()
        ]

    def _count_classes(self, dataset: DatasetRecord) -> None:
        counts = self._counts
        counts[Feature.DATASET_ATTRIBUTES] = len([key for key in dataset.attributes if key != "kpt_dims"])
        for template in dataset.classes:
            counts[Feature.CLASS_KEYPOINTS] += template.keypoints != dataset.classes[0].keypoints
            counts[Feature.KEYPOINT_NAMES] += len(template.keypoints)
            counts[Feature.SKELETON] += len(template.skeleton)
            counts[Feature.MIRROR] += len(template.mirror or ())
            counts[Feature.SIGMAS] += len(template.sigmas)
            counts[Feature.CLASS_ATTRIBUTES] += len(template.attributes)

    def _count_image(self, image: ImageRecord) -> None:
        counts = self._counts
        counts[Feature.SPLIT] += bool(image.split)
        counts[Feature.IMAGE_ID] += image.id is not None
        counts[Feature.IMAGE_ATTRIBUTES] += len(image.attributes)
        counts[Feature.EMPTY_IMAGE] += not image.instances
        counts[Feature.SEVERAL_INSTANCES] += max(len(image.instances) - 1, 0)
        for instance in image.instances:
            self._count_instance(instance)

    def _count_instance(self, instance: Instance) -> None:
        counts = self._counts
        counts[Feature.CLASS] += self._several_classes
        counts[Feature.INSTANCE_ID] += instance.id is not None
        counts[Feature.INSTANCE_ATTRIBUTES] += len(instance.attributes)
        counts[Feature.BOX] += instance.box is not None
        counts[Feature.ROTATION] += instance.rotation != 0
        counts[Feature.CROWD] += instance.crowd
        counts[Feature.SEGMENTATION] += bool(instance.segmentation)
        counts[Feature.CONFIDENCE] += instance.confidence is not None
        counts[Feature.TRACK_ID] += instance.track_id is not None
        box_area = instance.box.area if instance.box else math.nan
        counts[Feature.AREA] += instance.area is not None and not math.isclose(instance.area, box_area, rel_tol=1e-6)
        labeled = False
        for point in instance.points.values():
            labeled = labeled or point.state != PointState.ABSENT
            counts[Feature.HIDDEN] += point.state == PointState.HIDDEN
            counts[Feature.ABSENT_XY] += point.state == PointState.ABSENT and (point.x != 0 or point.y != 0)
            counts[Feature.POINT_CONFIDENCE] += point.confidence is not None
        counts[Feature.NO_POINTS] += not labeled
