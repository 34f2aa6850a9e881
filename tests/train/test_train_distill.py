"""Distillation: its losses against formulas, a run with each kind of teacher, resume, processes, bad teachers."""

from __future__ import annotations

import copy
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from thread_group import run_ranks
from torch import nn
from train_worlds import DUAL_MODEL, FAST, MODEL, make_world

from yolopose import YOLO
from yolopose.base.errors import NotFoundError, TrainError, UsageError
from yolopose.config import make_options, train_settings
from yolopose.nn import build_network
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.train.data import load_data
from yolopose.train.distill import Distiller, Teacher, class_columns, correlation_loss, divergence
from yolopose.train.distributed import ProcessGroup
from yolopose.train.loop import Trainer
from yolopose.weights import read_checkpoint

CPU = torch.device("cpu")
LARGER = (
    MODEL.replace("[8, 3", "[12, 3").replace("[16, 3", "[24, 3").replace("[16, T", "[24, T").replace("[32,", "[48,")
)


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Weights of a network with more channels."""
    return save(tmp_path / "larger.pt", LARGER)


def save(file: Path, text: str, seed: int = 1) -> Path:
    yaml = file.with_suffix(".yaml")
    yaml.write_text(text)
    torch.manual_seed(seed)
    YOLO(yaml).save(file)
    return file


def settings_for(data: Path, **options: Any) -> Any:
    return train_settings(make_options("train", {**FAST, "data": str(data), **options}), 32)


def distiller(world: tuple[Path, Path], teacher: Path, **options: Any) -> tuple[Distiller, Any, Any]:
    settings = settings_for(world[0], **options)
    data = load_data(settings, 3)
    torch.manual_seed(0)
    network = build_network(world[1], spec=data.spec)
    return Distiller(Teacher(teacher, CPU), network, data.spec, settings, CPU), network, settings


def test_correlation_of_channels() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 2, 3, 4, 5))
    expected = 1 - np.mean([np.corrcoef(first[:, c].ravel(), second[:, c].ravel())[0, 1] for c in range(3)])
    loss = correlation_loss(torch.from_numpy(first), torch.from_numpy(second))
    assert float(loss) == pytest.approx(expected, abs=1e-4)
    scaled = correlation_loss(torch.from_numpy(first), torch.from_numpy(7 * first + 3))
    assert float(scaled) == pytest.approx(0, abs=1e-4)
    assert float(correlation_loss(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))) == 0


def test_divergence_of_probabilities() -> None:
    target = torch.tensor([0.0, 0.25, 0.7, 1.0])
    logits = torch.tensor([-1.0, 2.0, 0.0, 3.0])
    p = logits.sigmoid()
    expected = torch.special.xlogy(target, target / p) + torch.special.xlogy(1 - target, (1 - target) / (1 - p))
    torch.testing.assert_close(divergence(logits, target), expected)
    torch.testing.assert_close(divergence(target.logit(eps=1e-7), target), torch.zeros(4), atol=1e-5, rtol=0)


@pytest.mark.parametrize("text", [MODEL, DUAL_MODEL], ids=["one branch", "two branches"])
def test_a_network_equals_itself(text: str, world: tuple[Path, Path], tmp_path: Path) -> None:
    """The network as its own teacher, with the norms in evaluation mode: both losses are 0, others are not."""
    world[1].write_text(text)
    model = YOLO(world[1])
    with torch.no_grad():
        for branch in model.model.head.cv3:
            branch[-1].bias.fill_(0.0)  # scores of 0.5, which are compared
    own, _, _ = distiller(world, model.save(tmp_path / "own.pt"))
    network = model.model.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    own._head = network.head
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    output, maps = network.outputs_with_features(images)
    if output.one2one is not None:  # both branches have the same teacher, so that only one of them can be equal to it
        output = replace(output, one2one=None)
    total, values = own.losses(images, maps, output)
    torch.testing.assert_close(values, torch.zeros(2), atol=2e-3, rtol=0)
    shifted = replace(output, scores=output.scores + 1, kpts=output.kpts + 0.5)
    total, values = own.losses(images, [x.flip(3) for x in maps], shifted)
    assert (values > 1e-3).all()
    assert total.item() == pytest.approx(2 * float(values.sum()), rel=1e-5)


def test_gains_scale_the_losses(world: tuple[Path, Path], teacher: Path) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    values = {}
    for name, gains in {"all": {}, "feature": {"dis": 12.0, "dis_output": 0.0}, "output": {"dis": 0.0}}.items():
        own, network, _ = distiller(world, teacher, **gains)
        output, maps = network.train().outputs_with_features(images)
        total, values[name] = own.losses(images, maps, output)
        total.backward()
        assert any(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())
        trained = [adapter.weight.grad is not None for adapter in own.adapters]
        assert trained == ([] if name == "output" else [True, True])
    torch.testing.assert_close(values["feature"], values["all"] * torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(values["output"], values["all"] * torch.tensor([0.0, 1.0]))


def run(world: tuple[Path, Path], tmp_path: Path, **options: Any) -> YOLO:
    model = YOLO(world[1])
    model.train(data=world[0], **{**FAST, "project": tmp_path / "runs", "val": False, **options})
    return model


def rows(model: YOLO) -> list[dict[str, str]]:
    with (model.trainer.save_dir / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("text", [MODEL, DUAL_MODEL], ids=["one branch", "two branches"])
def test_a_run_approaches_its_teacher(text: str, world: tuple[Path, Path], teacher: Path, tmp_path: Path) -> None:
    world[1].write_text(text)
    model = run(world, tmp_path, distill_model=teacher, epochs=6, val=True)
    losses = [[float(row[f"train/{name}_loss"]) for row in rows(model)] for name in ("dis_feature", "dis_output")]
    assert losses[0][-1] < losses[0][0]
    assert all(np.isfinite(losses).ravel())
    assert model.trainer.loss_names[-2:] == ("dis_feature_loss", "dis_output_loss")
    assert len(model.trainer.loss_items) == len(model.trainer.loss_names)
    for name in ("best.pt", "last.pt"):  # a finished network has no adapters
        checkpoint = read_checkpoint(model.trainer.wdir / name)
        assert set(checkpoint.state) == set(model.model.state_dict())
        assert not checkpoint.extra


def test_without_a_teacher_nothing_changes(world: tuple[Path, Path], teacher: Path, tmp_path: Path) -> None:
    plain = run(world, tmp_path).trainer.ema.model.state_dict()
    unused = run(world, tmp_path, dis=3.0, dis_output=2.0, unlabeled_weight=0.1).trainer.ema.model.state_dict()
    guided = run(world, tmp_path, distill_model=teacher).trainer.ema.model.state_dict()
    torch.testing.assert_close(dict(plain), dict(unused), rtol=0, atol=0)
    assert any(not torch.equal(plain[name], guided[name]) for name in plain)


@pytest.mark.parametrize("when", [1, 2])
def test_an_interrupted_run_equals_an_uninterrupted_one(
    when: int, world: tuple[Path, Path], teacher: Path, tmp_path: Path
) -> None:
    whole = run(world, tmp_path, distill_model=teacher, epochs=3)

    def interrupt(trainer: Trainer) -> None:
        if trainer.epoch == when:
            raise ZeroDivisionError

    model = YOLO(world[1])
    model.add_callback("on_train_batch_end", interrupt)
    with pytest.raises(ZeroDivisionError):
        model.train(
            data=world[0], **FAST | {"project": tmp_path / "runs", "val": False, "distill_model": teacher, "epochs": 3}
        )
    last = model.trainer.last
    moved = teacher.rename(tmp_path / "moved.pt")
    with pytest.raises(NotFoundError):
        YOLO(world[1]).train(resume=str(last))
    with pytest.raises(TrainError, match="is not the teacher of the interrupted run"):
        YOLO(world[1]).train(resume=str(last), distill_model=save(tmp_path / "other.pt", LARGER, seed=5))
    resumed = YOLO(world[1])
    resumed.train(resume=str(last), distill_model=moved)
    for name, value in whole.trainer.ema.model.state_dict().items():
        torch.testing.assert_close(resumed.trainer.ema.model.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("format", ["torchscript", "onnx"])
def test_exported_files_teach_by_their_outputs(
    format: str, world: tuple[Path, Path], teacher: Path, tmp_path: Path
) -> None:
    if format == "onnx":
        pytest.importorskip("onnx")
    file = YOLO(teacher).export(format=format, imgsz=64, verbose=False)
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        Teacher(Path(file), CPU)(images)[1], Teacher(teacher, CPU)(images)[1], rtol=1e-3, atol=0.01
    )
    model = run(world, tmp_path, distill_model=file)
    assert {row["train/dis_feature_loss"] for row in rows(model)} == {"0"}
    assert all(float(row["train/dis_output_loss"]) > 0 for row in rows(model))
    with pytest.raises(
        UsageError, match=r"exported only for \[64, 64\], but images have 96 pixels: export it with dyn"
    ):
        run(world, tmp_path, distill_model=file, imgsz=96)
    with pytest.raises(UsageError, match="and other sizes"):
        run(world, tmp_path, distill_model=file, multi_scale=0.5)
    with pytest.raises(UsageError, match="dis_output=0 leaves nothing"):
        run(world, tmp_path, distill_model=file, dis_output=0)


def test_exported_detections_cannot_teach(world: tuple[Path, Path], teacher: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    file = YOLO(teacher).export(format="onnx", imgsz=64, nms=True, verbose=False)
    with pytest.raises(UsageError, match="only final detections"):
        run(world, tmp_path, distill_model=file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("kpt_shape: [3, 3]", "kpt_shape: [4, 3]"), r"keypoints of shape \[4, 3\].*dis_output=0"),
        (("nc: 1", "nc: 2"), "predicts 2 classes"),
        (("[[2, 3], 1", "[[3], 1"), r"anchors with strides \[8\], the network \[4, 8\]"),
    ],
)
def test_teachers_that_do_not_fit(
    change: tuple[str, str], message: str, world: tuple[Path, Path], tmp_path: Path
) -> None:
    file = save(tmp_path / "other.pt", MODEL.replace(*change))
    with pytest.raises(UsageError, match=message):
        run(world, tmp_path, distill_model=file)
    assert not (tmp_path / "runs").exists()
    run(world, tmp_path, distill_model=file, dis_output=0, epochs=1)  # its feature maps can be used


def test_a_teacher_is_trained_weights(world: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a teacher must be trained"):
        run(world, tmp_path, distill_model=world[1])
    with pytest.raises(NotFoundError):
        run(world, tmp_path, distill_model="absent.pt")


def test_classes_are_found_by_name() -> None:
    def spec(*names: str) -> PoseSpec:
        return PoseSpec(classes=names, keypoints=KeypointSchema(count=3))

    assert class_columns(spec("a", "b", "c"), spec("c", "a")) == [2, 0]
    assert class_columns(spec("x", "y"), spec("c", "a")) == [0, 1]
    assert class_columns(spec("x"), spec("c", "a")) is None


def test_processes_hold_equal_weights(world: tuple[Path, Path], teacher: Path, tmp_path: Path) -> None:
    settings = settings_for(world[0], distill_model=str(teacher), val=False, batch=3)
    data = load_data(settings, 3)
    torch.manual_seed(0)
    network = build_network(world[1], spec=data.spec)
    (tmp_path / "two").mkdir()

    def train(group: ProcessGroup) -> Trainer:
        trainer = Trainer(copy.deepcopy(network), data, settings, CPU, tmp_path / "two", group=group)
        trainer.train()
        return trainer

    first, second = run_ranks(train)
    for one, two in ((first.model, second.model), (first._state.distiller.adapters, second._state.distiller.adapters)):
        torch.testing.assert_close(dict(one.state_dict()), dict(two.state_dict()), rtol=0, atol=0)
