"""Training of the YOLO26 head with two branches."""

from __future__ import annotations

from pathlib import Path

import pytest
from train_worlds import DUAL_MODEL, FAST, make_world

from yolopose import YOLO
from yolopose.criterion import DualCriterion
from yolopose.train.record import History, results_columns

TERMS = DualCriterion.terms


def world(root: Path) -> tuple[Path, Path]:
    data, _ = make_world(root)
    model = root / "dual-pose.yaml"
    model.write_text(DUAL_MODEL)
    return data, model


@pytest.mark.slow
def test_losses_have_names_and_the_flow_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, file = world(tmp_path)
    shares: list[float] = []
    model = YOLO(file)
    model.add_callback("on_train_batch_end", lambda trainer: shares.append(trainer._state.criterion.o2m_weight))
    options = FAST | {"plots": True, "verbose": True, "optimizer": "MuSGD", "rle": 2.0}
    model.train(data=data, **options, project=tmp_path)
    trainer = model.trainer
    assert trainer.loss_names == tuple(f"{term}_loss" for term in TERMS)
    history = History.read(tmp_path / "train" / "results.csv", columns=results_columns(TERMS, 6))
    assert len(history.rows) == 2
    assert all(history.column(f"{part}/rle_loss")[1] > 0 for part in ("train", "val"))
    assert (tmp_path / "train" / "results.png").exists()
    assert (shares[0], shares[-1]) == pytest.approx((0.8, 0.1))
    assert "l1      rle" in capsys.readouterr().out
    start = YOLO(file).model.head.flow_model.s[0][2].weight.std()
    assert trainer.model.head.flow_model.s[0][2].weight.std() != start
    results = model.predict(tmp_path / "images" / "val" / "0.png", imgsz=64, uncertainty=True, verbose=False, conf=0.0)
    assert results[0].keypoints.sigma.shape[1:] == (3, 2)
    # weights of the trained network start another one, class branches and all
    again = YOLO(model.model_name)
    again.train(data=data, **FAST, project=tmp_path, assigner="box")
    assert again.trainer.best.exists()


@pytest.mark.slow
def test_both_branches_learn_a_small_data_set(tmp_path: Path) -> None:
    data, file = world(tmp_path)
    model = YOLO(file)
    still = {"mosaic": 0.0, "scale": 0.0, "translate": 0.0}
    metrics = model.train(data=data, **{**FAST, "epochs": 60, **still}, project=tmp_path)
    assert metrics.pose.map50 > 0.9
    single = model.val(data=data, imgsz=64, plots=False, verbose=False, workers=0, end2end=True)
    assert single.pose.map50 > 0.6
