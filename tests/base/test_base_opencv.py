from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import pytest

import yolopose
from yolopose.base import opencv
from yolopose.base.errors import DependencyError
from yolopose.cli import main


def raising(error: Exception) -> Callable[[str], ModuleType]:
    def load(name: str) -> ModuleType:
        raise error

    return load


def test_accepts_the_installed_opencv() -> None:
    assert opencv.opencv_problem() == ""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ModuleNotFoundError("No module named 'cv2'", name="cv2"), "none is installed: `pip install opencv-python`"),
        (ModuleNotFoundError("No module named 'cv2.cv2'", name="cv2.cv2"), "incomplete"),
        (
            ImportError("libGL.so.1: cannot open shared object file: No such file or directory"),
            r"libGL\.so\.1.*without windows",
        ),
        (AttributeError("partially initialized module 'cv2' has no attribute 'x'"), "pip uninstall -y opencv-python"),
    ],
)
def test_explains_why_opencv_cannot_be_loaded(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opencv, "import_module", raising(error))
    with pytest.raises(DependencyError, match=message):
        _ = yolopose.YOLO


def test_recognizes_the_folder_that_an_uninstalled_variant_leaves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two variants write the same files; removing one leaves a package without content."""
    monkeypatch.setitem(sys.modules, "cv2", ModuleType("cv2"))
    with pytest.raises(DependencyError, match="incomplete: two packages"):
        _ = yolopose.Results

    def fail(command: object) -> int:
        raise AttributeError("module 'cv2' has no attribute 'imread'")

    monkeypatch.setattr(sys.modules["yolopose.cli.main"], "_run", fail)
    assert main(["version"]) == 1
    assert "error: The installed OpenCV is incomplete" in capsys.readouterr().err
