"""Write a project of DeepLabCut: config.yaml, folders of images, and their tables."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.yamlfile import to_yaml
from yolopose.data.convert.class_file import CLASS_FILE, class_file, image_to_json
from yolopose.data.convert.deeplabcut_stored import store_instances
from yolopose.data.convert.deeplabcut_table import UNIQUE, Column
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import WriteOptions
from yolopose.data.convert.record import DatasetRecord, ImageRecord, Instance, IssueLog
from yolopose.data.convert.source_files import Json

CONFIG = "config.yaml"
LABELS = "labeled-data"


@dataclass(slots=True)
class _Layout:
    """What a written project contains.

    Attributes:
        scorer: name in file names and tables.
        individuals: names of the individuals by class; empty for a project of one animal.
        columns: columns of the tables.
        folders: number of images by folder below `labeled-data`.
        sizes: first known (width, height) of each folder.
    """

    scorer: str
    individuals: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    columns: list[Column] = field(default_factory=list[Column])
    folders: Counter[str] = field(default_factory=Counter[str])
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write a project: its config, one folder of images for each split and folder, and their tables.

    A data set with one class and at most one instance per image becomes a project of one animal, any other a
    multi-animal project.
    """
    layout = _Layout(_safe(str(dataset.attributes.get("scorer") or "yolopose")))
    extra: dict[str, Json] = {}
    counts: dict[str, int] = {}
    tracks: dict[str, dict[str, None]] = {}
    copies = options.copy_images is not False
    main = plan.main(CONFIG, "the config")
    for image in dataset.images(issues):
        path = _image_path(image)
        plan.add(path, f"{image.name!r} of {image.split or 'the source'}", image.content if copies else None)
        extra[path.as_posix()] = image_to_json(image)
        layout.folders[path.parts[1]] += 1
        if image.size:
            layout.sizes.setdefault(path.parts[1], image.size)
        _count(image, counts, tracks)
    tables = {
        folder: plan.add(f"{LABELS}/{folder}/CollectedData_{layout.scorer}.csv", f"the table of {folder}")
        for folder in layout.folders
    }
    plan.add(CLASS_FILE, "the class file")
    plan.check()
    _choose_columns(dataset, layout, counts, tracks)
    rows: defaultdict[str, list[str]] = defaultdict(list)
    for image in dataset.images():
        path = _image_path(image)
        individuals = _assign(image, layout)
        rows[path.parts[1]].append(_csv_row(path, individuals, layout))
        extra[path.as_posix()]["instances"] = store_instances(image.instances, individuals)
        if count := sum(len(entry) > 2 for entry in extra[path.as_posix()]["instances"]):
            kind = "values that DeepLabCut does not have were stored in yolopose.json, for the way back"
            issues.change(kind, image.name, count=count)
    header = _csv_header(layout)
    for folder, table in tables.items():
        plan.write(table, header + "".join(rows.pop(folder)))
    plan.write(CLASS_FILE, class_file(dataset, extra))
    for path in plan.copies:
        plan.copy(path)
    return plan.write(main, _to_config(dataset, layout, plan.target))


def _image_path(image: ImageRecord) -> PurePosixPath:
    """Return the path of an image; DeepLabCut has one level of folders, named like videos."""
    parts = PurePosixPath(image.name).parts
    folder = "_".join(part for part in (image.split, *parts[:-1]) if part) or "images"
    return PurePosixPath(LABELS, _safe(folder), parts[-1])


def _safe(text: str) -> str:
    """Replace what DeepLabCut would take for the end of a name: it names folders like files without their suffix."""
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text) or "_"


def _count(image: ImageRecord, counts: dict[str, int], names: dict[str, dict[str, None]]) -> None:
    """Count the instances of each class in the image that has most, and collect the names of individuals."""
    labeled = [instance for instance in image.instances if instance.labeled]
    for category, count in Counter(instance.category for instance in labeled).items():
        counts[category] = max(counts.get(category, 0), count)
    for instance in labeled:
        name = instance.attributes.get("individual")
        if isinstance(name, str) and name and name != UNIQUE:
            names.setdefault(instance.category, {}).setdefault(name)


def _choose_columns(
    dataset: DatasetRecord, layout: _Layout, counts: Mapping[str, int], names: Mapping[str, Mapping[str, None]]
) -> None:
    """Decide between a project of one animal and one of several, and name the individuals."""
    animals = [template for template in dataset.classes if template.name != UNIQUE]
    unique = [template for template in dataset.classes if template.name == UNIQUE]
    single = len(animals) == 1 and not unique and counts.get(animals[0].name, 0) <= 1 and not names
    if single:
        layout.columns = _columns([UNIQUE], animals[0].keypoints)
        return
    for template in animals:
        stem = "individual" if len(animals) == 1 else template.name
        individuals = list(names.get(template.name, ()))
        numbered = (f"{stem}{number}" for number in itertools.count(1))
        while len(individuals) < max(counts.get(template.name, 0), 1):
            name = next(numbered)
            if name not in individuals:
                individuals.append(name)
        layout.individuals[template.name] = individuals
    bodyparts = dict.fromkeys(name for template in animals for name in template.keypoints)
    layout.columns = _columns([name for names in layout.individuals.values() for name in names], bodyparts)
    for template in unique:
        layout.columns += _columns([UNIQUE], template.keypoints)


def _columns(individuals: Iterable[str], bodyparts: Iterable[str]) -> list[Column]:
    return [
        Column(individual, bodypart, coord)
        for individual, bodypart, coord in itertools.product(individuals, bodyparts, ("x", "y"))
    ]


def _csv_header(layout: _Layout) -> str:
    columns = layout.columns
    levels = {
        "scorer": [layout.scorer] * len(columns),
        "individuals": [column.individual for column in columns],
        "bodyparts": [column.bodypart for column in columns],
        "coords": [column.coord for column in columns],
    }
    if not layout.individuals:
        del levels["individuals"]
    return "".join(_csv_line([name, "", "", *fields]) for name, fields in levels.items())


def _csv_row(path: PurePosixPath, individuals: Mapping[str, Instance], layout: _Layout) -> str:
    fields: list[str] = [*path.parts]
    for column in layout.columns:
        instance = individuals.get(column.individual)
        point = None if instance is None else instance.points.get(column.bodypart)
        labeled = point is not None and bool(point.state)
        fields.append(repr(getattr(point, column.coord)) if labeled else "")
    return _csv_line(fields)


def _assign(image: ImageRecord, layout: _Layout) -> dict[str, Instance]:
    """Return the instance of each individual: by the name that it has, the others in their order."""
    assigned: dict[str, Instance] = {}
    waiting: list[Instance] = []
    for instance in (instance for instance in image.instances if instance.labeled):
        name = instance.attributes.get("individual")
        if not layout.individuals or instance.category == UNIQUE:
            assigned.setdefault(UNIQUE, instance)
        elif name in layout.individuals[instance.category] and name not in assigned:
            assigned[name] = instance
        else:
            waiting.append(instance)
    for instance in waiting:
        name = next(name for name in layout.individuals[instance.category] if name not in assigned)
        assigned[name] = instance
    return assigned


def _csv_line(fields: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue()


def _to_config(dataset: DatasetRecord, layout: _Layout, target: Path) -> str:
    multi = bool(layout.individuals)
    shared = [column.bodypart for column in layout.columns if multi == (column.individual != UNIQUE)]
    bodyparts = list(dict.fromkeys(shared))
    unique = list(dict.fromkeys(column.bodypart for column in layout.columns if column.bodypart not in bodyparts))
    width, height = next(iter(layout.sizes.values()), (640, 480))
    # DeepLabCut finds the folders of images by the names of videos, which need not exist
    videos = {
        str(target.resolve() / "videos" / f"{folder}.mp4"): {"crop": _crop(*layout.sizes.get(folder, (width, height)))}
        for folder in layout.folders
    }
    config: Json = {
        "Task": str(dataset.attributes.get("Task") or dataset.classes[0].name),
        "scorer": layout.scorer,
        "date": str(dataset.attributes.get("date") or "Jan1"),
        "multianimalproject": multi,
        "identity": None,
        "project_path": str(target.resolve()),
        "video_sets": videos,
        "bodyparts": "MULTI!" if multi else bodyparts,
    }
    if multi:
        config |= {
            "individuals": [name for names in layout.individuals.values() for name in names],
            "multianimalbodyparts": bodyparts,
            "uniquebodyparts": unique,
        }
    return "# Written by yolopose; opened by DeepLabCut 2.2 and newer.\n" + to_yaml(
        config | _defaults(dataset) | {"x1": 0, "x2": width, "y1": 0, "y2": height}
    )


def _crop(width: int, height: int) -> str:
    return f"0, {width}, 0, {height}"


def _defaults(dataset: DatasetRecord) -> dict[str, Any]:
    """Return the settings that DeepLabCut expects in every config, with its own defaults."""
    edges = dict.fromkeys(edge for template in dataset.classes for edge in template.skeleton)
    return {
        "start": 0,
        "stop": 1,
        "numframes2pick": 20,
        "skeleton": [list(edge) for edge in edges],
        "skeleton_color": "black",
        "pcutoff": 0.6,
        "dotsize": 8,
        "alphavalue": 0.7,
        "colormap": "rainbow",
        "TrainingFraction": [0.95],
        "iteration": 0,
        "default_net_type": "resnet_50",
        "default_augmenter": "default",
        "snapshotindex": -1,
        "batch_size": 8,
        "cropping": False,
        "corner2move2": [50, 50],
        "move2corner": True,
    }
