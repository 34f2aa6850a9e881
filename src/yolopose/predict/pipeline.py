"""Prediction from source to results: options settled, images through the flow, files written, results given."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolopose.base.callbacks import Callback
from yolopose.base.errors import UsageError
from yolopose.config import PredictOptions
from yolopose.predict.flow import run_jobs
from yolopose.predict.items import Item, Source
from yolopose.predict.plan import Plan
from yolopose.predict.report import Report
from yolopose.predict.sinks import RunFiles
from yolopose.predict.sources import open_source
from yolopose.predict.work import Pair, predict_items
from yolopose.results import Results
from yolopose.runtime import Runtime
from yolopose.runtime.tta import TTARuntime


@dataclass(slots=True, kw_only=True, eq=False)
class Prediction:
    """One prediction run; what callbacks are given.

    Attributes:
        args: the options.
        runtime: the network.
        batch: paths of the images in work.
        results: their results, from `on_predict_postprocess_end` on; a callback may change them before they are
            written and given.
        seen: images done.
        save_dir: folder of the run's files; None while nothing was saved.
    """

    args: PredictOptions
    runtime: Runtime
    callbacks: Mapping[str, Sequence[Callback]]
    batch: list[str] = field(default_factory=list[str])
    results: list[Results] = field(default_factory=list[Results])
    seen: int = 0
    save_dir: Path | None = None

    def emit(self, event: str) -> None:
        """Call the functions of an event."""
        for function in self.callbacks.get(event, ()):
            function(self)


def predict(
    runtime: Runtime,
    source: Any,
    options: PredictOptions,
    callbacks: Mapping[str, Sequence[Callback]] | None = None,
) -> Iterator[Results]:
    """Predict every image of a source.

    Options and source are checked at once; images are read and predicted as the results are asked for, so a long
    source never fills the memory. An image that cannot be read among others gives an empty result with its `error`.

    Args:
        runtime: the engine.
        source: see `yolopose.predict.sources.open_source`.
        options: thresholds, input size, what to save.
        callbacks: functions for the `on_predict_…` events; each is called with the `Prediction`.

    Returns:
        One result for each image, in the order of the source, whatever the batch. Its numbers do not depend on
        the images beside it: a batch holds images of one input size only.

    Raises:
        UsageError: an option does not go with this network, or the source is of no known kind.
        NotFoundError: nothing is at the path.
        SourceError: the source, or the only image in it, cannot be read.
        OutputError: while the results are asked for: a file cannot be written.
    """
    plan = Plan.make(runtime.metadata, options)
    if options.augment and options.uncertainty:
        raise UsageError(
            "augment=True averages several looks, of which no σ is told: leave it or uncertainty=True out."
        )
    if options.augment:
        runtime = TTARuntime(runtime, options.iou, options.agnostic_nms)
    opened = open_source(
        source,
        runtime.metadata.stride,
        vid_stride=options.vid_stride,
        buffer=options.stream_buffer,
        reduce_to=max(plan.imgsz) if options.fast_decode else None,
    )
    run = Prediction(args=options, runtime=runtime, callbacks=callbacks or {})
    return _results(run, opened, plan)


def _results(run: Prediction, source: Source, plan: Plan) -> Generator[Results, None, None]:
    options = run.args

    def work(runtime: Runtime, items: list[Item]) -> list[Pair]:
        return predict_items(runtime, items, plan, options)

    files, report = RunFiles(options), Report(source.count, options.verbose)
    run.emit("on_predict_start")
    with closing(files), closing(run_jobs(source, run.runtime, work, plan.job)) as done:
        for job in done:
            for start in range(0, len(job), plan.batch):
                yield from _give(run, job[start : start + plan.batch], files, report)
        run.emit("on_predict_end")
        report.close()


def _give(run: Prediction, pairs: list[Pair], files: RunFiles, report: Report) -> Generator[Results, None, None]:
    """Return callbacks of a batch, writes its results and gives them."""
    run.batch, run.results = [result.path for result, _ in pairs], []
    run.emit("on_predict_batch_start")
    run.results = [result for result, _ in pairs]
    run.emit("on_predict_postprocess_end")
    for result, (_, size) in zip(run.results, pairs, strict=True):
        files.write(result)
        report.add(result, size)
        run.seen, run.save_dir = run.seen + 1, files.folder
        yield result
    run.emit("on_predict_batch_end")
