"""The entries of COCO keypoint files, and the writer of such files: one for each split."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from yolopose.base.errors import UsageError
from yolopose.data.convert.instances import ensure_box, infer_mirror, point_scores, points_to_list
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import WriteOptions
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, Id, ImageRecord, Instance, IssueLog

Json = dict[str, Any]


class IdAllocator:
    """Unique positive integer ids: those of the source where they are, new ones elsewhere.

    Ids are first reserved, so that a new id never equals one that comes later.
    """

    def __init__(self) -> None:
        self._last = 0
        self._taken: set[int] = set()

    def reserve(self, source_id: object) -> None:
        """Reserve the id of the source."""
        self._last = max(self._last, _integer(source_id) or 0)

    def take(self, source_id: object = None) -> int:
        """Return the id of the source if it is an integer that was not taken before, otherwise a new one."""
        number = _integer(source_id)
        if number is None or number in self._taken:
            self._last += 1
            number = self._last
        self._taken.add(number)
        return number


def category_ids(classes: Sequence[ClassTemplate]) -> dict[str, int]:
    """Return the category id of each class: that of its source if it is unique, otherwise numbers from 1."""
    ids = IdAllocator()
    for template in classes:
        ids.reserve(template.attributes.get("id"))
    return {template.name: ids.take(template.attributes.get("id")) for template in classes}


def category_json(template: ClassTemplate, category_id: int) -> Json:
    """Return the entry of `categories`; the skeleton counts keypoints from 1, as COCO does."""
    position = {name: index + 1 for index, name in enumerate(template.keypoints)}
    entry: Json = {"supercategory": template.name, **template.attributes, "id": category_id, "name": template.name}
    if template.keypoints:
        entry["keypoints"] = list(template.keypoints)
        entry["skeleton"] = [[position[a], position[b]] for a, b in template.skeleton]
    if template.sigmas:
        entry["sigmas"] = [template.sigmas.get(name, 1 / len(position)) for name in template.keypoints]
    if template.mirror is not None and template.mirror != infer_mirror(template.keypoints):
        entry["mirror"] = [list(pair) for pair in template.mirror]
    return entry


def image_json(image: ImageRecord, image_id: Id) -> Json:
    """Return the entry of `images`."""
    size = {"width": image.width, "height": image.height}
    return {**image.attributes, "id": image_id, "file_name": image.name, **size}


def annotation_json(
    instance: Instance,
    template: ClassTemplate,
    image: ImageRecord,
    ids: Mapping[str, Id],
    issues: IssueLog,
) -> Json | None:
    """Return the entry of `annotations`, or None for an instance with neither box nor keypoints, which is logged.

    Args:
        instance: the instance.
        template: its class.
        image: its image.
        ids: `id`, `image_id` and `category_id`.
        issues: log of computed boxes and skipped instances.
    """
    box = ensure_box(instance, image, issues) if instance.box is None or instance.rotation else instance.box
    if box is None:
        issues.skip("instances without box and labeled keypoints", instance.source or image.name)
        return None
    entry: Json = {**instance.attributes, **ids, "bbox": list(box)}
    if template.keypoints:
        entry["keypoints"] = points_to_list(instance.points, template.keypoints)
        entry["num_keypoints"] = instance.attributes.get("num_keypoints", len(instance.labeled))
    if scores := point_scores(instance.points, template.keypoints):
        entry["keypoint_scores"] = scores
    entry["area"] = box.area if instance.area is None else instance.area
    entry["iscrowd"] = int(instance.crowd)
    optional = {
        "segmentation": instance.segmentation, "score": instance.confidence, "track_id": instance.track_id
    }  # fmt: skip
    return entry | {key: value for key, value in optional.items() if value is not None}


class CocoStream:
    """Write a COCO JSON file entry by entry; annotations wait in a temporary file, since they follow all images.

    Args:
        output: the file, open for writing.
    """

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self._images = 0
        self._annotations = tempfile.SpooledTemporaryFile(1 << 24)  # noqa: SIM115 (closed by `close`)
        output.write(b'{"images": [')

    def add_image(self, entry: Json) -> None:
        """Write an entry of `images`."""
        self._output.write((b",\n" if self._images else b"\n") + _dump(entry))
        self._images += 1

    def add_annotation(self, entry: Json) -> None:
        """Write an entry of `annotations`."""
        self._annotations.write((b",\n" if self._annotations.tell() else b"\n") + _dump(entry))

    def close(self, categories: Sequence[Json], attributes: Mapping[str, Any]) -> None:
        """Write what follows the images; `attributes` are other values of the top level."""
        self._output.write(b'\n],\n"annotations": [')
        self._annotations.seek(0)
        shutil.copyfileobj(self._annotations, self._output)
        self._annotations.close()
        self._output.write(b'\n],\n"categories": ' + _dump(categories))
        for key, value in attributes.items():
            self._output.write(b",\n" + _dump(key) + b": " + _dump(value))
        self._output.write(b"}\n")


def coco_attributes(dataset: DatasetRecord) -> dict[str, Any]:
    """Return the values of the top level, except those that describe label files."""
    return {key: value for key, value in dataset.attributes.items() if key != "kpt_dims"}


@dataclass(slots=True)
class CocoIds:
    """Ids of one file."""

    images: IdAllocator = field(default_factory=IdAllocator)
    annotations: IdAllocator = field(default_factory=IdAllocator)

    def reserve(self, image: ImageRecord) -> None:
        """Reserve the ids of an image and its instances."""
        self.images.reserve(image.id)
        for instance in image.instances:
            self.annotations.reserve(instance.id)


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write `annotations/SPLIT.json` for each split; images are copied to `images/SPLIT` if `copy_images` is set.

    Returns:
        The JSON file, or their folder if there are several.

    Raises:
        UsageError: the output is one file, but there are several splits.
    """
    paths: dict[str, PurePosixPath] = {}
    ids: dict[str, CocoIds] = {}
    for image in dataset.images():
        split = image.split
        if split not in paths:
            if plan.main_name and paths:
                raise UsageError(
                    f"The source has several splits ({', '.join([*paths, split])}), but the output is one file: choose "
                    "one with split=…, or give a folder (output=…)."
                )
            paths[split] = plan.main(f"annotations/{split or 'annotations'}.json", f"the annotations of {split!r}")
            ids[split] = CocoIds()
        ids[split].reserve(image)
        if options.copy_images and image.content is not None:
            plan.add(PurePosixPath("images", split, image.name), f"{image.name!r} of {split!r}", image.content)
    plan.check()
    _write_files(dataset, paths, ids, plan, issues)
    for path in plan.copies:
        plan.copy(path)
    files = [plan.target / path for path in paths.values()]
    return files[0] if len(files) == 1 else files[0].parent


def _write_files(
    dataset: DatasetRecord,
    paths: Mapping[str, PurePosixPath],
    ids: Mapping[str, CocoIds],
    plan: OutputPlan,
    issues: IssueLog,
) -> None:
    categories = category_ids(dataset.classes)
    templates = {template.name: template for template in dataset.classes}
    with ExitStack() as stack:
        streams = {split: CocoStream(stack.enter_context(plan.open(path))) for split, path in paths.items()}
        for image in dataset.images():
            image_id = ids[image.split].images.take(image.id)
            streams[image.split].add_image(image_json(image, image_id))
            for instance in image.instances:
                entry_ids = {
                    "id": ids[image.split].annotations.take(instance.id),
                    "image_id": image_id,
                    "category_id": categories[instance.category],
                }
                entry = annotation_json(instance, templates[instance.category], image, entry_ids, issues)
                if entry is not None:
                    streams[image.split].add_annotation(entry)
        entries = [category_json(template, categories[template.name]) for template in dataset.classes]
        for stream in streams.values():
            stream.close(entries, coco_attributes(dataset))


def _dump(value: object) -> bytes:
    return json.dumps(value, default=str).encode()


def _integer(value: object) -> int | None:
    """Return a non-negative integer id, also of a text or an integral float; None otherwise."""
    try:
        number = int(value)  # type: ignore[call-overload]  # anything else raises a TypeError
    except (TypeError, ValueError, OverflowError):
        return None
    # evaluators store ids as 64-bit numbers, also as floats
    return number if 0 <= number < 1 << 53 and str(number) == str(value).removesuffix(".0") else None
