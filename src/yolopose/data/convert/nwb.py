"""NWB files with ndx-pose (Neurodata Without Borders), through sleap-io.

Training annotations (`PoseTraining`) and predictions (`PoseEstimation`) are read; annotations are written. NWB holds
the positions of labeled points, the skeletons, and where the images are: boxes, hidden states and splits are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import DataError, NotFoundError
from yolopose.data.convert.frames import FrameSource, common_folder
from yolopose.data.convert.output import OutputPlan
from yolopose.data.convert.protocol import AnnotationFormat, Feature, ReadOptions, WriteOptions
from yolopose.data.convert.record import (
    ClassTemplate,
    DatasetRecord,
    ImageRecord,
    Instance,
    IssueLog,
    Point,
    PointState,
)
from yolopose.data.convert.sleap import LabelsBuilder, LabelsReader, import_sleap_io, load, plan_sequences
from yolopose.data.convert.source_files import ForeignLocator, fill_size

_TRAINING = "processing/behavior/PoseTraining"
_SKELETONS = "processing/behavior/Skeletons"


def read(source: Path, options: ReadOptions) -> DatasetRecord:
    """Read an .nwb file.

    Args:
        source: the file.
        options: as of the SLEAP format.

    Raises:
        NotFoundError: the file does not exist.
        DataError: it is damaged or has no poses.
        DependencyError: sleap-io is not installed.
    """
    import_sleap_io()
    import h5py

    if not source.is_file():
        raise NotFoundError(f"{source} does not exist (current folder: {Path.cwd()}).")
    try:
        with h5py.File(source, "r") as file:
            if _TRAINING in file:
                return _Annotations(source, file, options).record()
    except DataError:
        raise
    except Exception as error:  # h5py raises many kinds for damaged files
        raise DataError(f"{source} is not an NWB file with poses ({type(error).__name__}: {error}).") from error
    return LabelsReader(source, load(source, "load_nwb"), options).record()


class _Annotations:
    """Training annotations, read into memory: they have a group of the file for each instance.

    sleap-io 0.9 cannot read sequences of images back, and opens every file that is named.
    """

    def __init__(self, source: Path, file: Any, options: ReadOptions) -> None:
        self._source = source
        self._split = options.split or ""
        root = source.parent
        roots = [options.images] if options.images else [root, root / "images", root / "videos", root.parent]
        self._locator = ForeignLocator(roots)
        training = file[_TRAINING]
        self._sources: dict[str, FrameSource] = {}
        files = {
            name: [_text(value) for value in series["external_file"][()]]
            for name, series in training["source_videos"].items()
        }
        folder = common_folder([name for names in files.values() for name in names if _is_image(name)])
        for number, (name, names) in enumerate(files.items()):
            sequence = names[0] if len(names) == 1 and not _is_image(names[0]) else names
            self._sources[name] = FrameSource(sequence, number, source, None, folder)
        self._classes = tuple(_to_template(name, group) for name, group in file[_SKELETONS].items())
        self._frames = [_parse_frame(self._inside(frame)) for frame in training["training_frames"].values()]

    def _inside(self, group: Any) -> Any:
        """Return a group, which must not lead into another file.

        Raises:
            DataError: it does.
        """
        if group.file.filename != str(self._source):
            raise DataError(f"{self._source}: {group.name} is a link to another file, {group.file.filename}.")
        return group

    def record(self) -> DatasetRecord:
        """Return the record."""
        return DatasetRecord(classes=self._classes, read_images=self.images)

    def images(self, issues: IssueLog) -> Iterator[ImageRecord]:
        """Read the frames; see `ImageReader`."""
        order = {name: number for number, name in enumerate(self._sources)}
        for video, index, instances in sorted(self._frames, key=lambda frame: (order[frame[0]], frame[1])):
            source = self._sources[video]
            image = ImageRecord(name=source.name(index), split=self._split, source=str(self._source))
            source.locate(image, index, self._locator, issues)
            templates = {template.name: template for template in self._classes}
            for category, points in instances:
                image.instances.append(_instance(templates[category], points, image.name))
            fill_size(image, issues)
            yield image


_Points = tuple[Any, Any]  # (K, 2) positions and (K,) visibility


def _parse_frame(group: Any) -> tuple[str, int, list[tuple[str, _Points]]]:
    """Return the name of the video, the number of the frame, and class and points of each instance."""
    video = _link_name(group, "source_video")
    instances: list[tuple[str, _Points]] = []
    for _, instance in sorted(group["skeleton_instances"].items(), key=lambda item: int(item[1].attrs.get("id", 0))):
        skeleton = next(
            name for name, child in instance.items() if _text(child.attrs.get("neurodata_type", "")) == "Skeleton"
        )
        positions = np.asarray(instance["node_locations"][()], dtype=np.float64)
        visible = np.isfinite(positions).all(axis=1)
        if "node_visibility" in instance:
            visible &= np.asarray(instance["node_visibility"][()], dtype=bool)
        instances.append((_link_name(instance, skeleton), (positions, visible)))
    return video, int(group.attrs["source_video_frame_index"]), instances


def _link_name(group: Any, key: str) -> str:
    """Return the name of the group that a member is or links to."""
    link = group.get(key, getlink=True)
    path = getattr(link, "path", group[key].name)
    return str(path).rsplit("/", 1)[-1]


def _instance(template: ClassTemplate, points: _Points, where: str) -> Instance:
    positions, visible = points
    if len(positions) != len(template.keypoints):
        raise DataError(
            f"{where}: an instance has {len(positions)} points, its skeleton {len(template.keypoints)} nodes."
        )
    instance = Instance(category=template.name, source=where)
    for name, (x, y), is_visible in zip(template.keypoints, positions, visible, strict=True):
        if is_visible:
            instance.points[name] = Point(float(x), float(y), PointState.VISIBLE)
    return instance


def _to_template(name: str, group: Any) -> ClassTemplate:
    nodes = tuple(_text(value) for value in group["nodes"][()])
    edges = np.asarray(group["edges"][()], dtype=np.int64).reshape(-1, 2) if "edges" in group else []
    return ClassTemplate(name=name, keypoints=nodes, skeleton=tuple((nodes[a], nodes[b]) for a, b in edges))


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _is_image(name: str) -> bool:
    from yolopose.data.images import is_image

    return is_image(Path(name))


def detect(path: Path) -> bool:
    """Return whether a path is an .nwb file."""
    return path.suffix.lower() == ".nwb" and path.is_file()


def write(dataset: DatasetRecord, plan: OutputPlan, options: WriteOptions, issues: IssueLog) -> Path:
    """Write an .nwb file with training annotations that refer to a copy of the images.

    Raises:
        DependencyError: sleap-io is not installed.
    """
    sleap_io = import_sleap_io()
    main = plan.main("labels.nwb", "the labels")
    sequences = plan_sequences(dataset, plan, options, issues)
    labels = LabelsBuilder(dataset, plan.target, sequences, has_hidden=False).build(open_videos=True)
    with plan.external(main) as path:
        sleap_io.save_nwb(labels, str(path), nwb_format="annotations")
    return plan.target / main


FORMAT = AnnotationFormat(
    name="nwb",
    title="NWB",
    capabilities=frozenset(
        {
            Feature.SEVERAL_INSTANCES,
            Feature.CLASS,
            Feature.CLASS_KEYPOINTS,
            Feature.KEYPOINT_NAMES,
            Feature.SKELETON,
        }
    ),
    detect=detect,
    read=read,
    write=write,
    suffixes=(".nwb",),
    extra="sleap",
)
