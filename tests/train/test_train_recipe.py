"""The recipe: what it chooses, what it leaves to the user, and that a run never ends below its initial weights."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.config import TrainOptions
from yolopose.schema import KeypointSchema, PoseSpec
from yolopose.train.recipe import choose_options
from yolopose.train.time_budget import TimeBudget
from yolopose.weights import read_checkpoint

OWN = PoseSpec(classes=("mouse",), keypoints=KeypointSchema(count=4, dims=3))
PERSON = PoseSpec(classes=("person",), keypoints=KeypointSchema.coco_person())


@dataclass(frozen=True)
class _Images:
    count: int
    boxes: np.ndarray
    classes: np.ndarray
    keypoints: np.ndarray
    shapes: np.ndarray

    def __len__(self) -> int:
        return self.count


def chosen(
    images: int,
    start: PoseSpec | None = PERSON,
    spec: PoseSpec = OWN,
    *,
    side: float = 0.2,
    shape: tuple[int, int] = (480, 640),
    **given: Any,
) -> TrainOptions:
    rng = np.random.default_rng(0)
    boxes = np.tile([0.5, 0.5, side, side], (20, 1))
    keypoints = np.full((20, spec.keypoints.count, 3), 2.0)
    keypoints[..., :2] = rng.uniform(0.5 - side / 2, 0.5 + side / 2, keypoints[..., :2].shape)
    data: Any = SimpleNamespace(
        train=_Images(images, boxes, np.zeros(20, int), keypoints, np.array([shape])), spec=spec
    )
    return choose_options(TrainOptions(**given), given, data, start)


def steps(options: TrainOptions, images: int) -> int:
    return math.ceil(images / max(options.batch, options.nbs)) * options.epochs


@pytest.mark.parametrize("images", [1, 20, 93, 500, 5_000, 100_000])
def test_reference_changes_nothing(images: int) -> None:
    options = chosen(images, recipe="reference")
    assert options == TrainOptions(recipe="reference")


@pytest.mark.parametrize("images", [20, 44, 93, 238])
def test_small_sets_get_more_steps_from_the_same_epochs(images: int) -> None:
    options = chosen(images, epochs=20)
    assert options.epochs == 20
    assert options.nbs == options.batch
    assert steps(options, images) >= 3 * steps(replace(options, batch=16, nbs=64), images)
    assert 0 < options.warmup_epochs <= 3
    assert options.mosaic == 0
    assert options.kpt_l1 > 0


def test_given_options_are_kept() -> None:
    given = {"epochs": 7, "batch": 32, "nbs": 64, "kpt_l1": 0.0, "warmup_epochs": 2.0, "ema_decay": 0.99, "lr0": 0.1}
    assert chosen(93, **given).optimizer == "auto"
    options = chosen(93, **given)
    assert {name: getattr(options, name) for name in given} == given


def test_runs_with_many_steps_keep_the_reference_schedule() -> None:
    options = chosen(100_000)
    names = (
        "batch",
        "nbs",
        "epochs",
        "warmup_epochs",
        "ema_decay",
        "ema_tau",
        "close_mosaic",
        "optimizer",
    )
    assert {name: getattr(options, name) for name in names} == {name: getattr(TrainOptions(), name) for name in names}


@pytest.mark.parametrize(
    ("start", "spec", "known"),
    [
        (None, PERSON, False),
        (PERSON, OWN, False),
        (PERSON, PERSON, True),
        (PoseSpec(classes=("person",), keypoints=KeypointSchema(count=17, dims=3)), PERSON, True),  # without names
        (PERSON, replace(PERSON, classes=("rider",)), False),
        (PERSON, replace(PERSON, keypoints=KeypointSchema(count=17, dims=2)), False),
    ],
)
def test_initial_weights_are_validated_if_they_know_the_task(
    start: PoseSpec | None, spec: PoseSpec, known: bool
) -> None:
    assert chosen(93, start, spec).val_initial is known


@pytest.mark.parametrize(
    ("images", "epochs", "batch"),
    [(44, 20, 4), (20, 20, 4), (93, 20, 8), (93, 100, 16), (238, 20, 8), (1000, 20, 16), (20, 1, 2)],
)
def test_batch_is_the_largest_with_enough_steps(images: int, epochs: int, batch: int) -> None:
    assert chosen(images, epochs=epochs).batch == batch


@pytest.mark.parametrize(("images", "epochs"), [(20, 300), (44, 300), (160, 150), (500, 100), (100_000, 100)])
def test_tiny_sets_train_for_more_epochs_unless_a_length_is_given(images: int, epochs: int) -> None:
    assert chosen(images).epochs == epochs
    assert chosen(images, time=0.5).epochs == TrainOptions().epochs


@pytest.mark.parametrize(("side", "mosaic"), [(0.1, 1.0), (0.5, 1.0), (0.9, 0.0)])
def test_no_mosaic_where_instances_fill_the_image(side: float, mosaic: float) -> None:
    assert chosen(1000, side=side).mosaic == mosaic
    kept = chosen(1000, side=side, mosaic=0.3)
    assert (kept.mosaic, kept.scale) == (0.3, TrainOptions().scale)


@pytest.mark.parametrize(
    ("images", "epochs", "plain"), [(93, 20, None), (93, 100, None), (93, 200, 84), (1000, 100, 20)]
)
def test_the_last_steps_have_no_mosaic(images: int, epochs: int, plain: int | None) -> None:
    options = chosen(images, epochs=epochs)
    if plain is None:
        assert (options.mosaic, options.scale, options.close_mosaic) == (0, 0.25, TrainOptions().close_mosaic)
    else:
        assert (options.mosaic, options.scale, options.close_mosaic) == (1, TrainOptions().scale, plain)
    kept = chosen(images, epochs=epochs, close_mosaic=3)
    assert (kept.mosaic, kept.close_mosaic) == (1, 3)


def layout(offset: float, spread: float, *, flip_idx: tuple[int, ...] | None, both_sides: bool = False) -> Any:
    """Return data whose keypoints lie `offset` ± `spread` box widths to the right of the center of the box."""
    rng = np.random.default_rng(0)
    signs = np.where(np.arange(40) % 2, 1, -1) if both_sides else np.ones(40)
    keypoints = np.full((40, 4, 3), 2.0)
    keypoints[..., 0] = 0.5 + 0.2 * (signs[:, None] * offset + rng.normal(0, spread, (40, 4)))
    keypoints[:, 3] = 0  # never labeled
    boxes = np.tile([0.5, 0.5, 0.2, 0.2], (40, 1))
    spec = replace(OWN, keypoints=KeypointSchema(count=4, dims=3, flip_idx=flip_idx))
    return SimpleNamespace(train=_Images(40, boxes, np.zeros(40, int), keypoints, np.array([(480, 640)])), spec=spec)


@pytest.mark.parametrize(
    ("data", "fliplr"),
    [
        (layout(0.4, 0.1, flip_idx=(0, 1, 2, 3)), 0.0),
        (layout(-0.4, 0.1, flip_idx=(0, 1, 2, 3)), 0.0),
        (layout(0.4, 0.1, flip_idx=(1, 0, 2, 3)), 0.5),  # the labels say which keypoints change sides
        (layout(0.4, 0.1, flip_idx=(0, 1, 2, 3), both_sides=True), 0.5),
        (layout(0.1, 0.3, flip_idx=(0, 1, 2, 3)), 0.5),
        (layout(0.01, 0.001, flip_idx=(0, 1, 2, 3)), 0.5),  # boxes around the keypoint
        (layout(0.4, 0.1, flip_idx=None), 0.5),  # not mirrored in any case
    ],
)
def test_no_flips_where_all_instances_face_one_side(data: Any, fliplr: float) -> None:
    assert choose_options(TrainOptions(), {}, data, PERSON).fliplr == fliplr
    assert choose_options(TrainOptions(fliplr=0.7), {"fliplr"}, data, PERSON).fliplr == 0.7
    assert choose_options(TrainOptions(recipe="reference"), {}, data, PERSON).fliplr == 0.5


OTHERS = tuple(f"point {index}" for index in range(17))


@pytest.mark.parametrize(
    ("start", "spec", "prior"),
    [
        (None, PERSON, True),
        (PERSON, OWN, True),
        (PERSON, replace(PERSON, classes=("player",)), False),  # another class with the same keypoints keeps them
        (replace(OWN, classes=("mouse",)), replace(OWN, classes=("mice",)), False),
        (PERSON, PoseSpec(classes=("player",), keypoints=KeypointSchema(count=17, dims=3)), False),
        (PERSON, PoseSpec(classes=("mouse",), keypoints=KeypointSchema(count=17, dims=3, names={0: OTHERS})), True),
        (
            PoseSpec(classes=("person",), keypoints=KeypointSchema(count=17, dims=3)),  # as public weights
            PoseSpec(classes=("mouse",), keypoints=KeypointSchema(count=17, dims=3, names={0: OTHERS})),
            True,
        ),
    ],
)
def test_learned_keypoints_are_not_reset(start: PoseSpec | None, spec: PoseSpec, prior: bool) -> None:
    options = chosen(93, start, spec)
    assert options.kpt_prior is prior
    assert (options.head_steps > 0) is (prior and start is not None)  # features of random weights do not help


def test_batch_that_fits_the_memory_is_left_to_the_measurement() -> None:
    assert chosen(93, batch=-1).nbs == TrainOptions().nbs


def test_args_record_what_was_chosen(tmp_path: Path) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    options = {name: FAST[name] for name in ("imgsz", "workers", "plots", "device")}
    YOLO(model_yaml).train(data=data, **options, epochs=2, project=tmp_path / "runs")
    args = yaml.safe_load((tmp_path / "runs/train/args.yaml").read_text())
    assert (args["recipe"], args["epochs"], args["nbs"]) == ("auto", 2, args["batch"])
    assert args["kpt_l1"] > 0


def test_a_run_does_not_end_below_its_initial_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, model_yaml = make_world(tmp_path / "blocks")
    runs = {**FAST, "project": tmp_path / "runs"}
    first = YOLO(model_yaml)
    learned = first.train(data=data, **{**runs, "epochs": 12, "mosaic": 0.0, "seed": 2})
    second = YOLO(first.trainer.best)
    destructive = {"epochs": 2, "optimizer": "SGD", "lr0": 0.9, "val_initial": True, "verbose": True}
    metrics = second.train(data=data, **{**runs, **destructive})
    assert metrics.fitness == pytest.approx(learned.fitness, abs=1e-3)
    assert "The best is the initial weights" in caplog.text
    assert second.trainer.best_epoch == -1
    before, after = (read_checkpoint(trainer.best).state for trainer in (first.trainer, second.trainer))
    assert all(torch.equal(before[name], after[name]) for name in before)
    with (tmp_path / "runs/train2/results.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2


def test_validation_of_the_initial_weights_does_not_count_as_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("start", "validation_done", "batch_done"):
        method = getattr(TimeBudget, name)

        def record(self: TimeBudget, *args: Any, name: str = name, method: Any = method) -> None:
            calls.append(name)
            method(self, *args)

        monkeypatch.setattr(TimeBudget, name, record)
    data, model_yaml = make_world(tmp_path / "blocks")
    options = {**FAST, "epochs": 1, "val_initial": True, "project": tmp_path / "runs"}
    YOLO(model_yaml).train(data=data, **options)
    assert calls[:4] == ["start", "validation_done", "start", "batch_done"]
