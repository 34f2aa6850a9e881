"""DeepLabCut projects: config.yaml, and a table of points beside the images of each video.

A project has `labeled-data/VIDEO/CollectedData_SCORER.csv` (and the same as .h5). Multi-animal projects have
individuals, and may have unique body parts, which become the class `single`. Tables of predictions are read as labels
with confidences; their frames are taken from the video beside them.

DeepLabCut has neither boxes nor hidden points nor other values of instances. A written project has them in
`yolopose.json`, for the way back.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.base.yamlfile import read_yaml
from yolopose.data.convert.class_file import read_class_file
from yolopose.data.convert.deeplabcut_project import CONFIG, LABELS, write
from yolopose.data.convert.deeplabcut_stored import restore_instances
from yolopose.data.convert.deeplabcut_table import UNIQUE, Column, Row, Table, read_csv_table, read_hdf5_table
from yolopose.data.convert.frames import VideoFrames, find_video
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, Instance, IssueLog, Point
from yolopose.data.convert.source_files import ForeignLocator, Json, extend_classes, fill_size, starts_with

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
            raise DataError(f"{self.root / CONFIG}: `{key}` must be a list of names; it is {str(values)[:80]!r}.")
        return [str(value) for value in values]


def _open_project(source: Path) -> _Project:
    if source.is_file() and source.suffix.lower() in _SUFFIXES:
        config_file = next((path for parent in list(source.parents)[:4] if (path := parent / CONFIG).is_file()), None)
        config = _read_config(config_file) if config_file else {}
        return _Project(source.parent, config, [source])
    root = source.parent if source.is_file() else source
    config_file = root / CONFIG
    config = _read_config(config_file) if config_file.is_file() else {}
    scorer = str(config.get("scorer") or "")
    # `labeled-data`, or a folder of one video
    folders = [root / LABELS] if (root / LABELS).is_dir() else [root]
    folders += sorted(path for folder in folders for path in folder.iterdir() if path.is_dir())
    tables = [table for folder in folders for table in _tables_in(folder, scorer)]
    if not tables:
        raise NotFoundError(
            f"{root} contains no table of labels: {LABELS}/VIDEO/CollectedData_{scorer or 'SCORER'}.csv. Label frames "
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
        instances = dict(self._instances(table, row, where, issues))
        stored = self.class_file.images.get(row.image, {}).get("instances")
        image.instances = restore_instances(stored, instances, self.classes)
        fill_size(image, issues)
        return self.class_file.restore(image, row.image)

    def _instances(self, table: Table, row: Row, where: str, issues: IssueLog) -> Iterator[tuple[str, Instance]]:
        """Yield the name of each individual with labeled points, and its instance."""
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
            yield individual, instance

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
        raise DataError(f"{project.root / CONFIG} has no body parts.")
    attributes: Json = dict(reader.class_file.attributes)
    attributes |= {key: project.config[key] for key in ("Task", "scorer", "date") if project.config.get(key)}
    return DatasetRecord(classes=reader.classes, read_images=reader.images, attributes=attributes)


def detect(path: Path) -> bool:
    """Return whether a path is a project, its config, or a table."""
    if path.is_dir():
        is_project = (path / CONFIG).is_file() and (path / LABELS).is_dir()
        return is_project or any(path.glob("CollectedData_*.csv"))
    if path.name == CONFIG:
        return starts_with(path, [b"bodyparts", b"video_sets"])
    if path.suffix.lower() in (".h5", ".hdf5"):
        return "DLC" in path.stem or path.stem.startswith("CollectedData_")
    return path.suffix.lower() == ".csv" and starts_with(path, [b"scorer", b"bodyparts", b"coords"])


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
