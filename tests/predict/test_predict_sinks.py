from __future__ import annotations

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from predict_fakes import FakeRuntime, painted

from yolopose.base.errors import OutputError
from yolopose.config import PredictOptions
from yolopose.predict import predict
from yolopose.results import Results

BOX = (10, 10, 30, 30)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(source: object, **given: object) -> list[Results]:
    options = PredictOptions(**{"imgsz": 64, "verbose": False, **given})  # type: ignore[arg-type]  # any key
    return list(predict(FakeRuntime(), source, options))


def write(name: str, box: tuple[int, int, int, int] = BOX) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", painted(64, 64, box))[1].tobytes())
    return name


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_nothing_is_written_unless_asked() -> None:
    (result,) = run(painted(64, 64, BOX))
    assert result.save_dir is None
    assert list(Path().iterdir()) == []


def test_everything_that_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
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


def test_drawing_options_are_passed_on() -> None:
    image = painted(64, 64, BOX)
    options = {"save": True, "show_labels": False, "show_conf": False, "show_boxes": True, "line_width": 1}
    (result,) = run(image, **options)
    saved = cv2.imread("runs/pose/predict/image0.jpg")
    expected = result.plot(labels=False, conf=False, line_width=1)
    assert saved is not None
    assert np.abs(saved.astype(int) - expected).mean() < 4  # JPEG


def test_runs_are_numbered_and_named() -> None:
    image = painted(64, 64, BOX)
    for _ in range(2):
        run(image, save_txt=True)
    assert sorted(os.listdir("runs/pose")) == ["predict", "predict2"]
    for _ in range(2):
        run(image, save=True, project="p", name="n", exist_ok=True)
    assert files("p") == ["n/image0.jpg"]


def test_the_runs_folder_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_RUNS_DIR", "elsewhere")
    run(painted(64, 64, BOX), save=True)
    assert files("elsewhere") == ["pose/predict/image0.jpg"]


def test_equal_names_never_overwrite_each_other() -> None:
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
def test_kinds_that_cannot_be_written_become_jpeg(name: str) -> None:
    run([write(name)], save=True)
    assert files("runs/pose/predict") == ["a.jpg"]


def test_a_full_disk_is_a_clear_error_and_leaves_no_half_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="disk is full"):
        run(painted(64, 64, BOX), save=True)
    assert files("runs") == []


def test_a_file_in_the_way_of_the_folder() -> None:
    Path("runs").write_text("")
    with pytest.raises(OutputError, match="choose another folder"):
        run(painted(64, 64, BOX), save=True)
