"""`YOLO.calibrate`: the order of detections stays, files and exports hold the calibration."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from yolopose import YOLO
from yolopose.base.errors import DataError, UsageError
from yolopose.evaluate.calibration import logits
from yolopose.schema import ConfidenceScale
from yolopose.weights import read_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from train_worlds import DUAL_MODEL, FAST, make_world

QUIET = {"imgsz": 64, "verbose": False, "plots": False}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of two classes and weights that were trained on it for a moment."""
    folder = tmp_path_factory.mktemp("calibrated")
    data, model_yaml = make_world(folder / "blocks", classes=2, images=14)
    model = YOLO(model_yaml)
    model.train(
        data=data, **{**FAST, "epochs": 60, "ema_tau": 20.0, "mosaic": 0.0, "val": False, "project": folder / "runs"}
    )
    return data, model.trainer.best


@pytest.mark.parametrize("method", ["temperature", "affine"])
def test_confidences_change_and_map_does_not(method: str, trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, weights = trained
    model = YOLO(weights)
    before = model.val(data=data, **QUIET)
    result = model.calibrate(data, method=method, project=tmp_path, imgsz=64, verbose=False)
    after = model.val(data=data, **QUIET)
    assert result.scale is not None
    maps = [{key: value for key, value in run.results_dict.items() if "mAP" in key} for run in (before, after)]
    assert maps[1] == pytest.approx(maps[0], abs=1e-9)
    assert len(after.record.det_score) == len(before.record.det_score)
    for cls, (factor, offset) in enumerate(result.scale.classes):
        scores = [np.sort(run.record.det_score[run.record.det_class == cls].astype(float)) for run in (before, after)]
        expected = factor * logits(scores[0]) + offset
        known = expected > -12  # `logits` limits smaller confidences
        assert logits(scores[1])[known] == pytest.approx(expected[known], abs=2e-3)
    assert result.ece["box"] < result.ece_before["box"]
    files = {path.name for path in result.save_dir.iterdir()}
    assert files == {"best-calibrated.pt", "calibration.csv", "reliability.csv", "reliability.png"}
    again = YOLO(result.weights)
    stored = read_checkpoint(weights).state
    assert again.val(data=data, **QUIET).results_dict == after.results_dict
    assert all((stored[name] == value).all() for name, value in again.model.state_dict().items())


def test_an_export_has_the_calibrated_confidences(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, weights = trained
    model = YOLO(weights)
    image = str(next((data.parent / "images/val").iterdir()))
    plain = model.predict(image, imgsz=64, conf=0.001, verbose=False)[0]
    scale = ConfidenceScale(classes=((0.5, 0.3), (2.0, -0.2)), keypoints=((0.4, 0.1), (1.0, 0.0), (2.0, 0.5)))
    model._set_calibration(scale)
    model.save(tmp_path / "own.pt")
    model = YOLO(tmp_path / "own.pt")
    expected = model.predict(image, imgsz=64, conf=0.01, verbose=False)[0]
    exported = YOLO(model.export(format="onnx", imgsz=64, verbose=False))
    actual = exported.predict(image, imgsz=64, conf=0.01, verbose=False)[0]
    assert exported._runtime().metadata.calibration == scale
    assert np.asarray(actual.boxes.data) == pytest.approx(np.asarray(expected.boxes.data), abs=1e-3)
    assert np.asarray(actual.keypoints.data) == pytest.approx(np.asarray(expected.keypoints.data), abs=1e-2)
    conf = np.asarray(plain.boxes.conf[:1], float)
    factor, offset = scale.classes[int(plain.boxes.cls[0])]
    row = int(np.argmin(np.abs(np.asarray(expected.boxes.xyxy) - np.asarray(plain.boxes.xyxy[0])).sum(axis=1)))
    assert logits(np.asarray(expected.boxes.conf[row : row + 1], float)) == pytest.approx(
        factor * logits(conf) + offset, abs=1e-3
    )
    points = logits(np.asarray(plain.keypoints.conf[0], float))
    changed = np.array(scale.keypoints)
    assert logits(np.asarray(expected.keypoints.conf[row], float)) == pytest.approx(
        changed[:, 0] * points + changed[:, 1], abs=2e-2
    )
    metrics = [network.val(data=data, rect=False, **QUIET).results_dict for network in (model, exported)]
    assert metrics[1] == pytest.approx(metrics[0], abs=5e-3)


def test_other_weights_and_training_start_without_calibration(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, weights = trained
    model = YOLO(weights)
    scale = ConfidenceScale(classes=((0.5, 0.0),) * 2)
    model._set_calibration(scale)
    assert model._metadata.calibration == scale
    model.load(weights)
    assert model._metadata.calibration is None
    model._set_calibration(scale)
    model.train(data=data, **{**FAST, "epochs": 1, "val": False, "project": tmp_path})
    assert model._metadata.calibration is None


def test_the_output_without_nms_has_a_calibration_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model_yaml = make_world(tmp_path / "blocks")[1]
    model_yaml.write_text(DUAL_MODEL)
    model = YOLO(model_yaml)
    image = np.zeros((64, 64, 3), np.uint8)
    scores = {end2end: model.predict(image, imgsz=64, conf=0.0, end2end=end2end, verbose=False)[0].boxes.conf
              for end2end in (True, False)}  # fmt: skip
    model._set_calibration(ConfidenceScale(classes=((0.5, 0.0),), end2end=True))
    for end2end, before in scores.items():
        after = model.predict(image, imgsz=64, conf=0.0, end2end=end2end, verbose=False)[0].boxes.conf
        factor = 0.5 if end2end else 1.0
        assert logits(np.asarray(after[:5], float)) == pytest.approx(
            factor * logits(np.asarray(before[:5], float)), abs=1e-3
        )
    assert "are calibrated for end2end=True" in capsys.readouterr().err


def test_a_finished_run_replaces_the_validation(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, weights = trained
    model = YOLO(weights)
    run = model.val(data=data, imgsz=64, save_json=True, plots=False, verbose=False, project=tmp_path).save_dir
    measured = model.calibrate(data, project=tmp_path, imgsz=64, verbose=False, plots=False)
    read = YOLO(weights).calibrate(run=run, project=tmp_path, verbose=False, plots=False)
    assert np.array(read.scale.classes) == pytest.approx(np.array(measured.scale.classes), rel=1e-3)
    assert len(read.parts) == len(measured.parts) == 2
    assert read.parts[1].before.conf == pytest.approx(measured.parts[1].before.conf, abs=1e-4)


def test_what_cannot_be_calibrated_is_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, weights = trained
    with pytest.raises(UsageError, match="train it before calibration"):
        YOLO(data.parent / "tiny-pose.yaml").calibrate(data)
    with pytest.raises(DataError, match="needs at least 30 detections"):
        YOLO(weights).calibrate(data, min_conf=0.999, project=tmp_path, imgsz=64, verbose=False)
    (tmp_path / "mine.pt").write_text("")
    with pytest.raises(UsageError, match="exists: name a new file"):
        YOLO(weights).calibrate(data, output=tmp_path / "mine.pt", verbose=False)
