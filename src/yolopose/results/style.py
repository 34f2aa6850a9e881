"""What drawings of results show, and in which colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from yolopose.base.errors import UsageError
from yolopose.results.palette import WHITE, Color, color_for

MIN_VISIBILITY = 0.25
"""Keypoints of lower confidence are not drawn."""

Edge = tuple[int | str, int | str]
"""Two keypoints, by index or name."""
Colors = Color | Sequence[Color] | Mapping[Any, Color] | None


class StyleKwargs(TypedDict, total=False):
    """Keyword arguments of `Results.plot` beside those of the reference package.

    Attributes:
        kpt_conf: keypoints of lower confidence, and limbs that end there, are not drawn.
        kpt_names: write the names of the keypoints beside them (numbers if they are unknown), or these K names.
        skeleton: pairs of keypoints, by index or name, to join instead of the skeleton of the network; `[]`: none.
        colors: BGR of boxes and labels: one color, one per class by index or name, or a list by class index (by
            instance with `color_mode="instance"`), repeated if it is shorter.
        kpt_colors: BGR of each keypoint, repeated if it is shorter.
        limb_colors: BGR of each edge of the skeleton, repeated if it is shorter.

    Examples:
        >>> import numpy as np
        >>> from yolopose import Results
        >>> from yolopose.results.style import StyleKwargs
        >>> style = StyleKwargs(kpt_conf=0.5, colors=(0, 0, 255), skeleton=[])
        >>> Results(np.zeros((8, 8, 3), np.uint8), "a.jpg", {0: "person"}).plot(**style).shape
        (8, 8, 3)
    """

    kpt_conf: float
    kpt_names: bool | Sequence[str]
    skeleton: Sequence[Edge] | None
    colors: Colors
    kpt_colors: Sequence[Color] | None
    limb_colors: Sequence[Color] | None


@dataclass(frozen=True, slots=True)
class Style:
    """What is drawn and how.

    Attributes:
        conf: whether labels include the confidence.
        line_width: thickness of boxes, pixels; None for a size relative to the image.
        font_size: height of a line of text, pixels; None for a size relative to the image.
        font: path or name of a TrueType font; None for the built-in one.
        kpt_radius: radius of keypoints in an image of about 1000 pixels; it scales with the image.
        kpt_line: whether limbs are drawn.
        labels: whether labels are drawn.
        boxes: whether boxes and labels are drawn.
        color_mode: `class` (boxes by class, limbs by side) or `instance` (boxes and limbs by instance or track).
        txt_color: BGR of the text; white becomes dark on light backgrounds.
        kpt_conf: keypoints of lower confidence are not drawn.
        kpt_names: whether the names of keypoints are written, or the K names.
        skeleton: pairs of keypoints, by index or name, instead of those of the schema; None for these.
        colors: BGR of boxes and labels, see `base_color`; None for different hues.
        kpt_colors: BGR of each keypoint; None for colors by side of the body.
        limb_colors: BGR of each edge; None for colors by side of the body.

    Raises:
        UsageError: an invalid value.
    """

    conf: bool = True
    line_width: float | None = None
    font_size: float | None = None
    font: str | Path | None = None
    kpt_radius: float = 5
    kpt_line: bool = True
    labels: bool = True
    boxes: bool = True
    color_mode: str = "class"
    txt_color: Color = WHITE
    kpt_conf: float = MIN_VISIBILITY
    kpt_names: bool | Sequence[str] = False
    skeleton: Sequence[Edge] | None = None
    colors: Colors = None
    kpt_colors: Sequence[Color] | None = None
    limb_colors: Sequence[Color] | None = None

    def __post_init__(self) -> None:
        if self.color_mode not in ("class", "instance"):
            raise UsageError(f"color_mode must be 'class' or 'instance', got {self.color_mode!r}.")
        for name in ("line_width", "font_size", "kpt_radius"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"{name} must be a number above 0 (pixels), got {value!r}.")
        if not 0 <= self.kpt_conf <= 1:
            raise UsageError(f"kpt_conf must be a confidence from 0 to 1, got {self.kpt_conf!r}.")
        single = () if self.colors is None or isinstance(self.colors, Mapping) else self.colors
        lists = {"colors": self.colors.values() if isinstance(self.colors, Mapping) else _color_list(single)}
        lists |= {"kpt_colors": self.kpt_colors or (), "limb_colors": self.limb_colors or ()}
        for name, colors in lists.items():
            for color in colors:
                if not _is_color(color):
                    raise UsageError(f"{name}: a color is 3 numbers 0…255, blue, green, red; got {color!r}.")


def base_color(colors: Colors, index: int, name: str) -> Color:
    """Return the color of a class or instance: that of its name or number, that of a list, or a hue of its own."""
    if isinstance(colors, Mapping):
        chosen = colors.get(name, colors.get(index))
        return color_for(index) if chosen is None else to_color(chosen)
    choices = _color_list(colors or ())
    return choices[index % len(choices)] if choices else color_for(index)


def _color_list(colors: Color | Sequence[Color]) -> list[Color]:
    """Return one or several colors as a list."""
    return [cast(Color, colors)] if _is_color(colors) else list(cast("Sequence[Color]", colors))


def _is_color(value: object) -> bool:
    """Return whether a value is (blue, green, red)."""
    if isinstance(value, str) or not hasattr(value, "__len__") or len(cast("Sequence[object]", value)) != 3:
        return False
    return all(np.isscalar(item) and 0 <= float(cast("Any", item)) <= 255 for item in cast("Sequence[object]", value))


def to_color(color: Sequence[Any]) -> Color:
    """Return a color as integers, whose type cv2 demands."""
    blue, green, red = (round(float(value)) for value in color)
    return blue, green, red
