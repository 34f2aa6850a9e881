"""Validation: a network over a labeled split, from batches to the metrics object."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from yolopose.base.callbacks import Callback
from yolopose.base.errors import UsageError
from yolopose.base.files import make_run_folder, write_text
from yolopose.base.log import LOGGER, quiet
from yolopose.base.progress import progress
from yolopose.base.settings import load_settings
from yolopose.config import ValOptions
from yolopose.data.batches import ValBatch, ValBatches, val_batches
from yolopose.data.dataset import Dataset, Split, load_dataset
from yolopose.data.labels import Annotations, ImageLabels, load_labels
from yolopose.evaluate.about import about_run
from yolopose.evaluate.accumulate import match_image
from yolopose.evaluate.checks import (
    check_fit,
    check_numbers,
    check_scores,
    class_filter,
    data_path,
    input_size,
    threads,
    warn_about_results,
)
from yolopose.evaluate.clock import Clock
from yolopose.evaluate.coco import coco_lines, require_evaluator, score_coco
from yolopose.evaluate.coco_truth import CocoTruth, find_truth
from yolopose.evaluate.confusion import CONFIDENCE
from yolopose.evaluate.console import detail_lines, speed_line, table_head, table_rows
from yolopose.evaluate.matching import THRESHOLDS
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.page import write_report
from yolopose.evaluate.pairs import Pairing
from yolopose.evaluate.plots import save_batch_grids
from yolopose.evaluate.record import FILE, RecordBuilder
from yolopose.evaluate.writing import LabelFolder, PredictionsFile, predictions_file, to_source
from yolopose.geometry import Letterbox
from yolopose.runtime import Candidates, Runtime
from yolopose.runtime.nms import Detections, nms, warn_built_in_nms
from yolopose.runtime.replicas import ParallelRuntime, parallel_runtime
from yolopose.runtime.tta import TTARuntime

_CONF = 0.001
_PREDICTIONS = "predictions.json"
_MOSAICS = 3
_Found = Callable[[], Candidates]


def validate(
    runtime: Runtime,
    options: ValOptions,
    dataset: Dataset | None = None,
    *,
    labels: Annotations | None = None,
    callbacks: Mapping[str, Sequence[Callback]] | None = None,
    loss: Callable[[ValBatch], None] | None = None,
    save_dir: str | Path | None = None,
) -> PoseMetrics:
    """Measure a network on a split of a data set by the reference protocol.

    Args:
        runtime: the network.
        options: data set, split, thresholds, batch, what to save.
        dataset: the data set where it is loaded already, instead of `options.data`.
        labels: the split's labels where they are loaded already.
        callbacks: functions for `on_val_start`, `on_val_batch_start`, `on_val_batch_end` and `on_val_end`; each is
            called with the `Validation`.
        loss: called with each batch after the network ran (training measures its loss there).
        save_dir: folder for files instead of a new `runs/pose/val…`.

    Returns:
        The metrics; `metrics.save_dir` is None when nothing was saved.

    Raises:
        UsageError: no data set is named, or an option does not fit the network.
        NotFoundError: the data YAML is not there.
        DataError: the data set does not fit the network, or a split or its labels cannot be used.
        OutputError: a file cannot be written.
    """
    with quiet(not options.verbose):
        run = Validation(runtime, options, dataset, labels=labels, callbacks=callbacks, loss=loss, save_dir=save_dir)
        return run.run()


class Validation:
    """One validation run; what callbacks are given.

    Attributes:
        runtime: the network.
        dataset: the data set.
        args: the options.
        labels: labels of the split.
        truth: the COCO annotations, with `protocol="coco"`; else None.
        batches: the batches, with a length.
        metrics: the metrics object; complete at `on_val_end`.
        save_dir: folder of the run's files, None when nothing is saved.
        batch_i: number of the batch in work.
        batch: the batch in work.
        detections: what was found in each image of it, network-input pixels; at `on_val_batch_end`.
        seen: images measured so far.
    """

    def __init__(
        self,
        runtime: Runtime,
        options: ValOptions,
        dataset: Dataset | None = None,
        *,
        labels: Annotations | None = None,
        callbacks: Mapping[str, Sequence[Callback]] | None = None,
        loss: Callable[[ValBatch], None] | None = None,
        save_dir: str | Path | None = None,
    ) -> None:
        self.runtime = TTARuntime(runtime, options.iou, options.agnostic_nms) if options.augment else runtime
        self.args = options
        self.dataset = dataset or load_dataset(
            data_path(options.data), download=options.download, splits=[cast(Split, options.split)]
        )
        check_fit(runtime, self.dataset, options.single_cls)
        warn_built_in_nms(runtime.metadata, _CONF if options.conf is None else options.conf, options)
        self._classes = None if options.single_cls else class_filter(options.classes, self.dataset)
        self._own_labels = labels is None  # training loads them once, and has said what is refused
        if labels is None:
            labels = load_labels(
                self.dataset,
                options.split,
                strict=options.strict,
                single_cls=options.single_cls,
                workers=threads(options.workers),
            )
        self.labels = labels
        if options.annotations and options.protocol != "coco":
            LOGGER.warning(f"annotations={options.annotations} is read with protocol=coco alone, and left aside.")
        self.truth = self._coco_truth() if options.protocol == "coco" else None
        self.batches = self._make_batches()
        self.metrics = PoseMetrics(self._names())
        self.metrics.save_dir = self.save_dir = self._folder(save_dir)
        self._label_folder: LabelFolder | None = None
        if options.save_txt and self.save_dir:
            self._label_folder = LabelFolder(self.save_dir / "labels", options.save_conf)
        self.batch_i = -1
        self.batch: ValBatch | None = None
        self.detections: list[Detections] = []
        self.seen = 0
        self._callbacks = callbacks or {}
        self._loss = loss
        self._engine: Runtime | ParallelRuntime = self.runtime
        self._clock = Clock()
        self._sigmas = self.dataset.spec.keypoints.oks_sigmas
        self._gathering = RecordBuilder(self.dataset.spec.keypoints.count, len(THRESHOLDS))
        self._pairing = Pairing(self.dataset.spec)

    def run(self) -> PoseMetrics:
        """Go through the batches, scores, prints the table, writes what the options ask for."""
        options = self.args
        self._emit("on_val_start")
        with ExitStack() as stack:
            if self._loss is None:  # which is of the one network that computed a batch
                self._engine = stack.enter_context(parallel_runtime(self.runtime, self._batch))
            predictions = None
            if (options.save_json or self.truth) and self.save_dir:
                predictions = stack.enter_context(predictions_file(self.save_dir / _PREDICTIONS, self.truth))
            batches = progress(self.batches, f"val {self.dataset.yaml_path.name}", enabled=options.verbose)
            for batch, found in self._begun(self._clock.waiting(batches, "preprocess")):
                self.batch_i += 1
                self.batch = batch
                self._emit("on_val_batch_start")
                self._measure(batch, found, predictions)
                self._emit("on_val_batch_end")
        if self.batch and not self._gathering.detections and self._own_labels:
            check_scores(self.runtime, self.batch.images)
        self._finish()
        self._emit("on_val_end")
        return self.metrics

    def _begun(self, batches: Iterable[ValBatch]) -> Iterator[tuple[ValBatch, _Found]]:
        """The batches, each with what gives its candidates; replicas already compute the next one meanwhile."""
        engine, options = self._engine, self.args
        conf = _CONF if options.conf is None else options.conf
        several = self.runtime.metadata.spec.nc > 1 and not options.single_cls
        # who is called at the start of a batch finds it untouched
        ahead = isinstance(engine, ParallelRuntime) and not self._callbacks.get("on_val_batch_start")
        run = engine.submit if isinstance(engine, ParallelRuntime) and ahead else partial(_later, engine.infer)
        before: deque[tuple[ValBatch, _Found]] = deque()
        for batch in batches:
            before.append((batch, run(batch.images, conf=conf, classes=self._classes, multi_label=several)))
            if len(before) > ahead:
                yield before.popleft()
        yield from before

    def _measure(self, batch: ValBatch, candidates: _Found, predictions: PredictionsFile | None) -> None:
        self.detections = self._detect(batch, candidates)
        for number, found in enumerate(self.detections):
            file, letterbox = self.labels.files[batch.indices[number]], batch.letterboxes[number]
            self._score(file, found, truth_of(batch, number, self._classes), letterbox)
            if predictions or self._label_folder:
                found = to_source(found, letterbox)
            if predictions:
                predictions.add(file, found)
            if self._label_folder:
                self._label_folder.add(file, found, letterbox.source)
        self.seen += len(self.detections)
        if self.args.plots and self.save_dir and self.batch_i < _MOSAICS:
            files = [self.labels.files[index] for index in batch.indices]
            keypoints = self.dataset.spec.keypoints
            save_batch_grids(self.save_dir, self.batch_i, batch, files, self.detections, self.metrics.names, keypoints)

    def _detect(self, batch: ValBatch, wait: _Found) -> list[Detections]:
        options, clock = self.args, self._clock
        with clock.phase("inference"):
            candidates = wait()
        if self._own_labels:  # training looks after itself
            check_numbers(candidates, [self.labels.files[index] for index in batch.indices])
        if self._loss:
            with clock.phase("loss"):
                self._loss(batch)
        with clock.phase("postprocess"):
            together = options.agnostic_nms or options.single_cls
            found = nms(candidates, len(batch.images), iou=options.iou, max_det=options.max_det, agnostic=together)
        return [one_class(item) for item in found] if options.single_cls else found

    def _score(self, file: Path, found: Detections, truth: ImageLabels, letterbox: Letterbox) -> None:
        stats = match_image(found, truth, self._sigmas)
        name = file.relative_to(self.dataset.root) if file.is_relative_to(self.dataset.root) else file
        self._gathering.add(name.as_posix(), self._pairing.columns(found, truth, stats, letterbox))
        self.metrics.update_stats(
            {
                "tp": stats.tp,
                "tp_p": stats.tp_p,
                "conf": found.scores,
                "pred_cls": found.classes,
                "target_cls": truth.classes,
                "im_name": file.name,
            }
        )
        # the matrix asks what a user would see, so it has a threshold of its own unless one was asked for
        conf = CONFIDENCE if self.args.conf is None else self.args.conf
        self.metrics.confusion_matrix.add(stats.iou, truth.classes, found.classes, found.scores, conf)

    def _finish(self) -> None:
        metrics = self.metrics
        plots = self.args.plots and self.save_dir is not None
        metrics.process(self.save_dir or ".", plot=plots)
        metrics.clear_stats()
        about = about_run(self.runtime, self.dataset, self.labels, self.args, metrics.names)
        metrics.keep(self._gathering.finish(about), self.dataset.spec)
        metrics.speed = self._clock.per_image(self.seen)
        for line in (table_head(), *table_rows(metrics, self.seen), speed_line(metrics)):
            LOGGER.info(line)
        if self.args.verbose:
            for line in detail_lines(metrics):
                LOGGER.info(line)
        if self.truth and self.save_dir:
            if self.truth.made:
                write_text(self.save_dir / "annotations.json", json.dumps(self.truth.content))
            metrics.coco = score_coco(self.truth.content, self.save_dir / _PREDICTIONS, self._sigmas.tolist())
            for line in coco_lines(metrics.coco, self.truth.source):
                LOGGER.info(line)
        if plots and self.save_dir:
            metrics.confusion_matrix.plot(False, self.save_dir)
            metrics.confusion_matrix.plot(True, self.save_dir)
        if self._own_labels:
            warn_about_results(self.labels, self._gathering.detections)
        if self.save_dir and metrics.record:
            about |= {"speed": metrics.speed, "coco": metrics.coco}
            metrics.record.save(self.save_dir / FILE)
            page = write_report(metrics, self.save_dir) if plots else None
            LOGGER.info(f"Results saved to {self.save_dir}" + (f"; to look at: {page.name}" if page else ""))

    def _make_batches(self) -> ValBatches:
        """Batches as the network can take them: rectangles of any size, or the one size of a fixed export."""
        options, metadata = self.args, self.runtime.metadata
        return val_batches(
            self.labels,
            imgsz=input_size(options.imgsz, metadata),
            batch=self._batch,
            stride=metadata.stride,
            rect=options.rect and metadata.dynamic,
            workers=threads(options.workers),
        )

    @property
    def _batch(self) -> int:
        """Images of a batch: as many as asked for, in whole batches of a network that takes a fixed number."""
        fixed, wanted = self.runtime.metadata.batch or 1, self.args.batch
        return max(wanted // fixed, 1) * fixed

    def _coco_truth(self) -> CocoTruth:
        """The annotations; everything that could fail does so before the network runs."""
        require_evaluator()
        if self.args.single_cls and self.dataset.spec.nc > 1:
            raise UsageError("protocol=coco tells classes apart; leave single_cls away, or the protocol.")
        return find_truth(self.dataset, self.labels, self.args.split, self.args.annotations, self._classes)

    def _names(self) -> dict[int, str]:
        names = self.dataset.spec.names
        return {0: "item"} if self.args.single_cls and len(names) > 1 else names

    def _folder(self, given: str | Path | None) -> Path | None:
        options = self.args
        if not (options.plots or options.save_txt or options.save_json or options.protocol == "coco"):
            return None
        if given is not None:
            return Path(given)
        parent = Path(options.project) if options.project else Path(load_settings().runs_dir) / "pose"
        return make_run_folder(parent, options.name or "val", options.exist_ok)

    def _emit(self, event: str) -> None:
        for function in self._callbacks.get(event, ()):
            function(self)


def _later(function: Callable[..., Candidates], *args: Any, **options: Any) -> _Found:
    return partial(function, *args, **options)


def truth_of(batch: ValBatch, number: int, classes: Sequence[int] | None = None) -> ImageLabels:
    """Return the objects of an image of a batch, network-input pixels; of some classes alone where they are given."""
    keep = batch.batch_idx == number
    if classes is not None:
        keep &= np.isin(batch.classes, list(classes))
    return ImageLabels(batch.classes[keep], batch.boxes[keep], batch.keypoints[keep])


def one_class(found: Detections) -> Detections:
    """Return the detections with class 0 each."""
    return Detections(found.boxes, found.scores, np.zeros_like(found.classes), found.points)
