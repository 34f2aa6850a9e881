"""DeepLabCut projects: config.yaml, and a table of points beside the images of each video.

A project has `labeled-data/VIDEO/CollectedData_SCORER.csv` (and the same as .h5). Multi-animal projects have
individuals, and may have unique body parts, which become the class `single`. Tables of predictions are read as labels
with confidences; their frames are taken from the video beside them. DeepLabCut has neither boxes nor hidden points.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.base.yamlfile import read_yaml, to_yaml
from yolopose.data.convert.class_file import CLASS_FILE, class_file, image_to_json, read_class_file
from yolopose.data.convert.deeplabcut_table import UNIQUE, Column, Row, Table, read_csv_table, read_hdf5_table
from yolopose.data.convert.frames import VideoFrames, find_video
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions, WriteOptions
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, Instance, IssueLog, Point
from yolopose.data.convert.source_files import ForeignLocator, Json, extend_classes, fill_size, starts_with

_CONFIG = "config.yaml"
_LABELS = "labeled-data"
_SUFFIXES = (".csv", ".h5", ".hdf5")


@dataclass(slots=True)
class _Project:
    """A project, or a table without one.

    Attributes:
        root: folder of the project, or of the table.
        config: content of config.yaml; empty without one.
        tables: the tables to read.
    """

    root: Path
    config: Json
    tables: list[Path]

    @property
    def task(self) -> str:
        """Name of the class."""
        return str(self.config.get("Task") or "object")

    @property
    def skeleton(self) -> list[tuple[str, str]]:
        """Edges of the config as pairs of names."""
        edges = self.config.get("skeleton")
        edges = cast("list[Any]", edges) if isinstance(edges, list) else []
        return [(str(edge[0]), str(edge[1])) for edge in edges if isinstance(edge, list) and len(edge) == 2]

    def names(self, key: str) -> list[str]:
        """Return a list of names of the config.

        Raises:
            DataError: it is not a list.
        """
        values = self.config.get(key)
        if values is None or values == "MULTI!":
            return []
        if not isinstance(values, list):
            raise DataError(f"{self.root / _CONFIG}: `{key}` must be a list of names; it is {str(values)[:80]!r}.")
        return [str(value) for value in values]


def _open_project(source: Path) -> _Project:
    if source.is_file() and source.suffix.lower() in _SUFFIXES:
        config_file = next((path for parent in list(source.parents)[:4] if (path := parent / _CONFIG).is_file()), None)
        config = _read_config(config_file) if config_file else {}
        return _Project(source.parent, config, [source])
    root = source.parent if source.is_file() else source
    config_file = root / _CONFIG
    config = _read_config(config_file) if config_file.is_file() else {}
    scorer = str(config.get("scorer") or "")
    # `labeled-data`, or a folder of one video
    folders = [root / _LABELS] if (root / _LABELS).is_dir() else [root]
    folders += sorted(path for folder in folders for path in folder.iterdir() if path.is_dir())
    tables = [table for folder in folders for table in _tables_in(folder, scorer)]
    if not tables:
        raise NotFoundError(
            f"{root} contains no table of labels: {_LABELS}/VIDEO/CollectedData_{scorer or 'SCORER'}.csv. Label frames "
            "in DeepLabCut first; a table of predictions is converted by its own path."
        )
    return _Project(root, config, tables)


def _read_config(path: Path) -> Json:
    config = read_yaml(path, "config of DeepLabCut", DataError)
    if not any(key in config for key in ("bodyparts", "multianimalbodyparts")):
        raise DataError(f"{path} is not a config of DeepLabCut: it has no `bodyparts`.")
    return config


def _tables_in(folder: Path, scorer: str) -> list[Path]:
    """Return the table of labels in a folder: that of the scorer of the project, or the only one; .csv before .h5."""
    paths = [path for suffix in _SUFFIXES for path in sorted(folder.glob(f"CollectedData_*{suffix}"))]
    stems = list(dict.fromkeys(path.stem for path in paths))
    if len(stems) > 1:
        if f"CollectedData_{scorer}" not in stems:
            raise DataError(
                f"{folder} contains tables of several scorers ({', '.join(stems)}), and config.yaml names none of them "
                f"(`scorer: {scorer}`). Move those that should not be converted."
            )
        stems = [f"CollectedData_{scorer}"]
    return [next(path for path in paths if path.stem == stem) for stem in stems]


class _Reader:
    """Reads the rows of all tables as images."""

    def __init__(self, project: _Project, options: ReadOptions) -> None:
        self.project = project
        self.class_file = read_class_file(project.root)
        self._options = options
        self._split = options.split or ""
        self._min_confidence = _fraction(options.values.get("min_conf", 0))
        self._has_individuals = bool(project.config.get("multianimalproject"))
        self.classes = self._make_classes()

    def _make_classes(self) -> tuple[ClassTemplate, ...]:
        """Return the classes of the config and the tables; those of a class file with what was added since."""
        stored = self.class_file.classes
        if len(stored) == 1 and self._options.classes:
            stored = (replace(stored[0], name=self._options.classes[0]),)
        known = {point for template in stored for point in template.keypoints}
        points: dict[str, dict[str, None]] = {}
        project = self.project
        shared = project.names("multianimalbodyparts") if self._has_individuals else project.names("bodyparts")
        unique = project.names("uniquebodyparts") if self._has_individuals else []
        name = stored[0].name if stored else next(iter(self._options.classes), project.task)
        points[name] = dict.fromkeys(shared)
        if unique:
            points[UNIQUE] = dict.fromkeys(unique)
        for path in project.tables:
            table = open_table(path)
            for column in table.columns:
                category = UNIQUE if column.individual == UNIQUE and table.has_individuals else name
                points.setdefault(category, {}).setdefault(column.bodypart)
        pairs = project.skeleton
        current = [
            ClassTemplate(
                name=category,
                # of several classes, the table has all points for each individual
                keypoints=tuple(point for point in names if point not in known),
                skeleton=tuple(pair for pair in pairs if all(end in names for end in pair)),
            )
            for category, names in points.items()
        ]
        return extend_classes(stored, current) if stored else tuple(current)

    def images(self, issues: IssueLog) -> Iterator[ImageRecord]:
        """Read the tables; see `ImageReader`."""
        names: set[str] = set()
        for path in self.project.tables:
            table = open_table(path)
            frames = self._open_video(table, issues)
            for row in table.rows:
                image = self._image(table, row, frames, issues)
                if image.name in names:
                    issues.skip("rows of an image that has a row already", f"{path}, line {row.line}")
                    continue
                names.add(image.name)
                yield image

    def _open_video(self, table: Table, issues: IssueLog) -> VideoFrames | None:
        """Return the video that a table of predictions belongs to; None for tables of images."""
        stem, separator, _ = table.path.stem.partition("DLC")
        if not separator or not table.has_likelihood:
            return None
        folders = [self._options.images] if self._options.images else [table.path.parent, table.path.parent / "videos"]
        video = find_video(stem, folders)
        if video is None:
            issues.change("videos were not found", stem, "Give their folder with images=… (the frames are copied)")
        return VideoFrames(video) if video else None

    def _image(self, table: Table, row: Row, frames: VideoFrames | None, issues: IssueLog) -> ImageRecord:
        where = f"{'/'.join(table.path.parts[-2:])}, line {row.line}"
        parts = tuple(part for part in row.image.split("/") if part)
        if not parts:
            raise DataError(
                f"{table.path}, line {row.line}: the first field must be the name of the image, and it is empty."
            )
        image = ImageRecord(name="/".join(parts[-2:]), split=self._split, source=where)
        if row.image.isdecimal():
            video = table.path.stem.partition("DLC")[0] or table.path.stem
            image.name = f"{video}/img{int(row.image):06d}.png"
            image.attributes = {"frame": int(row.image)}
            if frames is not None:
                image.encoded = frames.reader(int(row.image))
                image.width, image.height = frames.size
        else:
            roots = [self._options.images] if self._options.images else [self.project.root, self.project.root.parent]
            image.path = ForeignLocator(roots).find(row.image, issues, table.path.parent)
        image.instances = list(self._instances(table, row, where, issues))
        fill_size(image, issues)
        return self.class_file.restore(image, row.image)

    def _instances(self, table: Table, row: Row, where: str, issues: IssueLog) -> Iterator[Instance]:
        points: defaultdict[str, dict[str, Point]] = defaultdict(dict)
        for name, (individual, point) in _points(table.columns, row.values).items():
            if math.isnan(point.x) and math.isnan(point.y):
                continue
            if math.isnan(point.x) or math.isnan(point.y):
                issues.skip("points with one coordinate only", f"{where}: {name}")
                continue
            if point.confidence is not None and point.confidence < self._min_confidence:
                issues.skip(f"points with a likelihood below min_conf={self._min_confidence:g}", f"{where}: {name}")
                continue
            points[individual][name.bodypart] = point
        for individual, labeled in points.items():
            instance = Instance(category=self._category(table, individual), points=labeled, source=where)
            if table.has_individuals and individual != UNIQUE:
                instance.attributes["individual"] = individual
                if self.project.config.get("identity") is True:
                    instance.track_id = individual
            yield instance

    def _category(self, table: Table, individual: str) -> str:
        """Return the class of an individual: by its name in projects that `write` made of several classes."""
        names = [template.name for template in self.classes]
        if table.has_individuals and individual == UNIQUE:
            return UNIQUE
        return next((name for name in names if _is_numbered(individual, name)), names[0])


def _fraction(value: object) -> float:
    try:
        fraction = float(cast(float, value))
    except (TypeError, ValueError):
        fraction = math.nan
    if not 0 <= fraction <= 1:
        raise UsageError(f"min_conf must be a number from 0 to 1; it is {value!r}.")
    return fraction


def _is_numbered(individual: str, category: str) -> bool:
    return individual.startswith(category) and individual[len(category) :].isdecimal()


@dataclass(frozen=True, slots=True)
class _PointName:
    individual: str
    bodypart: str

    def __str__(self) -> str:
        return self.bodypart if self.individual == UNIQUE else f"{self.bodypart} of {self.individual}"


def _points(columns: Sequence[Column], values: Sequence[float]) -> dict[_PointName, tuple[str, Point]]:
    """Return individual and point of each name; coordinates are NaN where nothing is labeled."""
    by_name: dict[_PointName, dict[str, float]] = {}
    for column, value in zip(columns, values, strict=True):
        by_name.setdefault(_PointName(column.individual, column.bodypart), {})[column.coord] = value
    points: dict[_PointName, tuple[str, Point]] = {}
    for name, coords in by_name.items():
        confidence = coords.get("likelihood", math.nan)
        point = Point(coords["x"], coords["y"], confidence=None if math.isnan(confidence) else confidence)
        points[name] = name.individual, point
    return points


def open_table(path: Path) -> Table:
    """Read a table, CSV or HDF5.

    Raises:
        DataError: it is not a table of DeepLabCut.
        DependencyError: it is an HDF5 file and h5py is not installed.
    """
    return read_csv_table(path) if path.suffix.lower() == ".csv" else read_hdf5_table(path)


def read(source: Path, options: ReadOptions) -> DatasetRecord:
    """Read a project, its config.yaml, a folder of one video, or a table.

    Args:
        source: file or folder.
        options: `values["min_conf"]` is the likelihood below which predicted points are skipped.

    Raises:
        NotFoundError: a table of labels does not exist.
        DataError: the config or a table is damaged.
    """
    project = _open_project(source)
    reader = _Reader(project, options)
    if not any(template.keypoints for template in reader.classes):
        raise DataError(f"{project.root / _CONFIG} has no body parts.")
    attributes: Json = dict(reader.class_file.attributes)
    attributes |= {key: project.config[key] for key in ("Task", "scorer", "date") if project.config.get(key)}
    return DatasetRecord(classes=reader.classes, read_images=reader.images, attributes=attributes)


def detect(path: Path) -> bool:
    """Return whether a path is a project, its config, or a table."""
    if path.is_dir():
        is_project = (path / _CONFIG).is_file() and (path / _LABELS).is_dir()
        return is_project or any(path.glob("CollectedData_*.csv"))
    if path.name == _CONFIG:
        return starts_with(path, [b"bodyparts", b"video_sets"])
    if path.suffix.lower() in (".h5", ".hdf5"):
        return "DLC" in path.stem or path.stem.startswith("CollectedData_")
    return path.suffix.lower() == ".csv" and starts_with(path, [b"scorer", b"bodyparts", b"coords"])


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
    main = plan.main(_CONFIG, "the config")
    for image in dataset.images(issues):
        path = _image_path(image)
        plan.add(path, f"{image.name!r} of {image.split or 'the source'}", image.content if copies else None)
        extra[path.as_posix()] = image_to_json(image)
        layout.folders[path.parts[1]] += 1
        if image.size:
            layout.sizes.setdefault(path.parts[1], image.size)
        _count(image, counts, tracks)
    tables = {
        folder: plan.add(f"{_LABELS}/{folder}/CollectedData_{layout.scorer}.csv", f"the table of {folder}")
        for folder in layout.folders
    }
    plan.add(CLASS_FILE, "the class file")
    plan.check()
    _choose_columns(dataset, layout, counts, tracks)
    rows: defaultdict[str, list[str]] = defaultdict(list)
    for image in dataset.images():
        path = _image_path(image)
        rows[path.parts[1]].append(_csv_row(path, image, layout))
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
    return PurePosixPath(_LABELS, _safe(folder), parts[-1])


def _safe(text: str) -> str:
    """Replace what DeepLabCut would take for the end of a name: it names folders like files without their suffix."""
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text) or "_"


def _count(image: ImageRecord, counts: dict[str, int], names: dict[str, dict[str, None]]) -> None:
    """Count the instances of each class in the image that has most, and collect the names of individuals."""
    for category, count in Counter(instance.category for instance in image.instances).items():
        counts[category] = max(counts.get(category, 0), count)
    for instance in image.instances:
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


def _csv_row(path: PurePosixPath, image: ImageRecord, layout: _Layout) -> str:
    individuals = _assign(image, layout)
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
    for instance in image.instances:
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


FORMAT = AnnotationFormat(
    name="deeplabcut",
    title="DeepLabCut",
    capabilities=ALL_FEATURES
    - {
        Feature.INSTANCE_ID,
        Feature.INSTANCE_ATTRIBUTES,
        Feature.BOX,
        Feature.NO_POINTS,
        Feature.ROTATION,
        Feature.CROWD,
        Feature.AREA,
        Feature.SEGMENTATION,
        Feature.CONFIDENCE,
        Feature.TRACK_ID,
        Feature.HIDDEN,
        Feature.ABSENT_XY,
        Feature.POINT_CONFIDENCE,
    },
    detect=detect,
    read=read,
    write=write,
)
