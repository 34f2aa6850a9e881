"""One record of annotations between all formats: keypoints by name, in pixels, nothing of the source omitted.

A reader returns a `DatasetRecord`, a writer takes one. Images are streamed: `DatasetRecord.images` reads the source
again on each call, so that a data set of any size is planned in a first pass and written in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Attributes = dict[str, Any]
"""Values of the source that the record has no field for, by name; JSON values."""
Id = int | str


class PointState(IntEnum):
    """State of a keypoint; the values are the visibility flags v of COCO."""

    ABSENT = 0
    HIDDEN = 1
    VISIBLE = 2


class Point(NamedTuple):
    """A keypoint of an instance.

    Attributes:
        x: pixels from the left border of the image.
        y: pixels from the top border of the image.
        state: ABSENT points keep the coordinates of their source, which mean nothing.
        confidence: 0…1 where a model placed the point, else None.
    """

    x: float
    y: float
    state: PointState = PointState.VISIBLE
    confidence: float | None = None


class Box(NamedTuple):
    """A box in pixels: left, top, width, height."""

    x: float
    y: float
    width: float
    height: float

    @classmethod
    def from_corners(cls, x1: float, y1: float, x2: float, y2: float) -> Box:
        """Return the box of two opposite corners, given in any order."""
        return cls(min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))

    @classmethod
    def from_center(cls, cx: float, cy: float, width: float, height: float) -> Box:
        """Return the box of a center and a size."""
        return cls(cx - width / 2, cy - height / 2, width, height)

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.x, self.y, self.x + self.width, self.y + self.height

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    def rotated(self, degrees: float) -> Box:
        """Return the axis-aligned box that encloses this one, turned clockwise around its center."""
        if degrees % 180 == 0:
            return self
        angle = np.deg2rad(degrees)
        sine = abs(float(np.sin(angle)))
        cosine = abs(float(np.cos(angle)))
        width = self.width * cosine + self.height * sine
        height = self.width * sine + self.height * cosine
        return Box.from_center(self.x + self.width / 2, self.y + self.height / 2, width, height)


@dataclass(slots=True, kw_only=True)
class Instance:
    """An annotated instance.

    Attributes:
        category: class name.
        box: None where the source has none.
        rotation: turn of the box around its center, degrees clockwise; `box` is the box before the turn.
        points: keypoints by name; a name of the class that is missing here is absent without coordinates.
        crowd: whether this is a region of many instances that are not annotated one by one (`iscrowd`).
        area: area of the outline in square pixels, where the source states it.
        segmentation: COCO polygons (`[[x, y, …], …]`) or run lengths (`{size, counts}`), unchanged.
        confidence: 0…1 where a model predicted the instance, else None.
        track_id: identity across images.
        id: id in the source.
        attributes: other values of the source.
        source: file, and position in it, that the instance was read from, for messages.
    """

    category: str
    box: Box | None = None
    rotation: float = 0.0
    points: dict[str, Point] = field(default_factory=dict[str, Point])
    crowd: bool = False
    area: float | None = None
    segmentation: Any = None
    confidence: float | None = None
    track_id: Id | None = None
    id: Id | None = None
    attributes: Attributes = field(default_factory=Attributes)
    source: str = ""

    @property
    def labeled(self) -> list[Point]:
        """Points that are not absent."""
        return [point for point in self.points.values() if point.state]

    def xyv(self, names: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return (K, 3) x, y, v in the order of `names`; names without a point have 0, 0, 0."""
        absent = (0.0, 0.0, 0)
        rows = [self.points[name][:3] if name in self.points else absent for name in names]
        return np.array(rows, dtype=np.float64).reshape(-1, 3)


@dataclass(slots=True, kw_only=True)
class ImageRecord:
    """An image and its instances.

    Attributes:
        name: path of the image relative to the folder of its images, with `/`; unique within its split.
        width: pixels after EXIF orientation, or None where it is not known.
        height: as `width`.
        split: `train`, `val`, `test` or another name; empty where the source has no splits.
        path: the image file on this machine, or None where it was not located.
        encoded: returns the content of an image file, for an image inside of another file (a frame of a video).
        url: address or name of the image in the source, where it is not a path.
        id: id in the source.
        instances: in the order of the source.
        attributes: other values of the source.
        source: file that the annotations were read from, for messages.
    """

    name: str
    width: int | None = None
    height: int | None = None
    split: str = ""
    path: Path | None = None
    encoded: Callable[[], bytes] | None = None
    url: str = ""
    id: Id | None = None
    instances: list[Instance] = field(default_factory=list[Instance])
    attributes: Attributes = field(default_factory=Attributes)
    source: str = ""

    @property
    def content(self) -> Path | Callable[[], bytes] | None:
        """What `OutputPlan.add` copies: the image file, the function that returns its content, or None."""
        return self.path or self.encoded

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) in pixels, or None where it is not known."""
        return (self.width, self.height) if self.width and self.height else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTemplate:
    """A class with its own keypoints; all of it is by keypoint name.

    Attributes:
        name: class name.
        keypoints: keypoint names in the order of the source.
        skeleton: pairs of names, for drawing.
        mirror: pairs of names that a horizontal flip exchanges; () if there are none, None if that is not known.
        sigmas: OKS σ by name; may be empty.
        attributes: other values of the source (id, supercategory, color).
    """

    name: str
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[str, str], ...] = ()
    mirror: tuple[tuple[str, str], ...] | None = None
    sigmas: Mapping[str, float] = field(default_factory=dict[str, float])
    attributes: Mapping[str, Any] = field(default_factory=Attributes)


@dataclass(slots=True)
class Issue:
    """What happened to values of one kind during a conversion.

    Attributes:
        kind: what and why, equal for all values of this kind: `annotations of images that do not exist`.
        advice: what it means or how to fix it.
        count: number of values.
        examples: the first places.
    """

    kind: str
    advice: str = ""
    count: int = 0
    examples: list[str] = field(default_factory=list[str])

    def __str__(self) -> str:
        examples = ", ".join(self.examples)
        more = ", …" if self.count > len(self.examples) else ""
        advice = f". {self.advice}" if self.advice else ""
        return f"{self.count} {self.kind}" + (f" ({examples}{more})" if examples else "") + advice


class IssueLog:
    """Count, name and explain what a conversion skips or changes, so that nothing disappears silently."""

    MAX_EXAMPLES = 3

    def __init__(self) -> None:
        self.skipped: dict[str, Issue] = {}
        self.changed: dict[str, Issue] = {}

    def skip(self, kind: str, where: object = "", advice: str = "", count: int = 1) -> None:
        """Count values that are not converted.

        Args:
            kind: what and why, in the plural.
            where: file and position.
            advice: what to do about it.
            count: number of values.
        """
        self._add(self.skipped, kind, where, advice, count)

    def change(self, kind: str, where: object = "", advice: str = "", count: int = 1) -> None:
        """Count values that are converted with a change; arguments as of `skip`."""
        self._add(self.changed, kind, where, advice, count)

    def update(self, other: IssueLog) -> None:
        """Add the counts of another log."""
        for target, source in ((self.skipped, other.skipped), (self.changed, other.changed)):
            for issue in source.values():
                self._add(target, issue.kind, "", issue.advice, issue.count)
                examples = target[issue.kind].examples
                examples += issue.examples[: self.MAX_EXAMPLES - len(examples)]

    def _add(self, issues: dict[str, Issue], kind: str, where: object, advice: str, count: int) -> None:
        issue = issues.setdefault(kind, Issue(kind, advice))
        issue.count += count
        if where and len(issue.examples) < self.MAX_EXAMPLES:
            issue.examples.append(str(where))


ImageReader = Callable[[IssueLog], Iterator[ImageRecord]]
"""Reads the images from the start, in an order that is the same each time, and logs what it skips or changes."""


@dataclass(slots=True, kw_only=True)
class DatasetRecord:
    """The annotations of a data set.

    Attributes:
        classes: all classes, in the order of the source.
        read_images: streams the images; see `ImageReader`.
        format: name of the format that it was read from.
        attributes: other values of the source, such as `info` and `licenses` of COCO; `kpt_dims` is 2 where the source
            stores no visibility.
        issues: what was skipped or changed while the classes were read.
    """

    classes: tuple[ClassTemplate, ...]
    read_images: ImageReader
    format: str = ""
    attributes: Attributes = field(default_factory=Attributes)
    issues: IssueLog = field(default_factory=IssueLog)

    @classmethod
    def from_images(
        cls, classes: Sequence[ClassTemplate], images: Sequence[ImageRecord], attributes: Attributes | None = None
    ) -> DatasetRecord:
        """Return the record of images that are in memory."""
        return cls(classes=tuple(classes), read_images=lambda _: iter(images), attributes=attributes or {})

    def images(self, issues: IssueLog | None = None) -> Iterator[ImageRecord]:
        """Read the images from the start.

        Args:
            issues: log of what is skipped or changed; None discards it.
        """
        return self.read_images(issues or IssueLog())

    def template(self, category: str) -> ClassTemplate:
        """Return the class of a name; one without keypoints if it is not declared."""
        for template in self.classes:
            if template.name == category:
                return template
        return ClassTemplate(name=category)
