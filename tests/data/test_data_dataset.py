from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from yolopose.base import log
from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.base.settings import load_settings
from yolopose.data.dataset import load_dataset, shipped_datasets
from yolopose.schema import COCO_PERSON_FLIP, COCO_PERSON_NAMES, COCO_PERSON_SIGMAS, COCO_PERSON_SKELETON

MakeSet = Callable[..., Path]

GOOD: dict[str, Any] = {"train": "images/train", "val": "images/val", "names": ["one"], "kpt_shape": [3, 3]}


@pytest.fixture
def log_text(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged, with no warning logged before."""
    monkeypatch.setattr(log, "_warned", set())
    monkeypatch.setattr(log.LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, logger="yolopose")
    return caplog


def fill(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def write(folder: Path, **keys: Any) -> Path:
    fill(folder, "images/train/1.jpg", "images/val/1.jpg")
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value is not ...}))
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kpt_shape": ...}, "kpt_shape is missing"),
        ({"kpt_shape": [3, 4]}, "kpt_shape"),
        ({"kpt_shape": [3]}, "kpt_shape"),
        ({"kpt_shape": "3x3"}, "kpt_shape"),
        ({"flip_idx": [0, 1]}, "flip_idx"),
        ({"flip_idx": [0, 0, 0]}, "flip_idx"),
        ({"kpt_oks_sigmas": [0.1, 0.1]}, "kpt_oks_sigmas"),
        ({"kpt_oks_sigmas": [0.1, 0.1, -1]}, "kpt_oks_sigmas"),
        ({"nc": 2}, "nc"),
        ({"nc": "two"}, "nc"),
        ({"names": {0: "a", 2: "b"}}, "names"),
        ({"names": ...}, "names"),
        ({"kpt_names": {0: ["a", "b"]}}, "kpt_names"),
        ({"skeleton": [[1, 3]]}, "skeleton"),
        ({"train": ..., "val": ..., "valid": "images/val"}, "`valid:`"),
        ({"train": 3}, "train"),
        ({"train": []}, "train"),
        ({"path": 3}, "path"),
    ],
)
def test_invalid_keys_are_named_with_the_file(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path, **{**GOOD, **change})
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_reads_all_keys(tmp_path: Path) -> None:
    path = write(
        tmp_path, **GOOD, nc=1, flip_idx=[0, 2, 1], kpt_oks_sigmas=[0.1, 0.2, 0.3], skeleton=[[0, 1]], author="me",
        kpt_names={0: ["nose", "left_eye", "right_eye"]},
    )  # fmt: skip
    dataset = load_dataset(path)
    points = dataset.spec.keypoints
    assert dataset.spec.names == {0: "one"}
    assert (points.shape, points.flip_idx, points.sigmas, points.skeleton) == (
        (3, 3), (0, 2, 1), (0.1, 0.2, 0.3), ((0, 1),),
    )  # fmt: skip
    assert points.keypoint_names(0)[1] == "left_eye"
    assert dataset.raw["author"] == "me"
    assert dataset.entries == {"train": ("images/train",), "val": ("images/val",)}


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"flip_index": [0, 1, 2]}, "Did you mean `flip_idx`"),
        ({"kpt_name": []}, "Did you mean `kpt_names`"),
        ({"flip_idx": [1, 2, 0]}, "mirroring twice"),
        ({"flip_idx": [0, 1, 2], "kpt_names": ["nose", "Left_Eye", "Right_Eye"]}, "maps Left_Eye to Left_Eye"),
        ({"flip_idx": [0, 1, 2], "kpt_names": {0: list("abc"), 1: list("abc")}}, "only 1 classes"),
        ({"flip_idx": [0, 1, 2], "download": "import os; os.system('rm x.zip')"}, "is ignored"),
        ({"flip_idx": [0, 1, 2], "download": "bash get.sh https://a.b/c.zip"}, "is ignored"),
        ({"flip_idx": [0, 1, 2], "download": "https://a.b/c.sh"}, "is ignored"),
    ],
)
def test_warnings(tmp_path: Path, log_text: pytest.LogCaptureFixture, keys: dict[str, Any], words: str) -> None:
    load_dataset(write(tmp_path, **GOOD, **keys))
    assert words in log_text.text


def test_no_warnings_for_a_valid_yaml(tmp_path: Path, log_text: pytest.LogCaptureFixture) -> None:
    keys = {"flip_idx": [0, 2, 1], "kpt_names": ["nose", "l_eye", "r_eye"], "version": 2, "roboflow": {"a": 1}}
    load_dataset(write(tmp_path, **GOOD, **keys, download="https://a.b/c.zip"))
    assert log_text.text == ""


PERSON: dict[str, Any] = {**GOOD, "kpt_shape": [17, 3], "flip_idx": list(COCO_PERSON_FLIP)}
OTHER = [f"p{index}" for index in range(17)]


@pytest.mark.parametrize(
    ("change", "is_person", "warned"),
    [
        ({}, True, False),
        ({"flip_idx": ...}, False, False),
        ({"flip_idx": list(range(17))}, False, True),
        ({"kpt_names": OTHER}, False, True),
        ({"kpt_names": OTHER, "kpt_oks_sigmas": [0.05] * 17}, False, False),
        ({"kpt_shape": [17, 2]}, True, False),
        ({"kpt_shape": [17, 2], "kpt_names": OTHER}, False, False),
    ],
)
def test_coco_person_defaults_are_added_by_flip_idx(
    tmp_path: Path, log_text: pytest.LogCaptureFixture, change: dict[str, Any], is_person: bool, warned: bool
) -> None:
    path = write(tmp_path, **{**PERSON, **change})
    for _ in range(2):
        points = load_dataset(path).spec.keypoints
    assert (points.keypoint_names(0) == COCO_PERSON_NAMES) is is_person
    assert (points.skeleton == COCO_PERSON_SKELETON) is is_person
    assert log_text.text.count("σ of a person") == int(warned)
    if points.dims == 3 and "kpt_oks_sigmas" not in change:
        assert np.array_equal(points.oks_sigmas, COCO_PERSON_SIGMAS)


class TestRoot:
    @pytest.mark.parametrize("where", ["yaml", "cwd", "datasets", "absolute"])
    def test_root_candidates(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        bases = {"yaml": tmp_path / "yaml", "cwd": Path.cwd(), "datasets": Path(load_settings().datasets_dir)}
        root = bases.get(where, tmp_path / "far") / "mine"
        fill(root, "images/train/1.jpg", "images/val/1.jpg")
        (tmp_path / "yaml").mkdir(exist_ok=True)
        path = tmp_path / "yaml" / "some.yaml"
        path.write_text(yaml.safe_dump({**GOOD, "path": str(root) if where == "absolute" else "mine"}))
        assert load_dataset(path).root == root

    def test_first_candidate_with_an_entry_is_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        datasets = Path(load_settings().datasets_dir)
        (tmp_path / "mine").mkdir()  # the folder alone is not enough
        path = tmp_path / "some.yaml"
        path.write_text(yaml.safe_dump({**GOOD, "path": "mine"}))
        fill(datasets / "mine", "images/val/1.jpg")
        assert load_dataset(path).root == datasets / "mine"
        fill(tmp_path / "mine", "images/train/1.jpg", "images/val/1.jpg")
        assert load_dataset(path).root == tmp_path / "mine"

    def test_error_lists_the_candidates(self, tmp_path: Path) -> None:
        path = tmp_path / "some.yaml"
        path.write_text(yaml.safe_dump({**GOOD, "path": "mine", "download": "https://a.b/c.zip"}))
        with pytest.raises(DataError) as caught:
            load_dataset(path)
        for words in (tmp_path / "mine", Path.cwd() / "mine", Path(load_settings().datasets_dir) / "mine",
                      "images/train", "https://a.b/c.zip", "download=True downloads"):  # fmt: skip
            assert str(words) in str(caught.value)

    def test_tolerates_parent_folder_of_labeling_tools(self, tmp_path: Path) -> None:
        path = write(tmp_path, **{**GOOD, "train": "../images/train", "val": "../images/val"})
        assert load_dataset(path).image_files("val") == [tmp_path / "images/val/1.jpg"]


class TestImageFiles:
    def test_searches_subfolders_and_sorts(self, tmp_path: Path) -> None:
        fill(tmp_path, *(f"images/val/{n}" for n in ("b.PNG", "a/z.jpeg", "a-b/z.jpg", "notes.txt", "._b.jpg")))
        (tmp_path / "images/val/loop").symlink_to(tmp_path / "images/val")
        files = load_dataset(write(tmp_path, **GOOD)).image_files("val")
        assert [str(file.relative_to(tmp_path / "images/val")) for file in files] == [
            "1.jpg", "a-b/z.jpg", "a/z.jpeg", "b.PNG",
        ]  # fmt: skip

    def test_lists(self, tmp_path: Path) -> None:
        fill(tmp_path, "lists/x/1.jpg", "images/val/2.jpg", "more/3.jpg")
        lines = ["./x/1.jpg", "", "images/val/2.jpg", str(tmp_path / "more/3.jpg"), "readme.md"]
        (tmp_path / "lists/val.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
        path = write(tmp_path, **{**GOOD, "val": "lists/val.txt", "train": ["images/train", "lists/val.txt"]})
        dataset = load_dataset(path)
        names = ["images/val/2.jpg", "lists/x/1.jpg", "more/3.jpg"]
        assert dataset.image_files("val") == [tmp_path / name for name in names]
        assert dataset.image_files("train") == [tmp_path / name for name in ["images/train/1.jpg", *names]]

    @pytest.mark.parametrize(
        ("val", "words"),
        [("nowhere", "does not exist"), ("empty", "no images"), ("some.yaml", "neither a folder"), (..., "`valid:`")],
    )
    def test_errors(self, tmp_path: Path, val: Any, words: str) -> None:
        (tmp_path / "empty").mkdir()
        dataset = load_dataset(write(tmp_path, **{**GOOD, "val": val, "valid": "x"}))
        with pytest.raises(DataError, match=words):
            dataset.image_files("val")

    def test_unknown_split(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="'val'"):
            load_dataset(write(tmp_path, **GOOD)).image_files("vall")


class TestShipped:
    def test_loads_by_name_and_by_nonexistent_path(self, log_text: pytest.LogCaptureFixture) -> None:
        fill(Path(load_settings().datasets_dir) / "coco8-pose", "images/train/1.jpg", "images/val/1.jpg")
        dataset = load_dataset("coco8-pose.yaml")
        assert dataset.root == Path(load_settings().datasets_dir) / "coco8-pose"
        assert load_dataset("/home/other/coco8-pose.yaml").yaml_path == dataset.yaml_path
        assert "shipped coco8-pose.yaml is used" in log_text.text

    def test_unknown_name_suggests_similar(self) -> None:
        with pytest.raises(NotFoundError, match=r"'coco8-pose\.yaml'"):
            load_dataset("coco8_pose.yaml")

    @pytest.mark.parametrize(
        ("name", "shape"),
        [("coco-pose", (17, 3)), ("coco8-pose", (17, 3)), ("dog-pose", (24, 3)), ("hand-keypoints", (21, 3)),
         ("tiger-pose", (12, 2))],
    )  # fmt: skip
    def test_each_yaml_is_valid(self, log_text: pytest.LogCaptureFixture, name: str, shape: tuple[int, int]) -> None:
        assert f"{name}.yaml" in shipped_datasets()
        with pytest.raises(DataError, match="download=True downloads"):
            load_dataset(f"{name}.yaml")
        fill(Path(load_settings().datasets_dir) / name, "images/val/1.jpg", "val/1.jpg", "val2017.txt")
        points = load_dataset(f"{name}.yaml").spec.keypoints
        assert points.shape == shape
        assert len(points.names[0]) == len(set(points.names[0])) == shape[0]
        assert log_text.text == ""  # the mirror fits the names, the address is a zip
        if shape == (17, 3):
            assert (points.skeleton, points.flip_idx) == (COCO_PERSON_SKELETON, COCO_PERSON_FLIP)


@pytest.mark.parametrize(("folder", "train", "val"), [("coco-mini", 73, 133), ("coco8-pose", 4, 4), ("mouse", 93, 23)])
def test_shared_data_sets(shared: Path, folder: str, train: int, val: int) -> None:
    dataset = load_dataset(shared / f"data/{folder}/{folder}.yaml")
    assert (len(dataset.image_files("train")), len(dataset.image_files("val"))) == (train, val)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("[on, off]", ["on", "off"]), ("{0: no, 1: yes}", ["no", "yes"]), ("[007, 1e3]", ["007", "1e3"]),
        ('{"0": fly, "1": bee}', ["fly", "bee"]), ("[2024-01-01, 12:30]", ["2024-01-01", "12:30"]),
        ("[true, 'null']", ["true", "null"]), ("[0, 1]", ["0", "1"]),
    ],
)  # fmt: skip
def test_class_names_are_read_as_written(make_set: MakeSet, names: str, expected: list[str]) -> None:
    yaml = make_set()
    yaml.write_text(yaml.read_text().replace("[one, two]", names))
    assert list(load_dataset(yaml).spec.classes) == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[one, two]", "{0: fly, 1: }", "names: entry 1 has no name"),
        ("[one, two]", "[fly, '']", "names: entry 1 has no name"),
        ("[one, two]", "[fly, ~]", "names: entry 1 has no name"),
        ("[one, two]", "[[fly], bee]", "entry 0 must be a name"),
        ("kpt_shape", "kpt_names: [head, ]\nchannels: 3\nkpt_shape", "kpt_names of class 0 has 1 names"),
        ("kpt_shape", "kpt_names: [head, ~]\nkpt_shape", "kpt_names: entry 1 has no name"),
        ("kpt_shape", "channels: 2\nkpt_shape", "`channels: 2` is not supported"),
        ("kpt_shape", "channels: true\nkpt_shape", "1 .images are read as gray."),
        ("kpt_shape", "channels: rgb\nkpt_shape", "`channels: 'rgb'` is not supported"),
        ("[one, two]", "[one, two]\nnc: 1000000000", "nc must be an integer from 1 to 100000"),
        ("kpt_shape: [2, 3]", "kpt_shape: [1000000000, 3]", "K from 1 to 10000"),
        ("kpt_shape", "kpt_oks_sigmas: [1" + "0" * 400 + ", 1]\nkpt_shape", "too large"),
        ("kpt_shape", "kpt_names: {99999999999999: [a, b]}\nkpt_shape", "must map a class index"),
        ("kpt_shape", "val: images/val\nkpt_shape", "'val' occurs twice"),
    ],
)
def test_values_that_cannot_be_meant_are_errors(make_set: MakeSet, old: str, new: str, message: str) -> None:
    yaml = make_set()
    yaml.write_text(yaml.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message) as error:
        load_dataset(yaml)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "lines", ["names: [fly, fly]", "names: [one, two]\nkpt_names: [a, a]", "names: [one, two]\nkpt_names: {1: [a, a]}"]
)
def test_doubled_names_are_warned_of(make_set: MakeSet, lines: str, capsys: pytest.CaptureFixture[str]) -> None:
    yaml = make_set()
    yaml.write_text(yaml.read_text().replace("names: [one, two]", lines))
    load_dataset(yaml)
    assert "occurs more than once (entries 0, 1)" in capsys.readouterr().err


def test_numbers_with_exponent_are_numbers(make_set: MakeSet) -> None:
    yaml = make_set(extra="kpt_oks_sigmas: [5e-2, 5E-2]\n")
    assert load_dataset(yaml).spec.keypoints.sigmas == (0.05, 0.05)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("val: images/val", r'val: "a\0b"'), ("path: .", r'path: "a\0b"'), ("path: .", "path: ~nosuchuser/x"),
        ("val: images/val", "val: " + "x" * 5000), ("val: images/val", "val: /etc/passwd"),
        ("kpt_shape", "download: http://[::1/x.zip\nval: nowhere\nkpt_shape"),
    ],
)  # fmt: skip
def test_impossible_paths_are_errors(make_set: MakeSet, old: str, new: str) -> None:
    yaml = make_set()
    text = yaml.read_text()
    if "val: nowhere" in new:
        text = text.replace("val: images/val\n", "").replace("train: images/val", "train: nothing")
    yaml.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError):
        load_dataset(yaml).image_files("val")


def test_a_set_that_was_moved_with_its_yaml_is_read(tmp_path: Path, log_text: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "moved", **GOOD, path=str(tmp_path / "before"))
    assert load_dataset(path).root == tmp_path / "moved"
    assert "the folder of the YAML does and is used" in log_text.text
    (tmp_path / "moved/images/val/1.jpg").unlink()
    (tmp_path / "moved/images/val").rmdir()
    with pytest.raises(DataError, match="were not found"):
        load_dataset(path)
