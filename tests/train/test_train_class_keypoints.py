"""One network for classes with different keypoints: labels, loss, metrics, results, exports, tracks."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train_worlds import DUAL_MODEL, FAST, MODEL, make_world

from yolopose import YOLO
from yolopose.base.errors import DataError
from yolopose.config import LossOptions
from yolopose.criterion import Targets, build_criterion
from yolopose.data import load_dataset, load_labels
from yolopose.nn import build_network
from yolopose.schema import PoseSpec
from yolopose.track.frames import keypoint_rows

OWN = "kpt_names: [left, right, top]\nclass_keypoints: {0: [left, right], 1: [top]}\n"
VAL = {"imgsz": 64, "device": "cpu", "plots": False, "verbose": False}


def make_classes(root: Path, dims: int = 3) -> tuple[Path, Path]:
    """Blocks of two classes; the labels have all three points, of which class 0 has two and class 1 one."""
    data, model = make_world(root, images=16, dims=dims, classes=2)
    data.write_text(data.read_text() + OWN)
    return data, model


@pytest.fixture(scope="module", params=[(MODEL, 3), (DUAL_MODEL, 3), (MODEL, 2)], ids=["Pose", "Pose26", "x y"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("classes")
    text, dims = request.param
    data, model = make_classes(root / "world", dims)
    model.write_text(text)
    YOLO(model).train(data=data, project=root / "runs", name="a", **{**FAST, "mosaic": 0.5, "epochs": 25})
    return data, root / "runs" / "a" / "weights" / "last.pt"


def class_mask(classes: Any) -> np.ndarray:
    return np.array([[True, True, False], [False, False, True]])[np.asarray(classes).astype(int)]


def test_labels_of_other_keypoints_are_ignored(tmp_path: Path, caplog: Any) -> None:
    data, _ = make_classes(tmp_path)
    labels = load_labels(load_dataset(data), "train")
    np.testing.assert_array_equal(labels.keypoints[..., 2] != 0, class_mask(labels.classes))
    assert "24 keypoints are labeled that the class of their instance does not have" in caplog.text
    assert "'top' of class 'kind0'" in caplog.text


def test_a_run_measures_the_keypoints_of_each_class(run: tuple[Path, Path]) -> None:
    data, weights = run
    network = YOLO(weights)
    assert network.spec.keypoints.class_keypoints == {0: ("left", "right"), 1: ("top",)}
    metrics = network.val(data=data, **VAL)
    assert metrics.pose.map50 > 0.5
    assert [row["Keypoint"] for row in metrics.keypoints.rows] == ["kind0: left", "kind0: right", "kind1: top"]
    assert [row["Labeled"] for row in metrics.keypoints.rows] == [8, 8, 8]
    # a network for one class only has the same σ
    sigmas = network.spec.keypoints.sigmas_by_class(2)
    np.testing.assert_allclose(sigmas[class_mask([0, 1])], [0.5, 0.5, 1.0])


def test_results_are_zero_for_other_keypoints(run: tuple[Path, Path], tmp_path: Path) -> None:
    data, weights = run
    network = YOLO(weights)
    (result,) = network(str(data.parent / "images" / "val" / "0.png"), imgsz=64, conf=0.001, verbose=False)
    mask = class_mask(result.boxes.cls)
    assert {0, 1} == set(np.asarray(result.boxes.cls).astype(int).tolist())
    np.testing.assert_array_equal(result.keypoints.mask, mask)
    values = np.asarray(result.keypoints.data)
    assert (values[~mask] == 0).all()
    assert (values[mask][:, :2] != 0).all()
    assert result[0].keypoints.mask.shape == (1, 3)
    assert np.isfinite(result.plot()).all()
    rows = keypoint_rows(result.keypoints)
    np.testing.assert_array_equal(rows[..., 2] > 0, mask)
    row = next(iter(csv.DictReader(result.to_csv().splitlines())))
    assert float(row["top_x" if mask[0, 0] else "left_x"]) == 0
    tracked = network.track(str(data.parent / "images" / "val"), imgsz=64, smooth=True, verbose=False, conf=0.01)
    for frame in tracked:
        assert (np.asarray(frame.keypoints.data)[~class_mask(frame.boxes.cls)] == 0).all()


def test_exported_files_know_the_classes(run: tuple[Path, Path]) -> None:
    data, weights = run
    network = YOLO(weights)
    image = str(data.parent / "images" / "val" / "1.png")
    file = network.export(format="onnx", imgsz=64)
    exported = YOLO(file)
    assert exported.spec == network.spec
    (expected,), (result,) = (model(image, imgsz=64, conf=0.2, verbose=False) for model in (network, exported))
    np.testing.assert_allclose(result.keypoints.data, expected.keypoints.data, atol=0.05)
    scores = exported.val(data=data, **VAL)
    assert scores.pose.map50 > 0.5


def test_coco_protocol_evaluates_each_class_with_its_sigmas(run: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    data, weights = run
    metrics = YOLO(weights).val(data=data, **VAL, protocol="coco", project=tmp_path)
    assert metrics.coco["AP50(P)"] == pytest.approx(metrics.pose.map50, abs=0.1)


def test_merged_classes_have_all_keypoints(run: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = run
    options = {**FAST, "epochs": 1, "single_cls": True}
    network = YOLO(data.parent / "tiny-pose.yaml")
    network.train(data=data, project=tmp_path, name="a", **options)
    assert network.spec.keypoints.class_keypoints == {}
    assert network.spec.nc == 1


def spec_of(**values: Any) -> PoseSpec:
    base = {"names": ["a", "b"], "kpt_shape": [3, 3], "kpt_names": ["left", "right", "top"]}
    return PoseSpec.from_dict(base | values)


def test_other_keypoints_contribute_nothing_to_the_loss() -> None:
    """Changing or labeling them changes no loss; the loss of the others is that of a class of its own."""
    torch.manual_seed(0)
    own = {0: ["left", "right"], 1: ["top"]}
    network = build_network("yolo11n-pose.yaml", spec=spec_of(class_keypoints=own)).train()
    criterion = build_criterion(network, network.spec, LossOptions())
    targets = Targets.from_normalized(
        torch.tensor([0, 1]),
        torch.tensor([0, 1]),
        torch.tensor([[0.5, 0.5, 0.6, 0.6], [0.4, 0.5, 0.5, 0.4]]),
        torch.tensor([[[0.4, 0.4, 2], [0.6, 0.4, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [0.5, 0.5, 2.0]]]),
        (64, 64),
    )
    output = network(torch.rand(2, 3, 64, 64))
    kpts = output.kpts.detach().requires_grad_()
    losses = criterion(type(output)(output.boxes, output.scores, kpts, output.shapes), targets)
    assert float(losses.items["kobj"]) > 0
    (gradient,) = torch.autograd.grad(losses.total, kpts)
    used = (gradient.unflatten(1, (3, 3)) != 0).any(3).any(2)
    assert used.tolist() == [[True, True, False], [False, False, True]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"class_keypoints": {0: ["left", "nose"]}}, "'nose' is not among kpt_names"),
        ({"class_keypoints": {0: []}}, "empty or has doubles"),
        ({"class_keypoints": {0: ["top", "top"]}}, "empty or has doubles"),
        ({"class_keypoints": {2: ["top"]}}, "class 2, but there are only 2 classes"),
        ({"class_keypoints": ["top"]}, "must map class indices to lists"),
        ({"class_keypoints": {"dog": ["top"]}}, "must map class indices to lists"),
        ({"class_keypoints": {0: ["left", "top"]}, "flip_idx": [1, 0, 2]}, "flip_idx mirrors 'left' to 'right'"),
        ({"class_keypoints": {0: ["top"]}, "kpt_names": None}, "needs the names of all keypoints"),
        ({"class_keypoints": {0: ["top"]}, "kpt_oks_sigmas": {0: [0.1, 0.2]}}, "class 0 must be 1 positive"),
        ({"kpt_oks_sigmas": {0: [0.1, 0.2, -1]}}, "class 0 must be 3 positive"),
        ({"kpt_oks_sigmas": {5: [0.1, 0.2, 0.3]}}, "kpt_oks_sigmas has class 5"),
    ],
)
def test_bad_keys_of_a_data_yaml(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    data, _ = make_world(tmp_path, classes=2)
    lines = [line for line in data.read_text().splitlines() if not line.startswith("flip_idx")]
    content = {"kpt_names": ["left", "right", "top"]} | values
    data.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in content.items() if value is not None)]))
    with pytest.raises(DataError, match=message):
        load_dataset(data)


def test_sigmas_of_classes() -> None:
    own = {0: ["left", "right"], 1: ["top"]}
    spec = spec_of(class_keypoints=own, kpt_oks_sigmas={0: [0.1, 0.2]})
    np.testing.assert_allclose(spec.keypoints.sigmas_by_class(2)[[0, 0, 1], [0, 1, 2]], [0.1, 0.2, 1.0])
    np.testing.assert_allclose(spec_of(kpt_oks_sigmas=[0.1, 0.2, 0.3]).keypoints.sigmas_by_class(2), [0.1, 0.2, 0.3])
    np.testing.assert_allclose(spec_of().keypoints.sigmas_by_class(2), np.full(3, 1 / 3))
    assert PoseSpec.from_dict(spec.to_dict()) == spec
