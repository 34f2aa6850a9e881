from __future__ import annotations

import csv
import errno
import gc
import json
import os
import resource
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest

from fake_runtime import FakeRuntime, painted, settings
from yolopose.base.errors import OutputError
from yolopose.config import PredictOptions
from yolopose.predict import predict
from yolopose.predict.sinks import RunFiles, tables
from yolopose.predict.sinks.base import source_stem
from yolopose.results import Frame, HostArray, Results
from yolopose.schema import KeypointSchema

BOX = (10, 10, 30, 30)
FOLDER = "runs/pose/predict"
BY_NUMBER = ("keypoint_0", "keypoint_1", "keypoint_2")
NAMED = KeypointSchema(count=3, names={0: ("nose", "tail", "paw")})
BY_CLASS = KeypointSchema(count=3, names={0: ("nose", "tail", "paw"), 1: ("a", "b", "c")})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(source: object, **values: object) -> list[Results]:
    options = PredictOptions(**{"imgsz": 64, "verbose": False, **values})  # type: ignore[arg-type]  # any key
    return list(predict(FakeRuntime(), source, options))


def write(name: str, box: tuple[int, int, int, int] = BOX) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", painted(64, 64, box))[1].tobytes())
    return name


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def result(path: str = "in/000012.jpg", count: int = 2, **more: object) -> Results:
    """People in an image of 100 × 200 pixels; three named points."""
    boxes = HostArray(np.array([[10, 20, 60, 90.123456, 0.9, 0], [5, 6, 25, 36, 0.5, 1]], np.float32)[:count])
    points = HostArray((np.arange(18, dtype=np.float32).reshape(2, 3, 3) / 20)[:count])
    more = {"schema": NAMED, "boxes": boxes, "keypoints": points, **more}
    return Results(np.zeros((100, 200, 3), np.uint8), path, ("person", "dog, small"), **more)  # type: ignore[arg-type]


def saved(*results: Results, **values: object) -> RunFiles:
    run_files = RunFiles(settings(**values))
    for one in results:
        run_files.write(one)
    run_files.close()
    return run_files


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_writes_nothing_by_default() -> None:
    (result,) = run(painted(64, 64, BOX))
    assert result.save_dir is None
    assert list(Path().iterdir()) == []


def test_writes_images_labels_and_crops(capsys: pytest.CaptureFixture[str]) -> None:
    write("in/a.png")
    (result,) = run("in", save=True, save_txt=True, save_conf=True, save_crop=True, verbose=True)
    assert files("runs/pose/predict") == ["a.png", "crops/red/a.jpg", "labels/a.txt"]
    assert result.save_dir == str(Path("runs/pose/predict"))
    assert f"Results saved to {Path('runs/pose/predict')}" in capsys.readouterr().out
    (row,) = Path("runs/pose/predict/labels/a.txt").read_text().splitlines()
    expected = [0, 20 / 64, 20 / 64, 20 / 64, 20 / 64, 10 / 64, 10 / 64, 0.75, 30 / 64, 30 / 64, 0.75, 0.875]
    np.testing.assert_allclose([float(word) for word in row.split()], expected, atol=1e-4)
    drawn = cv2.imread("runs/pose/predict/a.png")
    assert drawn is not None
    assert (drawn != painted(64, 64, BOX)).any()


def test_passes_drawing_options() -> None:
    image = painted(64, 64, BOX)
    options = {"save": True, "show_labels": False, "show_conf": False, "show_boxes": True, "line_width": 1}
    (result,) = run(image, **options)
    saved = cv2.imread("runs/pose/predict/image0.jpg")
    expected = result.plot(labels=False, conf=False, line_width=1)
    assert saved is not None
    assert np.abs(saved.astype(int) - expected).mean() < 4  # JPEG


def test_numbers_and_names_run_folders() -> None:
    image = painted(64, 64, BOX)
    for _ in range(2):
        run(image, save_txt=True)
    assert sorted(os.listdir("runs/pose")) == ["predict", "predict2"]
    for _ in range(2):
        run(image, save=True, project="p", name="n", exist_ok=True)
    assert files("p") == ["n/image0.jpg"]


def test_uses_runs_folder_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_RUNS_DIR", "elsewhere")
    run(painted(64, 64, BOX), save=True)
    assert files("elsewhere") == ["pose/predict/image0.jpg"]


def test_equal_names_get_numbers() -> None:
    names = ["a/x.png", "b/x.png", "c/X.png", "d/x_2.png", "e/x.png", "a/x.jpg"]
    boxes = [(2 + 5 * i, 10, 20 + 5 * i, 30) for i in range(len(names))]
    run([write(name, box) for name, box in zip(names, boxes, strict=True)], save=True, save_txt=True, save_crop=True)
    stems = ["x", "x_2", "X_3", "x_2_2", "x_4", "x_5"]
    suffixes = [".png"] * 5 + [".jpg"]
    written = files("runs/pose/predict")
    assert [f"{stem}{suffix}" in written for stem, suffix in zip(stems, suffixes, strict=True)] == [True] * 6
    assert len(written) == 18
    for stem, box in zip(stems, boxes, strict=True):
        row = Path(f"runs/pose/predict/labels/{stem}.txt").read_text().split()
        np.testing.assert_allclose(float(row[1]), (box[0] + box[2]) / 128, atol=1e-4)


@pytest.mark.parametrize("name", ["a.heic", "a", "a.JP2"])
def test_saves_unwritable_formats_as_jpeg(name: str) -> None:
    run([write(name)], save=True)
    assert files("runs/pose/predict") == ["a.jpg"]


def test_full_disk_leaves_no_partial_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="disk is full"):
        run(painted(64, 64, BOX), save=True)
    assert files("runs") == []


def test_file_blocks_run_folder() -> None:
    Path("runs").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        run(painted(64, 64, BOX), save=True)


@pytest.mark.parametrize("option", ["save_json", "save_jsonl", "save_csv", "save_frames", "save", "save_txt"])
def test_disk_full_during_run(option: str) -> None:
    """The kernel itself refuses to let a file grow, as a full disk does."""
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    frame = Frame(1, fps=5) if option == "save_frames" else None
    one = result(count=2, frame=frame)
    one.orig_img = noise
    run_files = RunFiles(settings(verbose=True, **{option: True}))  # type: ignore[arg-type]  # any key
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0 if option == "save_txt" else 2000, before[1]))
        with pytest.raises(OutputError):
            deque(map(run_files.write, [one] * 2000), maxlen=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    run_files.close()
    if option == "save_jsonl":
        rows = Path(FOLDER, "predictions.jsonl").read_text().splitlines()
        assert [json.loads(row)["width"] for row in rows] == [200] * len(rows)
        assert rows
    else:
        assert files("runs") == []


def test_failed_file_does_not_affect_others(monkeypatch: pytest.MonkeyPatch) -> None:
    run_files = RunFiles(settings(save_json=True, save_csv=True))
    run_files.write(result())
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: full() if str(b).endswith(".json") else replace(a, b))
    with pytest.raises(OutputError, match=r"predictions\.json: the disk is full"):
        run_files.close()
    assert files(FOLDER) == ["predictions.csv"]


@pytest.mark.parametrize("dims", [2, 3])
def test_coco_results(dims: int) -> None:
    points = HostArray(np.arange(18, dtype=np.float32).reshape(2, 3, 3)[..., :dims])
    run = [result(keypoints=points), result("in/bus.jpg", 0), result("other/bus.jpg", 1)]
    saved(*run, result("v.mp4", 1, frame=Frame(7, fps=5)), save_json=True)
    rows = json.loads(Path(FOLDER, "predictions.json").read_text())
    assert [(row["image_id"], row["file_name"], row.get("frame")) for row in rows] == [
        (12, "000012.jpg", None), (12, "000012.jpg", None), ("bus_2", "bus.jpg", None), ("v_7", "v.mp4", 7)
    ]  # fmt: skip
    assert (rows[0]["category_id"], rows[1]["category_id"], rows[0]["score"]) == (1, 2, 0.9)
    assert rows[0]["bbox"] == [10, 20, 50, 70.123]
    assert rows[0]["keypoints"] == ([0, 1, 2, 3, 4, 5, 6, 7, 8] if dims == 3 else [0, 1, 0.9, 3, 4, 0.9, 6, 7, 0.9])


def test_coco_results_without_detections() -> None:
    saved(result(count=0), save_json=True)
    assert json.loads(Path(FOLDER, "predictions.json").read_text()) == []


def test_json_lines_are_readable_during_run() -> None:
    run_files = RunFiles(settings(save_jsonl=True))
    run_files.write(result("in/a.jpg"))
    run_files.write(Results.unreadable("b.jpg", ("person",), "It is empty."))
    run_files.write(result("v.mp4", 0, frame=Frame(31, fps=30)))
    first, second, third = map(json.loads, Path(FOLDER, "predictions.jsonl").read_text().splitlines())
    assert {**first, "detections": []} == {
        "path": "in/a.jpg", "frame": None, "seconds": None, "width": 200, "height": 100, "detections": []
    }  # fmt: skip
    person, dog = first["detections"]
    assert person["box"] == {"x1": 10, "y1": 20, "x2": 60, "y2": 90.12346}
    assert (dog["name"], dog["class"], dog["confidence"]) == ("dog, small", 1, 0.5)
    assert person["keypoints"]["tail"] == {"x": 0.15, "y": 0.2, "visible": 0.25}
    assert (second["error"], second["detections"]) == ("It is empty.", [])
    assert (third["frame"], third["seconds"], third["detections"]) == (31, 1.0, [])
    run_files.close()


def test_keypoint_names_in_json_lines() -> None:
    person, dog = tables.json_record(result(schema=BY_CLASS))["detections"]
    assert (list(person["keypoints"]), list(dog["keypoints"])) == (["nose", "tail", "paw"], ["a", "b", "c"])
    assert list(tables.json_record(result(schema=None))["detections"][0]["keypoints"]) == ["x", "y", "visible"]
    flat = tables.json_record(result(keypoints=HostArray(np.ones((2, 3, 2)))))["detections"][0]
    assert flat["keypoints"]["nose"] == {"x": 1, "y": 1}
    unknown = tables.json_record(result(keypoints=HostArray(np.full((2, 3, 3), np.nan))))
    assert "NaN" not in tables.to_json(unknown)


def test_writes_sigma() -> None:
    uncertain = result()
    assert uncertain.keypoints is not None
    uncertain.keypoints.sigma = HostArray(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    tail = tables.json_record(uncertain)["detections"][1]["keypoints"]["tail"]
    assert (tail["sigma_x"], tail["sigma_y"]) == (8, 9)
    assert uncertain.summary(normalize=True)[1]["keypoints"]["sigma_x"][1:] == [8 / 200, 10 / 200]
    saved(uncertain, save_csv=True)
    with Path(FOLDER, "predictions.csv").open(newline="", encoding="utf-8") as text:
        _, second = csv.DictReader(text)
    assert [second[f"tail_{part}"] for part in ("conf", "sigma_x", "sigma_y")] == ["0.7", "8.0", "9.0"]
    assert "sigma" not in str(tables.json_record(result()))


@pytest.mark.parametrize(
    ("schema", "names"),
    [(NAMED, ("nose", "tail", "paw")), (BY_CLASS, ("keypoint_0", "keypoint_1", "keypoint_2")), (None, None)],
)
def test_csv_table(schema: KeypointSchema | None, names: tuple[str, ...] | None) -> None:
    saved(result(schema=schema), result("v.mp4", 1, frame=Frame(3)), save_csv=True)
    with Path(FOLDER, "predictions.csv").open(newline="", encoding="utf-8") as text:
        first, second, third = csv.DictReader(text)
    assert list(first)[:10] == ["path", "frame", "track_id", "class", "name", "confidence", "x1", "y1", "x2", "y2"]
    expected = [f"{name}_{part}" for name in names or BY_NUMBER for part in ("x", "y", "conf")]
    assert list(first)[10:] == expected
    assert (first["path"], first["frame"], first["y2"], first[expected[4]]) == ("in/000012.jpg", "", "90.12346", "0.2")
    assert (second["class"], second["name"], second["confidence"]) == ("1", "dog, small", "0.5")
    assert (third["path"], third["frame"]) == ("v.mp4", "3")


def test_removes_labels_of_previous_run() -> None:
    values = {"save_txt": True, "exist_ok": True}
    saved(result(), **values)
    saved(result(count=0), **values)
    assert files(FOLDER) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"save": True}, "2 images"),
        ({"save_txt": True}, "labels of 1"),
        ({"save_crop": True, "save_csv": True}, "2 crops, predictions.csv (2 rows)"),
        ({"save_frames": True}, None),
    ],
)
def test_run_summary(values: dict[str, bool], message: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    run_files = saved(result(), result(count=0), verbose=True, **values)
    output = capsys.readouterr().out.splitlines()
    if message is None:
        assert output == ["Nothing was saved: no result was of the requested kind."]
        assert run_files.folder is None
    else:
        assert output == [f"Results saved to {Path(FOLDER)}: {message}"]


def test_show_writes_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[object, ...]] = []
    monkeypatch.setattr("yolopose.predict.sinks.images.show_image", lambda _, title, wait: shown.append((title, wait)))
    saved(result("a.jpg"), result("v.mp4", frame=Frame(1)), show=True)
    assert shown == [("a.jpg", True), ("v.mp4", False)]
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("a/b.c.jpg", "b.c"), ("https://h/x/bus%20stop.jpg?size=9", "bus_stop"), ("rtsp://u:pw@h:554", "h"),
        ("rtsp://h/live/../cam 1", "cam_1"), ("0", "0"), (".hidden", ".hidden"), ("tcp://127.0.0.1:9999", "127.0.0.1"),
    ],
)  # fmt: skip
def test_source_stem(path: str, stem: str) -> None:
    assert source_stem(path) == stem


def test_memory_is_constant() -> None:
    """Nothing is selected of a frame that is written."""
    run_files = RunFiles(settings(save_json=True, save_jsonl=True, save_csv=True))
    one, held = result("v.mp4"), []
    for number in range(1, 2001):
        one.frame = Frame(number, fps=30)
        run_files.write(one)
        if number in (500, 2000):
            gc.collect()
            held.append(len(gc.get_objects()))
    run_files.close()
    assert held[1] - held[0] < 200
    assert len(json.loads(Path(FOLDER, "predictions.json").read_text())) == 4000


def test_doubled_keypoint_names_hide_no_keypoint() -> None:
    schema = KeypointSchema(count=3, names={0: ("eye", "eye", "tail")})
    saved(result(schema=schema), save_jsonl=True, save_csv=True)
    line = json.loads(Path(FOLDER, "predictions.jsonl").read_text())
    assert len(line["detections"][0]["keypoints"]["x"]) == 3
    header = Path(FOLDER, "predictions.csv").read_text().splitlines()[0].split(",")
    assert len(set(header)) == len(header)


def test_ids_of_numeric_names_are_unique() -> None:
    saved(result("a/1.jpg"), result("a/0001.jpg"), result("b/1.jpg"), save_json=True)
    rows = json.loads(Path(FOLDER, "predictions.json").read_text())
    assert list(dict.fromkeys(row["image_id"] for row in rows)) == [1, "0001", "1_2"]
