"""Write the data set of figures to disk: atomically, and replacing only folders that were written by this module."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import DataError, OutputError, did_you_mean
from yolopose.base.log import LOGGER
from yolopose.base.prefetch import map_ordered
from yolopose.base.text import short_repr, short_text
from yolopose.data.figures.scene import draw_scene

VERSION = 1
"""Version of the drawing; data sets drawn by another version are replaced."""

MANIFEST = "figures.json"
"""File that records the options of a data set."""

_RANGES = {"train": (1, 100_000), "val": (1, 100_000), "size": (64, 2048), "seed": (0, 2**31 - 1)}
_EXAMPLE = "{train: 800, val: 160, size: 320, seed: 0}"
_JPEG_OPTIONS = (cv2.IMWRITE_JPEG_QUALITY, 92)


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresSpec:
    """Options of a data set of figures.

    Attributes:
        train: number of training images.
        val: number of validation images.
        size: their longer side, pixels.
        seed: seed of all random values.
    """

    train: int = 800
    val: int = 160
    size: int = 320
    seed: int = 0


def parse_figures(path: Path, raw: Mapping[str, Any]) -> FiguresSpec | None:
    """Read the `figures:` key of a data YAML; None if there is none.

    Args:
        path: the YAML, for error messages.
        raw: its keys.

    Raises:
        DataError: an option is unknown, not an integer or out of range, or another key contradicts `figures:`.
    """
    value = raw.get("figures")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: `figures:` must be like {_EXAMPLE}, got {short_repr(value)}.")
    for key, number in value.items():
        if key not in _RANGES:
            hint = did_you_mean(str(key), _RANGES)
            raise DataError(f"{path}: `figures:` has no option `{short_text(key)}`; it must be like {_EXAMPLE}.{hint}")
        low, high = _RANGES[key]
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise DataError(f"{path}: `figures: {key}: {short_repr(number)}` must be an integer from {low} to {high}.")
    folders = ("images/train", "images/val")
    for split in ("train", "val", "test"):
        if raw.get(split) not in (None, *folders):
            raise DataError(
                f"{path}: figures are written to {' and '.join(folders)}; `{split}: {short_text(raw[split])}` is not."
            )
    folder = raw.get("path")
    if not isinstance(folder, str) or not folder or ".." in PurePath(folder).parts or PurePath(folder) == PurePath("."):
        raise DataError(
            f"{path}: `figures:` needs `path:`, a separate folder for the images; got {short_repr(folder)}."
        )
    return FiguresSpec(**value)


def write_figures(folder: Path, spec: FiguresSpec) -> None:
    """Draw the data set into a folder, unless it exists there with the same options.

    It is drawn in a temporary folder beside it, which is renamed when complete, so an interruption changes nothing. A
    folder that was written with other options or by another version is replaced; any other folder is left unchanged.

    Args:
        folder: parent of `images/train`, `labels/train`, …
        spec: the options.

    Raises:
        DataError: the folder contains other data.
        OutputError: it cannot be written.
    """
    if _read_manifest(folder) == _manifest(spec):
        return
    if not _may_write(folder):
        raise DataError(
            f"Figures cannot be drawn into {folder}, which contains other data (no valid {MANIFEST}). Move it away, or "
            "set another `path:`."
        )
    start = time.perf_counter()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write_images(temporary, spec)
            temporary.chmod(0o755)  # mkdtemp makes folders private
            _move_into_place(temporary, folder, spec)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"The figures cannot be written to {folder}: {error.strerror or error}. Choose another folder with the "
            "setting `datasets_dir` (`yolo settings datasets_dir=…`, or YOLOPOSE_DATASETS_DIR in the environment)."
        ) from error
    seconds = time.perf_counter() - start
    LOGGER.info(f"Drew {spec.train + spec.val} images of figures into {folder} in {seconds:.1f} s.")


def is_figures_folder(folder: Path) -> bool:
    """Return whether a folder was written by `write_figures`, with any options."""
    return _read_manifest(folder) is not None


def _manifest(spec: FiguresSpec) -> dict[str, int]:
    return {"version": VERSION, **asdict(spec)}


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder; None if there is none of this module."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    keys = {"version", *(field.name for field in fields(FiguresSpec))}
    return manifest if isinstance(manifest, dict) and set(manifest) == keys else None


def _may_write(folder: Path) -> bool:
    is_empty = folder.is_dir() and not any(folder.iterdir())
    return not os.path.lexists(folder) or is_figures_folder(folder) or is_empty


def _move_into_place(temporary: Path, folder: Path, spec: FiguresSpec) -> None:
    """Rename the complete folder; a previous one is moved aside before and removed afterwards."""
    if _read_manifest(folder) == _manifest(spec):  # another process has finished in the meantime
        return
    previous = temporary.with_name(f"{temporary.name}-old")
    with suppress(FileNotFoundError):
        folder.rename(previous)
    try:
        temporary.rename(folder)
    except BaseException:
        with suppress(OSError):
            previous.rename(folder)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _write_images(folder: Path, spec: FiguresSpec) -> None:
    for split, count in (("train", spec.train), ("val", spec.val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for _ in map_ordered(partial(_write_image, folder, split, spec), range(count), threads=available_cpus()):
            pass
    # last, so that the manifest marks a complete folder
    (folder / MANIFEST).write_text(json.dumps(_manifest(spec)), encoding="utf-8")


def _write_image(folder: Path, split: str, spec: FiguresSpec, index: int) -> None:
    image, boxes, keypoints = draw_scene(spec.seed, split, index, spec.size)
    encoded, data = cv2.imencode(".jpg", image, _JPEG_OPTIONS)
    if not encoded:  # pragma: no cover - OpenCV without JPEG
        raise OSError("this build of OpenCV cannot write JPEG")
    name = f"{index:06d}"
    (folder / "images" / split / f"{name}.jpg").write_bytes(data.tobytes())
    size = np.array([image.shape[1], image.shape[0]], dtype=np.float64)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / size
    sides = (boxes[:, 2:] - boxes[:, :2]) / size
    normalized = keypoints / np.append(size, 1)
    # the number of columns cannot be inferred for an image without figures
    columns = normalized.shape[1] * normalized.shape[2]
    rows = np.concatenate((centers, sides, normalized.reshape(len(boxes), columns)), axis=1)
    lines = [" ".join(["0", *(f"{value:.6f}".rstrip("0").rstrip(".") for value in row)]) for row in rows]
    (folder / "labels" / split / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
