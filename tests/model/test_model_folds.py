"""Cross-validation: folds without leaks, out-of-fold predictions, tables, resuming."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose import YOLO
from yolopose.base.errors import DataError, TrainError, UsageError
from yolopose.data import load_dataset
from yolopose.data.folds import divide_into_folds
from yolopose.data.image_ids import image_ids, relative_names
from yolopose.evaluate import load_record
from yolopose.evaluate.folds import join_records
from yolopose.weights import read_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from train_worlds import FAST, make_world


def options(data: Path, tmp_path: Path, **values: object) -> dict[str, object]:
    return {**FAST, "data": data, "project": tmp_path / "runs", "epochs": 2, **values}


@pytest.fixture
def world(tmp_path: Path) -> tuple[Path, Path]:
    return make_world(tmp_path / "blocks", images=5)


def test_each_image_is_predicted_by_a_network_that_never_saw_it(world, tmp_path):
    data, model_yaml = world
    model = YOLO(model_yaml)
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    metrics = model.train(**options(data, tmp_path, folds=2, repeats=2, epochs=12, mosaic=0.0))
    folder = tmp_path / "runs/train"
    assert len(metrics.rows) == 4
    assert [row["seed"] for row in metrics.rows] == [0, 0, 1, 1]
    files = sorted(load_dataset(data).image_files("train") + load_dataset(data).image_files("val"))
    for repeat, oof in ((1, folder), (2, folder / "repeat2")):
        record = load_record(oof)
        assert sorted(Path(record.run_info["root"]) / name for name in record.image_names) == files
        for fold in (1, 2):
            single = load_record(folder / f"repeat{repeat}-fold{fold}")
            trained_on = (folder / f"data/repeat{repeat}/fold{fold}_train.txt").read_text().split()
            measured = {str(Path(single.run_info["root"]) / name) for name in single.image_names}
            assert not measured & set(trained_on)
            assert len(measured) + len(trained_on) == len(files)
    assert (folder / "data/repeat1/fold1_val.txt").read_text() != (folder / "data/repeat2/fold1_val.txt").read_text()
    pose = [row["metrics/mAP50-95(P)"] for row in metrics.rows]
    assert metrics.mean["metrics/mAP50-95(P)"] == pytest.approx(np.mean(pose))
    assert metrics.std["metrics/mAP50-95(P)"] == pytest.approx(np.std(pose, ddof=1))
    names = relative_names(files)
    rows = json.loads((folder / "predictions.json").read_text())
    assert len(rows) == len(load_record(folder).det_score)
    expected = {names[file]: image_id for file, image_id in image_ids(files).items()}
    assert {row["file_name"]: row["image_id"] for row in rows}.items() <= expected.items()
    assert rows
    table = (folder / "folds.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["repeat", "1", "1", "2", "2", "mean", "std", "out-of-fold"]
    assert len((folder / "keypoints.csv").read_text().splitlines()) > 3
    assert all((before[name] == value).all() for name, value in model.model.state_dict().items())


def test_joined_scores_equal_those_of_one_run_on_all_images(world, tmp_path):
    data, model_yaml = world
    model = YOLO(model_yaml)
    model.train(**options(data, tmp_path, epochs=25, val=False, mosaic=0.0))
    half = data.parent / "halves"
    runs = []
    for split in ("train", "val"):
        run = model.val(data=data, split=split, imgsz=64, plots=False, save_json=True, project=half, verbose=False)
        runs.append(load_record(run.save_dir))
    both = data.with_name("both.yaml")
    both.write_text(data.read_text().replace("val: images/val", "val: [images/train, images/val]"))
    whole = model.val(data=both, imgsz=64, plots=False, verbose=False)
    joined = join_records(runs)
    whole.set_record(joined, whole.spec)
    first = dict(whole.results_dict)
    again = model.val(data=both, imgsz=64, plots=False, verbose=False)
    assert first == pytest.approx(again.results_dict, nan_ok=True)
    assert again.keypoints.to_json() == whole.keypoints.to_json()
    with pytest.raises(DataError, match="no image in common"):
        join_records([runs[0], runs[0]])


@pytest.mark.parametrize("when", ["inside a fold", "between folds"])
def test_an_interrupted_run_is_resumed(when, world, tmp_path):
    data, model_yaml = world
    expected = YOLO(model_yaml).train(**options(data, tmp_path, folds=2, name="whole"))
    model = YOLO(model_yaml)

    def interrupt(trainer):
        if trainer.save_dir.name == "fold2" and (when == "between folds" or trainer.epoch == 1):
            raise KeyboardInterrupt("stop")

    event = "on_pretrain_routine_start" if when == "between folds" else "on_train_epoch_start"
    model.add_callback(event, interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"resume with: yolo pose train resume=.*parts"):
        model.train(**options(data, tmp_path, folds=2, name="parts"))
    folder = tmp_path / "runs/parts"
    first = (folder / "fold1/weights/last.pt").stat().st_mtime_ns
    resumed = YOLO(model_yaml).train(resume=str(folder))
    assert (folder / "fold1/weights/last.pt").stat().st_mtime_ns == first
    assert resumed.results_dict == pytest.approx(expected.results_dict, nan_ok=True)
    states = [read_checkpoint(tmp_path / f"runs/{name}/fold2/weights/last.pt").state for name in ("whole", "parts")]
    assert all((states[0][name] == states[1][name]).all() for name in states[0])


def test_repetitions_on_one_split_and_the_report(world, tmp_path):
    data, model_yaml = world
    metrics = YOLO(model_yaml).train(**options(data, tmp_path, repeats=2, epochs=1, plots=True))
    assert [(row["fold"], row["seed"]) for row in metrics.rows] == [(1, 0), (1, 1)]
    assert "out-of-fold" not in (tmp_path / "runs/train/report.html").read_text()
    assert (tmp_path / "runs/train/run2/weights/last.pt").is_file()


def test_what_cannot_be_done_is_refused(world, tmp_path):
    data, model_yaml = world
    with pytest.raises(DataError, match="too few for 9 folds"):
        YOLO(model_yaml).train(**options(data, tmp_path, folds=9))
    with pytest.raises(UsageError, match="Python objects are not possible with folds"):
        YOLO(model_yaml).train(**options(data, tmp_path, folds=2, augmentations=[lambda image: image]))
    YOLO(model_yaml).train(**options(data, tmp_path, folds=2, epochs=1, name="run"))
    other = make_world(tmp_path / "other")[1]
    with pytest.raises(TrainError, match="was started with model="):
        YOLO(other).train(resume=str(tmp_path / "runs/run"))
    (tmp_path / "runs/run/folds.json").write_text("{}")
    with pytest.raises(TrainError, match=r"folds\.json is missing, damaged"):
        YOLO(model_yaml).train(resume=str(tmp_path / "runs/run"))


def test_frames_and_nearly_equal_images_share_a_fold(tmp_path):
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    for video in "abcd":
        for frame in range(6):
            image = cv2.resize(rng.integers(0, 255, (6, 6, 3), np.uint8), (96, 96))
            cv2.imwrite(str(tmp_path / f"images/train/{video}_{frame:03}.png"), image)
    same = cv2.imread(str(tmp_path / "images/train/a_000.png"))
    cv2.imwrite(str(tmp_path / "images/train/copy.jpg"), same)
    for file in (tmp_path / "images/train").iterdir():
        (tmp_path / f"labels/train/{file.stem}.txt").write_text("0 0.5 0.5 0.4 0.4 0.5 0.5 2\n")
    (tmp_path / "data.yaml").write_text("path: .\ntrain: images/train\nkpt_shape: [1, 3]\nnames: [a]\n")
    folds = divide_into_folds(load_dataset(tmp_path / "data.yaml"), 4)
    fold_of = {file.stem: fold for file, fold in zip(folds.files, folds.fold_idx, strict=True)}
    assert all(len({fold_of[f"{video}_{frame:03}"] for frame in range(6)}) == 1 for video in "abcd")
    assert fold_of["copy"] == fold_of["a_000"]
    assert sorted(set(folds.fold_idx)) == [0, 1, 2, 3]
