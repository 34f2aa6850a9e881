"""The confusion matrix; expected counts are those of the reference package for the same boxes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.evaluate import ConfusionMatrix

NAMES = {0: "a", 1: "b", 2: "c"}
GT = {
    "bboxes": [[0, 0, 10, 10], [0, 0, 10, 12], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]],
    "cls": [0, 1, 1, 2, 0],
}
DETECTIONS = {
    "bboxes": [
        [0, 0, 10, 11], [0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 9], [20, 0, 29, 10], [43, 0, 53, 10],
        [80, 0, 90, 10], [60, 0, 70, 10],
    ],
    "conf": [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.4, 0.2],
    "cls": [1, 1, 0, 1, 2, 0, 2, 0],
}  # fmt: skip


def arrays(values: dict) -> dict:
    return {key: np.array(value, dtype=np.float32) for key, value in values.items()}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0, 0, 1, 1], [1, 2, 0, 0], [0, 0, 0, 2], [1, 0, 0, 0]]),
        ({"iou_thres": 0.6}, [[0, 0, 0, 2], [1, 2, 0, 0], [0, 0, 0, 2], [1, 0, 1, 0]]),
        ({"conf": 0.1}, [[1, 0, 1, 1], [1, 2, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0]]),
    ],
)
def test_counts(options: dict, expected: list) -> None:
    matrix = ConfusionMatrix(NAMES)
    matrix.process_batch(arrays(DETECTIONS), arrays(GT), **options)
    assert matrix.matrix.tolist() == expected


def test_order_of_detections_does_not_matter() -> None:
    first, second = ConfusionMatrix(NAMES), ConfusionMatrix(NAMES)
    first.process_batch(arrays(DETECTIONS), arrays(GT))
    second.process_batch({key: value[::-1] for key, value in arrays(DETECTIONS).items()}, arrays(GT))
    np.testing.assert_array_equal(first.matrix, second.matrix)


def test_accepts_tensors() -> None:
    torch = pytest.importorskip("torch")
    matrix = ConfusionMatrix(NAMES)
    detections, gt = ({k: torch.tensor(v).float() for k, v in values.items()} for values in (DETECTIONS, GT))
    matrix.process_batch(detections, gt)
    assert matrix.tp_fp()[0].tolist() == [0, 2, 0]
    assert matrix.tp_fp()[1].tolist() == [2, 1, 2]


@pytest.mark.parametrize("missing", ["gt", "detections", "both"])
def test_empty_sides(missing: str) -> None:
    empty = {"bboxes": np.zeros((0, 4)), "cls": np.zeros(0), "conf": np.zeros(0)}
    matrix = ConfusionMatrix(NAMES)
    gt = empty if missing in ("gt", "both") else arrays(GT)
    detections = empty if missing in ("detections", "both") else arrays(DETECTIONS)
    matrix.process_batch(detections, gt)
    assert matrix.matrix[-1, :-1].tolist() == ([2, 2, 1] if missing == "detections" else [0, 0, 0])
    assert matrix.matrix[:-1, -1].tolist() == ([2, 3, 2] if missing == "gt" else [0, 0, 0])
    assert matrix.matrix[:-1, :-1].sum() == 0


def test_summary_and_text(capsys: pytest.CaptureFixture[str]) -> None:
    matrix = ConfusionMatrix(NAMES)
    matrix.process_batch(arrays(DETECTIONS), arrays(GT))
    assert matrix.summary()[1] == {"Predicted": "b", "a": 1.0, "b": 2.0, "c": 0.0, "background": 0.0}
    assert matrix.summary(normalize=True, decimals=3)[0]["background"] == 0.333
    assert matrix.normalized().sum(axis=0).tolist() == pytest.approx([1, 1, 1, 1])
    assert matrix.to_csv().splitlines()[0] == "Predicted,a,b,c,background"
    matrix.print()
    assert "1 2 0 0" in capsys.readouterr().out


def test_class_named_background_keeps_its_column() -> None:
    row = ConfusionMatrix({0: "background", 1: "x"}).summary()[0]
    assert list(row) == ["Predicted", "background", "x", "background 2"]


@pytest.mark.parametrize(
    ("normalize", "name"), [(True, "confusion_matrix_normalized.png"), (False, "confusion_matrix.png")]
)
def test_plot(tmp_path: Path, normalize: bool, name: str) -> None:
    pytest.importorskip("matplotlib")
    matrix = ConfusionMatrix(NAMES)
    matrix.process_batch(arrays(DETECTIONS), arrays(GT))
    plotted: list[Path] = []
    matrix.plot(normalize, tmp_path, on_plot=plotted.append)
    assert plotted == [tmp_path / name]
    image = cv2.imread(str(plotted[0]))
    assert image is not None
    assert image.shape[0] > 500
    assert image.std() > 10


def test_matches_of_one_image(tmp_path: Path) -> None:
    matrix = ConfusionMatrix(NAMES, save_matches=True)
    assert matrix.plot_matches(np.zeros((3, 64, 96)), "x.png", tmp_path) is None
    matrix.process_batch(arrays(DETECTIONS), arrays(GT))
    assert matrix.matches is not None
    # a detection of the wrong class is a false positive, and its ground truth a false negative
    assert {kind: len(rows) for kind, rows in matrix.matches.items()} == {"GT": 5, "TP": 2, "FP": 5, "FN": 3}
    assert len(matrix.matches["TP"]) == matrix.tp_fp()[0].sum()
    assert len(matrix.matches["FP"]) == matrix.tp_fp()[1].sum()
    path = matrix.plot_matches(np.full((3, 64, 96), 0.5), "folder/x.png", tmp_path)
    assert path == tmp_path / "visualizations" / "x.jpg"
    image = cv2.imread(str(path))
    assert image is not None
    assert image.std() > 5
