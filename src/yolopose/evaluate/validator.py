"""Validation: run a network over a labeled split, record the detections, compute the metrics."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import UsageError
from yolopose.base.files import write_text
from yolopose.base.log import LOGGER, quiet
from yolopose.base.prefetch import prefetch
from yolopose.base.progress import progress
from yolopose.config import ValOptions, ValSettings, val_settings
from yolopose.data.batches import ValBatch, ValBatches
from yolopose.data.damaged import DamagedImages
from yolopose.data.dataset import Dataset, Split, load_dataset
from yolopose.data.given_boxes import BoxTable, read_boxes
from yolopose.data.labels import Annotations, ImageLabels, load_labels
from yolopose.evaluate.checks import (
    check_compatible,
    check_finite,
    check_scores_not_nan,
    warn_about_results,
)
from yolopose.evaluate.coco import CocoAnnotations, load_coco_gt, require_evaluator, score_coco
from yolopose.evaluate.console import (
    coco_lines,
    detail_lines,
    pixel_lines,
    speed_line,
    table_head,
    table_rows,
    visibility_lines,
)
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.page import write_report
from yolopose.evaluate.plots import save_batch_grids
from yolopose.evaluate.predictions import PREDICTIONS_FILE, LabelFolder, PredictionsFile, open_predictions, to_source
from yolopose.evaluate.record import RECORD_FILE
from yolopose.evaluate.record_builder import RecordBuilder, describe_run
from yolopose.runtime import Candidates, Runtime
from yolopose.runtime.binding import match_keypoints, with_boxes
from yolopose.runtime.nms import Detections, nms, warn_built_in_nms
from yolopose.runtime.replicas import ParallelRuntime, parallel_runtime
from yolopose.runtime.tta import TTARuntime

_GRIDS = 3
_LABELS = "labels"  # value of `given_boxes`
_PendingCandidates = Callable[[], Candidates]
T = TypeVar("T")


def validate(
    runtime: Runtime,
    options: ValOptions,
    dataset: Dataset | None = None,
    *,
    labels: Annotations | None = None,
    callbacks: Callbacks | None = None,
    loss: Callable[[ValBatch], None] | None = None,
    save_dir: str | Path | None = None,
) -> PoseMetrics:
    """Measure a network on a split of a data set by the reference protocol.

    Args:
        runtime: the network.
        options: data set, split, thresholds, batch, what to save.
        dataset: the data set if it is loaded already, instead of `options.data`.
        labels: the split's labels if they are loaded already.
        callbacks: functions for `on_val_start`, `on_val_batch_start`, `on_val_batch_end` and `on_val_end`; each is
            called with the `Validation`.
        loss: called with each batch after the network ran (training measures its loss there).
        save_dir: folder for files instead of a new `runs/pose/val…`.

    Returns:
        The metrics; `metrics.save_dir` is None if nothing was saved.

    Raises:
        UsageError: no data set is named, or an option does not fit the network.
        NotFoundError: the data YAML does not exist.
        DataError: the data set does not fit the network, or a split or its labels cannot be used.
        OutputError: a file cannot be written.
    """
    with quiet(not options.verbose):
        settings = val_settings(options, runtime.metadata)
        run = Validation(runtime, settings, dataset, labels=labels, callbacks=callbacks, loss=loss, save_dir=save_dir)
        return run.run()


class PhaseTimer:
    """Seconds spent in each phase of a run."""

    def __init__(self) -> None:
        self.seconds = {"preprocess": 0.0, "inference": 0.0, "loss": 0.0, "postprocess": 0.0}

    @contextmanager
    def phase(self, name: str) -> Generator[None, None, None]:
        """Add the duration of the block to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def timed(self, items: Iterable[T], name: str) -> Iterator[T]:
        """Yield the items; the time that each takes to arrive is added to a phase."""
        source = iter(items)
        while True:
            try:
                with self.phase(name):
                    item = next(source)
            except StopIteration:
                return
            yield item

    def per_image(self, num_images: int) -> dict[str, float]:
        """Return milliseconds per image of each phase."""
        return {name: 1000 * seconds / max(num_images, 1) for name, seconds in self.seconds.items()}


class Validation:
    """One validation run; the argument of callbacks.

    Attributes:
        runtime: the network.
        dataset: the data set.
        args: the settings.
        labels: labels of the split.
        coco_gt: the COCO annotations with `protocol="coco"`, else None.
        batches: the batches, with a length.
        metrics: the metrics object; complete at `on_val_end`.
        save_dir: the run folder, None if nothing is saved.
        batch_i: index of the current batch.
        batch: the current batch.
        detections: detections of each of its images, network-input pixels; at `on_val_batch_end`.
        seen: images measured so far.
    """

    def __init__(
        self,
        runtime: Runtime,
        settings: ValSettings,
        dataset: Dataset | None = None,
        *,
        labels: Annotations | None = None,
        callbacks: Callbacks | None = None,
        loss: Callable[[ValBatch], None] | None = None,
        save_dir: str | Path | None = None,
    ) -> None:
        self.dataset = dataset or _load_dataset(settings)
        runtime = match_keypoints(runtime, self.dataset.spec.keypoints)
        self.runtime = TTARuntime(runtime, settings.iou, settings.agnostic_nms) if settings.augment else runtime
        self.args = settings
        self._boxes = self._read_boxes(runtime)
        check_compatible(runtime, self.dataset, settings.single_cls)
        warn_built_in_nms(runtime.metadata, settings.conf, settings)
        # training passes its labels and reports refused images and NaN losses itself
        self._standalone = labels is None
        if labels is None:
            labels = load_labels(
                self.dataset,
                settings.split,
                strict=settings.strict,
                single_cls=settings.single_cls,
                workers=settings.workers,
            )
        self.labels = labels
        if settings.annotations and settings.protocol != "coco":
            LOGGER.warning(f"annotations={settings.annotations} is ignored: it is used only with protocol=coco.")
        self.coco_gt = self._load_coco_gt() if settings.protocol == "coco" else None
        self.batches = self._make_batches()
        data = settings.data or str(self.dataset.yaml_path)
        self._damaged = DamagedImages(data, settings.split, len(labels))
        self.metrics = PoseMetrics(self._class_names())
        self.metrics.save_dir = self.save_dir = self._make_folder(save_dir)
        self._label_folder: LabelFolder | None = None
        if settings.save_txt and self.save_dir:
            self._label_folder = LabelFolder(self.save_dir / "labels", settings.save_conf)
        self.batch_i = -1
        self.batch: ValBatch | None = None
        self.detections: list[Detections] = []
        self.seen = 0
        self._callbacks = callbacks or Callbacks()
        self._loss = loss
        self._engine: Runtime | ParallelRuntime = self.runtime
        self._timer = PhaseTimer()
        self._spec = self.dataset.spec.without_templates() if settings.single_cls else self.dataset.spec
        self._builder = RecordBuilder(self._spec, settings.matrix_conf)

    def run(self) -> PoseMetrics:
        """Measure all batches, log the scores and write the files that the options ask for."""
        self._callbacks.emit("on_val_start", self)
        with ExitStack() as stack:
            if self._loss is None:  # the loss belongs to the one network that computed the batch
                self._engine = stack.enter_context(parallel_runtime(self.runtime, self.args.batch))
            predictions = None
            if (self.args.save_json or self.coco_gt) and self.save_dir:
                path = self.save_dir / PREDICTIONS_FILE
                predictions = stack.enter_context(open_predictions(path, self.labels.files, self.coco_gt))
            batches = progress(self.batches, f"val {self.dataset.yaml_path.name}", enabled=self.args.verbose)
            for batch, candidates in self._infer(self._timer.timed(batches, "preprocess")):
                self.batch_i += 1
                self.batch = batch
                self._callbacks.emit("on_val_batch_start", self)
                self.detections = self._detect(batch, candidates)
                self._record_batch(batch, predictions)
                self._callbacks.emit("on_val_batch_end", self)
        # networks of other packages return few rows, none of which may exceed any threshold
        checks_nan = self._standalone and not self.args.native_size
        if self.batch and not self._builder.num_detections and checks_nan:
            check_scores_not_nan(self.runtime, self.batch.images)
        self._finish()
        self._callbacks.emit("on_val_end", self)
        return self.metrics

    def _infer(self, batches: Iterable[ValBatch]) -> Iterator[tuple[ValBatch, _PendingCandidates]]:
        """Yield each batch with its pending candidates; replicas compute one batch ahead."""
        engine = self._engine
        multi_label = self.runtime.metadata.spec.nc > 1 and not self.args.single_cls
        # callbacks of the start of a batch may change it, so that it must not be computed before
        ahead = isinstance(engine, ParallelRuntime) and not self._callbacks.get("on_val_batch_start")
        submit = engine.submit if isinstance(engine, ParallelRuntime) and ahead else partial(partial, engine.infer)

        def start(batch: ValBatch) -> tuple[ValBatch, _PendingCandidates]:
            if self._boxes is not None:
                bound = with_boxes(self.runtime, self._boxes_of(batch))
                return batch, partial(bound.infer, batch.images, conf=self.args.conf, classes=self.args.classes)
            return batch, submit(batch.images, conf=self.args.conf, classes=self.args.classes, multi_label=multi_label)

        return prefetch(batches, start, lambda started: started, ahead=int(ahead))

    def _read_boxes(self, runtime: Runtime) -> BoxTable | str | None:
        """Return the boxes given to a top-down network; "labels" for those of the data set."""
        value = self.args.given_boxes
        if value is None:
            return None
        with_boxes(runtime, [])
        if self.args.augment:
            raise UsageError(
                "augment=True changes the images, so that given boxes do not fit them: omit one of the two."
            )
        return _LABELS if value == _LABELS else read_boxes(value)

    def _boxes_of(self, batch: ValBatch) -> list[npt.NDArray[np.float32]]:
        """Return the given boxes (n, 5) of each image of a batch."""
        if isinstance(self._boxes, BoxTable):
            sizes = [letterbox.source for letterbox in batch.letterboxes]
            return [self._boxes.of_image(file, size) for file, size in zip(self._files(batch), sizes, strict=True)]
        rows = np.column_stack((batch.boxes, np.ones(len(batch.boxes)))).astype(np.float32)
        return [rows[batch.batch_idx == index] for index in range(len(batch.indices))]

    def _detect(self, batch: ValBatch, pending: _PendingCandidates) -> list[Detections]:
        options = self.args
        with self._timer.phase("inference"):
            candidates = pending()
        if self._standalone:
            check_finite(candidates, self._files(batch))
        if self._loss:
            with self._timer.phase("loss"):
                self._loss(batch)
        with self._timer.phase("postprocess"):
            agnostic = options.agnostic_nms or options.single_cls
            detections = nms(candidates, len(batch.images), iou=options.iou, max_det=options.max_det, agnostic=agnostic)
        if options.class_conf:
            limits = np.array(options.class_conf)
            detections = [item.select(item.scores > limits[item.classes]) for item in detections]
        return [merge_classes(item) for item in detections] if options.single_cls else detections

    def _record_batch(self, batch: ValBatch, predictions: PredictionsFile | None) -> None:
        files = self._files(batch)
        root = self.dataset.root
        for index, reason in zip(batch.damaged, batch.reasons, strict=True):
            self._damaged.add(files[index], reason)
        for index, (file, detections) in enumerate(zip(files, self.detections, strict=True)):
            if index in batch.damaged:
                continue
            letterbox = batch.letterboxes[index]
            name = file.relative_to(root) if file.is_relative_to(root) else file
            self._builder.add(name.as_posix(), detections, image_gt(batch, index, self.args.classes), letterbox)
            if predictions or self._label_folder:
                detections = to_source(detections, letterbox, self._spec.keypoints.point_mask(self._spec.nc))
            if predictions:
                predictions.add(file, detections)
            if self._label_folder:
                self._label_folder.add(file, detections, letterbox.source)
        self.seen += len(files) - len(batch.damaged)
        if self.args.plots and self.save_dir and self.batch_i < _GRIDS:
            schema = self.dataset.spec.keypoints
            save_batch_grids(self.save_dir, self.batch_i, batch, files, self.detections, self.metrics.names, schema)

    def _finish(self) -> None:
        metrics = self.metrics
        run_info = describe_run(self.runtime, self.dataset, self.labels, self.args, metrics.names)
        record = self._builder.finish(run_info)
        metrics.set_record(record, self._spec)
        metrics.speed = self._timer.per_image(max(self.seen, 1))
        lines = [table_head(), *table_rows(metrics, self.seen), *pixel_lines(metrics), speed_line(metrics)]
        lines[-1:-1] = visibility_lines(metrics)
        if self.args.verbose:
            lines += detail_lines(metrics)
        for line in lines:
            LOGGER.info(line)
        if self.coco_gt and self.save_dir:
            self.coco_gt = self.coco_gt.without({Path(file) for file in self._damaged.files})
            if self.coco_gt.from_labels:
                write_text(self.save_dir / "annotations.json", json.dumps(self.coco_gt.content))
            sigmas = self._spec.keypoints.sigmas_by_class(self._spec.nc).tolist()
            metrics.coco = score_coco(self.coco_gt.content, self.save_dir / PREDICTIONS_FILE, sigmas)
            for line in coco_lines(metrics.coco, self.coco_gt.source):
                LOGGER.info(line)
        self._damaged.log_summary(once=not self._standalone)
        if self._standalone:
            warn_about_results(self.labels, self._builder.num_detections)
        if not self.save_dir:
            return
        run_info |= {"speed": metrics.speed, "coco": metrics.coco}
        record.save(self.save_dir / RECORD_FILE)
        report = ""
        if self.args.plots:
            metrics.plot_curves(self.save_dir)
            metrics.confusion_matrix.plot(False, self.save_dir)
            metrics.confusion_matrix.plot(True, self.save_dir)
            report = f"; report: {write_report(metrics, self.save_dir).name}"
        LOGGER.info(f"Results saved to {self.save_dir}{report}")

    def _make_batches(self) -> ValBatches:
        """Make rectangular batches, or batches of the one size of a fixed export."""
        settings = self.args
        return ValBatches(
            self.labels,
            imgsz=settings.imgsz,
            batch=settings.batch,
            stride=settings.stride,
            rect=settings.rect,
            workers=settings.workers,
            native_size=settings.native_size,
            channels=self.runtime.metadata.spec.channels,
        )

    def _load_coco_gt(self) -> CocoAnnotations:
        """Load the annotations; everything that can fail does so before the network runs."""
        require_evaluator()
        if self.args.single_cls and self.dataset.spec.nc > 1:
            raise UsageError("protocol=coco distinguishes classes: omit single_cls, or the protocol.")
        return load_coco_gt(
            self.dataset,
            self.labels,
            self.args.split,
            self.args.annotations,
            self.args.classes,
            single_cls=self.args.single_cls,
        )

    def _class_names(self) -> dict[int, str]:
        names = self.dataset.spec.names
        return {0: "item"} if self.args.single_cls and len(names) > 1 else names

    def _make_folder(self, folder: str | Path | None) -> Path | None:
        settings = self.args
        if not (settings.plots or settings.save_txt or settings.save_json or settings.protocol == "coco"):
            return None
        return settings.run.create() if folder is None else Path(folder)

    def _files(self, batch: ValBatch) -> list[Path]:
        return [self.labels.files[index] for index in batch.indices]


def _load_dataset(settings: ValSettings) -> Dataset:
    if not settings.data:
        raise UsageError("Validation needs a data set: pass data=… (a data YAML, such as coco8-pose.yaml).")
    return load_dataset(settings.data, download=settings.download, splits=[cast(Split, settings.split)])


def image_gt(batch: ValBatch, index: int, classes: Sequence[int] | None = None) -> ImageLabels:
    """Return the ground truth of an image of a batch, network-input pixels; only of `classes` unless None."""
    keep = batch.batch_idx == index
    if classes is not None:
        keep &= np.isin(batch.classes, list(classes))
    return ImageLabels(batch.classes[keep], batch.boxes[keep], batch.keypoints[keep])


def merge_classes(detections: Detections) -> Detections:
    """Return the detections with class 0."""
    return replace(detections, classes=np.zeros_like(detections.classes))
