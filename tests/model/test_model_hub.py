from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from servers import Server, whole
from yolopose import YOLO
from yolopose.base.download import sha256
from yolopose.base.errors import DownloadError, NotFoundError, UsageError, WeightsError
from yolopose.model import find_weights

pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(tmp_path / "weights"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return YOLO("yolov8n-pose.yaml").save(tmp_path_factory.mktemp("saved") / "w.pt").read_bytes()


def test_searches_the_weights_folder(server: Server, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/mine.pt").touch()
    assert find_weights(Path("mine.pt")) == tmp_path / "weights/mine.pt"


def test_public_weights_are_downloaded_once(
    server: Server, saved: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers["/v8.2.0/yolov8n-pose.pt"] = whole(saved)
    for _ in range(2):
        assert YOLO("yolov8n-pose.pt").model.name == "yolov8n-pose"
    assert len(server.seen) == 1
    shown = capsys.readouterr()
    assert "AGPL-3.0" in shown.out
    assert "differs from the file observed" in shown.err
    (tmp_path / "weights/yolov8n-pose.pt").write_bytes(saved[:-1])
    with pytest.raises(DownloadError, match="has changed since"):
        YOLO("yolov8n-pose.pt")


def test_urls_with_equal_file_names_are_different_files(server: Server, saved: bytes, tmp_path: Path) -> None:
    other = YOLO("yolo11n-pose.yaml").save(tmp_path / "other.pt").read_bytes()
    server.answers |= {"/a/yolo11n-pose.pt": whole(saved), "/b/yolo11n-pose.pt": whole(other)}
    for _ in range(2):
        assert YOLO(f"{server.address}/a/yolo11n-pose.pt").model.name == "yolov8n-pose"
        assert YOLO(f"{server.address}/b/yolo11n-pose.pt").model.name == "yolo11n-pose"
    assert len(server.seen) == 2  # each is downloaded once
    server.answers["/v8.3.0/yolo11n-pose.pt"] = whole(other)  # the public weights are not those of the first URL
    assert YOLO("yolo11n-pose.pt").model.name == "yolo11n-pose"
    assert server.seen[-1][0] == "/v8.3.0/yolo11n-pose.pt"


@pytest.mark.parametrize("source", ["", "\n# http://elsewhere.example/yolov8n-pose.pt\n"])
def test_public_names_ignore_files_from_elsewhere(source: str, server: Server, saved: bytes, tmp_path: Path) -> None:
    server.answers["/v8.2.0/yolov8n-pose.pt"] = whole(saved)
    path = tmp_path / "weights/yolov8n-pose.pt"
    path.parent.mkdir()
    path.write_bytes(b"from elsewhere")
    path.with_name("yolov8n-pose.pt.sha256").write_text(f"{sha256(path)}  yolov8n-pose.pt{source}")
    assert find_weights("yolov8n-pose.pt").read_bytes() == saved
    assert len(server.seen) == 1


def test_public_names_accept_a_copy_without_record(server: Server, saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "weights/yolov8n-pose.pt"
    path.parent.mkdir()
    path.write_bytes(saved)
    assert find_weights("yolov8n-pose.pt") == path
    assert not server.seen


@pytest.mark.parametrize("body", [b"no weights at all", None])
def test_invalid_downloads_are_not_kept(body: bytes | None, server: Server, saved: bytes, tmp_path: Path) -> None:
    server.answers["/v8.2.0/yolov8n-pose.pt"] = whole(body or saved[:5000])
    with pytest.raises((WeightsError, DownloadError)):
        YOLO("yolov8n-pose.pt")
    assert not (tmp_path / "weights/yolov8n-pose.pt").exists()


def test_offline_error_names_the_folder() -> None:
    with pytest.raises(DownloadError, match="put it into"):
        YOLO("yolo11n-pose.pt")


@pytest.mark.parametrize("name", ["none.pt", "folder/yolo11n-pose.pt", "none.onnx"])
def test_other_names_are_not_downloaded(name: str, server: Server) -> None:
    with pytest.raises(NotFoundError, match="Check the path"):
        find_weights(Path(name))
    assert not server.seen


def test_predicts_an_image_url(server: Server, shared: Path, tmp_path: Path) -> None:
    image = (shared / "images/bus.jpg").read_bytes()
    server.answers["/images/bus.jpg"] = whole(image)
    model = YOLO("yolov8n-pose.yaml")
    for _ in range(2):
        (result,) = model(f"{server.address}/images/bus.jpg", verbose=False, imgsz=96)
        assert (result.path, result.orig_shape) == ("bus.jpg", (1080, 810))
    assert len(server.seen) == 1
    server.answers["/no.jpg"] = whole(b"<html>")
    results = model([f"{server.address}/no.jpg", np.zeros((9, 9, 3), np.uint8)], verbose=False, imgsz=32)
    assert "a web page" in (results[0].error or "")
    with pytest.raises(DownloadError, match="404"):
        model(f"{server.address}/nothing.jpg", verbose=False)


@pytest.mark.parametrize("asked", ["runs/pose/train", "runs/pose/train/weights", "best.pt"])
def test_training_folders_suggest_best_pt(asked: str) -> None:
    best = Path("runs/pose/train/weights/best.pt")
    best.parent.mkdir(parents=True)
    best.touch()
    with pytest.raises((NotFoundError, UsageError), match=f"model={best}"):
        YOLO(asked)


def test_warns_once_about_untrained_networks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = YOLO("yolo11n-pose.yaml")
    image = np.zeros((32, 32, 3), np.uint8)
    for _ in range(2):
        model.predict(image, imgsz=32, verbose=False)
    assert capsys.readouterr().err.count("with random weights") == 1
    YOLO(model.save(tmp_path / "w.pt")).predict(image, imgsz=32, verbose=False)
    assert "random weights" not in capsys.readouterr().err
