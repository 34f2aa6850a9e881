from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import pytest
import yaml

from servers import Server, whole
from yolopose.base.errors import DataError, DownloadError
from yolopose.data import fetch, load_dataset

TEXT = {"names": ["a"], "kpt_shape": [2, 3], "flip_idx": [0, 1], "path": "pets"}


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return data.getvalue()


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


def write_data_yaml(folder: Path, download: object, **more: object) -> Path:
    path = folder / "pets.yaml"
    entries = {"train": "images/train", "val": "images/val", **more}
    path.write_text(yaml.safe_dump({**TEXT, **entries, "download": download}))
    return path


def test_downloads_an_archive_once(server: Server, datasets: Path, tmp_path: Path) -> None:
    server.answers["/pets.zip"] = whole(zipped("pets/images/train/a.jpg", "pets/images/val/b.jpg"))
    path = write_data_yaml(tmp_path, f"{server.address}/pets.zip")
    for _ in range(2):
        found = load_dataset(path, download=None)
        assert found.root == datasets / "pets"
        assert found.image_files("val") == [datasets / "pets/images/val/b.jpg"]
    assert len(server.seen) == 1
    assert sorted(os.listdir(datasets)) == ["downloads", "pets"]
    assert not list((datasets / "downloads").glob("*.zip"))


def test_downloads_only_needed_splits(server: Server, datasets: Path, tmp_path: Path) -> None:
    server.answers["/lists.zip"] = whole(zipped("top/val.txt", "top/train.txt", "top/labels/val2017/b.txt"))
    server.answers["/val2017.zip"] = whole(zipped("val2017/b.jpg"))
    server.answers["/train2017.zip"] = whole(zipped("train2017/a.jpg"))
    urls = [f"{server.address}/{name}.zip" for name in ("lists", "train2017", "val2017")]
    path = write_data_yaml(tmp_path, urls, train="train.txt", val="val.txt")
    load_dataset(path, download=True, splits=["val"])
    assert (datasets / "pets/images/val2017/b.jpg").exists()
    assert not (datasets / "pets/images/train2017").exists()
    load_dataset(path, download=True, splits=["val", "train"])
    assert (datasets / "pets/images/train2017/a.jpg").exists()
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("download", "size", "words"),
    [(None, 2000, "Set download=True"), (False, 2000, "download=True downloads"), (None, None, "Set download=True")],
)
def test_large_archives_need_download_true(
    download: bool | None,
    size: int | None,
    words: str,
    server: Server,
    datasets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch, "MAX_AUTOMATIC_BYTES", 100)
    monkeypatch.setitem(fetch._KNOWN_SIZES, "pets.zip", size)
    server.answers["/pets.zip"] = whole(zipped("pets/images/train/a.jpg", "pets/images/val/b.jpg"))
    path = write_data_yaml(tmp_path, f"{server.address}/pets.zip")
    with pytest.raises((DownloadError, DataError), match=words):
        load_dataset(path, download=download)
    assert load_dataset(path, download=True).root == datasets / "pets"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["pets/images/a.jpg"], "were not found"),
        (["../../x", "pets/images/train/a.jpg"], "is outside the folder"),
    ],
)
def test_refuses_archives_of_another_layout(
    names: list[str], words: str, server: Server, datasets: Path, tmp_path: Path
) -> None:
    server.answers["/pets.zip"] = whole(zipped(*names))
    with pytest.raises(DataError, match=words):
        load_dataset(write_data_yaml(tmp_path, f"{server.address}/pets.zip"), download=None)


def test_existing_folder_is_left_unchanged(server: Server, datasets: Path, tmp_path: Path) -> None:
    (datasets / "pets").mkdir(parents=True)
    with pytest.raises(DataError, match="already exists"):
        load_dataset(write_data_yaml(tmp_path, f"{server.address}/pets.zip"), download=True)
    assert not server.seen


def test_uses_the_mirror_of_the_settings(server: Server, datasets: Path) -> None:
    server.answers["/v0.0.0/coco8-pose.zip"] = whole(zipped("coco8-pose/images/train/a.jpg"))
    assert load_dataset("coco8-pose.yaml", download=None).root == datasets / "coco8-pose"
