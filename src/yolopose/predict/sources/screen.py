"""What a screen shows, grabbed when it is asked for, through the package `mss`."""

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
from yolopose.predict.items import Entry, Item, Source
from yolopose.predict.sources.parts import Screen
from yolopose.results import Frame

_WORDS = (
    "Write `screen`, `screen NUMBER` or `screen NUMBER LEFT TOP WIDTH HEIGHT` (screen 0 is all of them side by side)."
)


def parse_screen(text: str) -> Screen | None:
    """Read `screen`, `screen 1`, `screen 1 left top width height`; None for another text.

    Raises:
        UsageError: it begins so, but goes on in another way.
    """
    if not re.match(r"screen(\s|$)", text.strip(), re.IGNORECASE):
        return None
    try:
        numbers = [int(word) for word in text.split()[1:]]
    except ValueError:
        numbers = [0] * 99
    if len(numbers) not in (0, 1, 5) or (numbers and numbers[0] < 0) or min(numbers[3:], default=1) < 1:
        raise UsageError(f"The source {text!r} is no part of a screen. {_WORDS}")
    area = (numbers[1], numbers[2], numbers[3], numbers[4]) if len(numbers) == 5 else None
    return Screen(numbers[0] if numbers else 0, area)


def screen_source(screen: Screen) -> Source:
    """Images of a screen, without end.

    Raises:
        DependencyError: `mss` is not installed.
    """
    try:
        mss: Any = importlib.import_module("mss")
    except ImportError as error:
        raise DependencyError("Screen capture needs the package mss. Install it: pip install mss") from error
    stopped: list[bool] = []
    return Source(_entries(mss, screen, stopped), None, live=True, close=partial(stopped.append, True))


def _entries(mss: Any, screen: Screen, stopped: list[bool]) -> Generator[Entry, None, None]:
    name, number, began = f"screen{screen.number}", 0, monotonic()
    try:
        with mss.mss() as grabber:
            box = _box(grabber.monitors, screen)
            while not stopped:
                image = to_bgr(np.array(grabber.grab(box), np.uint8))
                number += 1
                frame = Frame(number, live=True, at=monotonic() - began)
                yield Entry(name, partial(Item, name, image, frame=frame))
    except mss.exception.ScreenShotError as error:
        raise SourceError(
            f"The screen cannot be captured: {' '.join(str(error).split())}. A program without a desktop (over ssh, in "
            "a container) has no screen; on macOS it must be allowed in the privacy settings."
        ) from error


def _box(monitors: list[dict[str, int]], screen: Screen) -> dict[str, int]:
    if screen.number >= len(monitors):
        raise SourceError(f"There is no screen {screen.number}: this machine has {len(monitors) - 1}. {_WORDS}")
    whole = monitors[screen.number]
    if screen.area is None:
        return {side: int(whole[side]) for side in ("left", "top", "width", "height")}
    left, top, width, height = screen.area
    return {"left": whole["left"] + left, "top": whole["top"] + top, "width": width, "height": height}
