"""The files of one prediction run: annotated pictures, label files, crops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from yolopose.base.files import new_run_folder
from yolopose.base.settings import load_settings
from yolopose.config import PredictOptions
from yolopose.results import Results

# formats that every build of OpenCV writes; pictures of other kinds are saved as JPEG
_WRITTEN = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class RunFiles:
    """Writes what the options ask for, under a run folder that is made with the first file.

    Args:
        options: `save`, `save_txt`, `save_conf`, `save_crop`, `show` and how to draw; `project`, `name`, `exist_ok`.

    Attributes:
        folder: the run folder; None until something is saved.
    """

    def __init__(self, options: PredictOptions) -> None:
        self.options = options
        self.folder: Path | None = None
        self._taken: dict[str, int] = {}

    def write(self, result: Results) -> None:
        """Writes and shows one result; sets its `save_dir` when anything is saved.

        Files are called after the source; when two sources of a run share a name, the second one is `NAME_2`.

        Raises:
            OutputError: the disk is full or read-only; the file is not half-written, files of earlier results stay.
        """
        options = self.options
        if result.error is not None:
            return
        style: dict[str, Any] = {
            "line_width": options.line_width,
            "labels": options.show_labels,
            "conf": options.show_conf,
            "boxes": options.show_boxes,
        }
        if options.save or options.save_txt or options.save_crop:
            self._save(result, style)
        if options.show:
            result.show(**style)

    def _save(self, result: Results, style: dict[str, Any]) -> None:
        options, folder = self.options, self._run_folder()
        result.save_dir = str(folder)
        stem = self._free_stem(Path(result.path).stem)
        if options.save:
            suffix = Path(result.path).suffix
            suffix = suffix if suffix.lower() in _WRITTEN else ".jpg"
            result.save(folder / f"{stem}{suffix}", **style)
        if options.save_txt:
            result.save_txt(folder / "labels" / f"{stem}.txt", options.save_conf, append=False)
        if options.save_crop:
            result.save_crop(folder / "crops", f"{stem}.jpg")

    def _run_folder(self) -> Path:
        if self.folder is None:
            options = self.options
            parent = Path(options.project) if options.project else Path(load_settings().runs_dir) / "pose"
            self.folder = new_run_folder(parent, options.name or "predict", options.exist_ok)
        return self.folder

    def _free_stem(self, stem: str) -> str:
        """A name that no file of this run has, on file systems that ignore case too."""
        free, number = stem, self._taken.get(stem.casefold(), 0)
        while free.casefold() in self._taken:
            number += 1
            free = f"{stem}_{number}"
        self._taken[stem.casefold()] = max(number, 1)
        self._taken.setdefault(free.casefold(), 1)
        return free
