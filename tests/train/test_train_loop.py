"""Whole trainings of a tiny network: what they write, hold, ask for and refuse."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.callbacks import EVENTS
from yolopose.base.errors import DataError, TrainError, UsageError
from yolopose.criterion import PoseCriterion
from yolopose.train.record import results_columns
from yolopose.weights import read_checkpoint

COLUMNS = ",".join(results_columns(PoseCriterion.terms))


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks")


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, object]:
    return {**FAST, "project": tmp_path / "runs"}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def same(first: Path, second: Path) -> bool:
    one, two = read_checkpoint(first).state, read_checkpoint(second).state
    return list(one) == list(two) and all(torch.equal(one[name], two[name]) for name in one)


def test_an_impossible_freeze_creates_no_folder(world, runs, tmp_path):
    data, model_yaml = world
    with pytest.raises(UsageError, match="is not a valid number of layers"):
        YOLO(model_yaml).train(data=data, **{**runs, "freeze": 100})
    assert not list((tmp_path / "runs").glob("*"))


def test_a_run_writes_its_files_and_learns(world, runs, tmp_path):
    data, model_yaml = world
    model = YOLO(model_yaml)
    metrics = model.train(
        data=data, **{**runs, "epochs": 12, "plots": True, "save_period": 6, "mosaic": 0.0, "seed": 2}
    )
    folder = tmp_path / "runs" / "train"
    assert model.trainer.save_dir == metrics.save_dir == folder
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    curves = {f"{kind}{curve}_curve.png" for kind in ("Box", "Pose") for curve in ("P", "R", "F1", "PR")}
    matrices = {"confusion_matrix.png", "confusion_matrix_normalized.png"}
    batches = {"train_batch0.jpg", "train_batch1.jpg", "val_batch0_labels.jpg", "val_batch0_pred.jpg"}
    weights = {f"weights/{name}.pt" for name in ("last", "best", "epoch6", "epoch12")}
    plain = {"args.yaml", "results.csv", "results.png", "labels.jpg", "detections.npz", "report.html"}
    assert names == plain | curves | matrices | batches | weights
    assert (folder / "results.csv").read_text().splitlines()[0].replace(" ", "") == COLUMNS
    table = rows(folder)
    assert [row["epoch"] for row in table] == [str(epoch) for epoch in range(1, 13)]
    assert float(table[-1]["train/pose_loss"]) < float(table[0]["train/pose_loss"])
    assert metrics.box.map50 > 0.5
    args = yaml.safe_load((folder / "args.yaml").read_text())
    assert (args["task"], args["mode"], args["epochs"], args["save_dir"]) == ("pose", "train", 12, str(folder))


def test_the_object_and_best_remember_their_data(world, runs, monkeypatch, tmp_path):
    data, model_yaml = world
    monkeypatch.chdir(data.parent)
    model = YOLO(model_yaml)
    trained = model.train(data=data.name, **runs)
    monkeypatch.chdir(tmp_path)
    assert model.val(plots=False).results_dict == trained.results_dict
    again = YOLO(model.trainer.best)
    assert again.val(plots=False, batch=8).results_dict == trained.results_dict
    assert again.names == {0: "kind0"}
    assert read_checkpoint(model.trainer.best).extra == {}


@pytest.mark.parametrize(("dims", "classes"), [(3, 2), (2, 1), (2, 3)])
def test_trains_other_keypoints_and_classes_from_any_weights(dims, classes, runs, tmp_path):
    data, model_yaml = make_world(tmp_path / "own", dims=dims, classes=classes)
    donor = YOLO(model_yaml).save(tmp_path / "donor.pt")
    for start, options in ((model_yaml, {}), (donor, {}), (model_yaml, {"pretrained": str(donor)})):
        model = YOLO(start)
        model.train(data=data, **runs, **options)
        assert model.spec.nc == classes
        assert model.spec.keypoints.shape == (3, dims)
        assert (model.trainer.tloss[2] == 0) == (dims == 2)


def test_copies_initial_weights_and_seeds_the_rest(world, runs, tmp_path):
    data, model_yaml = world
    donor_yaml = YOLO(model_yaml)
    donor = donor_yaml.save(tmp_path / "donor.pt")
    still = {**runs, "epochs": 1, "lr0": 0.0, "optimizer": "SGD", "warmup_bias_lr": 0.0}
    backbone = "model.0.conv.weight"

    def first_layer(start: object, **options: object) -> torch.Tensor:
        model = YOLO(start)
        model.train(data=data, **{**still, **options})
        return model.model.state_dict()[backbone]

    given = donor_yaml.model.state_dict()[backbone]
    assert torch.equal(first_layer(donor), given)
    assert torch.equal(first_layer(model_yaml, pretrained=str(donor)), given)
    fresh = first_layer(model_yaml)
    assert not torch.equal(fresh, given)
    assert torch.equal(fresh, first_layer(donor, pretrained=False))
    assert not torch.equal(fresh, first_layer(model_yaml, seed=1))


@pytest.mark.parametrize(("remap", "order"), [(True, [2, 1, 0]), (False, [0, 1, 2])])
def test_class_weights_are_copied_by_name(remap, order, runs, tmp_path):
    data, model_yaml = make_world(tmp_path / "own", classes=3)
    model = YOLO(model_yaml)
    model.train(data=data, **runs)
    donor = model.save(tmp_path / "donor.pt")
    theirs = read_checkpoint(donor).state["model.4.cv3.0.2.weight"]
    text = data.read_text().replace("kind0, kind1, kind2", "kind2, other, kind0")
    data.write_text(text)
    after = YOLO(donor)
    still = {"epochs": 1, "lr0": 0.0, "optimizer": "SGD", "warmup_bias_lr": 0.0}
    after.train(data=data, **{**runs, **still, "cls_remap": remap})
    ours = after.model.state_dict()["model.4.cv3.0.2.weight"]
    assert torch.equal(ours, theirs[order])


def test_callbacks_are_called_in_order_and_can_stop(world, runs):
    data, model_yaml = world
    model = YOLO(model_yaml)
    seen: list[str] = []
    for event in EVENTS:
        model.add_callback(event, lambda subject, event=event: seen.append(event))
    model.add_callback("on_train_epoch_end", lambda trainer: setattr(trainer, "stop", True))
    model.train(data=data, **{**runs, "epochs": 9})
    batch = ["on_train_batch_start", "optimizer_step", "on_params_update", "on_before_zero_grad", "on_train_batch_end"]
    val = ["on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end"]
    assert seen == [
        "on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start",
        "on_train_epoch_start", *batch, *batch, "on_train_epoch_end", *val, "on_model_save", "on_fit_epoch_end",
        *val, "on_fit_epoch_end", "on_train_end", "teardown",
    ]  # fmt: skip
    seen.clear()
    model.clear_callback("on_val_start")
    model.val(plots=False)
    assert seen == val[1:]
    model.reset_callbacks()
    model.val(plots=False)
    assert seen == val[1:]
    with pytest.raises(UsageError, match="on_val_end"):
        model.add_callback("on_val_ends", print)


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (1, 0), (1, 1)])
def test_an_interrupted_run_equals_an_uninterrupted_one(epoch, batch, world, runs):
    """Two batches an epoch, steps every three: gradients, too, must survive."""
    data, model_yaml = world
    options = {**runs, "epochs": 3, "nbs": 12, "workers": 2}
    whole = YOLO(model_yaml)
    whole.train(data=data, name="whole", **options)

    def interrupt(trainer) -> None:
        if (trainer.epoch, trainer.batch_i) == (epoch, batch):
            trainer._interrupt.requested = True  # as Ctrl-C does

    broken = YOLO(model_yaml)
    broken.add_callback("on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt, match="resume=True model="):
        broken.train(data=data, name="broken", **options)
    last = broken.trainer.last
    resumed = YOLO(last)
    resumed.train(resume=True)
    folder = whole.trainer.save_dir
    assert resumed.trainer.save_dir == last.parent.parent
    assert same(resumed.trainer.best, folder / "weights/best.pt")
    assert same(last, folder / "weights/last.pt")
    timeless = [[{**row, "time": ""} for row in rows(path)] for path in (last.parent.parent, folder)]
    assert timeless[0] == timeless[1]


def test_resumes_from_the_last_completed_epoch(world, runs):
    data, model_yaml = world

    def die(trainer) -> None:
        if trainer.epoch == 1:
            raise ZeroDivisionError

    model = YOLO(model_yaml)
    model.add_callback("on_train_batch_end", die)
    with pytest.raises(ZeroDivisionError):
        model.train(data=data, **runs)
    resumed = YOLO(model_yaml)
    resumed.train(resume=str(model.trainer.last))
    assert [row["epoch"] for row in rows(model.trainer.save_dir)] == ["1", "2"]


def test_resume_reports_what_is_missing(world, runs, tmp_path, monkeypatch):
    data, model_yaml = world
    model = YOLO(model_yaml)
    model.train(data=data, **runs)
    with pytest.raises(TrainError, match="finished"):
        YOLO(model.trainer.last).train(resume=True)
    with pytest.raises(TrainError, match="finished"):
        model.train(resume=True)
    with pytest.raises(TrainError, match="only weights"):
        YOLO(YOLO(model_yaml).save(tmp_path / "own.pt")).train(resume=True)
    monkeypatch.setenv("YOLOPOSE_RUNS_DIR", str(tmp_path))
    with pytest.raises(TrainError, match="needs the last"):
        YOLO(model_yaml).train(resume=True)


def test_resume_refuses_changed_data(world, runs):
    data, model_yaml = world
    model = YOLO(model_yaml)
    model.add_callback("on_train_epoch_end", lambda trainer: trainer.epoch and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.train(data=data, **runs)
    for path in sorted((data.parent / "images/train").iterdir())[:4]:
        path.unlink()
    with pytest.raises(TrainError, match="data set has changed"):
        YOLO(model.trainer.last).train(resume=True)


@pytest.mark.parametrize(
    "options",
    [
        {"rect": True}, {"multi_scale": 0.5}, {"single_cls": True}, {"cache": "ram"}, {"cos_lr": True},
        {"optimizer": "SGD"}, {"freeze": 2}, {"amp": "bf16"}, {"channels_last": False}, {"fraction": 0.5},
        {"mixup": 1.0, "cutmix": 1.0, "degrees": 20.0, "shear": 5.0, "perspective": 0.0005, "bgr": 0.5},
        {"cls_pw": 0.5}, {"fraction": 3}, {"fraction": [0.5]}, {"batch": -1}, {"deterministic": False}, {"imgsz": 60},
        {"autotune": True},
    ],
    ids=str,
)  # fmt: skip
def test_trains_with_option(options, runs, tmp_path):
    data, model_yaml = make_world(tmp_path / "own", classes=2)
    model = YOLO(model_yaml)
    metrics = model.train(data=data, **{**runs, "epochs": 1, **options})
    assert np.isfinite(list(metrics.results_dict.values())).all()
    assert model.spec.classes == (("item",) if "single_cls" in options else ("kind0", "kind1"))
    images = {"0.5": 4, "3": 3, "[0.5]": 4}.get(str(options.get("fraction")), 8)
    assert len(model.trainer.data.train) == images


def test_frozen_layers_keep_their_weights(world, runs, tmp_path):
    data, model_yaml = world
    donor = YOLO(model_yaml).save(tmp_path / "donor.pt")
    model = YOLO(donor)
    model.train(data=data, **runs, freeze=[0, 1])
    before, after = read_checkpoint(donor).state, model.model.state_dict()
    moved = {name for name in before if not torch.allclose(before[name].float(), after[name].float(), atol=1e-3)}
    assert moved
    assert not [name for name in moved if name.startswith(("model.0.", "model.1."))]


def test_patience_time_limit_and_no_validation(world, runs):
    data, model_yaml = world
    model = YOLO(model_yaml)
    model.train(data=data, **{**runs, "epochs": 50, "patience": 2, "lr0": 0.0, "optimizer": "SGD"})
    assert model.trainer.epoch == 2  # the last one that was done, from 0
    model = YOLO(model_yaml)
    model.train(data=data, **{**runs, "epochs": 50, "time": 1e-6})
    assert model.trainer.epoch == 0
    model = YOLO(model_yaml)
    metrics = model.train(data=data, **{**runs, "val": False})
    table = rows(model.trainer.save_dir)
    assert [row["metrics/mAP50(B)"] for row in table] == ["", ""]
    assert metrics is not None
    assert same(model.trainer.best, model.trainer.last)


def test_an_epoch_without_validation_has_no_metrics(world, runs):
    data, model_yaml = world
    model = YOLO(model_yaml)

    def skip_second(trainer) -> None:
        trainer.args.val = trainer.epoch != 1

    model.add_callback("on_train_epoch_start", skip_second)
    model.train(data=data, **{**runs, "epochs": 3})
    rows = list(csv.DictReader((model.trainer.save_dir / "results.csv").open()))
    assert [bool(row["metrics/mAP50(P)"]) for row in rows] == [True, False, True]
    assert all(row["train/box_loss"] for row in rows)


def test_save_false_writes_no_weights(world, runs):
    data, model_yaml = world
    model = YOLO(model_yaml)
    model.train(data=data, **runs, save=False)
    assert not model.trainer.wdir.exists()
    assert model.val(data=data, plots=False).results_dict == model.trainer.validator.results_dict


def test_persistent_divergence_ends_the_run(world, runs):
    data, model_yaml = world
    model = YOLO(model_yaml)

    def poison(trainer) -> None:
        next(trainer.model.parameters()).data.fill_(float("nan"))

    model.add_callback("on_train_epoch_start", poison)
    with pytest.raises(TrainError, match="Lower lr0"):
        model.train(data=data, **{**runs, "epochs": 3, "batch": 2})


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"data": None}, UsageError, "data="),
        ({"fraction": 0.0}, UsageError, "fraction"),
        ({"fraction": [0.5, 0.5]}, UsageError, "each entry"),
        ({"freeze": 99}, UsageError, "layers"),
        ({"freeze": 5}, UsageError, "leaves no layer to train"),
        ({"batch": 2.5}, UsageError, "integer"),
        ({"epoch": 3}, UsageError, "epochs"),
        ({"pretrained": "nowhere.pt"}, FileNotFoundError, "nowhere.pt"),
    ],
)
def test_invalid_options_write_nothing(options, error, words, world, runs, tmp_path):
    data, model_yaml = world
    with pytest.raises(error, match=words):
        YOLO(model_yaml).train(**{**runs, "data": data, **options})
    assert not list((tmp_path / "runs").rglob("*.*"))


def test_refuses_data_without_splits_or_labels(world, runs):
    data, model_yaml = world
    text = data.read_text()
    data.write_text(text.replace("val: images/val\n", ""))
    with pytest.raises(DataError, match="val=False"):
        YOLO(model_yaml).train(data=data, **runs)
    assert YOLO(model_yaml).train(data=data, **{**runs, "val": False}) is None
    data.write_text(text.replace("train: images/train\n", ""))
    with pytest.raises(DataError, match="no `train:` entry"):
        YOLO(model_yaml).train(data=data, **runs)
    data.write_text(text)
    for path in (data.parent / "labels/train").glob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match=r"no labeled|labeled instance"):
        YOLO(model_yaml).train(data=data, **runs)
