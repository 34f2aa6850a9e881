"""Prediction from source to results: decode, letterbox, network, suppression, the way back, writing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from yolopose.base.events import Listener
from yolopose.config import PredictOptions
from yolopose.data.letterboxing import letterbox_batch
from yolopose.geometry import Letterbox
from yolopose.predict.items import Item, Source, load_all
from yolopose.predict.nms import Detections, suppress
from yolopose.predict.plan import Plan
from yolopose.predict.report import Report
from yolopose.predict.run_files import RunFiles
from yolopose.predict.sources import open_source
from yolopose.results import Results
from yolopose.runtime import Batch, Runtime


@dataclass(slots=True, kw_only=True, eq=False)
class Prediction:
    """One prediction run; what callbacks are given.

    Attributes:
        args: the options.
        runtime: the network.
        batch: paths of the pictures in work.
        results: their results, from `on_predict_postprocess_end` on; a callback may change them before they are
            written and given.
        seen: pictures done.
        save_dir: folder of the run's files; None while nothing was saved.
    """

    args: PredictOptions
    runtime: Runtime
    callbacks: Mapping[str, Sequence[Listener]]
    batch: list[str] = field(default_factory=list[str])
    results: list[Results] = field(default_factory=list[Results])
    seen: int = 0
    save_dir: Path | None = None

    def emit(self, event: str) -> None:
        """Calls the functions of an event."""
        for function in self.callbacks.get(event, ()):
            function(self)


def predict(
    runtime: Runtime,
    source: Any,
    options: PredictOptions,
    callbacks: Mapping[str, Sequence[Listener]] | None = None,
) -> Iterator[Results]:
    """Predicts every picture of a source.

    Options and source are checked at once; pictures are read and predicted as the results are asked for, so a long
    source never fills the memory. A picture that cannot be read among others gives an empty result with its `error`.

    Args:
        runtime: the engine.
        source: see `yolopose.predict.sources.open_source`.
        options: thresholds, input size, what to save.
        callbacks: functions for the `on_predict_…` events; each is called with the `Prediction`.

    Returns:
        One result for each picture, in the order of the source, whatever the batch. Its numbers do not depend on
        the pictures beside it: a batch holds pictures of one input size only.

    Raises:
        UsageError: an option does not go with this network, or the source is of no known kind.
        NotFoundError: nothing is at the path.
        SourceError: the source, or the only picture in it, cannot be read.
        OutputError: while the results are asked for: a file cannot be written.
    """
    plan = Plan.make(runtime.metadata, options)
    opened = open_source(source, runtime.metadata.stride)
    run = Prediction(args=options, runtime=runtime, callbacks=callbacks or {})
    return _results(run, opened, plan)


def _results(run: Prediction, source: Source, plan: Plan) -> Generator[Results, None, None]:
    options = run.args
    files, report = RunFiles(options), Report(source.count, options.verbose)
    items = load_all(source, ahead=2 * plan.batch)
    run.emit("on_predict_start")
    with closing(items):
        for batch in _batches(items, plan.batch):
            run.batch, run.results = [item.path for item in batch], []
            run.emit("on_predict_batch_start")
            pairs = _predict_items(run.runtime, batch, plan, options)
            run.results = [result for result, _ in pairs]
            run.emit("on_predict_postprocess_end")
            for result, (_, size) in zip(run.results, pairs, strict=True):
                files.write(result)
                report.add(result, size)
                run.seen, run.save_dir = run.seen + 1, files.folder
                yield result
            run.emit("on_predict_batch_end")
    run.emit("on_predict_end")
    report.close(files.folder)


def _batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch


def _predict_items(
    runtime: Runtime, items: list[Item], plan: Plan, options: PredictOptions
) -> list[tuple[Results, tuple[int, int]]]:
    """The results of some pictures in their order, each with its input size; one call for each input size."""
    fits = {index: plan.fit(item) for index, item in enumerate(items) if item.error is None}
    groups: dict[tuple[bool, tuple[int, int]], list[int]] = {}
    for index, fit in fits.items():
        groups.setdefault((items[index].planes is None, fit.out), []).append(index)
    done: dict[int, Results] = {}
    for members in groups.values():
        chosen = [items[index] for index in members]
        found = _predict_group(runtime, chosen, [fits[index] for index in members], plan, options)
        done.update(zip(members, found, strict=True))
    spec = runtime.metadata.spec
    pairs: list[tuple[Results, tuple[int, int]]] = []
    for index, item in enumerate(items):
        if item.error is None:
            pairs.append((done[index], fits[index].out))
        else:
            pairs.append(
                (Results.unreadable(item.path, spec.names, item.error, schema=spec.keypoints, frame=item.frame), (0, 0))
            )
    return pairs


def _predict_group(
    runtime: Runtime, items: list[Item], fits: list[Letterbox], plan: Plan, options: PredictOptions
) -> list[Results]:
    """The results of pictures that share an input size."""
    start = perf_counter()
    batch = _input(items, fits)
    ready = perf_counter()
    candidates = runtime.candidates(batch, conf=plan.conf, classes=plan.classes)
    inferred = perf_counter()
    found = suppress(candidates, len(items), iou=options.iou, max_det=options.max_det, agnostic=options.agnostic_nms)
    results = [_result(runtime, *parts) for parts in zip(items, fits, found, strict=True)]
    times = (ready - start, inferred - ready, perf_counter() - inferred)
    names = ("preprocess", "inference", "postprocess")
    for result in results:
        result.speed = {name: 1000 * value / len(items) for name, value in zip(names, times, strict=True)}
    return results


def _input(items: list[Item], fits: list[Letterbox]) -> Batch:
    planes = [item.planes for item in items if item.planes is not None]
    return np.stack(planes) if planes else letterbox_batch([item.image for item in items], fits)


def _result(runtime: Runtime, item: Item, fit: Letterbox, found: Detections) -> Results:
    spec = runtime.metadata.spec
    boxes = fit.boxes_to_source(found.boxes)
    rows = np.column_stack((boxes, found.scores, found.classes)).astype(np.float32)
    return Results(
        item.image,
        item.path,
        spec.names,
        boxes=runtime.wrap(rows),
        keypoints=runtime.wrap(fit.points_to_source(found.points).astype(np.float32)),
        schema=spec.keypoints,
        frame=item.frame,
    )
