"""The whole loop with a network that sees colored rectangles: everything but the network is real."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from yolopose.base.errors import DataError, NotFoundError, UsageError, YoloposeError
from yolopose.config import ValOptions
from yolopose.evaluate import validate
from yolopose.runtime import Candidates
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

SIZES = [(96, 128), (128, 96), (100, 100), (60, 140), (96, 128)]
SPEC = PoseSpec(classes=("red", "green"), keypoints=KeypointSchema(count=2, dims=3, flip_idx=(0, 1)))


class Rectangles:
    """Finds the red (class 0) and the green (class 1) rectangle of each image; its points are two corners.

    Args:
        shift: how far the points are moved off the corners, pixels.
        fixed: the only (height, width) that it takes.
    """

    device = "cpu"

    def __init__(self, spec: PoseSpec = SPEC, shift: float = 0.0, fixed: tuple[int, int] | None = None) -> None:
        self.metadata = ModelMetadata(spec=spec, name="rectangles", imgsz=fixed or (640, 640), dynamic=fixed is None)
        self.shift = shift
        self.shapes: list[tuple[int, ...]] = []
        self.asked: list[dict[str, Any]] = []

    def infer(
        self,
        batch: np.ndarray,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        self.shapes.append(batch.shape)
        self.asked.append({"conf": conf, "classes": classes, "multi_label": multi_label})
        rows = []
        for image, img in enumerate(batch.astype(int)):
            for cls in range(2):
                rows_of, columns = np.nonzero((img[cls] > 180) & (img[1 - cls] < 60))
                if len(rows_of) and (classes is None or cls in classes):
                    rows.append((image, cls, columns.min(), rows_of.min(), columns.max() + 1, rows_of.max() + 1))
        table = np.array(rows, dtype=np.float32).reshape(-1, 6)
        boxes = table[:, 2:]
        points = np.concatenate((boxes.reshape(-1, 2, 2) + self.shift, np.full((len(boxes), 2, 1), 0.9)), axis=2)
        # one score sinks below what is shown by default, none below what is counted
        scores = np.where(table[:, 0] == 0, 0.1, 0.8).astype(np.float32)
        kept = scores > conf
        return Candidates(
            boxes=boxes[kept],
            scores=scores[kept],
            classes=table[kept, 1].astype(np.int64),
            points=points[kept].astype(np.float32),
            batch_idx=table[kept, 0].astype(np.int64),
        )

    def to_array(self, array: np.ndarray) -> Any:
        return array


def make_data(folder: Path, objects: bool = True, **keys: Any) -> Path:
    """Five images: red in all, green in every second, the last one empty."""
    for name in ("images/val", "labels/val"):
        (folder / name).mkdir(parents=True)
    for index, (height, width) in enumerate(SIZES):
        img = np.full((height, width, 3), 114, dtype=np.uint8)
        lines = []
        for cls in range(2) if objects and index < 4 else ():
            if cls and index % 2:
                continue
            x1, y1, x2, y2 = (5 + index, 8, 40, 50) if cls == 0 else (width // 2 + 2, 6, width - 4, 45)
            img[y1:y2, x1:x2] = (0, 0, 255) if cls == 0 else (0, 255, 0)
            box = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            points = (x1 / width, y1 / height, 2, x2 / width, y2 / height, 2)
            lines.append(" ".join(str(value) for value in (cls, *box, *points)))
        cv2.imwrite(str(folder / f"images/val/{index:03}.png"), img)
        (folder / f"labels/val/{index:03}.txt").write_text("\n".join(lines))
    values = {
        "path": str(folder),
        "val": "images/val",
        "names": ["red", "green"],
        "kpt_shape": [2, 3],
        "flip_idx": [0, 1],
        **keys,
    }
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_data(tmp_path / "set")


def options(path: Path, **values: Any) -> ValOptions:
    return ValOptions(**{"data": str(path), "imgsz": 128, "batch": 2, "plots": False, "verbose": False, **values})


def test_a_perfect_network(data: Path) -> None:
    metrics = validate(Rectangles(), options(data))
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


def test_poses_are_judged_by_their_points(data: Path) -> None:
    metrics = validate(Rectangles(shift=60), options(data))
    assert metrics.box.map50 == pytest.approx(0.995)
    assert metrics.pose.map50 == 0.0


def test_batches_are_rectangles_of_the_stride(data: Path) -> None:
    network = Rectangles()
    validate(network, options(data))
    assert [shape[0] for shape in network.shapes] == [2, 2, 1]
    assert all(side % 32 == 0 for shape in network.shapes for side in shape[2:])
    assert network.shapes[0][2] < network.shapes[0][3]
    assert network.asked[0] == {"conf": 0.001, "classes": None, "multi_label": True}


def test_a_network_of_one_size(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = Rectangles(fixed=(160, 192))
    metrics = validate(network, options(data))
    assert {shape[2:] for shape in network.shapes} == {(160, 192)}
    assert metrics.box.map50 == pytest.approx(0.995)


def test_confidence_and_confusions(data: Path) -> None:
    usual = validate(Rectangles(), options(data)).confusion_matrix.matrix
    low = validate(Rectangles(), options(data, conf=0.05))
    high = validate(Rectangles(), options(data, conf=0.5))
    # the first image of each batch of two scores .1 only: below the .25 of the matrix, unless asked for
    assert low.confusion_matrix.matrix[:2, :2].tolist() == [[4, 0], [0, 2]]
    np.testing.assert_array_equal(usual, high.confusion_matrix.matrix)
    assert usual[2, :2].sum() > 0
    assert high.box.map50 < low.box.map50


def test_classes_and_single_cls(data: Path) -> None:
    network = Rectangles()
    chosen = validate(network, options(data, classes=1))
    assert network.asked[0]["classes"] == [1]
    assert chosen.ap_class_index.tolist() == [1]
    assert chosen.nt_per_class.tolist() == [0, 2]
    single = validate(network, options(data, single_cls=True))
    assert single.names == {0: "item"}
    assert single.nt_per_class.tolist() == [6]
    assert single.box.map50 == pytest.approx(0.995)
    assert network.asked[-1]["multi_label"] is False


def test_files(data: Path, tmp_path: Path) -> None:
    metrics = validate(
        Rectangles(),
        options(data, save_json=True, save_txt=True, save_conf=True, plots=True, project=str(tmp_path / "p")),
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
    values = [float(word) for word in next(line for line in text["000.txt"] if line[0] == "0").split()]
    assert len(values) == 5 + 6 + 1
    assert values[1:5] == pytest.approx([22.5 / 128, 29 / 96, 35 / 128, 42 / 96], abs=0.006)
    imgs = {path.name for path in folder.iterdir() if path.suffix in (".png", ".jpg")}
    curves = {f"{kind}{name}_curve.png" for kind in ("Box", "Pose") for name in ("P", "R", "F1", "PR")}
    mosaics = {f"val_batch{index}_{kind}.jpg" for index in range(3) for kind in ("labels", "pred")}
    assert imgs == curves | mosaics | {"confusion_matrix.png", "confusion_matrix_normalized.png"}
    assert (folder / "report.html").exists()


def test_run_folders_are_numbered_or_given(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_RUNS_DIR", str(tmp_path / "runs"))
    saving = options(data, save_json=True)
    assert validate(Rectangles(), saving).save_dir == tmp_path / "runs" / "pose" / "val"
    assert validate(Rectangles(), saving).save_dir == tmp_path / "runs" / "pose" / "val2"
    assert validate(Rectangles(), saving, save_dir=tmp_path / "mine").save_dir == tmp_path / "mine"
    assert (tmp_path / "mine" / "predictions.json").exists()


def test_callbacks_and_loss(data: Path) -> None:
    events: list[str] = []
    seen: list[int] = []
    names = ("on_val_start", "on_val_batch_start", "on_val_batch_end", "on_val_end")
    callbacks = {name: [lambda run, name=name: events.append(f"{name} {run.batch_i} {run.seen}")] for name in names}
    metrics = validate(
        Rectangles(), options(data), callbacks=callbacks, loss=lambda batch: seen.append(len(batch.images))
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
    validate(Rectangles(), options(data, verbose=True))
    lines = capsys.readouterr().out.splitlines()
    head = next(index for index, line in enumerate(lines) if line.split()[:1] == ["Class"])
    words = "Class Images Instances Box(P R mAP50 mAP50-95) Pose(P R mAP50 mAP50-95)"
    assert lines[head].split() == words.split(" ")
    assert lines[head + 1].split()[:3] == ["all", "5", "6"]
    assert [line.split()[0] for line in lines[head + 2 : head + 4]] == ["red", "green"]
    assert lines[head + 4].startswith("Speed: ")


def with_points(count: int, dims: int = 3) -> PoseSpec:
    return replace(SPEC, keypoints=KeypointSchema(count=count, dims=dims))


@pytest.mark.parametrize(
    ("network", "changes", "error", "words"),
    [
        (with_points(17), {}, DataError, ["[17, 3]", "[2, 3]", "rectangles", "data.yaml"]),
        (with_points(2, 2), {}, DataError, ["[2, 2]", "[2, 3]"]),
        (replace(SPEC, classes=("red",)), {}, DataError, ["1 class (red)", "2 classes (red, green)", "single_cls"]),
        (SPEC, {"classes": [0, 7]}, UsageError, ["[0, 7]", "0 (red), 1 (green)"]),
        (SPEC, {"split": "test"}, DataError, ["test"]),
        (SPEC, {"data": None}, UsageError, ["data="]),
        (SPEC, {"data": "nowhere.yaml"}, NotFoundError, ["nowhere.yaml"]),
        (SPEC, {"imgsz": [1, 2, 3]}, UsageError, ["[1, 2, 3]"]),
    ],
)
def test_what_does_not_fit(
    data: Path, tmp_path: Path, network: PoseSpec, changes: dict, error: type[YoloposeError], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        validate(Rectangles(network), options(data, **{"plots": True, "project": str(tmp_path / "p"), **changes}))
    assert all(word in str(caught.value) for word in words)
    assert not (tmp_path / "p").exists()


def test_no_labels_at_all(tmp_path: Path) -> None:
    data = make_data(tmp_path / "set", objects=False)
    with pytest.raises(DataError, match="no labeled object"):
        validate(Rectangles(), options(data))


def test_other_class_names_are_worth_a_warning(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validate(Rectangles(replace(SPEC, classes=("green", "red"))), options(data))
    assert "differ by name or order" in capsys.readouterr().err


def test_odd_size_is_rounded_up(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = Rectangles()
    validate(network, options(data, imgsz=100, rect=False))
    assert {shape[2:] for shape in network.shapes} == {(128, 128)}
    assert "rounded up to [128]" in capsys.readouterr().err


def test_an_error_on_the_way_leaves_no_half_file(data: Path, tmp_path: Path) -> None:
    class Breaks(Rectangles):
        def infer(self, batch: np.ndarray, **values: Any) -> Candidates:
            if len(self.shapes) == 2:
                raise KeyboardInterrupt
            return super().infer(batch, **values)

    with pytest.raises(KeyboardInterrupt):
        validate(Breaks(), options(data, save_json=True), save_dir=tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_images_of_one_name_keep_their_label_files(data: Path, tmp_path: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        folder = data.parent / kind / "val"
        (folder / "more").mkdir()
        (folder / f"001.{suffix}").rename(folder / "more" / f"000.{suffix}")
    validate(Rectangles(), options(data, save_txt=True), save_dir=tmp_path / "run")
    counts = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "run" / "labels").iterdir()}
    assert sorted(counts) == ["000.txt", "000_2.txt", "002.txt", "003.txt"]
    assert counts["000.txt"] + counts["000_2.txt"] == 3


class Even(Rectangles):
    """The same with scores that do not tell which place in a batch an image has."""

    def infer(self, batch: np.ndarray, **options: Any) -> Candidates:
        found = super().infer(batch, **options)
        return replace(found, scores=np.where(found.classes == 0, 0.8, 0.6).astype(np.float32))


class Replicated(Even):
    """That in replicas, of which each takes one image at a time."""

    def replicas(self, count: int) -> list[Even]:
        self.used = [Even(shift=self.shift) for _ in range(count)]
        return self.used


@pytest.mark.parametrize("fixed", [0, 1])
@pytest.mark.parametrize("event", ["on_val_batch_end", "on_val_batch_start"])
def test_lanes_find_what_the_network_finds(data: Path, fixed: int, event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.runtime.replicas.physical_cores", lambda: 2)
    plain, replicated = Even(shift=8), Replicated(shift=8)
    replicated.metadata = replace(replicated.metadata, batch=fixed)
    seen: list[tuple[int, int]] = []
    callbacks = {event: [lambda run: seen.append((run.batch_i, run.seen))]}
    expected = validate(plain, options(data))
    found = validate(replicated, options(data), callbacks=callbacks)
    assert found.results_dict == expected.results_dict
    assert found.record is not None
    assert expected.record is not None
    assert found.record.names == expected.record.names
    np.testing.assert_array_equal(found.record.drawn_place, expected.record.drawn_place)
    assert [shape[0] for replica in replicated.used for shape in replica.shapes] == [1] * 5
    assert replicated.shapes == []
    assert seen == ([(0, 2), (1, 4), (2, 5)] if event == "on_val_batch_end" else [(0, 0), (1, 2), (2, 4)])
