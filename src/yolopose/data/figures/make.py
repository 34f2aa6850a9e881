"""Making the data set on disk: whole or not at all, and nothing but our own replaced."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import DataError, OutputError, nearest
from yolopose.base.log import LOGGER
from yolopose.data.figures.scene import draw_scene

VERSION = 1
"""Of the drawing; another one draws other images, so the data set is made anew."""

STAMP = "figures.json"
"""File that says what a folder was made from."""

_RANGES = {"train": (1, 100_000), "val": (1, 100_000), "size": (64, 2048), "seed": (0, 2**31 - 1)}
_EXAMPLE = "{train: 800, val: 160, size: 320, seed: 0}"
_JPEG = (cv2.IMWRITE_JPEG_QUALITY, 92)


@dataclass(frozen=True, slots=True, kw_only=True)
class FiguresPlan:
    """The numbers of a data set of figures.

    Attributes:
        train: images to learn from.
        val: images to measure on.
        size: their longer side, pixels.
        seed: start of all random numbers.
    """

    train: int = 800
    val: int = 160
    size: int = 320
    seed: int = 0


def figures_plan(path: Path, raw: Mapping[str, Any]) -> FiguresPlan | None:
    """Read the `figures:` key of a data YAML.

    Args:
        path: the YAML, for errors.
        raw: its keys.

    Returns:
        The plan; None where there is no such key.

    Raises:
        DataError: a number is unknown, none, or out of range, or another key does not go with it.
    """
    value = raw.get("figures")
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise DataError(f"{path}: `figures:` must be like {_EXAMPLE}, got {value!r}.")
    for key, number in value.items():
        if key not in _RANGES:
            close = " or ".join(repr(name) for name in nearest(str(key), _RANGES, 1))
            hint = f" Is {close} meant?" if close else ""
            raise DataError(f"{path}: `figures:` has no key `{key}`; it must be like {_EXAMPLE}.{hint}")
        low, high = _RANGES[key]
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise DataError(f"{path}: `figures: {key}: {number}` must be a whole number from {low} to {high}.")
    drawn = ("images/train", "images/val")
    for split in ("train", "val", "test"):
        if raw.get(split) not in (None, *drawn):
            raise DataError(
                f"{path}: figures are drawn into {' and '.join(drawn)}; `{split}: {raw[split]}` is neither."
            )
    folder = raw.get("path")
    if not isinstance(folder, str) or not folder or ".." in PurePath(folder).parts or PurePath(folder) == PurePath("."):
        raise DataError(f"{path}: `figures:` needs `path:`, a folder of its own for the images; got {folder!r}.")
    return FiguresPlan(**value)


def make_figures(folder: Path, *, train: int, val: int, size: int, seed: int) -> None:
    """Draw the data set into a folder, unless this very one is there.

    It is drawn beside the folder and renamed when it is whole, so an interruption leaves what was there. A folder that
    we made from other numbers, or with an older drawing, is replaced; one that is not ours is left alone.

    Args:
        folder: where `images/train`, `labels/train`, … shall be.
        train: images to learn from.
        val: images to measure on.
        size: their longer side, pixels.
        seed: start of all random numbers.

    Raises:
        DataError: the folder holds something else.
        OutputError: it cannot be written.
    """
    plan = FiguresPlan(train=train, val=val, size=size, seed=seed)
    if _stamp_of(folder) == _stamp(plan):
        return
    if not _is_free(folder):
        raise DataError(
            f"Figures are to be drawn into {folder}, which holds other data (it has no {STAMP} of ours). Move it away, "
            "or give another `path:`."
        )
    start = time.perf_counter()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _draw_all(work, plan)
            work.chmod(0o755)  # a temporary folder is the owner's alone
            _put_in_place(work, folder, plan)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"The figures cannot be drawn into {folder}: {error.strerror or error}. Choose another folder with the "
            "setting `datasets_dir` (`yolo settings datasets_dir=…`, or YOLOPOSE_DATASETS_DIR in the environment)."
        ) from error
    LOGGER.info(f"Drew {train + val} images of figures into {folder} in {time.perf_counter() - start:.1f} s.")


def is_made(folder: Path) -> bool:
    """Whether we made the folder, from whatever numbers."""
    return _stamp_of(folder) is not None


def _stamp(plan: FiguresPlan) -> dict[str, int]:
    return {"version": VERSION, **asdict(plan)}


def _stamp_of(folder: Path) -> dict[str, Any] | None:
    """What a folder of ours was made from; None of any other."""
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    keys = {"version", *(one.name for one in fields(FiguresPlan))}
    return found if isinstance(found, dict) and set(found) == keys else None


def _is_free(folder: Path) -> bool:
    """Whether the folder may be filled: it is absent, empty or ours."""
    return not os.path.lexists(folder) or is_made(folder) or (folder.is_dir() and not any(folder.iterdir()))


def _put_in_place(work: Path, folder: Path, plan: FiguresPlan) -> None:
    """Rename the finished folder; an older one of ours makes room first."""
    if _stamp_of(folder) == _stamp(plan):  # another process was quicker
        return
    aside = work.with_name(f"{work.name}-old")
    with suppress(FileNotFoundError):
        folder.rename(aside)
    try:
        work.rename(folder)
    except BaseException:
        with suppress(OSError):
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _draw_all(folder: Path, plan: FiguresPlan) -> None:
    for split, count in (("train", plan.train), ("val", plan.val)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        with ThreadPoolExecutor(available_cpus()) as pool:
            try:
                for _ in pool.map(partial(_draw, folder, split, plan), range(count)):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)
    (folder / STAMP).write_text(json.dumps(_stamp(plan)), encoding="utf-8")


def _draw(folder: Path, split: str, plan: FiguresPlan, index: int) -> None:
    """Write an image and its labels."""
    image, boxes, points = draw_scene(plan.seed, split, index, plan.size)
    done, data = cv2.imencode(".jpg", image, _JPEG)
    if not done:  # pragma: no cover - an OpenCV without JPEG
        raise OSError("OpenCV cannot write JPEG here")
    name = f"{index:06d}"
    (folder / "images" / split / f"{name}.jpg").write_bytes(data.tobytes())
    size = np.array([image.shape[1], image.shape[0]], dtype=np.float64)
    center, sides = (boxes[:, :2] + boxes[:, 2:]) / 2 / size, (boxes[:, 2:] - boxes[:, :2]) / size
    places = points / np.append(size, 1)
    rows = np.concatenate((center, sides, places.reshape(len(boxes), -1)), axis=1)
    lines = [" ".join(["0", *(f"{value:.6f}".rstrip("0").rstrip(".") for value in row)]) for row in rows]
    (folder / "labels" / split / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
