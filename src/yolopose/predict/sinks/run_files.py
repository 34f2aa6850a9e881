"""The files of one prediction run."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from yolopose.base.files import make_run_folder
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.config import PredictOptions
from yolopose.predict.sinks.coco import CocoResults
from yolopose.predict.sinks.crops import Crops
from yolopose.predict.sinks.frames import Frames
from yolopose.predict.sinks.images import Images
from yolopose.predict.sinks.labels import LabelFiles
from yolopose.predict.sinks.lines import JsonLines
from yolopose.predict.sinks.names import SourceNames
from yolopose.predict.sinks.show import Window
from yolopose.predict.sinks.sink import Place, Sink
from yolopose.predict.sinks.table import Table
from yolopose.predict.sinks.videos import Videos
from yolopose.results import Results


class RunFiles:
    """Writes what the options ask for, under a run folder that is made with the first file.

    Files are called after the source; when two sources of a run share a name, the second one is `NAME_2`.

    Args:
        options: `save`, `save_txt`, … and how to draw; `project`, `name`, `exist_ok`; `verbose` for the last words.

    Attributes:
        folder: the run folder; None until something is saved.
    """

    def __init__(self, options: PredictOptions) -> None:
        self.folder: Path | None = None
        self._any = False
        self._options = options
        self._names = SourceNames()
        self._sinks = _sinks(options, self._names)
        self._window = Window() if options.show else None
        self._style: dict[str, Any] = {
            "line_width": options.line_width,
            "labels": options.show_labels,
            "conf": options.show_conf,
            "boxes": options.show_boxes,
        }

    def write(self, result: Results) -> None:
        """Write and shows one result; sets its `save_dir` when anything is saved.

        To be called for all results in their order, from one thread.

        Raises:
            OutputError: the disk is full or read-only; no file is half-written, files of earlier results stay.
        """
        self._any = True
        takers = [sink for sink in self._sinks if sink.takes(result)]
        if takers:
            folder = self._run_folder()
            result.save_dir = str(folder)
            place = Place(result, folder, self._names.of(result), self._style)
            for sink in takers:
                sink.write(place)
        else:
            place = Place(result, Path(), "", self._style)
        if self._window and self._window.takes(result):
            self._window.write(place)

    def close(self) -> None:
        """Finish the files and says where they are; to be called at the end, also after an error.

        Raises:
            OutputError: a file cannot be finished; the others are.
        """
        sinks, self._sinks = self._sinks, []
        with ExitStack() as closing:
            if self._options.verbose and sinks and self._any:  # an error before the first result has words of its own
                closing.callback(lambda: LOGGER.info(self._last_words(sinks)))
            for sink in sinks:
                closing.callback(sink.close)

    def _last_words(self, sinks: list[Sink]) -> str:
        words = [sink.words for sink in sinks if sink.words]
        if self.folder is None or not words:
            return "Nothing was saved: there was nothing of the kind that was asked for."
        return f"Results saved to {self.folder}: {', '.join(words)}"

    def _run_folder(self) -> Path:
        if self.folder is None:
            options = self._options
            parent = Path(options.project) if options.project else Path(load_settings().runs_dir) / "pose"
            self.folder = make_run_folder(parent, options.name or "predict", options.exist_ok)
        return self.folder


def _sinks(options: PredictOptions, names: SourceNames) -> list[Sink]:
    """The kinds of output that the options ask for, in the order of the last words."""
    kinds: list[tuple[bool, Sink]] = [
        (options.save, Images()),
        (options.save, Videos(names, options.vid_stride, options.verbose)),
        (options.save_frames, Frames()),
        (options.save_txt, LabelFiles(options.save_conf)),
        (options.save_crop, Crops()),
        (options.save_json, CocoResults()),
        (options.save_jsonl, JsonLines()),
        (options.save_csv, Table()),
    ]
    return [sink for asked, sink in kinds if asked]
