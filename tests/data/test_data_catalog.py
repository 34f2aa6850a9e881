from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from servers import Server, whole
from yolopose.base.errors import DataError, DownloadError, NotFoundError
from yolopose.data import load_dataset, load_labels
from yolopose.data.catalog import dataset_table, describe_dataset, get_dataset, known_dataset


def archive() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for name in ("top/images/train/a.jpg", "top/images/val/b.jpg"):
            file.writestr(name, b"x")
    return data.getvalue()


ARCHIVE = archive()


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(tmp_path / "sets"))
    return tmp_path / "sets"


def write_yaml(folder: Path, url: str, **more: object) -> Path:
    path = folder / "pets.yaml"
    values = {"path": "pets", "train": "images/train", "val": "images/val", "names": ["a"], "kpt_shape": [2, 3]}
    path.write_text(yaml.safe_dump({**values, "download": url, **more}))
    return path


@pytest.mark.parametrize("name", ["ap10k", "AP-10K", "ap10k.yaml"])
def test_names_are_found_in_any_spelling(name: str) -> None:
    assert known_dataset(name).name == "ap10k"


def test_unknown_names_are_explained() -> None:
    with pytest.raises(NotFoundError, match=r"'crowdpos' is not a known data set. Did you mean 'crowdpose'"):
        known_dataset("crowdpos")
    with pytest.raises(NotFoundError, match="No known data set has 'unicorn'"):
        dataset_table("unicorn")


def test_table_lists_and_searches() -> None:
    lines = dataset_table().splitlines()
    assert lines[0].split() == ["name", "K", "classes", "images", "size", "σ", "get", "license"]
    crowdpose = next(line for line in lines if line.startswith("crowdpose")).split()
    assert crowdpose[:5] == ["crowdpose", "14", "person", "20", "000"]
    dogs = [line.split()[0] for line in dataset_table("dog").splitlines()[1:-3]]
    assert dogs == ["animal-pose", "ap10k", "dog-pose"]


def test_description_has_pairs_and_steps() -> None:
    text = describe_dataset("crowdpose")
    assert "    0  left_shoulder   right_shoulder  0.079" in text.splitlines()
    assert "yolo data get name=crowdpose source=annotations/ images=images/" in " ".join(text.split())
    assert "https://github.com/Jeff-sjtu/CrowdPose" in text
    assert "top_head-neck" in text


def test_get_downloads_and_unpacks_a_known_data_set(
    server: Server, datasets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers["/v0.0.0/coco8-pose.zip"] = whole(ARCHIVE)
    assert "get: " in describe_dataset("coco8-pose")
    path = get_dataset("coco8-pose")
    assert load_dataset(path).root == datasets / "coco8-pose"
    text = capsys.readouterr().out
    assert "CC BY 4.0" in text
    assert "val: 1 images" in text
    assert "data=coco8-pose.yaml" in text
    assert known_dataset("coco8-pose").available
    get_dataset("coco8-pose")
    assert len(server.seen) == 1


def test_get_explains_what_it_cannot_download(server: Server, datasets: Path) -> None:
    with pytest.raises(DataError, match=r"AP-10K cannot be downloaded directly. .*yolo data get name=ap10k"):
        get_dataset("ap10k")
    with pytest.raises(DataError, match=r"published at https://github.com/AlexTheBad/AP-10K and cannot be downloaded"):
        load_dataset("ap10k.yaml")
    assert server.seen == []


@pytest.mark.parametrize("is_right", [True, False])
def test_archives_must_have_the_stated_checksum(is_right: bool, server: Server, datasets: Path, tmp_path: Path) -> None:
    server.answers["/pets.zip"] = whole(ARCHIVE)
    digest = hashlib.sha256(ARCHIVE).hexdigest() if is_right else "0" * 64
    path = write_yaml(tmp_path, f"{server.address}/pets.zip", download_sha256={"pets.zip": digest.upper()})
    if is_right:
        assert get_dataset(path) == path
        return
    with pytest.raises(DownloadError, match="is another file than the data YAML expects"):
        get_dataset(path)
    assert not (datasets / "pets").exists()
    assert not list((datasets / "downloads").glob("[!.]*"))


@pytest.mark.parametrize("value", ["abc", {"pets.zip": "abc"}, {}, ["0" * 64]])
def test_impossible_checksums(value: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must map names of archives to their SHA-256"):
        load_dataset(write_yaml(tmp_path, "https://example.org/pets.zip", download_sha256=value))


@pytest.mark.parametrize(
    ("sample", "name"), [("300w", "300w"), ("ap10k", "ap10k"), ("deepfasion2", "deepfashion2"), ("horse10", "horse10")]
)
def test_downloaded_annotations_are_imported_with_the_schema_of_the_zoo(
    sample: str, name: str, shared: Path, datasets: Path
) -> None:
    folder = shared / "data/zoo-mini" / sample
    path = get_dataset(name, sources=[folder / "annotations/val.json"], images=folder / "images/val")
    imported = load_dataset(path)
    assert imported.root == datasets / name
    assert imported.spec == known_dataset(name).spec
    labels = load_labels(imported, "val", cache=False)
    original = load_labels(load_dataset(folder / f"{sample}.yaml"), "val", cache=False)
    assert np.allclose(labels.keypoints, original.keypoints, atol=1e-6)
    assert np.allclose(labels.boxes, original.boxes, atol=1e-6)
    names = load_dataset(folder / f"{sample}.yaml").spec.classes
    assert [imported.spec.classes[cls] for cls in labels.classes] == [names[cls] for cls in original.classes]


def test_annotations_of_another_data_set_are_refused(shared: Path, datasets: Path) -> None:
    source = shared / "data/zoo-mini/fly/annotations/val.json"
    with pytest.raises(DataError, match=r"fly has 32 keypoints .*Horse-10 has 22"):
        get_dataset("horse10", sources=[source])
    with pytest.raises(DataError, match="the class 'fly' is not one of AP-10K"):
        get_dataset("ap10k", sources=[source])
    assert not datasets.exists()
