"""Prediction from source to results: batches, callbacks, output files, log lines."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER
from yolopose.config import PredictOptions, PredictSettings, TrackOptions, predict_settings, track_settings
from yolopose.data.given_boxes import read_boxes
from yolopose.predict.batching import ImageWindow, window_size
from yolopose.predict.parallel import run_windows
from yolopose.predict.resume import RunRecorder
from yolopose.predict.sinks import OUTPUT_OPTIONS, RunFiles
from yolopose.predict.sources import open_source
from yolopose.predict.sources.base import LoadedImage, Source
from yolopose.results import Results
from yolopose.runtime import Runtime
from yolopose.runtime.binding import with_boxes
from yolopose.runtime.nms import warn_built_in_nms
from yolopose.runtime.tta import TTARuntime


class ResultTracker(Protocol):
    """Adds track ids to results; `yolopose.track.StreamTrackers` is one."""

    @property
    def min_score(self) -> float:
        """Smallest score of a detection that it uses."""
        ...

    def track(self, result: Results, to_array: Callable[[Any], Any], time: float | None = None) -> None:
        """Change the next result of the source: keep the tracked instances, with their ids."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        ...


@dataclass(slots=True, kw_only=True, eq=False)
class Predictor:
    """A prediction run; the argument of callbacks.

    Attributes:
        args: the settings.
        runtime: the engine.
        batch: paths of the images of the current batch, exactly those that go through the network in one call.
        results: their results, from `on_predict_postprocess_end` on; a callback may change them before they are
            written and returned.
        seen: number of returned results.
        save_dir: folder of the run's files; None while nothing is saved.
    """

    args: PredictSettings
    runtime: Runtime
    callbacks: Callbacks
    batch: list[str] = field(default_factory=list[str])
    results: list[Results] = field(default_factory=list[Results])
    seen: int = 0
    save_dir: Path | None = None


def predict(
    runtime: Runtime,
    source: Any,
    options: PredictOptions,
    callbacks: Callbacks | None = None,
    tracker: ResultTracker | None = None,
    recorder: RunRecorder | None = None,
) -> Iterator[Results]:
    """Predict all images of a source.

    Options and source are checked immediately; images are read and predicted as the results are requested, so a long
    source does not fill the memory. Among several images, one that cannot be read has an empty result with `error`.

    Args:
        runtime: the engine.
        source: see `yolopose.predict.sources.open_source`.
        options: thresholds, input size, files to save.
        callbacks: functions for the `on_predict_…` events; each is called with the `Predictor`.
        tracker: adds track ids to the results, in source order; `options` are then `TrackOptions`.
        recorder: records a run of `track` so that it can be resumed, and replays an interrupted one. Only the results
            after the saved state are returned.

    Returns:
        One result per image, in source order. Its values do not depend on the other images: a batch holds images of
        one input size only.

    Raises:
        UsageError: an option that the network does not support, or an unknown kind of source.
        NotFoundError: a path does not exist.
        SourceError: the source, or its only image, cannot be read.
        OutputError: while results are requested: a file cannot be written.
    """
    if tracker is not None and isinstance(options, TrackOptions):
        settings = track_settings(options, runtime.metadata, tracker.min_score)
    else:
        settings = predict_settings(options, runtime.metadata)
    warn_built_in_nms(runtime.metadata, settings.conf, settings)
    if settings.augment and settings.uncertainty:
        raise UsageError("augment=True averages several views without σ: it cannot be combined with uncertainty=True.")
    if settings.given_boxes is not None:
        settings = _with_box_table(runtime, settings)
    if settings.augment:
        runtime = TTARuntime(runtime, settings.iou, settings.agnostic_nms)
    opened = open_source(
        source,
        settings.stride,
        vid_stride=settings.vid_stride,
        buffer=settings.stream_buffer,
        reduce_to=max(settings.imgsz) if settings.fast_decode else None,
        channels=runtime.metadata.spec.channels,
    )
    run = Predictor(args=settings, runtime=runtime, callbacks=callbacks or Callbacks())
    return _run(run, opened, tracker, None if opened.live else recorder)


def _with_box_table(runtime: Runtime, settings: PredictSettings) -> PredictSettings:
    """Read the given boxes, and check that the network takes them.

    Raises:
        UsageError: it does not, or the boxes are not readable as such.
        DataError: their file cannot be read.
    """
    with_boxes(runtime, [])
    if settings.augment:
        raise UsageError("augment=True changes the images, so that given boxes do not fit them: omit one of the two.")
    return replace(settings, given_boxes=read_boxes(settings.given_boxes))


_WindowOutput = tuple[ImageWindow, list[list[Results]] | None]
"""A window, and the results of each of its batches, or None if they are computed later."""


def _run(
    run: Predictor, source: Source, tracker: ResultTracker | None, recorder: RunRecorder | None
) -> Generator[Results, None, None]:
    settings = run.args
    # Callbacks of `on_predict_batch_start` must run before the batch is computed, so this thread computes and
    # `run_windows` only loads; without them its threads also compute.
    compute_here = bool(run.callbacks["on_predict_batch_start"])

    def work(runtime: Runtime, images: list[LoadedImage]) -> _WindowOutput:
        window = ImageWindow(images, runtime.metadata.spec, settings)
        computed = None if compute_here else [batch.predict(runtime, settings) for batch in window.batches]
        return window, computed

    output = _Output(run, source.count, tracker, recorder)
    if recorder is not None and recorder.unfinished is not None:
        images = iter(source.images)
        with output.closed_on_error():
            output.replay(recorder.replay(images, run.runtime.metadata.spec))
        source = replace(source, images=images)
    windows = run_windows(source, run.runtime, work, window_size(settings.batch), replicate=not compute_here)
    run.callbacks.emit("on_predict_start", run)
    with closing(output), closing(windows):
        for window, computed in windows:
            for index, batch in enumerate(window.batches):
                run.batch = batch.paths
                run.results = []
                run.callbacks.emit("on_predict_batch_start", run)
                run.results = batch.predict(run.runtime, settings) if computed is None else computed[index]
                run.callbacks.emit("on_predict_postprocess_end", run)
                window.set_results(batch, run.results)
                yield from output.write(window)
                run.callbacks.emit("on_predict_batch_end", run)
            yield from output.write(window)  # images after the last batch that could not be read
        run.callbacks.emit("on_predict_end", run)
        output.finished = True
        output.log_speed()


class _Output:
    """Completes the results of a run with track ids, and writes its files and log lines.

    Attributes:
        finished: whether the source has ended.
    """

    def __init__(
        self, run: Predictor, total: int | None, tracker: ResultTracker | None, recorder: RunRecorder | None
    ) -> None:
        has_outputs = any(getattr(run.args, option, None) for option in OUTPUT_OPTIONS)
        folder = None if recorder is None or recorder.unfinished is None else recorder.unfinished.folder
        self._files = RunFiles(run.args, folder) if has_outputs else None
        self._recorder = recorder
        self.finished = False
        self._run = run
        self._tracker = tracker
        self._next_time = getattr(run.args, "timestamp", None)
        self._total = total
        self._verbose = run.args.verbose
        self._readable = 0
        self._milliseconds: dict[str, float] = {}

    def write(self, window: ImageWindow) -> Generator[Results, None, None]:
        """Write, log and yield the results of a window that are complete in source order."""
        for result, input_size in window.take_ready():
            self._run.seen += 1
            if self._tracker is not None:
                self._tracker.track(result, self._run.runtime.to_array, self._next_time)
                self._next_time = None
            if self._files:
                self._files.write(result)
                self._run.save_dir = self._files.folder
                if self._recorder and self._tracker:
                    self._recorder.add(result, self._files.folder, self._tracker)
            self._log(result, input_size)
            yield result

    def replay(self, results: Iterator[tuple[Results, bool]]) -> None:
        """Continue the files with the results of an interrupted run."""
        assert self._files is not None  # noqa: S101  # a run without files is not recorded
        for result, video_ended in results:
            self._run.seen += 1
            self._files.replay(result, video_ended)
        if self._verbose:
            LOGGER.info(f"Resuming {self._files.folder} after {self._run.seen} results.")

    @contextmanager
    def closed_on_error(self) -> Generator[None, None, None]:
        """Finish all files if the block raises."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _log(self, result: Results, input_size: tuple[int, int]) -> None:
        label = self._label(result)
        if result.error is not None:
            LOGGER.warning(f"{label}: {result.verbose().rstrip(', ')}")
            return
        self._readable += 1
        for phase, value in result.speed.items():
            self._milliseconds[phase] = self._milliseconds.get(phase, 0.0) + (value or 0.0)
        if self._verbose:
            height, width = input_size
            LOGGER.info(f"{label}: {height}x{width} {result.verbose()}{result.speed['inference'] or 0.0:.1f}ms")

    def _label(self, result: Results) -> str:
        frame = result.frame
        if frame is None:
            return f"image {self._run.seen}/{self._total or '?'} {result.path}"
        if frame.live:
            return f"stream {frame.video + 1} (frame {frame.number}) {result.path}"
        return f"video {frame.video + 1} (frame {frame.number}/{frame.total or '?'}) {result.path}"

    def close(self) -> None:
        """Finish all files."""
        try:
            if self._files:
                self._files.close()
        except BaseException:
            self.finished = False
            raise
        finally:
            if self._recorder:
                self._recorder.close(finished=self.finished)

    def log_speed(self) -> None:
        """Log the mean times per image."""
        if self._verbose and self._readable:
            phases = ", ".join(f"{value / self._readable:.1f}ms {phase}" for phase, value in self._milliseconds.items())
            LOGGER.info(f"Speed: {phases} per image")
