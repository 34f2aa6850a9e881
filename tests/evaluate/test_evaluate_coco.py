"""The COCO protocol against published numbers, and against pycocotools on made sets of every kind."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from test_evaluate_validator import Rectangles, make_data, options

from yolopose.base.errors import DataError, DependencyError, NotFoundError, UsageError
from yolopose.config import ValOptions
from yolopose.data.convert import export_coco
from yolopose.evaluate import validate
from yolopose.evaluate.coco import BOXES, POINTS, score_coco
from yolopose.schema import COCO_PERSON_SIGMAS

pytest.importorskip("hotcoco")


def by_pycocotools(truth: dict, predictions: Path, sigmas: Any) -> dict[str, float]:
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    found = {}
    with contextlib.redirect_stdout(io.StringIO()):
        known = coco.COCO()
        known.dataset = json.loads(json.dumps(truth))
        known.createIndex()
        results = known.loadRes(json.loads(predictions.read_text()))
        for kind, names, letter in (("bbox", BOXES, "B"), ("keypoints", POINTS, "P")):
            run = cocoeval.COCOeval(known, results, kind)
            if kind == "keypoints":
                run.params.kpt_oks_sigmas = np.array(sigmas)
            run.evaluate()
            run.accumulate()
            run.summarize()
            found |= {f"{name}({letter})": float(value) for name, value in zip(names, run.stats, strict=True)}
    return found


def test_published_numbers(shared: Path) -> None:
    folder = shared / "eval" / "coco_keypoints"
    published = json.loads((shared / "eval" / "numbers.json").read_text())
    expected = published["coco_keypoints (keypoints_gt.json, keypoints_dt.json)"]
    truth = json.loads((folder / "keypoints_gt.json").read_text())
    found = score_coco(truth, folder / "keypoints_dt.json", COCO_PERSON_SIGMAS)
    assert expected["order"] == list(POINTS)
    assert [found[f"{name}(P)"] for name in POINTS] == pytest.approx(expected["keypoints"], abs=1e-6)


def made(folder: Path, seed: int, ids: str, count: int) -> tuple[dict, Path]:
    """Twelve images of objects of all sizes, some crowds, some without points, some images empty."""
    rng = np.random.default_rng(seed)
    names = {
        "numbers": [7 * number + 3 for number in range(12)],
        "text": [f"frame {chr(76 - number)}" for number in range(12)],
        "huge": [10**20 + number for number in range(12)],
    }[ids]
    images = [{"id": name, "file_name": f"{name}.jpg", "width": 640, "height": 480} for name in names]
    truths, rows = [], []
    for number, name in enumerate(names):
        for _ in range(0 if number % 5 == 4 else rng.integers(1, 6)):
            size = rng.choice([12, 50, 160]) * rng.uniform(0.7, 1.3, 2)
            x, y = rng.uniform(0, 640 - size[0]), rng.uniform(0, 480 - size[1])
            points = np.concatenate(
                (rng.uniform(0, size, (count, 2)) + np.array([x, y]), rng.integers(0, 3, (count, 1))), axis=1
            )
            points[:, 2] *= rng.random() > 0.15
            category = int(rng.choice([2, 5]))
            truths.append({
                "id": len(truths) + 1, "image_id": name, "category_id": category,
                "bbox": [x, y, *size.tolist()], "area": float(size.prod() * rng.uniform(0.4, 0.9)),
                "iscrowd": int(rng.random() < 0.1), "keypoints": points.reshape(-1).tolist(),
                "num_keypoints": int((points[:, 2] > 0).sum()),
            })  # fmt: skip
            for _ in range(rng.integers(0, 12)):  # more than 20 poses an image, of which 20 count
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
        "annotations": truths,
        "categories": [{"id": 2, "name": "a"}, {"id": 5, "name": "b"}],
    }, path


@pytest.mark.parametrize("ids", ["numbers", "text", "huge"])
@pytest.mark.parametrize(("seed", "count"), [(0, 17), (1, 3), (2, 40)])
def test_equal_to_pycocotools(tmp_path: Path, seed: int, count: int, ids: str) -> None:
    truth, path = made(tmp_path, seed, ids, count)
    sigmas = np.random.default_rng(seed).uniform(0.03, 0.2, count)
    found, expected = score_coco(truth, path, sigmas.tolist()), by_pycocotools(truth, path, sigmas)
    assert found == pytest.approx(expected, abs=1e-6)
    assert 0.05 < found["AP(P)"] < 0.9


def test_nothing_found(tmp_path: Path) -> None:
    truth, path = made(tmp_path, 0, "numbers", 3)
    path.write_text("[]\n")
    found = score_coco(truth, path, [0.1] * 3)
    assert (found["AP(B)"], found["AP(P)"], found["AR(P)"]) == (0, 0, 0)


def test_predictions_of_another_set(tmp_path: Path) -> None:
    truth, path = made(tmp_path, 0, "text", 3)
    truth["images"] = truth["images"][3:]
    truth["annotations"] = [
        one for one in truth["annotations"] if one["image_id"] in {i["id"] for i in truth["images"]}
    ]
    with pytest.raises(DataError, match="another data set"):
        score_coco(truth, path, [0.1] * 3)


@pytest.mark.parametrize("given", ["labels", "option", "beside", "record"])
def test_where_annotations_come_from(tmp_path: Path, given: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "set")
    more: dict[str, Any] = {}
    if given != "labels":
        target = {"option": "truth.json", "beside": "annotations/val.json", "record": "labels/val.coco.json"}[given]
        export_coco(data, "val", tmp_path / "made.json")
        content = json.loads((tmp_path / "made.json").read_text())
        for image in content["images"]:
            image["id"] += 100
        seen: Counter[int] = Counter()
        for annotation in content["annotations"]:
            annotation["image_id"] += 100
            if given == "record":
                annotation["row"] = seen[annotation["image_id"]]
            seen[annotation["image_id"]] += 1
        place = tmp_path / "set" / target
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(content))
        more = {"annotations": str(place)} if given == "option" else {}
    metrics = validate(
        Rectangles(shift=25), options(data, protocol="coco", verbose=True, project=str(tmp_path / "p"), **more)
    )
    assert list(metrics.coco) == [f"{name}(B)" for name in BOXES] + [f"{name}(P)" for name in POINTS]
    assert metrics.coco["AP50(B)"] == pytest.approx(1)
    assert 0.2 < metrics.coco["AP(P)"] < 1
    assert metrics.save_dir is not None
    rows = json.loads((metrics.save_dir / "predictions.json").read_text())
    assert min(row["image_id"] for row in rows) == (0 if given == "labels" else 100)
    shown = capsys.readouterr().out
    assert "COCO protocol, against " in shown
    assert f"{metrics.coco['AP(P)']:.3f}" in shown
    assert "mAP" not in str(list(metrics.coco))


def test_a_set_with_names_for_ids(tmp_path: Path) -> None:
    data = make_data(tmp_path / "set")
    for kind, suffix in (("images", "png"), ("labels", "txt")):
        for file in (tmp_path / "set" / kind / "val").glob(f"*.{suffix}"):
            file.rename(file.with_name(f"street {file.name}"))
    metrics = validate(Rectangles(shift=25), options(data, protocol="coco", project=str(tmp_path / "p")))
    assert metrics.coco["AP50(B)"] == pytest.approx(1)
    assert metrics.save_dir is not None
    rows = json.loads((metrics.save_dir / "predictions.json").read_text())
    assert {row["image_id"] for row in rows} >= {"street 000", "street 003"}
    truth = json.loads((metrics.save_dir / "annotations.json").read_text())
    sigmas = [0.5, 0.5]  # 1/K
    expected = by_pycocotools(truth, metrics.save_dir / "predictions.json", sigmas)
    assert metrics.coco == pytest.approx(expected, abs=1e-6)


def change(content: dict, what: str) -> None:
    if what == "images":
        for image in content["images"]:
            image["file_name"] = f"other {image['file_name']}"
    elif what == "points":
        content["annotations"][0]["keypoints"] = [1, 2, 2] * 5
    elif what == "classes":
        content["categories"] = content["categories"][:1]
    elif what == "form":
        del content["annotations"][1]["bbox"]
    elif what == "lists":
        content["images"] = 3


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("images", ["another data set or split", "0 of the 5"]),
        ("points", ["another data set", "5 keypoints", "has 2"]),
        ("classes", ["another data set", "red, green"]),
        ("form", ["entry 1 of `annotations`", "bbox"]),
        ("lists", ["no COCO annotations"]),
        ("json", ["cannot be read"]),
    ],
)
def test_annotations_of_another_set(tmp_path: Path, what: str, words: list[str]) -> None:
    data = make_data(tmp_path / "set")
    path = export_coco(data, "val", tmp_path / "truth.json")
    content = json.loads(path.read_text())
    change(content, what)
    path.write_text("{" if what == "json" else json.dumps(content))
    network = Rectangles()
    with pytest.raises(DataError) as caught:
        validate(network, options(data, protocol="coco", annotations=str(path), project=str(tmp_path / "p")))
    assert all(word in str(caught.value) for word in [str(path), *words])
    assert not network.shapes  # it is said before the network runs
    assert not (tmp_path / "p").exists()


def test_what_only_one_side_has_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "set")
    path = export_coco(data, "val", tmp_path / "truth.json")
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "gone.png"
    path.write_text(json.dumps(content))
    validate(Rectangles(), options(data, protocol="coco", annotations=str(path), project=str(tmp_path / "p")))
    said = capsys.readouterr().err
    assert "1 of 5 measured images are not in" in said
    assert "000.png" in said
    assert "1 of 5 images of" in said
    assert "gone.png" in said


def test_other_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path / "set")
    with pytest.raises(NotFoundError, match=r"nowhere\.json"):
        validate(Rectangles(), options(data, protocol="coco", annotations="nowhere.json"))
    with pytest.raises(UsageError, match="single_cls"):
        validate(Rectangles(), options(data, protocol="coco", single_cls=True))
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(DependencyError, match=r"pip install \"yolopose\[coco\]\""):
        validate(Rectangles(), options(data, protocol="coco"))


@pytest.mark.slow
def test_official_images_of_coco_mini(shared: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from yolopose.formats.pytorch import TorchRuntime
    from yolopose.weights import load_network

    source = shared / "data" / "coco-mini"
    official = source / "annotations" / "person_keypoints_val_official.json"
    truth = json.loads(official.read_text())
    for part in ("images/val", "labels/val", "annotations"):
        (tmp_path / part).mkdir(parents=True)
    for image in truth["images"]:
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
    expected = by_pycocotools(truth, metrics.save_dir / "predictions.json", COCO_PERSON_SIGMAS)
    assert metrics.coco == pytest.approx(expected, abs=1e-6)
    published = json.loads((shared / "eval" / "numbers.json").read_text())
    key = next(name for name in published if name.startswith("COCO protocol"))
    known = published[key]
    assert metrics.coco["AP(P)"] == pytest.approx(known["keypoints_AP"], abs=known["tolerance"])
    assert metrics.coco["AP50(P)"] == pytest.approx(known["AP50"], abs=2 * known["tolerance"])
    assert metrics.coco["AP(B)"] == pytest.approx(known["bbox_AP"], abs=known["tolerance"])
