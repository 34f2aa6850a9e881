"""The part of `Results` that draws: images as arrays, files, windows, notebook output."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError
from yolopose.results import display, writing
from yolopose.results.arrays import host
from yolopose.results.canvas import as_bgr, notice
from yolopose.results.drawing import Style, annotate
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.palette import WHITE, Color
from yolopose.schema import KeypointSchema


class Plotted:
    """Draws what `Results` holds; the attributes are those of `Results`."""

    _image: npt.NDArray[Any] | Callable[[], npt.NDArray[Any]]
    orig_shape: tuple[int, int]
    path: str
    names: dict[int, str]
    boxes: Boxes | None
    keypoints: Keypoints | None
    schema: KeypointSchema | None
    error: str | None

    @property
    def orig_img(self) -> npt.NDArray[Any]:
        """(H, W, 3) BGR uint8, or (H, W): the image; read now where it was not needed so far."""
        if callable(self._image):
            self._image = self._image()
        return self._image

    @orig_img.setter
    def orig_img(self, image: npt.NDArray[Any]) -> None:
        self._image = image

    def plot(
        self,
        conf: bool = True,
        line_width: float | None = None,
        font_size: float | None = None,
        font: str | Path | None = None,
        pil: bool = False,
        img: Any = None,
        kpt_radius: float = 5,
        kpt_line: bool = True,
        labels: bool = True,
        boxes: bool = True,
        masks: bool = True,
        probs: bool = True,
        show: bool = False,
        save: bool = False,
        filename: str | Path | None = None,
        color_mode: str = "class",
        txt_color: Color = WHITE,
    ) -> Any:
        """Draw the result on a copy of the image.

        Args:
            conf: whether labels hold the confidence.
            line_width: thickness of boxes, pixels; None follows the image.
            font_size: height of the text, pixels; None follows the image.
            font: TrueType font file for the text; None for the built-in one.
            pil: whether to return a PIL image instead of an array.
            img: image to draw on instead of `orig_img`; of another size, the drawing is scaled to it.
            kpt_radius: radius of points in an image of about 1000 pixels; it follows the image and the instance.
            kpt_line: whether limbs are drawn.
            labels: whether labels are drawn.
            boxes: whether boxes and labels are drawn.
            masks: of no effect: poses have none.
            probs: of no effect: poses have none.
            show: whether to show the image as well.
            save: whether to write it to `filename` as well.
            filename: file for `save`; None for `results_NAME.jpg` in the current folder.
            color_mode: `class`, or `instance` for one color per instance (per track when tracked).
            txt_color: BGR of the text; white turns dark on light backgrounds.

        Returns:
            (H, W, 3) uint8 BGR, or a PIL RGB image. Points below 0.25 confidence are left out.

        Raises:
            UsageError: a value is not possible.
            DependencyError: `pil=True` without Pillow.
        """
        style = Style(conf, line_width, font_size, font, kpt_radius, kpt_line, labels, boxes, color_mode, txt_color)
        img = self._drawn(style, img)
        if show:
            display.show_image(img, self.path)
        if save:
            writing.save_image(img, filename or self._default_name())
        return _pil(img) if pil else img

    def _drawn(self, style: Style, img: Any) -> npt.NDArray[np.uint8]:
        base = host(self.orig_img if img is None else img)
        if 0 in base.shape:
            return notice(f"{self.path}: {self.error or 'the image holds no pixels'}")
        img = as_bgr(base)
        if np.may_share_memory(img, base):
            img = img.copy()
        scale = writing.scale_to(img, self.orig_shape)
        boxes = None if self.boxes is None else host(self.boxes.data).astype(np.float64)
        points = None if self.keypoints is None else host(self.keypoints.data).astype(np.float64)
        if boxes is not None:
            boxes[:, :4] *= scale
        if points is not None:
            points[..., :2] *= scale[:2]
        annotate(img, boxes, points, self.names, self.schema, style)
        return img

    def _default_name(self) -> str:
        return f"results_{Path(self.path).stem}.jpg"

    def show(self, wait: bool = True, **plot: Any) -> bool:
        """Show the drawn image in a window or notebook; takes the arguments of `plot`.

        Args:
            wait: whether to wait until a key is pressed or the window closed.
            **plot: arguments of `plot`.

        Returns:
            Whether it was shown; where there is no window, a warning says how to save it instead.
        """
        return display.show_image(self._array(plot), self.path, wait)

    def save(self, filename: str | Path | None = None, **plot: Any) -> str:
        """Write the drawn image and returns its path; takes the arguments of `plot`.

        Args:
            filename: file to write; None for `results_NAME.jpg` in the current folder.
            **plot: arguments of `plot`.

        Raises:
            UsageError: the suffix names no image format.
            OutputError: it cannot be written.
        """
        target = str(filename or self._default_name())
        writing.save_image(self._array(plot), target)
        return target

    def _repr_png_(self) -> bytes:
        """The drawn image, for notebooks."""
        return writing.encoded(self.plot(), ".png")

    def _array(self, plot: dict[str, Any]) -> npt.NDArray[np.uint8]:
        plot["pil"] = False
        return self.plot(**plot)


def _pil(img: npt.NDArray[np.uint8]) -> Any:
    try:
        from PIL import Image
    except ImportError as fault:
        raise DependencyError("`pil=True` needs Pillow, which is not installed: `pip install pillow`.") from fault
    return Image.fromarray(np.ascontiguousarray(img[..., ::-1]))
