"""Pre-labels: predictions as annotations of any format, for review in a labeling tool, and which images to label.

A keypoint is visible, hidden or absent by its confidence. The confidences of instances and keypoints are written where
the format has a place for them.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError, UsageError
from yolopose.base.files import expand_user
from yolopose.base.log import LOGGER
from yolopose.base.progress import progress
from yolopose.config import LabelOptions, PredictOptions, RunLocation
from yolopose.data.convert.conversion import ConversionReport, write_annotations
from yolopose.data.convert.output import create_file
from yolopose.data.convert.protocol import WriteOptions
from yolopose.data.convert.record import Box, DatasetRecord, ImageRecord, Instance, Point, PointState
from yolopose.data.convert.registry import get_format
from yolopose.data.convert.yolo_rows import layout_classes, layout_from_spec
from yolopose.predict.active_learning import Candidate, Embedder, Suggestion, UncertaintyScorer, suggest_images
from yolopose.predict.pipeline import predict
from yolopose.results import Results
from yolopose.results.arrays import to_numpy
from yolopose.results.writing import save_image
from yolopose.runtime import Runtime
from yolopose.schema import PoseSpec

_LOW_CONF = 0.05
"""Confidence from which detections count for uncertainty, though they are not written."""


@dataclass(frozen=True, slots=True)
class LabelThresholds:
    """Confidences that decide what is written.

    Attributes:
        instance: instances below it are not written.
        visible: keypoints below it are hidden.
        absent: keypoints below it are absent; at most `visible`.

    Raises:
        UsageError: `absent` exceeds `visible`.
    """

    instance: float = 0.25
    visible: float = 0.5
    absent: float = 0.1

    def __post_init__(self) -> None:
        if self.absent > self.visible:
            raise UsageError(
                f"min_kpt_conf={self.absent:g} is above kpt_conf={self.visible:g}: keypoints below min_kpt_conf are "
                "absent, those from there to kpt_conf hidden, and those above visible."
            )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelResult:
    """What `YOLO.label` wrote.

    Attributes:
        output: the main file: a data YAML, a JSON or XML file, ….
        report: numbers of images and instances, and what the format cannot hold.
        suggestions: the images that are most worth labeling, best first; empty without `suggest`.
        list_file: table of the suggestions, or None.
        unreadable: number of images that could not be read.
    """

    output: Path
    report: ConversionReport
    suggestions: Sequence[Suggestion]
    list_file: Path | None
    unreadable: int


def label_source(
    runtime: Runtime, source: Any, options: LabelOptions, *, model_name: str, embed: Embedder | None = None
) -> LabelResult:
    """Predict the images of a source and write the predictions as annotations.

    Args:
        runtime: the engine.
        source: see `yolopose.predict.sources.open_source`; frames of videos are written as images.
        options: thresholds, format, output.
        model_name: name of the network, written as the version of the labels.
        embed: returns features of images for `suggest`; None uses thumbnails.

    Raises:
        UsageError: an option or format that does not exist.
        SourceError: no image can be read.
        DataError: the labels cannot be written in this format.
        OutputError: the output exists or cannot be written.
    """
    thresholds = LabelThresholds(options.min_conf, options.kpt_conf, options.min_kpt_conf)
    target = get_format(options.to)  # fail before the images are predicted
    if target.write is None:
        raise UsageError(f"{target.title} is only read, not written. Choose another format (to=…).")
    spec = runtime.metadata.spec
    with ExitStack() as stack:
        frames = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="yolopose-frames-")))
        reader = _RecordBuilder(spec, thresholds, frames)
        if options.suggest is None:
            records = map(reader.add, _predictions(runtime, source, options, options.min_conf))
            images = [record for record in progress(records, "Labeling") if record is not None]
            suggestions: list[Suggestion] = []
        else:
            candidates = _read_candidates(runtime, source, options, reader, embed)
            suggestions = suggest_images(candidates, options.suggest, _labeled_images(options), embed)
            images = [suggestion.record for suggestion in suggestions]
        if not images:
            raise SourceError(f"No image could be read ({reader.unreadable} failed); nothing was written.")
        _set_names(images, frames)
        dataset = DatasetRecord.from_images(
            layout_classes(layout_from_spec(spec)), images, {"model_version": model_name}
        )
        output = _output_path(options)
        copy = True if reader.has_frames else options.copy
        report = write_annotations(
            dataset, output, to=options.to, options=WriteOptions(copy_images=copy, url=options.url), verbose=False
        )
    list_file = _write_suggestions(suggestions, output) if suggestions else None
    _log(report, suggestions, list_file, reader.unreadable)
    return LabelResult(
        output=report.output,
        report=report,
        suggestions=suggestions,
        list_file=list_file,
        unreadable=reader.unreadable,
    )


def predict_options(options: LabelOptions, conf: float) -> PredictOptions:
    """Return the options of a prediction that writes no files."""
    return PredictOptions(
        device=options.device,
        imgsz=options.imgsz,
        verbose=False,
        conf=conf,
        iou=options.iou,
        max_det=options.max_det,
        classes=options.classes,
        agnostic_nms=options.agnostic_nms,
        half=options.half,
        runtime=options.runtime,
        augment=options.augment,
        detector=options.detector,
        given_boxes=options.given_boxes,
        batch=options.batch,
        vid_stride=options.vid_stride,
    )


def _predictions(runtime: Runtime, source: Any, options: LabelOptions, conf: float) -> Iterator[Results]:
    return predict(runtime, source, predict_options(options, conf))


def _read_candidates(
    runtime: Runtime, source: Any, options: LabelOptions, reader: _RecordBuilder, embed: Embedder | None
) -> list[Candidate]:
    """Predict each image and its mirror image, and measure how uncertain the network is."""
    scorer = UncertaintyScorer(runtime.metadata.spec)
    low = min(_LOW_CONF, options.min_conf)
    candidates: list[Candidate] = []
    chunk: list[Results] = []

    def finish() -> None:
        mirrored = [np.ascontiguousarray(result.orig_img[:, ::-1]) for result in chunk]
        others = _predictions(runtime, mirrored, options, low)
        for result, other in zip(chunk, others, strict=True):
            record = reader.add(result)
            if record is not None:
                candidates.append(scorer.candidate(record, result, other, embed))
        chunk.clear()

    for result in _predictions(runtime, source, options, low):
        if result.error:
            reader.add(result)
            continue
        chunk.append(result)
        if len(chunk) >= max(options.batch, 8):
            finish()
    if chunk:
        finish()
    return candidates


def _labeled_images(options: LabelOptions) -> list[Path]:
    """Return the images that are labeled already."""
    if options.labeled is None:
        return []
    from yolopose.data.dataset import load_dataset
    from yolopose.data.subset_files import unique_files

    dataset = load_dataset(options.labeled)
    return unique_files(dataset, list(dataset.entries))


class _RecordBuilder:
    """Turn results into image records; images without a file of their own are written to a temporary folder.

    Args:
        spec: classes and keypoints of the network.
        thresholds: what is written.
        folder: the temporary folder.

    Attributes:
        unreadable: number of images that could not be read.
        has_frames: whether an image has no file of its own: a frame of a video, an array, a download.
    """

    def __init__(self, spec: PoseSpec, thresholds: LabelThresholds, folder: Path) -> None:
        self.unreadable = 0
        self.has_frames = False
        self._spec = spec
        self._thresholds = thresholds
        self._folder = folder
        self._names: set[str] = set()
        self._files: set[Path] = set()

    def add(self, result: Results) -> ImageRecord | None:
        """Return the record of a result; None for a file that was read before, or that could not be read."""
        if result.error:
            self.unreadable += 1
            return None
        height, width = result.orig_shape
        file = Path(result.path)
        if result.frame is not None or not file.is_file():
            file = self._write_frame(result)
        path = Path(os.path.abspath(file))
        if path in self._files:
            return None
        self._files.add(path)
        return ImageRecord(
            name=file.name,
            width=width,
            height=height,
            path=path,
            instances=self._instances(result),
            source=result.path,
        )

    def _write_frame(self, result: Results) -> Path:
        stem = Path(result.path).stem or "image"
        name = stem if result.frame is None else f"{stem}_{result.frame.number:06d}"
        number = 1
        unique = name
        while unique in self._names:
            number += 1
            unique = f"{name}-{number}"
        self._names.add(unique)
        self.has_frames = True
        file = self._folder / f"{unique}.jpg"
        save_image(result.orig_img, file)
        return file

    def _instances(self, result: Results) -> list[Instance]:
        boxes = to_numpy(result.boxes.data).astype(np.float64)
        points = to_numpy(result.keypoints.data).astype(np.float64)
        written = np.flatnonzero(boxes[:, -2] >= self._thresholds.instance)
        visibility = result.keypoints.visibility
        states = None if visibility is None else to_numpy(visibility.states)
        return [
            self._instance(boxes[row], points[row], None if states is None else states[row], result.orig_shape)
            for row in written.tolist()
        ]

    def _instance(
        self,
        row: npt.NDArray[np.float64],
        points: npt.NDArray[np.float64],
        states: npt.NDArray[np.int64] | None,
        shape: tuple[int, int],
    ) -> Instance:
        height, width = shape
        corners = np.clip(row[:4], 0, [width, height, width, height]).tolist()
        cls = int(row[-1])
        keypoints = self._spec.keypoints
        names = keypoints.keypoint_names(cls)
        return Instance(
            category=self._spec.classes[cls],
            box=Box.from_corners(*corners),
            points={
                names[index]: self._point(points[index], None if states is None else int(states[index]), width, height)
                for index in keypoints.class_points(cls)
            },
            confidence=float(row[-2]),
        )

    def _point(self, values: npt.NDArray[np.float64], state: int | None, width: int, height: int) -> Point:
        x, y, *rest = (float(value) for value in values)
        confidence = rest[0] if rest else None
        # prediction moves keypoints outside of the image to its border; the comparison also excludes NaN
        if not (0 < x < width and 0 < y < height):
            return Point(0.0, 0.0, PointState.ABSENT, confidence)
        if state is not None:  # predicted by the network, which thresholds of the confidence would only guess
            return (
                Point(x, y, PointState(state), confidence) if state else Point(0.0, 0.0, PointState.ABSENT, confidence)
            )
        if confidence is None or confidence >= self._thresholds.visible:
            return Point(x, y, PointState.VISIBLE, confidence)
        state = PointState.HIDDEN if confidence >= self._thresholds.absent else PointState.ABSENT
        return Point(x, y, state, confidence) if state else Point(0.0, 0.0, state, confidence)


def _set_names(images: Sequence[ImageRecord], frames: Path) -> None:
    """Set names relative to the folder that all image files share, in place; frames keep their file names."""
    files = {image.path: image for image in images if image.path is not None and image.path.parent != frames}
    if files:
        top = Path(os.path.commonpath([path.parent for path in files]))
        for path, image in files.items():
            image.name = path.relative_to(top).as_posix()


def _output_path(options: LabelOptions) -> Path:
    if options.output is not None:
        return expand_user(options.output)
    return RunLocation(None, "label", False).create()


def _write_suggestions(suggestions: Sequence[Suggestion], output: Path) -> Path:
    """Write a table of the suggestions into the output folder, or beside the output file."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("rank", "image", "score", "instances", "keypoints", "flip", "distance", "reason", "source"))
    for suggestion in suggestions:
        uncertainty = suggestion.uncertainty
        values = (suggestion.score, uncertainty.instances, uncertainty.keypoints, uncertainty.flip, suggestion.distance)
        record = suggestion.record
        writer.writerow(
            (suggestion.rank, record.name, *(f"{value:.4f}" for value in values), suggestion.reason, record.source)
        )
    file = output / "suggestions.csv" if output.is_dir() else output.with_name(f"{output.stem}-suggestions.csv")
    create_file(file, table.getvalue().encode())
    return file


def _log(report: ConversionReport, suggestions: Sequence[Suggestion], list_file: Path | None, unreadable: int) -> None:
    for message in (*report.skipped, *report.changed):
        LOGGER.warning(message)
    for message in report.lost:
        LOGGER.info(message)
    for suggestion in suggestions[:5]:
        LOGGER.info(f"{suggestion.rank}. {suggestion.record.name}: {suggestion.reason}")
    if list_file is not None:
        LOGGER.info(f"Wrote {list_file}: {len(suggestions)} images that are most worth labeling, with reasons.")
    if unreadable:
        LOGGER.warning(f"{unreadable} images could not be read; see above for their names.")
    images = sum(report.images.values())
    instances = sum(report.instances.values())
    if not instances:
        LOGGER.warning(
            "No instance was detected with a confidence of min_conf or more: the labels are empty. Lower min_conf, or "
            "use a network that was trained on such images and for longer."
        )
    LOGGER.info(f"Wrote {report.output}: {images} images, {instances} instances, for review.")
