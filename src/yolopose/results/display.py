"""Images on the screen: in a notebook, in a window, or a line that says how to save them."""

from __future__ import annotations

import importlib
import os
import sys

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.log import LOGGER
from yolopose.results.writing import encoded

_told: set[str] = set()


def show_image(image: npt.NDArray[np.uint8], title: str, wait: bool = True) -> bool:
    """Show a BGR image.

    Args:
        image: (H, W, 3) uint8.
        title: name of the window; the same name shows in the same window.
        wait: whether to wait for a key or for the window to be closed; False for the frames of a video.

    Returns:
        Whether it was shown; when not, a warning has said why, once for each reason.
    """
    if "ipykernel" in sys.modules:
        display = importlib.import_module("IPython.display")
        display.display(display.Image(data=encoded(image, ".png")))
        return True
    reason = no_window()
    if reason:
        if reason not in _told:
            _told.add(reason)
            LOGGER.warning(reason)
        return False
    cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    cv2.imshow(title, image)
    key = cv2.waitKey(1)
    while wait and key < 0 and cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1:
        key = cv2.waitKey(50)
    if wait:
        cv2.destroyWindow(title)
    return True


def no_window() -> str:
    """Return why no window can be opened here and what to do instead; empty text when one can."""
    instead = "Save the image instead: `result.save('image.jpg')`, or `save=True` in predict."
    if not _has_windows():
        return (
            "The image cannot be shown: this OpenCV was built without windows (`opencv-python-headless`). "
            f"{instead} To open windows: `pip uninstall opencv-python-headless`, `pip install opencv-python`."
        )
    # without a display the window libraries end the whole process, so it is looked up before they are asked
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return f"The image cannot be shown: this session has no display ($DISPLAY is not set). {instead}"
    return ""


def _has_windows() -> bool:
    lines = [line.split(":", 1) for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
    return any(len(parts) == 2 and parts[1].strip() not in ("", "NONE") for parts in lines)
