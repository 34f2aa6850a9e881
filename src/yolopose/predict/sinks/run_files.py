"""`RunFiles`: all output files of a prediction run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from yolopose.base.log import LOGGER
from yolopose.config import PredictSettings, TrackSettings
from yolopose.predict.sinks.base import Sink, SourceNames, WriteContext
from yolopose.predict.sinks.images import AnnotatedImages, Crops, PlainFrames, Window
from yolopose.predict.sinks.labels import CocoResults, LabelFiles
from yolopose.predict.sinks.tables import CsvTable, JsonLines
from yolopose.predict.sinks.track_files import SmoothedTracks, TrackFiles
from yolopose.predict.sinks.videos import AnnotatedVideos
from yolopose.results import Results

# The option that enables a sink, and its constructor, in the order of the summary.
_SINKS: tuple[tuple[str, Callable[[PredictSettings, SourceNames], Sink]], ...] = (
    ("save", lambda settings, names: AnnotatedImages()),
    ("save", lambda settings, names: AnnotatedVideos(names, settings.vid_stride, settings.verbose)),
    ("save_frames", lambda settings, names: PlainFrames()),
    ("save_txt", lambda settings, names: LabelFiles(settings.save_conf)),
    ("save_crop", lambda settings, names: Crops()),
    ("save_json", lambda settings, names: CocoResults()),
    ("save_jsonl", lambda settings, names: JsonLines()),
    ("save_csv", lambda settings, names: CsvTable()),
    (
        "save_tracks",
        lambda settings, names: TrackFiles(
            getattr(settings, "save_tracks", ""), getattr(settings, "smooth", False) is True
        ),
    ),
    ("smooth", lambda settings, names: SmoothedTracks(getattr(settings, "smooth", False) == "offline")),
)
OUTPUT_OPTIONS = (*(option for option, _ in _SINKS), "show")
"""The options that need a `RunFiles`."""


class RunFiles:
    """Writes the requested outputs into a run folder, which is created with the first file.

    Files are named after their source; the second source of the same name is `NAME_2`.

    Args:
        settings: `save`, `save_txt`, …; drawing options; the run folder; `verbose` for the summary.
        folder: the folder of an interrupted run, whose files are continued.

    Attributes:
        folder: the run folder; None until a file is written.
    """

    def __init__(self, settings: PredictSettings, folder: Path | None = None) -> None:
        self.folder = folder
        self._settings = settings
        self._has_results = False
        self._names = SourceNames()
        self._sinks = [
            make_sink(settings, self._names) for option, make_sink in _SINKS if getattr(settings, option, None)
        ]
        self._window = Window() if settings.show else None
        self._style: dict[str, Any] = {
            "line_width": settings.line_width,
            "labels": settings.show_labels,
            "conf": settings.show_conf,
            "boxes": settings.show_boxes,
            # tracks are told apart by their colors
            "color_mode": "instance" if isinstance(settings, TrackSettings) else "class",
        }

    def write(self, result: Results) -> None:
        """Write and show one result; set its `save_dir` if a file is written.

        Must be called for all results in order, from one thread.

        Raises:
            OutputError: the disk is full or read-only; no incomplete file is left, files of earlier results remain.
        """
        self._has_results = True
        accepting = [sink for sink in self._sinks if sink.accepts(result)]
        if accepting:
            if self.folder is None:
                self.folder = self._settings.run.create()
            result.save_dir = str(self.folder)
            context = WriteContext(result, self.folder, self._names.stem_for(result), self._style)
            for sink in accepting:
                sink.write(context)
        else:
            context = WriteContext(result, Path(), "", self._style)
        if self._window and self._window.accepts(result):
            self._window.write(context)

    def replay(self, result: Results, video_ended: bool) -> None:
        """Process a result that the interrupted run has written before.

        Args:
            result: the result; the order is that of the interrupted run.
            video_ended: whether its video had ended when the state of the run was saved.

        Raises:
            OutputError: as from `write`.
        """
        assert self.folder is not None  # noqa: S101  # the folder of the interrupted run
        self._has_results = True
        accepting = [sink for sink in self._sinks if sink.accepts(result)]
        if accepting:
            context = WriteContext(result, self.folder, self._names.stem_for(result), self._style, video_ended)
            for sink in accepting:
                sink.replay(context)

    def close(self) -> None:
        """Finish all files and log what was written; must be called at the end, also after an error.

        Raises:
            OutputError: a file cannot be finished; the others are.
        """
        sinks, self._sinks = self._sinks, []
        with ExitStack() as stack:  # callbacks run in reverse order: the log line comes last
            # Without a result the run has failed, and the error is the message.
            if self._settings.verbose and sinks and self._has_results:
                stack.callback(lambda: LOGGER.info(self._summarize(sinks)))
            for sink in sinks:
                stack.callback(sink.close)

    def _summarize(self, sinks: list[Sink]) -> str:
        summaries = [sink.summary for sink in sinks if sink.summary]
        if self.folder is None or not summaries:
            return "Nothing was saved: no result was of the requested kind."
        return f"Results saved to {self.folder}: {', '.join(summaries)}"
