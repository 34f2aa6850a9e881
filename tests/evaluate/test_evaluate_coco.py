"""The COCO protocol against published values, and against pycocotools on random sets."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from evaluate_runs import RECTANGLE_SPEC, EvenRuntime, RectangleRuntime, make_rectangles, val_options

from yolopose.base.errors import DataError, DependencyError, NotFoundError, UsageError
from yolopose.config import ValOptions
from yolopose.data.convert import export_coco
from yolopose.evaluate import validate
from yolopose.evaluate.coco import BOX_SCORES, KEYPOINT_SCORES, score_coco
from yolopose.schema import COCO_PERSON_SIGMAS, KeypointSchema

pytest.importorskip("hotcoco")


def score_by_pycocotools(gt: dict, predictions: Path, sigmas: Any) -> dict[str, float]:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    scores = {}
    with contextlib.redirect_stdout(io.StringIO()):
        coco_gt = coco.COCO()
        coco_gt.dataset = json.loads(json.dumps(gt))
        coco_gt.createIndex()
        coco_dt = coco_gt.loadRes(json.loads(predictions.read_text()))
        for kind, names, letter in (("bbox", BOX_SCORES, "B"), ("keypoints", KEYPOINT_SCORES, "P")):
            run = cocoeval.COCOeval(coco_gt, coco_dt, kind)
            if kind == "keypoints":
                run.params.kpt_oks_sigmas = np.array(sigmas)
            run.evaluate()
            run.accumulate()
            run.summarize()
            scores |= {f"{name}({letter})": float(value) for name, value in zip(names, run.stats, strict=True)}
    return scores


def test_published_values(shared: Path) -> None:
    folder = shared / "eval" / "coco_keypoints"
    published = json.loads((shared / "eval" / "numbers.json").read_text())
    expected = published["coco_keypoints (keypoints_gt.json, keypoints_dt.json)"]
    gt = json.loads((folder / "keypoints_gt.json").read_text())
    scores = score_coco(gt, folder / "keypoints_dt.json", COCO_PERSON_SIGMAS)
    assert expected["order"] == list(KEYPOINT_SCORES)
    assert [scores[f"{name}(P)"] for name in KEYPOINT_SCORES] == pytest.approx(expected["keypoints"], abs=1e-6)


def random_set(folder: Path, seed: int, ids: str, count: int) -> tuple[dict, Path]:
    """Twelve images with instances of all sizes, some crowds, some without keypoints, some images empty."""
    rng = np.random.default_rng(seed)
    names = {
        "integers": [7 * number + 3 for number in range(12)],
        "text": [f"frame {chr(76 - number)}" for number in range(12)],
        "huge": [10**20 + number for number in range(12)],
    }[ids]
    images = [{"id": name, "file_name": f"{name}.jpg", "width": 640, "height": 480} for name in names]
    annotations, rows = [], []
    for number, name in enumerate(names):
        for _ in range(0 if number % 5 == 4 else rng.integers(1, 6)):
            size = rng.choice([12, 50, 160]) * rng.uniform(0.7, 1.3, 2)
            x, y = rng.uniform(0, 640 - size[0]), rng.uniform(0, 480 - size[1])
            points = np.concatenate(
                (rng.uniform(0, size, (count, 2)) + np.array([x, y]), rng.integers(0, 3, (count, 1))), axis=1
            )
            points[:, 2] *= rng.random() > 0.15
            category = int(rng.choice([2, 5]))
            annotations.append({
                "id": len(annotations) + 1, "image_id": name, "category_id": category,
                "bbox": [x, y, *size.tolist()], "area": float(size.prod() * rng.uniform(0.4, 0.9)),
                "iscrowd": int(rng.random() < 0.1), "keypoints": points.reshape(-1).tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            })  # fmt: skip
            for _ in range(rng.integers(0, 12)):  # in total more than the 20 poses per image that count
                moved = points[:, :2] + rng.normal(0, 0.05, (count, 2)) * size
                box = np.array([x, y, *size]) + rng.normal(0, 0.08, 4) * np.tile(size, 2)
                rows.append({
                    "image_id": name, "file_name": f"{name}.jpg",
                    "category_id": category if rng.random() > 0.1 else 7 - category,
                    "bbox": box.tolist(), "score": round(float(rng.random()), 1),  # many equal scores
                    "keypoints": np.concatenate((moved, np.ones((count, 1))), axis=1).reshape(-1).tolist(),
                })  # fmt: skip
    path = folder / "predictions.json"
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 2, "name": "a"}, {"id": 5, "name": "b"}],
    }, path


@pytest.mark.parametrize("ids", ["integers", "text", "huge"])
@pytest.mark.parametrize(("seed", "count"), [(0, 17), (1, 3), (2, 40)])
def test_equal_to_pycocotools(tmp_path: Path, seed: int, count: int, ids: str) -> None:
    gt, path = random_set(tmp_path, seed, ids, count)
    sigmas = np.random.default_rng(seed).uniform(0.03, 0.2, count)
    scores, expected = score_coco(gt, path, sigmas.tolist()), score_by_pycocotools(gt, path, sigmas)
    assert scores == pytest.approx(expected, abs=1e-6)
    assert 0.05 < scores["AP(P)"] < 0.9


def test_no_detections(tmp_path: Path) -> None:
    gt, path = random_set(tmp_path, 0, "integers", 3)
    path.write_text("[]\n")
    scores = score_coco(gt, path, [0.1] * 3)
    assert (scores["AP(B)"], scores["AP(P)"], scores["AR(P)"]) == (0, 0, 0)


def test_refuses_predictions_of_another_set(tmp_path: Path) -> None:
    gt, path = random_set(tmp_path, 0, "text", 3)
    gt["images"] = gt["images"][3:]
    image_ids = {image["id"] for image in gt["images"]}
    gt["annotations"] = [item for item in gt["annotations"] if item["image_id"] in image_ids]
    with pytest.raises(DataError, match="another data set"):
        score_coco(gt, path, [0.1] * 3)


@pytest.mark.parametrize("source", ["labels", "option", "folder", "record"])
def test_sources_of_annotations(tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_rectangles(tmp_path / "set")
    more: dict[str, Any] = {}
    if source != "labels":
        files = {"option": "gt.json", "folder": "annotations/val.json", "record": "labels/val.coco.json"}
        export_coco(data, "val", tmp_path / "exported.json")
        content = json.loads((tmp_path / "exported.json").read_text())
        for image in content["images"]:
            image["id"] += 100
        counts: Counter[int] = Counter()
        for annotation in content["annotations"]:
            annotation["image_id"] += 100
            if source == "record":
                annotation["row"] = counts[annotation["image_id"]]
            counts[annotation["image_id"]] += 1
        path = tmp_path / "set" / files[source]
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
        more = {"annotations": str(path)} if source == "option" else {}
    metrics = validate(
        RectangleRuntime(shift=25),
        val_options(data, protocol="coco", verbose=True, project=str(tmp_path / "p"), **more),
    )
    assert list(metrics.coco) == [f"{name}(B)" for name in BOX_SCORES] + [f"{name}(P)" for name in KEYPOINT_SCORES]
    assert metrics.coco["AP50(B)"] == pytest.approx(1)
    assert 0.2 < metrics.coco["AP(P)"] < 1
    assert metrics.save_dir is not None
    rows = json.loads((metrics.save_dir / "predictions.json").read_text())
    assert min(row["image_id"] for row in rows) == (0 if source == "labels" else 100)
    output = capsys.readouterr().out
    assert "COCO protocol, ground truth from " in output
    assert f"{metrics.coco['AP(P)']:.3f}" in output
    assert "mAP" not in str(list(metrics.coco))


def test_image_names_as_ids(tmp_path: Path) -> None:
    data = make_rectangles(tmp_path / "set")
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        for file in (tmp_path / "set" / kind / "val").glob(f"*.{suffix}"):
            file.rename(file.with_name(f"street {file.name}"))
    metrics = validate(RectangleRuntime(shift=25), val_options(data, protocol="coco", project=str(tmp_path / "p")))
    assert metrics.coco["AP50(B)"] == pytest.approx(1)
    assert metrics.save_dir is not None
    rows = json.loads((metrics.save_dir / "predictions.json").read_text())
    assert {row["image_id"] for row in rows} >= {"street 000", "street 003"}
    gt = json.loads((metrics.save_dir / "annotations.json").read_text())
    sigmas = [0.5, 0.5]  # 1/K
    expected = score_by_pycocotools(gt, metrics.save_dir / "predictions.json", sigmas)
    assert metrics.coco == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("from_labels", [True, False])
def test_an_image_that_does_not_decode_is_not_part_of_the_scores(tmp_path: Path, from_labels: bool) -> None:
    """Its header is intact, so that its labels are loaded."""
    results: list[Any] = []
    for name in ("damaged", "without"):
        data = make_rectangles(tmp_path / name)
        more: dict[str, Any] = {}
        if not from_labels:
            more = {"annotations": str(tmp_path / f"{name}.json")}
            export_coco(data, "val", tmp_path / f"{name}.json")
        image = tmp_path / name / "images/val/000.png"
        if name == "damaged":
            noise = np.random.default_rng(0).integers(0, 256, (*cv2.imread(str(image)).shape[:2], 3), dtype=np.uint8)
            jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
            image.with_suffix(".jpg").write_bytes(jpeg[: len(jpeg) // 2] + b"\xff\xd9")
            if more:
                path = Path(more["annotations"])
                path.write_text(path.read_text().replace("000.png", "000.jpg"))
        else:
            (tmp_path / name / "labels/val/000.txt").unlink()
        image.unlink()
        options = val_options(data, protocol="coco", project=str(tmp_path / "p"), batch=1, **more)
        results.append(validate(RectangleRuntime(shift=25), options))
    damaged, without = results
    assert damaged.coco == pytest.approx(without.coco)
    assert damaged.results_dict == pytest.approx(without.results_dict)


def damage(content: dict, part: str) -> None:
    if part == "images":
        for image in content["images"]:
            image["file_name"] = f"other {image['file_name']}"
    elif part == "points":
        content["annotations"][0]["keypoints"] = [1, 2, 2] * 5
    elif part == "classes":
        content["categories"] = content["categories"][:1]
    elif part == "form":
        del content["annotations"][1]["bbox"]
    elif part == "lists":
        content["images"] = 3


@pytest.mark.parametrize(
    ("part", "messages"),
    [
        ("images", ["another data set or split", "0 of the 5"]),
        ("points", ["another data set", "5 keypoints", "has 2"]),
        ("classes", ["another data set", "red, green"]),
        ("form", ["entry 1 of `annotations`", "bbox"]),
        ("lists", ["does not contain COCO annotations"]),
        ("json", ["cannot be read"]),
    ],
)
def test_refuses_annotations_of_another_set(tmp_path: Path, part: str, messages: list[str]) -> None:
    data = make_rectangles(tmp_path / "set")
    path = export_coco(data, "val", tmp_path / "gt.json")
    content = json.loads(path.read_text())
    damage(content, part)
    path.write_text("{" if part == "json" else json.dumps(content))
    network = RectangleRuntime()
    with pytest.raises(DataError) as caught:
        validate(network, val_options(data, protocol="coco", annotations=str(path), project=str(tmp_path / "p")))
    assert all(message in str(caught.value) for message in [str(path), *messages])
    assert not network.shapes  # refused before the network runs
    assert not (tmp_path / "p").exists()


def test_names_images_without_counterpart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_rectangles(tmp_path / "set")
    path = export_coco(data, "val", tmp_path / "gt.json")
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "gone.png"
    path.write_text(json.dumps(content))
    validate(RectangleRuntime(), val_options(data, protocol="coco", annotations=str(path), project=str(tmp_path / "p")))
    warnings = capsys.readouterr().err
    assert "1 of 5 measured images are not in" in warnings
    assert "000.png" in warnings
    assert "1 of 5 images of" in warnings
    assert "gone.png" in warnings


def test_other_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_rectangles(tmp_path / "set")
    with pytest.raises(NotFoundError, match=r"nowhere\.json"):
        validate(RectangleRuntime(), val_options(data, protocol="coco", annotations="nowhere.json"))
    with pytest.raises(UsageError, match="single_cls"):
        validate(RectangleRuntime(), val_options(data, protocol="coco", single_cls=True))
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(DependencyError, match=r"pip install \"yolopose\[coco\]\""):
        validate(RectangleRuntime(), val_options(data, protocol="coco"))


@pytest.mark.slow
def test_official_images_of_coco_mini(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from yolopose.formats.pytorch import TorchRuntime
    from yolopose.weights import load_network

    source = shared / "data" / "coco-mini"
    official = source / "annotations" / "person_keypoints_val_official.json"
    gt = json.loads(official.read_text())
    for part in ("images/val", "labels/val", "annotations"):
        (tmp_path / part).mkdir(parents=True)
    for image in gt["images"]:
        stem = Path(image["file_name"]).stem
        shutil.copyfile(source / f"images/val/{stem}.jpg", tmp_path / f"images/val/{stem}.jpg")
        if (source / f"labels/val/{stem}.txt").exists():
            shutil.copyfile(source / f"labels/val/{stem}.txt", tmp_path / f"labels/val/{stem}.txt")
    shutil.copyfile(official, tmp_path / "annotations" / "person_keypoints_val.json")
    values = yaml.safe_load((source / "coco-mini.yaml").read_text())
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({**values, "path": str(tmp_path), "train": "images/val"}))
    network, _ = load_network(shared / "checkpoints" / "yolo11n-pose.pt")
    chosen = ValOptions(
        data=str(tmp_path / "data.yaml"), plots=False, verbose=False, protocol="coco", rect=False, project=str(tmp_path)
    )
    metrics = validate(TorchRuntime(network, device="cpu"), chosen)
    assert metrics.save_dir is not None
    expected = score_by_pycocotools(gt, metrics.save_dir / "predictions.json", COCO_PERSON_SIGMAS)
    assert metrics.coco == pytest.approx(expected, abs=1e-6)
    published = json.loads((shared / "eval" / "numbers.json").read_text())
    key = next(name for name in published if name.startswith("COCO protocol"))
    expected_scores = published[key]
    assert metrics.coco["AP(P)"] == pytest.approx(expected_scores["keypoints_AP"], abs=expected_scores["tolerance"])
    assert metrics.coco["AP50(P)"] == pytest.approx(expected_scores["AP50"], abs=2 * expected_scores["tolerance"])
    assert metrics.coco["AP(B)"] == pytest.approx(expected_scores["bbox_AP"], abs=expected_scores["tolerance"])


def rewrite_labels(folder: Path, kind: str) -> None:
    """Write the labels of the rectangles with other marks of unlabeled keypoints, or confidences as v."""
    for number, path in enumerate(sorted((folder / "labels/val").rglob("*.txt"))):
        rows = [line.split() for line in path.read_text().splitlines()]
        for row in rows:
            if kind == "confidence":
                row[7], row[10] = "0.93", "0.04"
            else:
                del row[10], row[7]
            if kind == "minus" and number % 2:
                row[7:9] = ["-1", "-1"]
        path.write_text("\n".join(" ".join(row) for row in rows))


@pytest.mark.parametrize("kind", ["confidence", "two", "minus"])
def test_agrees_with_the_labels_on_what_is_labeled(tmp_path: Path, kind: str) -> None:
    dims = 3 if kind == "confidence" else 2
    data = make_rectangles(tmp_path / "set", kpt_shape=[2, dims])
    rewrite_labels(tmp_path / "set", kind)
    spec = replace(RECTANGLE_SPEC, keypoints=KeypointSchema(count=2, dims=dims, flip_idx=(0, 1)))
    metrics = validate(EvenRuntime(spec=spec), val_options(data, protocol="coco", project=str(tmp_path / "p")))
    assert metrics.pose.map50 > 0.99
    assert metrics.coco["AP(P)"] == pytest.approx(1)
    shifted = validate(
        EvenRuntime(spec=spec, shift=500), val_options(data, protocol="coco", project=str(tmp_path / "p"))
    )
    assert shifted.pose.map50 < 0.1
    assert shifted.coco["AP(P)"] < 0.1


@pytest.mark.parametrize("protocol", ["coco", "reference"])
@pytest.mark.parametrize("names", [["c1/0001", "c2/0001"], ["1", "0001"], ["a/x/7", "b/x/7"]])
def test_images_of_equal_names_stay_apart(tmp_path: Path, names: list[str], protocol: str) -> None:
    data = make_rectangles(tmp_path / "set")
    for index, name in enumerate(names):
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            target = tmp_path / "set" / kind / "val" / f"{name}.{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set" / kind / "val" / f"{index:03}.{suffix}").rename(target)
    options = val_options(data, protocol=protocol, save_json=True, project=str(tmp_path / "p"))
    metrics = validate(EvenRuntime(), options)
    assert metrics.save_dir is not None
    rows = json.loads((metrics.save_dir / "predictions.json").read_text())
    by_id = {row["image_id"]: row["file_name"] for row in rows}
    assert len(by_id) == len({row["file_name"] for row in rows}) == 4  # the fifth image has no detections
    export_coco(data, "val", tmp_path / "val.json")
    content = json.loads((tmp_path / "val.json").read_text())
    for key in ("images", "annotations"):
        assert len({entry["id"] for entry in content[key]}) == len(content[key])
    assert set(by_id.values()) <= {image["file_name"] for image in content["images"]}
    if protocol == "coco":
        assert metrics.coco["AP(P)"] == pytest.approx(1)
        options = val_options(
            data, protocol="coco", annotations=str(tmp_path / "val.json"), project=str(tmp_path / "p")
        )
        assert validate(EvenRuntime(), options).coco["AP(P)"] == pytest.approx(1)


def test_single_cls_with_classes_beyond_the_names(tmp_path: Path) -> None:
    data = make_rectangles(tmp_path / "set", names=["thing"])
    spec = replace(RECTANGLE_SPEC, classes=("thing",))
    options = val_options(data, protocol="coco", single_cls=True, project=str(tmp_path / "p"))
    metrics = validate(EvenRuntime(spec=spec), options)
    assert metrics.coco["AP(P)"] == pytest.approx(1)
    assert metrics.pose.map50 > 0.99
