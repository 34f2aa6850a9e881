"""Screen capture with the package `mss`; each image is captured when it is requested."""

from __future__ import annotations

import importlib
import re
from collections.abc import Generator
from functools import partial
from time import monotonic
from typing import Any

import numpy as np

from yolopose.base.errors import DependencyError, SourceError, UsageError
from yolopose.data.images import to_bgr
from yolopose.predict.sources.base import ImageRef, LoadedImage, ScreenRegion, Source
from yolopose.results import Frame

_SYNTAX = (
    "Write `screen`, `screen NUMBER` or `screen NUMBER LEFT TOP WIDTH HEIGHT` (screen 0 is all screens side by side)."
)


def parse_screen(text: str) -> ScreenRegion | None:
    """Parse `screen`, `screen 1` or `screen 1 left top width height`; return None for other texts.

    Raises:
        UsageError: the text starts with `screen`, but the rest is invalid.
    """
    if not re.match(r"screen(\s|$)", text.strip(), re.IGNORECASE):
        return None
    try:
        values = [int(word) for word in text.split()[1:]]
    except ValueError:
        values = None
    if values is None or not _is_valid(values):
        raise UsageError(f"The source {text!r} is not a valid screen region. {_SYNTAX}")
    area = (values[1], values[2], values[3], values[4]) if len(values) == 5 else None
    return ScreenRegion(values[0] if values else 0, area)


def _is_valid(values: list[int]) -> bool:
    """Check for no value, a screen number, or a number and an area with positive size."""
    number_is_valid = not values or values[0] >= 0
    return len(values) in (0, 1, 5) and number_is_valid and min(values[3:], default=1) >= 1


def open_screen(region: ScreenRegion) -> Source:
    """Return an endless source of images of a screen.

    Raises:
        DependencyError: `mss` is not installed.
    """
    try:
        mss: Any = importlib.import_module("mss")
    except ImportError as error:
        raise DependencyError("Screen capture needs the package mss. Install it: pip install mss") from error
    stopped: list[bool] = []
    return Source(_capture(mss, region, stopped), None, live=True, close=partial(stopped.append, True))


def _capture(mss: Any, region: ScreenRegion, stopped: list[bool]) -> Generator[ImageRef, None, None]:
    name = f"screen{region.number}"
    number = 0
    start = monotonic()
    try:
        with mss.mss() as grabber:
            box = _grab_box(grabber.monitors, region)
            while not stopped:
                image = to_bgr(np.array(grabber.grab(box), np.uint8))
                number += 1
                frame = Frame(number, live=True, at=monotonic() - start)
                yield ImageRef(name, partial(LoadedImage, name, image, frame=frame))
    except mss.exception.ScreenShotError as error:
        raise SourceError(
            f"The screen cannot be captured: {' '.join(str(error).split())}. Programs without a desktop (over ssh, in "
            "a container) have no screen; on macOS, allow screen recording in the privacy settings."
        ) from error


def _grab_box(monitors: list[dict[str, int]], region: ScreenRegion) -> dict[str, int]:
    if region.number >= len(monitors):
        raise SourceError(
            f"Screen {region.number} does not exist: this machine has {len(monitors) - 1} screens. {_SYNTAX}"
        )
    screen = monitors[region.number]
    if region.area is None:
        return {side: int(screen[side]) for side in ("left", "top", "width", "height")}
    left, top, width, height = region.area
    return {"left": screen["left"] + left, "top": screen["top"] + top, "width": width, "height": height}
