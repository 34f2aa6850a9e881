"""The layout `COCO keypoints` of Roboflow: each split is a folder with its images and `_annotations.coco.json`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from yolopose.data.convert.coco import FORMAT as COCO
from yolopose.data.convert.coco_json import (
    CocoIds,
    CocoStream,
    annotation_json,
    category_ids,
    category_json,
    coco_attributes,
    image_json,
)
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import AnnotationFormat, WriteOptions
from yolopose.data.convert.record import DatasetRecord, IssueLog
from yolopose.data.convert.roboflow import ANNOTATIONS, coco_files, flat_name, read, split_folder


def detect(path: Path) -> bool:
    """Return whether a path is an unpacked export with COCO files, or one of these files."""
    return bool(coco_files(path))


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write a folder for each split, with its images and annotations."""
    paths: dict[str, PurePosixPath] = {}
    ids: dict[str, CocoIds] = {}
    for image in dataset.images(issues):
        folder = split_folder(image.split)
        if folder not in paths:
            paths[folder] = plan.add(f"{folder}/{ANNOTATIONS}", f"the annotations of {folder}")
            ids[folder] = CocoIds()
        ids[folder].reserve(image)
        content = None if options.copy_images is False else image.content
        plan.add(PurePosixPath(folder, flat_name(image)), f"{image.name!r} of {folder}", content)
    plan.check()
    categories = category_ids(dataset.classes)
    templates = {template.name: template for template in dataset.classes}
    with ExitStack() as stack:
        streams = {folder: CocoStream(stack.enter_context(plan.open(path))) for folder, path in paths.items()}
        for image in dataset.images():
            folder = split_folder(image.split)
            image_id = ids[folder].images.take(image.id)
            streams[folder].add_image(image_json(image, image_id) | {"file_name": flat_name(image)})
            for instance in image.instances:
                entry_ids = {
                    "id": ids[folder].annotations.take(instance.id),
                    "image_id": image_id,
                    "category_id": categories[instance.category],
                }
                entry = annotation_json(instance, templates[instance.category], image, entry_ids, issues)
                if entry is not None:
                    streams[folder].add_annotation(entry)
        entries = [category_json(template, categories[template.name]) for template in dataset.classes]
        for stream in streams.values():
            stream.close(entries, coco_attributes(dataset))
    for path in plan.copies:
        plan.copy(path)
    return plan.target


FORMAT = AnnotationFormat(
    name="roboflowcoco",
    title="Roboflow COCO",
    capabilities=COCO.capabilities,
    detect=detect,
    read=read,
    write=write,
)
