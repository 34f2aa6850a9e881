"""Curves, which leave the caller's matplotlib unchanged, and grids of images."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.evaluate import ConfusionMatrix, PoseMetrics
from yolopose.evaluate.plots import GRID_SIDE, image_grid, plot_curves
from yolopose.schema import KeypointSchema


def scored(classes: int) -> PoseMetrics:
    rng = np.random.default_rng(classes)
    metrics = PoseMetrics({index: f"class {index}" for index in range(classes)})
    hits = rng.random((60, 10)) < 0.5
    found, truth = rng.integers(0, classes, (2, 60)) if classes else np.zeros((2, 0), dtype=int)
    hits, conf = hits[: len(found)], rng.random(len(found))
    metrics.update_stats({"tp": hits, "tp_p": hits, "conf": conf, "pred_cls": found, "target_cls": truth})
    metrics.process()
    return metrics


@pytest.mark.parametrize("classes", [0, 1, 3, 30])
def test_curves(tmp_path: Path, classes: int) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    # get_backend() would select one; the underlying dict does not
    pyplot_was_there, backend = "matplotlib.pyplot" in sys.modules, dict.get(matplotlib.rcParams, "backend")
    metrics = scored(classes)
    seen: list[Path] = []
    written = plot_curves(metrics.pose, metrics.names, tmp_path, "Pose", seen.append)
    assert [path.name for path in written] == [f"Pose{name}_curve.png" for name in ("PR", "F1", "P", "R")]
    assert written == seen
    assert all(cv2.imread(str(path)).shape == (1200, 2000, 3) for path in written)
    assert dict.get(matplotlib.rcParams, "backend") == backend
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_there


def test_warns_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    metrics = scored(2)
    assert plot_curves(metrics.box, metrics.names, tmp_path, "Box") == []
    ConfusionMatrix({0: "a"}).plot(save_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "pip install matplotlib" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (2, (1, 2)), (5, (2, 3)), (16, (4, 4))])
def test_grid_shape(count: int, shape: tuple[int, int]) -> None:
    images = np.full((count, 3, 480, 640), 80, dtype=np.uint8)
    nothing = np.zeros((0, 6), dtype=np.float32), np.zeros((0, 2, 3), dtype=np.float32)
    grid = image_grid(
        images, [f"{i}.jpg" for i in range(count)], [nothing] * count, {0: "a"}, KeypointSchema(count=2), True
    )
    assert max(grid.shape) <= GRID_SIDE + 8
    assert grid.shape[1] / grid.shape[0] == pytest.approx(shape[1] * 640 / (shape[0] * 480), rel=0.02)


def test_grid_draws_at_the_position_of_the_instance() -> None:
    images = np.zeros((4, 3, 960, 960), dtype=np.uint8)
    images[1, 0] = 200  # the second image is red
    box = np.array([[480, 480, 900, 900, 0.8, 0]], dtype=np.float32)
    points = np.array([[[700, 700, 0.9], [800, 800, 0.9]]], dtype=np.float32)
    empty = box[:0], points[:0]
    before = box.copy()
    grid = image_grid(
        images, ["", "", "", ""], [empty, empty, empty, (box, points)], {0: "a"}, KeypointSchema(count=2), True
    )
    half = grid.shape[0] // 2
    assert grid[half // 2, half + half // 2].tolist() == [0, 0, 200]  # BGR
    tile = grid[half + 8 : -60, half + 8 : -8]
    assert not tile[: half // 2 - 60].any()
    assert tile[half // 2 :].any()
    np.testing.assert_array_equal(box, before)  # the input is not modified
