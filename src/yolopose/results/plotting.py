"""The drawing methods of `Results`: annotated arrays, files, windows and notebook output."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError
from yolopose.base.log import warn_once
from yolopose.results import writing
from yolopose.results.arrays import to_numpy
from yolopose.results.drawing import annotate
from yolopose.results.instances import Boxes, Keypoints
from yolopose.results.palette import WHITE, Color
from yolopose.results.style import Style, StyleKwargs
from yolopose.schema import KeypointSchema

if TYPE_CHECKING:
    from typing_extensions import Unpack

Image = npt.NDArray[np.uint8]


class PlotMixin:
    """Drawing methods; the attributes are those of `Results`."""

    _image: npt.NDArray[Any] | Callable[[], npt.NDArray[Any]]
    orig_shape: tuple[int, int]
    path: str
    names: dict[int, str]
    boxes: Boxes
    keypoints: Keypoints
    schema: KeypointSchema | None
    error: str | None

    @property
    def orig_img(self) -> npt.NDArray[Any]:
        """(H, W, 3) BGR uint8, or (H, W): the image; loaded on first access if necessary."""
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
        **style: Unpack[StyleKwargs],
    ) -> Any:
        """Draw the result on a copy of the image.

        Args:
            conf: whether labels include the confidence.
            line_width: thickness of boxes, pixels; None for a size relative to the image.
            font_size: height of the text, pixels; None for a size relative to the image.
            font: TrueType font file for the text; None for the built-in one.
            pil: whether to return a PIL image instead of an array.
            img: image to draw on instead of `orig_img`; the drawing is scaled to its size.
            kpt_radius: radius of keypoints in an image of about 1000 pixels; it scales with image and instance.
            kpt_line: whether limbs are drawn.
            labels: whether labels are drawn.
            boxes: whether boxes and labels are drawn.
            masks: no effect: poses have no masks.
            probs: no effect: poses have no class probabilities.
            show: whether to show the image, too.
            save: whether to write it to `filename`, too.
            filename: file for `save`; None for `results_NAME.jpg` in the current folder.
            color_mode: `class`, or `instance` for one color per instance (per track with tracking).
            txt_color: BGR of the text; white becomes dark on light backgrounds.
            **style: `kpt_conf`, `kpt_names`, `skeleton`, `colors`, `kpt_colors`, `limb_colors`: see `StyleKwargs`.

        Returns:
            (H, W, 3) uint8 BGR, or a PIL RGB image.

        Raises:
            UsageError: an invalid value.
            DependencyError: `pil=True` without Pillow.
        """
        if unknown := style.keys() - StyleKwargs.__annotations__.keys():
            raise TypeError(f"plot() got an unexpected keyword argument {min(unknown)!r}")
        sizes = line_width, font_size, font, kpt_radius
        content = Style(conf, *sizes, kpt_line, labels, boxes, color_mode, txt_color, **style)
        annotated = self._annotate(content, img)
        if show:
            show_image(annotated, self.path)
        if save:
            writing.save_image(annotated, filename or self._default_file_name())
        return _to_pil(annotated) if pil else annotated

    def _annotate(self, style: Style, img: Any) -> Image:
        original = to_numpy(self.orig_img if img is None else img)
        if 0 in original.shape:
            return _error_image(f"{self.path}: {self.error or 'the image has no pixels'}")
        canvas = writing.to_uint8_bgr(original)
        if np.may_share_memory(canvas, original):
            canvas = canvas.copy()
        scale = writing.scale_to_image(canvas, self.orig_shape)
        boxes = to_numpy(self.boxes.data).astype(np.float64)
        points = to_numpy(self.keypoints.data).astype(np.float64)
        boxes[:, :4] *= scale
        points[..., :2] *= scale[:2]
        visibility = self.keypoints.visibility
        hidden = None if visibility is None else to_numpy(visibility.states) == 1
        annotate(canvas, boxes, points, self.names, self.schema, style, hidden)
        return canvas

    def _default_file_name(self) -> str:
        return f"results_{Path(self.path).stem}.jpg"

    def show(self, wait: bool = True, **plot: Any) -> bool:
        """Show the annotated image in a window or notebook.

        Args:
            wait: whether to wait until a key is pressed or the window is closed.
            **plot: arguments of `plot`.

        Returns:
            Whether it was shown; otherwise a warning explains how to save it instead.
        """
        return show_image(self._plot_array(plot), self.path, wait)

    def save(self, filename: str | Path | None = None, **plot: Any) -> str:
        """Write the annotated image and return its path.

        Args:
            filename: file to write; None for `results_NAME.jpg` in the current folder.
            **plot: arguments of `plot`.

        Raises:
            UsageError: the suffix is not an image format.
            OutputError: it cannot be written.
        """
        target = str(filename or self._default_file_name())
        writing.save_image(self._plot_array(plot), target)
        return target

    def _repr_png_(self) -> bytes:
        """Return the annotated image for notebooks."""
        return writing.encode_image(self.plot(), ".png")

    def _plot_array(self, plot: dict[str, Any]) -> Image:
        plot["pil"] = False
        return self.plot(**plot)


def _to_pil(img: Image) -> Any:
    try:
        from PIL import Image as PILImage
    except ImportError as error:
        raise DependencyError("`pil=True` needs Pillow, which is not installed: `pip install pillow`.") from error
    return PILImage.fromarray(np.ascontiguousarray(img[..., ::-1]))


def _error_image(text: str) -> Image:
    """Return a gray image with a text, for an image that could not be read."""
    width = 640
    line_height = 22
    lines = textwrap.wrap(text, 66)
    img = np.full((max(120, line_height * (len(lines) + 2)), width, 3), 114, np.uint8)
    for number, line in enumerate(lines, start=1):
        origin = (12, 10 + line_height * number)
        cv2.putText(img, line, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.5, WHITE, 1, cv2.LINE_AA)
    return img


# -- Windows ---------------------------------------------------------------------------------------------------------


def show_image(image: Image, title: str, wait: bool = True) -> bool:
    """Show a BGR image in a notebook or window.

    Args:
        image: (H, W, 3) uint8.
        title: name of the window; an open window of that name is reused.
        wait: whether to wait until a key is pressed or the window is closed; False for frames of a video.

    Returns:
        Whether it was shown; otherwise a warning gives the reason, once.
    """
    if _in_notebook():
        display = importlib.import_module("IPython.display")
        display.display(display.Image(data=writing.encode_image(image, ".png")))
        return True
    reason = why_no_window()
    if reason:
        warn_once(reason)
        return False
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    cv2.imshow(title, image)
    key = cv2.waitKey(1)
    while wait and key < 0 and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1:
        key = cv2.waitKey(50)
    if wait:
        cv2.destroyWindow(title)
    return True


def _in_notebook() -> bool:
    """Return whether this process runs the cells of a notebook; an import of ipykernel alone does not mean that."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return getattr(shell, "kernel", None) is not None


def why_no_window() -> str:
    """Return why no window can be opened and what to do instead; an empty text if one can."""
    alternative = "Save the image instead: `result.save('image.jpg')`, or `save=True` in predict."
    if not _opencv_has_windows():
        return (
            "The image cannot be shown: this OpenCV was built without windows (`opencv-python-headless`). "
            f"{alternative} To open windows: `pip uninstall opencv-python-headless`, then `pip install opencv-python`."
        )
    # Without a display, the GUI library of OpenCV terminates the process, so check it first.
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return f"The image cannot be shown: this session has no display ($DISPLAY is not set). {alternative}"
    return ""


def _opencv_has_windows() -> bool:
    lines = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    return any(len(parts) == 2 and parts[1].strip() not in ("", "NONE") for parts in lines)
