"""SLEAP projects (.slp) and NWB files, through sleap-io (io.sleap.ai), an optional dependency.

A SLEAP project has skeletons, which become classes, and labeled frames of videos, of image sequences or embedded in the
file (.pkg.slp). SLEAP ignores points that are not visible when it trains, and their position is then often not set by
hand: they are read as absent, unless yolopose wrote the file or `hidden=True` is given. Predicted instances are read
with their confidences, unless an instance made by hand replaces them or `predicted=False` is given.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from yolopose.base.errors import DataError, DependencyError, NotFoundError
from yolopose.data.convert.class_file import class_file, image_to_json, parse_class_file
from yolopose.data.convert.frames import FrameSource, common_folder
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import ALL_FEATURES, AnnotationFormat, Feature, ReadOptions, WriteOptions
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
from yolopose.data.convert.source_files import ForeignLocator, Json, extend_classes, fill_size, folder_name

_MAX_BYTES = 64 << 30  # with embedded images
_HIDDEN_ADVICE = "SLEAP ignores them when it trains; hidden=True reads them as hidden"
_PROVENANCE = "yolopose"  # key of what `write` stores: classes, images, and that hidden points are meant


def import_sleap_io() -> Any:
    """Import sleap-io.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        import sleap_io
    except ImportError as error:
        raise DependencyError(
            'SLEAP and NWB files are read and written with sleap-io: pip install "yolopose[sleap]".'
        ) from error
    return sleap_io


def load(path: Path, loader: str) -> Any:
    """Open a file with sleap-io, without opening the videos that it names.

    Args:
        path: the file.
        loader: name of the function of sleap-io.

    Raises:
        NotFoundError: the file does not exist.
        DataError: it is damaged.
        DependencyError: sleap-io is not installed.
    """
    sleap_io = import_sleap_io()
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist (current folder: {Path.cwd()}).")
    if path.stat().st_size > _MAX_BYTES:
        raise DataError(f"{path} has more than {_MAX_BYTES >> 30} GiB.")
    try:
        return getattr(sleap_io, loader)(str(path), open_videos=False)
    except Exception as error:  # h5py and JSON raise many kinds for damaged files
        raise DataError(f"{path} cannot be read by sleap-io ({type(error).__name__}: {error}).") from error


def read(source: Path, options: ReadOptions) -> DatasetRecord:
    """Read a .slp file.

    Args:
        source: the file.
        options: `values` may have `predicted=False`, which skips predicted instances, and `hidden=True`, which reads
            points that are not visible as hidden instead of absent.

    Raises:
        NotFoundError: the file does not exist.
        DataError: it is damaged.
        DependencyError: sleap-io is not installed.
    """
    return LabelsReader(source, load(source, "load_slp"), options).record()


class LabelsReader:
    """Turns the `Labels` of sleap-io into a record.

    Args:
        source: the file that they were read from.
        labels: the labels.
        options: see `read`.
    """

    def __init__(self, source: Path, labels: Any, options: ReadOptions) -> None:
        self._source = source
        self._labels = labels
        self._split = options.split or ""
        stored = labels.provenance.get(_PROVENANCE)
        self._stored = parse_class_file(json.loads(stored) if isinstance(stored, str) else {}, source)
        self._hidden = bool(options.values.get("hidden", self._stored.exists))
        self._predicted = bool(options.values.get("predicted", True))
        root = source.parent
        roots = [options.images] if options.images else [root, root / "images", root / "videos", root.parent]
        self._locator = ForeignLocator(roots)
        self._names = {id(skeleton): name for skeleton, name in zip(labels.skeletons, self._class_names(), strict=True)}
        folder = common_folder(
            [name for video in labels.videos if isinstance(video.filename, list) for name in video.filename]
        )
        self._videos = {
            id(video): _frame_source(video, index, source, folder) for index, video in enumerate(labels.videos)
        }

    def _class_names(self) -> list[str]:
        """Return a class name for each skeleton."""
        names: list[str] = []
        for index, skeleton in enumerate(self._labels.skeletons):
            name = str(skeleton.name or "") or "object"
            names.append(name if name not in names else f"{name} {index}")
        return names

    def record(self) -> DatasetRecord:
        """Return the record."""
        skeletons = zip(self._labels.skeletons, self._class_names(), strict=True)
        current = [_to_template(skeleton, name) for skeleton, name in skeletons]
        classes = extend_classes(self._stored.classes, current)
        if not any(template.keypoints for template in classes):
            raise DataError(f"{self._source} has no skeleton with nodes.")
        attributes = dict(self._stored.attributes)
        return DatasetRecord(classes=classes, read_images=self.images, attributes=attributes)

    def images(self, issues: IssueLog) -> Iterator[ImageRecord]:
        """Read the labeled frames; see `ImageReader`."""
        videos = self._videos
        frames = sorted(self._labels.labeled_frames, key=lambda frame: (videos[id(frame.video)].index, frame.frame_idx))
        for frame in frames:
            video = videos[id(frame.video)]
            index = int(frame.frame_idx)
            image = ImageRecord(name=video.name(index), split=self._split, source=str(self._source))
            video.locate(image, index, self._locator, issues)
            image.instances = list(self._instances(frame, image, issues))
            fill_size(image, issues)
            yield self._stored.restore(image, f"{video.index}:{index}")

    def _instances(self, frame: Any, image: ImageRecord, issues: IssueLog) -> Iterator[Instance]:
        replaced = {id(instance.from_predicted) for instance in frame.instances}
        boxes = {id(box.instance): box for box in getattr(frame, "bboxes", ()) if box.instance is not None}
        for number, instance in enumerate(frame.instances):
            where = f"{image.name}, instance {number}"
            is_predicted = hasattr(instance, "score")
            if is_predicted and (not self._predicted or id(instance) in replaced):
                kind = "predicted instances"
                issues.skip(f"{kind} that were corrected by hand" if self._predicted else kind, where)
                continue
            if is_predicted:
                issues.change(
                    "predicted instances were read as labels",
                    where,
                    "They have confidences; predicted=False skips them",
                )
            yield self._instance(instance, boxes.get(id(instance)), where, issues)
        lonely = sum(box.instance is None for box in getattr(frame, "bboxes", ()))
        if lonely:
            issues.skip("boxes that belong to no instance", image.name, count=lonely)

    def _instance(self, instance: Any, box: Any, where: str, issues: IssueLog) -> Instance:
        result = Instance(category=self._names[id(instance.skeleton)], source=where)
        category = getattr(instance.category, "name", None)
        if category:
            result.attributes["category"] = str(category)
        has_scores = "score" in instance.points.dtype.names
        for name, row in zip(instance.skeleton.node_names, instance.points, strict=True):
            x, y = (float(value) for value in row["xy"])
            if not (math.isfinite(x) and math.isfinite(y)):
                continue
            state = PointState.VISIBLE
            if not row["visible"]:
                state = PointState.HIDDEN if self._hidden else PointState.ABSENT
                if not self._hidden:
                    issues.change("points that are not visible were read as absent", f"{where}: {name}", _HIDDEN_ADVICE)
            score = float(row["score"]) if has_scores else math.nan
            result.points[name] = Point(x, y, state, score if math.isfinite(score) else None)
        score = getattr(instance, "score", None)
        result.confidence = None if score is None or not math.isfinite(score) else float(score)
        if instance.track is not None:
            result.track_id = str(instance.track.name)
        if box is not None:
            result.box = Box.from_corners(box.x1, box.y1, box.x2, box.y2)
            result.rotation = math.degrees(box.angle)
        return result


def _frame_source(video: Any, index: int, source: Path, folder: tuple[str, ...]) -> FrameSource:
    """Return where the frames of a video are, which is not opened."""
    names = video.filename
    names = [str(name) for name in names] if isinstance(names, list) else str(names)
    embedded = isinstance(names, str) and os.path.realpath(names) == os.path.realpath(source)
    original = getattr(video.source_video, "filename", None) if embedded else None
    reader = _EmbeddedImages(video, source).reader if embedded else None
    frames = FrameSource(original or names if embedded else names, index, source, reader, folder)
    shape = video.backend_metadata.get("shape")
    if shape is not None and len(shape) == 4 and all(shape[1:3]):
        frames.size = int(shape[2]), int(shape[1])
    return frames


class _EmbeddedImages:
    """Images that are embedded in the file."""

    def __init__(self, video: Any, source: Path) -> None:
        self._video = video
        self._source = source
        self._backend: Any = None

    def reader(self, index: int) -> Callable[[], bytes]:
        """Return a function that returns the image of a frame as a file."""
        return lambda: self._read(index)

    def _read(self, index: int) -> bytes:
        import cv2

        try:
            if self._backend is None:
                self._video.open(filename=str(self._source))
                self._backend = self._video.backend
            raw = self._backend.get_frame_raw_bytes(index)
            if raw is not None:
                return np.asarray(raw).astype(np.uint8, copy=False).tobytes()
            frame = np.asarray(self._backend[index])
        except Exception as error:  # h5py raises many kinds
            raise DataError(f"{self._source} has no image of frame {index} ({error}).") from error
        frame = frame[..., ::-1] if frame.shape[-1] == 3 else frame
        return cv2.imencode(".png", np.ascontiguousarray(frame))[1].tobytes()


def _to_template(skeleton: Any, name: str) -> ClassTemplate:
    mirror = tuple((str(first), str(second)) for first, second in (sorted(pair) for pair in skeleton.symmetry_names))
    return ClassTemplate(
        name=name,
        keypoints=tuple(map(str, skeleton.node_names)),
        skeleton=tuple((str(first), str(second)) for first, second in skeleton.edge_names),
        mirror=mirror or None,
    )


def detect(path: Path) -> bool:
    """Return whether a path is a .slp file."""
    return path.suffix.lower() == ".slp" and path.is_file()


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write a .slp file that refers to a copy of the images; images of one folder and size are one sequence.

    Raises:
        DependencyError: sleap-io is not installed.
        DataError: the classes in use have more keypoints than the file has room for.
    """
    sleap_io = import_sleap_io()
    main = plan.main("labels.slp", "the labels")
    sequences = plan_sequences(dataset, plan, options, issues)
    labels = LabelsBuilder(dataset, plan.target, sequences).build(open_videos=False)
    with plan.external(main) as path:
        try:
            sleap_io.save_slp(labels, str(path), embed=False, verbose=False)
        except ValueError as error:
            raise DataError(
                f"The annotations cannot be written as SLEAP: {error} A SLEAP file has a skeleton for each class: give "
                "classes with the same keypoints one name before, or choose another format."
            ) from error
    return plan.target / main


def plan_sequences(
    dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog
) -> dict[str, list[str]]:
    """Plan and copy the images.

    Returns:
        The images of each sequence, by its name, as paths below the target.
    """
    sequences: defaultdict[str, list[str]] = defaultdict(list)
    copies = options.copy_images is not False
    for image in dataset.images(issues):
        path = PurePosixPath("images", folder_name(image))
        plan.add(path, f"{image.name!r} of {image.split or 'the source'}", image.content if copies else None)
        sequences[_sequence(image)].append(path.as_posix())
    plan.check()
    for path in plan.copies:
        plan.copy(path)
    return sequences


def _sequence(image: ImageRecord) -> str:
    """Return a key of images that can be one sequence: SLEAP expects one size."""
    return f"{folder_name(image).parent} {image.width}x{image.height}"


class LabelsBuilder:
    """Makes the `Labels` of sleap-io from a record.

    Args:
        dataset: the record.
        target: folder of the images.
        sequences: images of each sequence; see `plan_sequences`.
        has_hidden: whether the format holds hidden points; otherwise they are visible.
    """

    def __init__(
        self, dataset: DatasetRecord, target: Path, sequences: dict[str, list[str]], has_hidden: bool = True
    ) -> None:
        self._has_hidden = has_hidden
        self._sleap_io = import_sleap_io()
        self._dataset = dataset
        self._root = target.resolve()
        self._sequences = sequences
        self._skeletons = {template.name: self._skeleton(template) for template in dataset.classes}
        self._tracks: dict[str, Any] = {}

    def _skeleton(self, template: ClassTemplate) -> Any:
        skeleton = self._sleap_io.Skeleton(nodes=list(template.keypoints), name=template.name)
        for first, second in template.skeleton:
            skeleton.add_edge(first, second)
        for first, second in template.mirror or ():
            skeleton.add_symmetry(first, second)
        return skeleton

    def build(self, open_videos: bool) -> Any:
        """Return the labels.

        Args:
            open_videos: whether to open the images, which formats need that store their properties.
        """
        sleap_io = self._sleap_io
        videos: dict[str, Any] = {}
        positions: dict[str, int] = {}
        extra: dict[str, Json] = {}
        frames: list[Any] = []
        used: set[str] = set()
        for image in self._dataset.images():
            used.update(instance.category for instance in image.instances)
            key = _sequence(image)
            if key not in videos:
                videos[key] = self._video(self._sequences[key], image, open_videos)
            position = positions.get(key, 0)
            positions[key] = position + 1
            frame = sleap_io.LabeledFrame(video=videos[key], frame_idx=position)
            for instance in image.instances:
                self._add_instance(frame, instance)
            frames.append(frame)
            extra[f"{list(videos).index(key)}:{position}"] = image_to_json(image)
        # the file has room for about 50 skeletons of 17 nodes; classes without instances are in the provenance only
        skeletons = [skeleton for name, skeleton in self._skeletons.items() if name in used]
        labels = sleap_io.Labels(labeled_frames=frames, videos=list(videos.values()), skeletons=skeletons)
        labels.provenance[_PROVENANCE] = class_file(self._dataset, extra).decode()
        return labels

    def _video(self, paths: Sequence[str], image: ImageRecord, open_videos: bool) -> Any:
        names = [str(self._root / path) for path in paths]
        if open_videos:
            return self._sleap_io.Video.from_filename(names)
        metadata: Json = {
            "type": "ImageVideo",
            "filename": names[0],
            "filenames": names,
            "shape": [len(names), image.height, image.width, 3] if image.size else None,
            "height_": image.height,
            "width_": image.width,
            "channels_": 3,
            "grayscale": False,
        }
        return self._sleap_io.Video(filename=names, backend_metadata=metadata, open_backend=False)

    def _add_instance(self, frame: Any, instance: Instance) -> None:
        sleap_io = self._sleap_io
        skeleton = self._skeletons[instance.category]
        names = skeleton.node_names
        points = np.full((len(names), 4), np.nan)
        points[:, 2:] = 0
        for row, name in enumerate(names):
            point = instance.points.get(name)
            if point is not None and point.state:
                is_visible = point.state == PointState.VISIBLE or not self._has_hidden
                points[row] = point.x, point.y, is_visible, 1
        track = None
        if instance.track_id is not None:
            key = str(instance.track_id)
            track = self._tracks.setdefault(key, sleap_io.Track(name=key))
        if instance.confidence is None and all(point.confidence is None for point in instance.points.values()):
            made = sleap_io.Instance(points=points, skeleton=skeleton, track=track)
        else:
            made = self._predicted(instance, points, skeleton, track)
        frame.instances.append(made)
        if instance.box is not None:
            x1, y1, x2, y2 = instance.box.corners
            angle = math.radians(instance.rotation)
            frame.append(sleap_io.UserBoundingBox(x1=x1, y1=y1, x2=x2, y2=y2, angle=angle, instance=made))

    def _predicted(self, instance: Instance, points: Any, skeleton: Any, track: Any) -> Any:
        scores = [getattr(instance.points.get(name), "confidence", None) for name in skeleton.node_names]
        column = [math.nan if score is None else score for score in scores]
        with_scores = np.column_stack([points[:, :2], column, points[:, 2:]])
        score = math.nan if instance.confidence is None else instance.confidence
        return self._sleap_io.PredictedInstance(points=with_scores, skeleton=skeleton, track=track, score=score)


FORMAT = AnnotationFormat(
    name="sleap",
    title="SLEAP",
    capabilities=ALL_FEATURES
    - {
        Feature.INSTANCE_ID,
        Feature.INSTANCE_ATTRIBUTES,
        Feature.CROWD,
        Feature.AREA,
        Feature.SEGMENTATION,
        Feature.ABSENT_XY,
    },
    detect=detect,
    read=read,
    write=write,
    suffixes=(".slp",),
    extra="sleap",
)
