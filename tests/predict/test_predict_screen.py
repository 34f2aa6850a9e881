from __future__ import annotations

import sys
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yolopose.base.errors import DependencyError, SourceError, UsageError
from yolopose.predict.sources import open_source


class ScreenShotError(Exception):
    pass


class FakeScreen:
    """Two screens side by side, 8 × 6 and 4 × 6; each pixel's blue tells its column."""

    monitors = (
        {"left": 0, "top": 0, "width": 12, "height": 6},
        {"left": 0, "top": 0, "width": 8, "height": 6},
        {"left": 8, "top": 0, "width": 4, "height": 6},
    )

    def __enter__(self) -> FakeScreen:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def grab(self, box: dict[str, int]) -> np.ndarray:
        image = np.zeros((box["height"], box["width"], 4), np.uint8)
        image[:, :, 0] = box["left"] + np.arange(box["width"])
        image[:, :, 1] = box["top"]
        return image


@pytest.fixture
def mss(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    fake = SimpleNamespace(mss=FakeScreen, exception=SimpleNamespace(ScreenShotError=ScreenShotError))
    monkeypatch.setitem(sys.modules, "mss", fake)  # type: ignore[arg-type]
    return fake


@pytest.mark.parametrize(
    ("text", "shape", "corner"),
    [
        ("screen", (6, 12, 3), (0, 0, 0)),
        ("Screen 1", (6, 8, 3), (0, 0, 0)),
        ("screen 2", (6, 4, 3), (8, 0, 0)),
        ("screen 2 1 2 3 4", (4, 3, 3), (9, 2, 0)),
    ],
)
def test_grabs_region(mss: object, text: str, shape: tuple[int, ...], corner: tuple[int, ...]) -> None:
    source = open_source(text)
    assert (source.live, source.per_call, source.count) == (True, 1, None)
    items = [entry.load() for entry in islice(source.images, 2)]
    assert items[0].image.shape == shape
    assert tuple(items[0].image[0, 0]) == corner
    assert [item.frame and item.frame.number for item in items] == [1, 2]
    source.close()
    assert list(source.images) == []


@pytest.mark.parametrize("text", ["screen 0 10 10", "screen x", "screen -1", "screen 0 0 0 0 5", "screen 1 2 3 4 5 6"])
def test_refuses_invalid_screen_region(mss: object, text: str) -> None:
    with pytest.raises(UsageError, match="screen NUMBER LEFT TOP WIDTH HEIGHT"):
        open_source(text)


def test_missing_screen(mss: SimpleNamespace) -> None:
    with pytest.raises(SourceError, match="Screen 3 does not exist: this machine has 2"):
        list(open_source("screen 3").images)

    def fail() -> Any:
        raise ScreenShotError("no\n display")

    mss.mss = fail
    with pytest.raises(SourceError, match=r"cannot be captured: no display\. Programs without a desktop"):
        list(open_source("screen").images)


def test_missing_mss_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mss", None)
    with pytest.raises(DependencyError, match="pip install mss"):
        open_source("screen")
