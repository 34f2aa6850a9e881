"""Import a known data set that was downloaded by hand: its annotations become labels with the schema of the zoo."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from yolopose.base.errors import DataError
from yolopose.base.log import LOGGER
from yolopose.data.catalog import KnownDataset
from yolopose.data.convert.conversion import ConversionReport, read_annotations, write_annotations
from yolopose.data.convert.protocol import ReadOptions
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, Instance, IssueLog
from yolopose.data.convert.yolo_rows import layout_classes, layout_from_spec

_SPLIT = re.compile(r"(?<![a-z])(train|val|test)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _ClassMap:
    """How a class of the annotations becomes one of the zoo.

    Attributes:
        name: class name in the zoo.
        keypoints: keypoint name in the zoo for each one of the annotations.
    """

    name: str
    keypoints: Mapping[str, str]

    def apply(self, instance: Instance) -> Instance:
        """Return the instance with the names of the zoo."""
        points = {self.keypoints[name]: point for name, point in instance.points.items() if name in self.keypoints}
        return replace(instance, category=self.name, points=points)


def import_dataset(
    entry: KnownDataset, sources: Sequence[Path], images: Path | None = None, *, split: str | None = None
) -> ConversionReport:
    """Write the annotations of a known data set as labels into its folder in the data sets folder of the settings.

    Splits are recognized by the names of the annotation files (`ap10k-train-split1.json`). A `test` split takes the
    place of `val` where the data set has no `val`.

    Args:
        entry: the data set.
        sources: its annotations, in any format that `yolo convert` reads.
        images: folder of its images; None searches beside the annotations.
        split: name of the split of images that the annotations assign to none.

    Raises:
        DataError: the annotations have other classes or keypoints than the data set.
        NotFoundError: a source does not exist.
        OutputError: the folder of the data set is not empty, or cannot be written.
    """
    names = entry.spec.keypoints.keypoint_names(0)
    options = ReadOptions(images=images, split=split, kpt_names=names)
    records = [read_annotations(source, options=options) for source in sources]
    maps: dict[str, _ClassMap] = {}
    for source, record in zip(sources, records, strict=True):
        for template in record.classes:
            maps[template.name] = _map_class(template, record, entry, source)
    split_names = {_split_name(image.split) for record in records for image in record.images()}
    test_is_val = "test" in split_names and "val" not in split_names

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for record in records:
            for image in record.images(log):
                name = _split_name(image.split)
                name = "val" if test_is_val and name == "test" else name
                instances = [maps[instance.category].apply(instance) for instance in image.instances]
                yield replace(image, split=name, instances=instances)

    if test_is_val:
        LOGGER.info("The data set has no val split: its test split is used as val.")
    classes = layout_classes(layout_from_spec(entry.spec))
    return write_annotations(DatasetRecord(classes=classes, read_images=read_images), entry.folder, to="yolo")


def _split_name(split: str) -> str:
    match = _SPLIT.search(split)
    return match[1].lower() if match else split


def _map_class(template: ClassTemplate, record: DatasetRecord, entry: KnownDataset, source: Path) -> _ClassMap:
    classes = entry.spec.classes
    name = template.name
    if name not in classes:
        if len(classes) > 1 or len(record.classes) > 1:
            raise DataError(
                f"{source}: the class {name!r} is not one of {entry.title} ({', '.join(classes[:8])}"
                f"{', …' if len(classes) > 8 else ''}). Is this the annotation file of another data set?"
            )
        name = entry.spec.names[0]
    own = template.keypoints
    names = entry.spec.keypoints.keypoint_names(classes.index(name))
    if set(names) <= set(own):  # also where the annotations have more keypoints
        return _ClassMap(name, {keypoint: keypoint for keypoint in names})
    if len(own) in (len(names), entry.total):
        return _ClassMap(name, dict(zip(own, names, strict=False)))
    raise DataError(
        f"{source}: {template.name} has {len(own)} keypoints ({', '.join(own[:5])}, …), but {entry.title} has "
        f"{len(names)} ({', '.join(names[:5])}, …). Is this the annotation file of another data set?"
    )
