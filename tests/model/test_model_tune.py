"""`YOLO.tune`: search space, trials, resuming, processes, and the test on images that the search never saw."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from yolopose import YOLO
from yolopose.base.errors import TrainError, UsageError
from yolopose.config import TrainOptions
from yolopose.data import load_dataset
from yolopose.evaluate import load_record
from yolopose.model.tuning import study as studies
from yolopose.model.tuning.compare import compare_records
from yolopose.model.tuning.space import Dimension, default_space, read_space, start_points
from yolopose.model.tuning.trial import score_of

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from train_worlds import FAST, make_world

optuna = pytest.importorskip("optuna")
SPACE = {"lr0": {"low": 0.0001, "high": 0.05, "log": True}, "mosaic": [0.0, 1.0], "optimizer": ["AdamW", "SGD"]}
NO_SPACE = ("optimizer", "lr0")


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks", images=8)


def options(tmp_path: Path, **values: object) -> dict[str, object]:
    fast = {name: value for name, value in FAST.items() if name not in NO_SPACE}
    return {**fast, "project": tmp_path / "runs", "space": SPACE, "iterations": 3, "repeats": 0, "epochs": 2, **values}


def test_the_best_options_are_tested_on_images_that_no_trial_saw(world, tmp_path):
    data, model_yaml = world
    result = YOLO(model_yaml).tune(data, **options(tmp_path, repeats=2, iterations=4, plots=True))
    folder = tmp_path / "runs/tune"
    assert result.save_dir == folder
    val = {str(file) for file in load_dataset(data).image_files("val")}
    for number in range(1, 5):
        used = [(folder / f"data/fold{number}_{split}.txt").read_text().split() for split in ("train", "val")]
        assert not val & {*used[0], *used[1]}
        assert not {*used[0]} & {*used[1]}
    assert len(result.rows) == 4
    assert [row["defaults"] for row in result.rows] == [True, False, False, False]
    assert result.score == max(row["score"] for row in result.rows if row["score"] != "")
    assert set(result.best) == set(SPACE)
    comparison = result.comparison
    assert len(comparison.defaults) == len(comparison.tuned) == 2
    for name in ("defaults", "tuned"):
        for seed in (0, 1):
            record = load_record(folder / f"comparison/{name}-seed{seed}")
            assert {str(Path(record.run_info["root"]) / image) for image in record.image_names} == val
    mean = np.mean(comparison.tuned) - np.mean(comparison.defaults)
    assert comparison.difference.value == pytest.approx(mean)
    assert comparison.verdict in (folder / "report.md").read_text()
    files = {path.name for path in folder.iterdir()}
    assert {"best.yaml", "trials.csv", "report.md", "history.png", "slices.png", "study.db"} <= files
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best == pytest.approx(result.options)
    model = YOLO(model_yaml)
    model.train(data=data, cfg=folder / "best.yaml", project=tmp_path / "again", verbose=False, plots=False)
    assert model.trainer.args.lr0 == result.best["lr0"]
    assert model.trainer.args.epochs == 2


def test_an_interrupted_search_is_resumed(world, tmp_path, monkeypatch):
    data, model_yaml = world
    original = studies.run_trial
    calls = []

    def interrupt(plan, params, *rest):
        calls.append(dict(params))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(plan, params, *rest)

    monkeypatch.setattr(studies, "run_trial", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"resume with: yolo tune resume=.*tune"):
        YOLO(model_yaml).tune(data, **options(tmp_path))
    folder = tmp_path / "runs/tune"
    result = YOLO(model_yaml).tune(resume=folder, iterations=3)
    assert len(result.rows) == 3
    assert calls[1] in calls[2:]  # the interrupted one again
    with pytest.raises(TrainError, match="was started with model="):
        YOLO(make_world(tmp_path / "other")[1]).tune(resume=folder)
    with pytest.raises(TrainError, match="not the folder of a search"):
        YOLO(model_yaml).tune(resume=tmp_path)


def test_bad_trials_are_stopped_early_and_failed_ones_skipped(world, tmp_path, monkeypatch):
    data, model_yaml = world

    def fake(plan, params, folder, report, device):
        number = int(folder.name.removeprefix("trial"))
        if number == 3:
            raise TrainError("diverged")
        for step in range(4):
            if report(float(number == 0) if number > 5 else 1.0, step):
                raise studies.TrialStopped
        return float(number)

    monkeypatch.setattr(studies, "run_trial", fake)
    result = YOLO(model_yaml).tune(data, **options(tmp_path, iterations=9, grace_period=2))
    states = [row["state"] for row in result.rows]
    assert states[3] == "failed"
    assert states[:3] == ["completed"] * 3
    assert states[-1] == "stopped early"
    unpruned = YOLO(model_yaml).tune(data, **options(tmp_path, iterations=9, grace_period=2, prune=False))
    assert [row["state"] for row in unpruned.rows].count("stopped early") == 0

    monkeypatch.setattr(studies, "run_trial", lambda *_: (_ for _ in ()).throw(TrainError("diverged at once")))
    with pytest.raises(TrainError, match="diverged at once"):
        YOLO(model_yaml).tune(data, **options(tmp_path, iterations=9))


def test_the_time_limit_leaves_time_for_the_comparison(world, tmp_path, monkeypatch):
    data, model_yaml = world
    monkeypatch.setattr(studies, "run_trial", lambda *_: 0.5)
    monkeypatch.setattr(studies, "trial_seconds", lambda trial: 60.0)
    result = YOLO(model_yaml).tune(data, **options(tmp_path, iterations=50, minutes=5))
    assert len(result.rows) == 5
    plan = studies.SearchPlan.read(result.save_dir)
    study = studies.open_study(result.save_dir, plan, search_options := tune_options(plan))
    assert studies.seconds_left(study, plan, search_options) == pytest.approx(0)
    with_comparison = replace(search_options, minutes=10, repeats=1)
    assert studies.seconds_left(study, plan, with_comparison) == pytest.approx(600 - 5 * 60 - 1.3 * 2 * 60)


def tune_options(plan):
    from yolopose.model.tuning.search import options_of_plan

    return options_of_plan(plan)


@pytest.mark.slow
def test_trials_run_in_processes(world, tmp_path):
    data, model_yaml = world
    result = YOLO(model_yaml).tune(data, **options(tmp_path, parallel=2, iterations=4, folds=2))
    assert sorted(row["trial"] for row in result.rows) == [0, 1, 2, 3]
    assert {row["state"] for row in result.rows} <= {"completed", "stopped early"}
    assert len(studies.SearchPlan.read(result.save_dir).inner) == 2


@pytest.mark.slow
def test_trials_run_with_ray(world, tmp_path):
    ray = pytest.importorskip("ray")
    data, model_yaml = world
    try:
        result = YOLO(model_yaml).tune(data, use_ray=True, **options(tmp_path, iterations=2))
    finally:
        ray.shutdown()
    assert len(result.rows) == 2
    assert (result.save_dir / "best.yaml").is_file()


@pytest.mark.parametrize("recipe", ["auto", "reference"])
def test_a_space_lies_around_the_defaults_of_its_recipe(recipe: str) -> None:
    chosen = TrainOptions(recipe=recipe, optimizer="AdamW", lr0=0.002)
    space = default_space(chosen, {"degrees"}, flips=False)
    assert not {"degrees", "fliplr"} & set(space)
    assert ("kpt_l1" in space) == (recipe == "auto")
    for name, dimension in space.items():
        assert dimension.low <= getattr(chosen, name) <= dimension.high
    points = start_points(space, chosen, 40, 0)
    assert points[0] == {name: getattr(chosen, name) for name in space}
    rates = np.log([point["lr0"] for point in points[1:]])
    assert abs(rates.mean() - np.log(0.002)) < 0.25
    assert all(dimension.low <= point[name] <= dimension.high for point in points for name, dimension in space.items())
    assert "lr0" not in default_space(TrainOptions(recipe=recipe), set(), flips=True)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"lr0": [0.001, 0.1]}, Dimension(0.001, 0.1)),
        ({"lr0": {"low": 0.001, "high": 0.1, "log": True}}, Dimension(0.001, 0.1, log=True)),
        ({"batch": [4, 16]}, Dimension(4, 16, integer=True)),
        ({"optimizer": ["SGD", "AdamW"]}, Dimension(choices=("SGD", "AdamW"))),
        ({"cos_lr": [True, False]}, Dimension(choices=(True, False))),
        ({"nbs": [16, 32, 64]}, Dimension(choices=(16, 32, 64))),
    ],
)
def test_spaces_of_the_user(values: dict[str, object], expected: Dimension, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(values))
    assert list(read_space(values).values()) == list(read_space(tmp_path / "space.yaml").values()) == [expected]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "is empty"),
        ({"learning": [0, 1]}, "'learning' is not a training option"),
        ({"data": ["a", "b"]}, "'data' is not a training option that can be searched"),
        ({"lr0": 0.1}, "give .low, high."),
        ({"lr0": [0.1, 0.01]}, "low < high"),
        ({"lr0": {"low": 0, "high": 1, "log": True}}, "0 < low < high"),
        ({"mosaic": [0, 3]}, "mosaic=3.0 in space= is out of range"),
        ({"optimizer": ["SGD", "Adagrad"]}, "optimizer='Adagrad'"),
    ],
)
def test_impossible_spaces_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_space(values)


def test_scores_and_verdicts(world, tmp_path) -> None:
    metrics = {"metrics/mAP50-95(B)": 0.5, "metrics/mAP50-95(P)": 0.25}
    assert [score_of(metrics, name) for name in ("fitness", "pose", "box")] == [0.75, 0.25, 0.5]
    assert score_of({}, "pixels") == 1e4
    data, model_yaml = world
    runs = []
    for epochs in (1, 25):
        model = YOLO(model_yaml)
        model.train(data=data, **{**FAST, "epochs": epochs, "mosaic": 0.0, "val": False, "save_json": True,
                                  "ema_tau": 10.0, "project": tmp_path / "runs"})  # fmt: skip
        runs.append(load_record(model.trainer.save_dir))
    poor, good = runs
    assert compare_records("fitness", "val", [poor] * 3, [good] * 3).is_better
    assert compare_records("fitness", "val", [good] * 3, [poor] * 3).is_worse
    same = compare_records("fitness", "val", [good] * 3, [good] * 3)
    assert (same.difference.low, same.difference.high) == (0, 0)
    assert "not shown to be better" in same.verdict


def test_what_cannot_be_searched_is_refused(world, tmp_path):
    data, model_yaml = world
    with pytest.raises(UsageError, match="name the folder of the search"):
        YOLO(model_yaml).tune(data, resume=True)
    with pytest.raises(UsageError, match="Python objects are not possible in a search"):
        YOLO(model_yaml).tune(data, **options(tmp_path, augmentations=[lambda image: image]))
