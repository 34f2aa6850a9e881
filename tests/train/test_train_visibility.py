"""Networks with three states of visibility: training, validation, results and exports."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from train_worlds import DUAL_MODEL, FAST, MODEL, make_world

from yolopose import YOLO
from yolopose.base.errors import DataError, TrainError, UsageError
from yolopose.evaluate import VISIBILITY_KEYS

VAL = {"imgsz": 64, "device": "cpu", "plots": False, "verbose": False}


def make_states(root: Path) -> tuple[Path, Path]:
    """Blocks whose color shows the state of two points: yellow visible, blue hidden, gray absent; one is visible."""
    data, model = make_world(root, images=24)
    colors = np.array([(130, 130, 130), (250, 60, 20), (40, 200, 250)], np.uint8)
    for index, label in enumerate(sorted((root / "labels").rglob("*.txt"))):
        values = label.read_text().split()
        image_file = root / "images" / label.parent.name / f"{label.stem}.png"
        image: Any = cv2.imread(str(image_file))
        state = index % 3
        for point in (0, 1):
            values[7 + 3 * point] = str(state)
            if not state:
                values[5 + 3 * point : 7 + 3 * point] = "0", "0"
        image[image[..., 2] > 100] = colors[state]
        cv2.imwrite(str(image_file), image)
        label.write_text(" ".join(values) + "\n")
    return data, model


def train(model: Any, data: Path, folder: Path, **options: Any) -> Path:
    YOLO(model).train(data=data, project=folder, name="a", exist_ok=True, **{**FAST, "mosaic": 0.0, **options})
    return folder / "a" / "weights" / "last.pt"


@pytest.fixture(scope="module", params=[MODEL, DUAL_MODEL], ids=["Pose", "Pose26"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The data YAML and the weights of a network with three states."""
    root = tmp_path_factory.mktemp("states")
    data, model = make_states(root / "world")
    model.write_text(request.param)
    return data, train(model, data, root / "runs", visibility=3, epochs=30)


def test_a_run_learns_measures_and_logs_three_states(run: tuple[Path, Path], caplog: Any) -> None:
    data, weights = run
    with (weights.parents[1] / "results.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert all(0 <= float(last[name]) <= 1 for name in VISIBILITY_KEYS)
    network = YOLO(weights)
    assert network.spec.keypoints.visibility == 3
    metrics = network.val(data=data, **{**VAL, "verbose": True}, augment=False)
    scores = metrics.visibility
    assert scores is not None
    pairs = len(metrics.record.pair_gt)
    assert scores.counts.sum() == 3 * pairs > 0
    v = metrics.record.gt_visibility[metrics.record.pair_gt]
    assert scores.counts.sum(1).tolist() == [(v == state).sum() for state in range(3)]
    assert scores.mean > 0.5  # 1/3 without learning
    assert metrics.results_dict["visibility/mean"] == pytest.approx(np.mean(list(scores.accuracy.values())))
    assert "Visibility, mean accuracy" in caplog.text


def test_results_hold_states_and_probabilities(run: tuple[Path, Path], tmp_path: Path) -> None:
    data, weights = run
    file = next((data.parent / "images" / "val").glob("*.png"))
    (result,) = YOLO(weights)(str(file), imgsz=64, conf=0.01, verbose=False)
    points = result.keypoints
    assert points.visibility is not None
    probs, states = np.asarray(points.visibility.probs), np.asarray(points.visibility.states)
    assert len(points) > 0
    assert probs.shape == (*points.shape[:2], 3)
    np.testing.assert_allclose(probs.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(probs[..., 1:].sum(-1), np.asarray(points.conf), atol=1e-6)
    np.testing.assert_array_equal(states, probs.argmax(-1))
    assert points[0].visibility.states.tolist() == states[:1].tolist()
    row = result.summary()[0]["keypoints"]
    assert row["state"] == states[0].tolist()
    np.testing.assert_allclose([row["p_hidden"], row["p_visible"]], probs[0, :, 1:].T, atol=1e-4)
    table = list(csv.DictReader(result.to_csv().splitlines()))
    assert [int(table[0][f"keypoint_{point}_state"]) for point in range(3)] == states[0].tolist()
    # a log of results restores them
    YOLO(weights).predict(str(file), imgsz=64, conf=0.01, project=tmp_path, name="p", save_jsonl=True, verbose=False)
    line = json.loads(next((tmp_path / "p").glob("*.jsonl")).read_text().splitlines()[0])
    assert line["detections"][0]["keypoints"]["state"] == states[0].tolist()


@pytest.mark.parametrize("options", [{}, {"nms": True}, {"end2end": True, "uncertainty": True}], ids=str)
def test_onnx_agrees_with_torch(run: tuple[Path, Path], tmp_path: Path, options: dict[str, Any]) -> None:
    data, weights = run
    network = YOLO(weights)
    dual = "Pose26" in str(network.model.yaml["head"])
    if "end2end" in options and not dual:
        pytest.skip("only for Pose26")
    file = network.export(format="onnx", imgsz=64, **options, **({"end2end": False} if not options and dual else {}))
    image = str(next((data.parent / "images" / "val").glob("*.png")))
    settings = {"imgsz": 64, "conf": 0.25, "verbose": False}
    torch_options = {**settings, "end2end": bool(options.get("end2end"))} if dual else settings
    torch_options |= {"uncertainty": True} if options.get("uncertainty") else {}
    (expected,) = network(image, **torch_options)
    (result,) = YOLO(file)(image, **settings)
    assert len(result) == len(expected)
    np.testing.assert_allclose(result.keypoints.visibility.probs, expected.keypoints.visibility.probs, atol=1e-3)
    if options.get("uncertainty"):
        np.testing.assert_allclose(result.keypoints.sigma, expected.keypoints.sigma, atol=0.05)


def test_test_time_augmentation_averages_the_states(run: tuple[Path, Path]) -> None:
    data, weights = run
    scores = YOLO(weights).val(data=data, **VAL, augment=True).visibility
    assert scores is not None
    assert scores.mean > 0.4


def test_weights_move_between_two_and_three_states(run: tuple[Path, Path], tmp_path: Path, caplog: Any) -> None:
    data, weights = run
    image = torch.rand(1, 3, 64, 64)
    three = YOLO(weights)
    # the data YAML does not set the states: the network keeps its own, unless the option says otherwise
    kept = YOLO(train(weights, data, tmp_path / "kept", epochs=1, lr0=1e-9, verbose=True))
    assert kept.spec.keypoints.visibility == 3
    two = YOLO(train(weights, data, tmp_path / "two", epochs=1, lr0=1e-9, verbose=True, visibility=2))
    assert two.spec.keypoints.visibility == 2
    assert "three states of visibility became two" in caplog.text
    assert not [name for name in two.model.state_dict() if "state" in name]
    again = YOLO(
        train(
            tmp_path / "two" / "a" / "weights" / "last.pt",
            data,
            tmp_path / "again",
            epochs=1,
            lr0=1e-9,
            verbose=True,
            visibility=3,
        )
    )
    assert "two states of visibility became three" in caplog.text
    with torch.no_grad():
        outputs = [network.model.eval().float()(image) for network in (three, two, again)]
    assert outputs[0].shape[1] == outputs[2].shape[1] == outputs[1].shape[1] + 3
    torch.testing.assert_close(outputs[0][:, :14], outputs[1], atol=1.0, rtol=0.02)
    torch.testing.assert_close(outputs[2][:, :14], outputs[1], atol=1.0, rtol=0.02)
    torch.testing.assert_close(outputs[2][:, 14:], outputs[2][:, 7:14:3] / 2, atol=0.01, rtol=0.02)


def test_key_of_data_and_model_yaml(tmp_path: Path) -> None:
    data, model = make_states(tmp_path / "world")
    plain = data.read_text()
    data.write_text(f"visibility: 3\n{plain}")
    weights = train(model, data, tmp_path / "runs", epochs=1)
    assert YOLO(weights).spec.keypoints.visibility == 3
    data.write_text(plain)
    model.write_text(f"visibility: 3\n{MODEL}")
    assert YOLO(model).spec.keypoints.visibility == 3
    assert YOLO(train(model, data, tmp_path / "runs2", epochs=1)).spec.keypoints.visibility == 3
    with pytest.raises(TrainError):  # a finished run
        YOLO(weights).train(resume=True)
    (data.parent / "labels" / "train" / "0.txt").write_text("0 0.5 0.5 0.5 0.5 0.5 0.5 2 0.5 0.5 2 0.5 0.5 2")


def test_two_states_write_the_same_files_as_before(tmp_path: Path) -> None:
    data, model = make_states(tmp_path / "world")
    weights = train(model, data, tmp_path / "runs", epochs=1)
    network = YOLO(weights)
    assert "visibility" not in (weights.parents[1] / "results.csv").read_text()
    assert not set(network.spec.to_dict()) & {"visibility", "class_keypoints"}
    metrics = network.val(data=data, **VAL)
    assert metrics.visibility is None
    (result,) = network(np.zeros((64, 64, 3), np.uint8), imgsz=64, verbose=False)
    assert result.keypoints.visibility is None
    assert result.keypoints.mask is None


@pytest.mark.parametrize(("value", "message"), [(1, "visibility"), (4, "visibility"), ("three", "visibility")])
def test_refuses_other_numbers(tmp_path: Path, value: Any, message: str) -> None:
    data, model = make_world(tmp_path)
    with pytest.raises(UsageError, match=message):
        train(model, data, tmp_path / "runs", visibility=value)
    data.write_text(f"visibility: {value}\n{data.read_text()}")
    with pytest.raises(DataError, match="visibility must be 2"):
        train(model, data, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_labels_without_states_are_refused_or_warned_of(tmp_path: Path, caplog: Any) -> None:
    data, model = make_world(tmp_path / "a", dims=2)
    model.write_text(MODEL.replace("[3, 3]", "[3, 2]"))
    with pytest.raises(UsageError, match="needs labels with x y v"):
        train(model, data, tmp_path / "runs", visibility=3)
    assert not (tmp_path / "runs").exists()
    data, model = make_world(tmp_path / "b")
    train(model, data, tmp_path / "runs", visibility=3, epochs=1)
    assert "no keypoint of the training images is labeled as hidden" in caplog.text
