"""Validation end to end with a fake network that detects colored rectangles."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluate_runs import (
    RECTANGLE_SPEC,
    EvenRuntime,
    RectangleRuntime,
    ReplicatedRuntime,
    make_rectangles,
    val_options,
)

from yolopose.base.callbacks import Callbacks
from yolopose.base.errors import DataError, NotFoundError, UsageError, YoloposeError
from yolopose.evaluate import validate
from yolopose.runtime import Candidates
from yolopose.schema import KeypointSchema, PoseSpec


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_rectangles(tmp_path / "set")


def test_perfect_network(data: Path) -> None:
    metrics = validate(RectangleRuntime(), val_options(data))
    assert metrics.box.map50 == metrics.pose.map50 == pytest.approx(0.995)
    assert metrics.pose.map > 0.95
    assert (metrics.box.mp, metrics.box.mr) == pytest.approx((1, 1))
    assert metrics.nt_per_class.tolist() == [4, 2]
    assert metrics.nt_per_image.tolist() == [4, 2]
    assert metrics.save_dir is None
    assert metrics.names == {0: "red", 1: "green"}
    assert sorted(metrics.box.image_metrics) == [f"{index:03}.png" for index in range(5)]
    assert all(part == [] for part in metrics.stats.values())
    assert metrics.speed["inference"] > 0


def test_pose_map_depends_on_keypoints(data: Path) -> None:
    metrics = validate(RectangleRuntime(shift=60), val_options(data))
    assert metrics.box.map50 == pytest.approx(0.995)
    assert metrics.pose.map50 == 0.0


def test_batches_are_multiples_of_the_stride(data: Path) -> None:
    network = RectangleRuntime()
    validate(network, val_options(data))
    assert [shape[0] for shape in network.shapes] == [2, 2, 1]
    assert all(side % 32 == 0 for shape in network.shapes for side in shape[2:])
    assert network.shapes[0][2] < network.shapes[0][3]
    assert network.calls[0] == {"conf": 0.001, "classes": None, "multi_label": True}


def test_network_of_fixed_size(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = RectangleRuntime(fixed=(160, 192))
    metrics = validate(network, val_options(data))
    assert {shape[2:] for shape in network.shapes} == {(160, 192)}
    assert metrics.box.map50 == pytest.approx(0.995)


def test_confusion_matrix_has_its_own_threshold(data: Path) -> None:
    default = validate(RectangleRuntime(), val_options(data)).confusion_matrix.matrix
    low = validate(RectangleRuntime(), val_options(data, conf=0.05))
    high = validate(RectangleRuntime(), val_options(data, conf=0.5))
    # the first image of each batch scores .1: below the default .25 of the matrix
    assert low.confusion_matrix.matrix[:2, :2].tolist() == [[4, 0], [0, 2]]
    np.testing.assert_array_equal(default, high.confusion_matrix.matrix)
    assert default[2, :2].sum() > 0
    assert high.box.map50 < low.box.map50


def test_classes_and_single_cls(data: Path) -> None:
    network = RectangleRuntime()
    chosen = validate(network, val_options(data, classes=1))
    assert network.calls[0]["classes"] == (1,)
    assert chosen.ap_class_index.tolist() == [1]
    assert chosen.nt_per_class.tolist() == [0, 2]
    single = validate(network, val_options(data, single_cls=True))
    assert single.names == {0: "item"}
    assert single.nt_per_class.tolist() == [6]
    assert single.box.map50 == pytest.approx(0.995)
    assert network.calls[-1]["multi_label"] is False


def test_written_files(data: Path, tmp_path: Path) -> None:
    metrics = validate(
        RectangleRuntime(),
        val_options(data, save_json=True, save_txt=True, save_conf=True, plots=True, project=str(tmp_path / "p")),
    )
    folder = metrics.save_dir
    assert folder == tmp_path / "p" / "val"
    rows = json.loads((folder / "predictions.json").read_text())
    assert len(rows) == 6
    assert set(rows[0]) == {"image_id", "file_name", "category_id", "bbox", "score", "keypoints"}
    first = next(row for row in rows if row["file_name"] == "000.png" and row["category_id"] == 1)
    assert first["image_id"] == 0
    assert first["bbox"] == pytest.approx([5, 8, 35, 42], abs=0.6)  # pixels of the original image
    assert first["keypoints"] == pytest.approx([5, 8, 0.9, 40, 50, 0.9], abs=0.6)
    text = {path.name: path.read_text().splitlines() for path in (folder / "labels").iterdir()}
    assert {name: len(lines) for name, lines in text.items()} == {
        "000.txt": 2,
        "001.txt": 1,
        "002.txt": 2,
        "003.txt": 1,
    }
    values = [float(text) for text in next(line for line in text["000.txt"] if line[0] == "0").split()]
    assert len(values) == 5 + 6 + 1
    assert values[1:5] == pytest.approx([22.5 / 128, 29 / 96, 35 / 128, 42 / 96], abs=0.006)
    imgs = {path.name for path in folder.iterdir() if path.suffix in (".png", ".jpg")}
    curves = {f"{kind}{name}_curve.png" for kind in ("Box", "Pose") for name in ("P", "R", "F1", "PR")}
    mosaics = {f"val_batch{index}_{kind}.jpg" for index in range(3) for kind in ("labels", "pred")}
    assert imgs == curves | mosaics | {"confusion_matrix.png", "confusion_matrix_normalized.png"}
    assert (folder / "report.html").exists()


def test_run_folder_is_numbered_or_given(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_RUNS_DIR", str(tmp_path / "runs"))
    saving = val_options(data, save_json=True)
    assert validate(RectangleRuntime(), saving).save_dir == tmp_path / "runs" / "pose" / "val"
    assert validate(RectangleRuntime(), saving).save_dir == tmp_path / "runs" / "pose" / "val2"
    assert validate(RectangleRuntime(), saving, save_dir=tmp_path / "mine").save_dir == tmp_path / "mine"
    assert (tmp_path / "mine" / "predictions.json").exists()


def test_callbacks_and_loss(data: Path) -> None:
    events: list[str] = []
    seen: list[int] = []
    names = ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end")
    callbacks = Callbacks()
    for name in names:
        callbacks.add(name, lambda run, name=name: events.append(f"{name} {run.batch_i} {run.seen}"))
    metrics = validate(
        RectangleRuntime(), val_options(data), callbacks=callbacks, loss=lambda batch: seen.append(len(batch.images))
    )
    assert events == [
        "on_val_start -1 0",
        "on_val_batch_start 0 0", "on_val_batch_end 0 2",
        "on_val_batch_start 1 2", "on_val_batch_end 1 4",
        "on_val_batch_start 2 4", "on_val_batch_end 2 5",
        "on_val_end 2 5",
    ]  # fmt: skip
    assert seen == [2, 2, 1]
    assert metrics.speed["loss"] > 0


def test_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validate(RectangleRuntime(), val_options(data, verbose=True))
    lines = capsys.readouterr().out.splitlines()
    head = next(index for index, line in enumerate(lines) if line.split()[:1] == ["Class"])
    header = "Class Images Instances Box(P R mAP50 mAP50-95) Pose(P R mAP50 mAP50-95)"
    assert lines[head].split() == header.split()
    assert lines[head + 1].split()[:3] == ["all", "5", "6"]
    assert [line.split()[0] for line in lines[head + 2 : head + 4]] == ["red", "green"]
    assert lines[head + 4].startswith("Keypoint error: mean 0.")
    assert lines[head + 4].endswith("0 of 12 keypoints undetected")
    assert lines[head + 5].startswith("Speed: ")


def spec_with_keypoints(count: int, dims: int = 3) -> PoseSpec:
    return replace(RECTANGLE_SPEC, keypoints=KeypointSchema(count=count, dims=dims))


@pytest.mark.parametrize(
    ("spec", "changes", "error", "parts"),
    [
        (spec_with_keypoints(17), {}, DataError, ["[17, 3]", "[2, 3]", "rectangles", "data.yaml"]),
        (spec_with_keypoints(2, 2), {}, DataError, ["[2, 2]", "[2, 3]"]),
        (
            replace(RECTANGLE_SPEC, classes=("red",)),
            {},
            DataError,
            ["1 class (red)", "2 classes (red, green)", "single_cls"],
        ),
        (RECTANGLE_SPEC, {"classes": [0, 7]}, UsageError, ["class 7", "0 (red), 1 (green)"]),
        (RECTANGLE_SPEC, {"split": "test"}, DataError, ["test"]),
        (RECTANGLE_SPEC, {"data": None}, UsageError, ["data="]),
        (RECTANGLE_SPEC, {"data": "nowhere.yaml"}, NotFoundError, ["nowhere.yaml"]),
    ],
)
def test_refuses_incompatible_input(
    data: Path, tmp_path: Path, spec: PoseSpec, changes: dict, error: type[YoloposeError], parts: list[str]
) -> None:
    with pytest.raises(error) as caught:
        validate(
            RectangleRuntime(spec), val_options(data, **{"plots": True, "project": str(tmp_path / "p"), **changes})
        )
    assert all(part in str(caught.value) for part in parts)
    assert not (tmp_path / "p").exists()


def test_refuses_unlabeled_data(tmp_path: Path) -> None:
    data = make_rectangles(tmp_path / "set", labeled=False)
    with pytest.raises(DataError, match="labeled instance"):
        validate(RectangleRuntime(), val_options(data))


def test_warns_of_other_class_names(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validate(RectangleRuntime(replace(RECTANGLE_SPEC, classes=("green", "red"))), val_options(data))
    assert "differ by name or order" in capsys.readouterr().err


def test_rounds_image_size_up(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = RectangleRuntime()
    validate(network, val_options(data, imgsz=100, rect=False))
    assert {shape[2:] for shape in network.shapes} == {(128, 128)}
    assert "rounded up to [128, 128]" in capsys.readouterr().err


def test_interrupted_run_leaves_no_partial_file(data: Path, tmp_path: Path) -> None:
    class Breaks(RectangleRuntime):
        def infer(self, batch: np.ndarray, **values: Any) -> Candidates:
            if len(self.shapes) == 2:
                raise KeyboardInterrupt
            return super().infer(batch, **values)

    with pytest.raises(KeyboardInterrupt):
        validate(Breaks(), val_options(data, save_json=True), save_dir=tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_images_of_the_same_name_have_their_own_label_files(data: Path, tmp_path: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        folder = data.parent / kind / "val"
        (folder / "more").mkdir()
        (folder / f"001.{suffix}").rename(folder / "more" / f"000.{suffix}")
    validate(RectangleRuntime(), val_options(data, save_txt=True), save_dir=tmp_path / "run")
    counts = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "run" / "labels").iterdir()}
    assert sorted(counts) == ["000.txt", "000_2.txt", "002.txt", "003.txt"]
    assert counts["000.txt"] + counts["000_2.txt"] == 3


@pytest.mark.parametrize("fixed", [0, 1])
@pytest.mark.parametrize("event", ["on_val_batch_end", "on_val_batch_start"])
def test_replicas_return_the_same_detections(
    data: Path, fixed: int, event: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolopose.runtime.replicas.physical_cores", lambda: 2)
    plain, replicated = EvenRuntime(shift=8), ReplicatedRuntime(shift=8)
    replicated.metadata = replace(replicated.metadata, batch=fixed)
    seen: list[tuple[int, int]] = []
    callbacks = Callbacks()
    callbacks.add(event, lambda run: seen.append((run.batch_i, run.seen)))
    expected = validate(plain, val_options(data))
    found = validate(replicated, val_options(data), callbacks=callbacks)
    assert found.results_dict == expected.results_dict
    assert found.record.image_names == expected.record.image_names
    np.testing.assert_array_equal(found.record.stored_keypoints, expected.record.stored_keypoints)
    assert [shape[0] for replica in replicated.used for shape in replica.shapes] == [1] * 5
    assert replicated.shapes == []
    assert seen == ([(0, 2), (1, 4), (2, 5)] if event == "on_val_batch_end" else [(0, 0), (1, 2), (2, 4)])
