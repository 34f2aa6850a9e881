"""The check of OpenCV, which four PyPI packages provide; any of them is used.

All of them write the same folder `cv2`. Where two are installed, the files are those of the later one, and removing
either leaves an incomplete folder. So yolopose depends on none of them: the extras `gui` and `headless` install one.
"""

from __future__ import annotations

from importlib import import_module

from yolopose.base.errors import DependencyError

VARIANTS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
INSTALL = (
    "`pip install opencv-python` on a desktop (it opens windows), "
    "`pip install opencv-python-headless` on a server or in a container"
)


def check_opencv() -> None:
    """Check that OpenCV can be imported.

    Raises:
        DependencyError: it is missing or damaged; the message has the command that installs it.
    """
    reason = opencv_problem()
    if reason:
        raise DependencyError(reason)


def opencv_problem() -> str:
    """Return why OpenCV cannot be used and how to install it; an empty text if it can."""
    try:
        cv2 = import_module("cv2")
    except ModuleNotFoundError as error:
        if error.name == "cv2":
            return f"yolopose needs OpenCV, and none is installed: {INSTALL}. Any installed variant is used."
        return _damaged(error)
    except (ImportError, AttributeError) as error:
        if ".so" in str(error) and "cannot open shared object" in str(error):  # libGL, libgthread on a bare server
            return (
                f"OpenCV cannot be loaded ({error}): this machine has no libraries for windows. Install the variant "
                "without windows: `pip uninstall opencv-python`, then `pip install opencv-python-headless`."
            )
        return _damaged(error)
    return "" if hasattr(cv2, "imread") else _damaged(None)


def _damaged(error: Exception | None) -> str:
    detail = f" ({error})" if error else ""
    return (
        f"The installed OpenCV is incomplete{detail}: two packages of OpenCV wrote the same files, and one of them was "
        f"removed. Run `pip uninstall -y {' '.join(VARIANTS)}`, then install one: {INSTALL}."
    )
