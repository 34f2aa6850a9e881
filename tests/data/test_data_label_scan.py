from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base import log
from yolopose.base.errors import DataError
from yolopose.data import label_scan
from yolopose.data.array_file import read_arrays, write_arrays
from yolopose.data.dataset import load_dataset
from yolopose.data.label_scan import cache_path
from yolopose.data.labels import Annotations, load_labels

MakeSet = Callable[..., Path]
OTHER = "1 .3 .3 .2 .2 .4 .4 2 .6 .6 1\n"
IMAGES = {"a": "0 .5 .5 .2 .2 .4 .4 2 .6 .6 1\n", "b": "bad", "c": None, "d": OTHER + OTHER}


class Counter:
    """Loads tables and counts how often label files were really read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.scans = 0
        real = label_scan.scan_labels

        def counted(*args: object, **options: object) -> object:
            self.scans += 1
            return real(*args, **options)

        monkeypatch.setattr(label_scan, "scan_labels", counted)

    def load(self, yaml: Path) -> Annotations:
        return load_labels(load_dataset(yaml), "val")


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> Counter:
    return Counter(monkeypatch)


def same(first: Annotations, second: Annotations) -> bool:
    arrays = ("shapes", "offsets", "classes", "boxes", "keypoints")
    plain = ("files", "issues", "counts")
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in arrays) and all(
        getattr(first, name) == getattr(second, name) for name in plain
    )


def test_cache_hit_returns_equal_annotations(
    make_set: MakeSet, counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    yaml = make_set(IMAGES)
    first = counter.load(yaml)
    assert (yaml.parent / "labels/val.yolopose.cache").is_file()
    second = counter.load(yaml)
    assert counter.scans == 1
    assert same(first, second)
    assert (len(second.issues), second.issues[0].row, second.counts.background) == (1, 1, 1)


def test_cache_moves_with_the_data(make_set: MakeSet, counter: Counter, tmp_path: Path) -> None:
    yaml = make_set(IMAGES)
    counter.load(yaml)
    moved = yaml.parent.rename(tmp_path / "moved")
    table = counter.load(moved / "data.yaml")
    assert counter.scans == 1
    assert table.files[0] == moved / "images/val/a.png"
    assert table.issues[0].file == moved / "labels/val/b.txt"


def _same_size_edit(root: Path) -> None:
    path = root / "labels/val/a.txt"
    before = path.stat()
    path.write_text(path.read_text().replace(".5", ".4"))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1_000_000))


@pytest.mark.parametrize(
    "change",
    [
        _same_size_edit,
        lambda root: (root / "labels/val/c.txt").write_text(OTHER),
        lambda root: (root / "labels/val/d.txt").unlink(),
        lambda root: (root / "images/val/d.png").unlink(),
        lambda root: os.utime(root / "images/val/a.png", ns=(1, 1)),
        lambda root: (root / "data.yaml").write_text((root / "data.yaml").read_text() + "nc: 3\n".replace("3", "2")),
    ],
    ids=["edit of same size", "new label", "label gone", "image gone", "image touched", "yaml alone"],
)
def test_changes_are_noticed(
    make_set: MakeSet, counter: Counter, change: Callable[[Path], object], request: pytest.FixtureRequest
) -> None:
    yaml = make_set(IMAGES)
    counter.load(yaml)
    change(yaml.parent)
    table = counter.load(yaml)
    # a YAML that means the same needs no new reading
    assert counter.scans == (1 if "yaml alone" in request.node.name else 2)
    assert same(table, load_labels(load_dataset(yaml), "val", cache=False))


def test_cache_depends_on_the_spec(make_set: MakeSet, counter: Counter) -> None:
    yaml = make_set(IMAGES)
    assert len(counter.load(yaml).files) == 3
    yaml.write_text(yaml.read_text().replace("[one, two]", "[one]"))
    assert len(counter.load(yaml).files) == 2  # class 1 is refused now
    assert counter.scans == 2


def _tampered(path: Path) -> None:
    _spoil(path, "offsets", lambda values: values + 5)


def _spoil(path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    header, arrays = read_arrays(path, label_scan._ARRAYS)
    dtype = arrays[name].dtype
    arrays[name] = change(arrays[name]).astype(dtype)
    write_arrays(path, header, arrays)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"junk" * 50),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: write_arrays(path, {"key": "x"}, {}),
        lambda path: path.write_bytes(path.read_bytes()[:-4] + b"\1\2\3\4"),
        lambda path: np.savez(path.open("wb"), key=np.array("x")),
        _tampered,
    ],
    ids=["empty", "junk", "cut", "other content", "changed byte", "other format", "offsets"],
)
def test_damaged_cache_is_rebuilt(make_set: MakeSet, counter: Counter, damage: Callable[[Path], object]) -> None:
    yaml = make_set(IMAGES)
    path = yaml.parent / "labels/val.yolopose.cache"
    first = counter.load(yaml)
    damage(path)
    assert same(first, counter.load(yaml))
    counter.load(yaml)
    assert counter.scans == 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("classes", lambda values: values - 2), ("classes", lambda values: values + 10**9),
        ("boxes", lambda values: values * np.nan),
        ("boxes", lambda values: -values), ("boxes", lambda values: values * 1e9),
        ("keypoints", lambda values: values * np.inf),
        ("keypoints", lambda values: values[:, :1]), ("keypoints", lambda values: values - 1),
        ("shapes", lambda values: values * 0), ("shapes", lambda values: values - 10**6),
        ("status", lambda values: values + 7), ("status", lambda values: values * 0 + label_scan.REFUSED),
    ],
)  # fmt: skip
def test_values_of_a_cache_are_checked(
    make_set: MakeSet, counter: Counter, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    yaml = make_set(IMAGES)
    first = counter.load(yaml)
    _spoil(yaml.parent / "labels/val.yolopose.cache", name, change)
    assert same(first, counter.load(yaml))
    assert counter.scans == 2


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


def test_pickle_is_never_loaded(
    make_set: MakeSet, counter: Counter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    yaml = make_set(IMAGES)
    for name in ("val.yolopose.cache", "val.cache"):
        (yaml.parent / "labels" / name).write_bytes(pickle.dumps(Bomb()))
    assert len(counter.load(yaml)) == 3
    with (yaml.parent / "labels/val.yolopose.cache").open("wb") as file:
        np.savez(file, key=np.array(Bomb(), dtype=object))
    assert len(counter.load(yaml)) == 3
    assert not (tmp_path / "exploded").exists()


def test_unwritable_cache_is_only_logged(
    make_set: MakeSet, counter: Counter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log.LOGGER, "propagate", True)
    caplog.set_level(logging.INFO, logger="yolopose")
    yaml = make_set(IMAGES)
    (yaml.parent / "labels/val.yolopose.cache").mkdir()  # a folder in the way: not even root can write there
    assert len(counter.load(yaml)) == 3
    assert "not cached" in caplog.text
    assert sorted(path.name for path in (yaml.parent / "labels").iterdir()) == ["val", "val.yolopose.cache"]


@pytest.mark.parametrize(
    ("image", "place"),
    [
        ("d/images/val/a.jpg", "d/labels/val.yolopose.cache"),
        ("d/images/x/y/a.jpg", "d/labels/val.yolopose.cache"),
        ("d/valid/images/a.jpg", "d/valid/labels/val.yolopose.cache"),
        ("d/flat/a.jpg", "d/flat/val.yolopose.cache"),
    ],
)
def test_cache_path(image: str, place: str) -> None:
    assert cache_path(Path(image), "val") == Path(place)


@pytest.mark.parametrize(("chunk", "batch"), [(1, 1), (2, 3), (3, 2)])
def test_chunks_of_a_scan_are_joined(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch, chunk: int, batch: int
) -> None:
    dataset = load_dataset(make_set({**IMAGES, "e": "", "f": OTHER + OTHER, "g": OTHER}))
    images = dataset.image_files("val")
    whole = label_scan.scan_labels(images, dataset.spec, title="")
    monkeypatch.setattr(label_scan, "_CHUNK", chunk)
    monkeypatch.setattr(label_scan, "_BATCH", batch)
    joined = label_scan.scan_labels(images, dataset.spec, title="")
    for name in ("status", "shapes", "offsets", "classes", "boxes", "keypoints"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    assert joined.issues == whole.issues
    assert joined.warnings == whole.warnings == {"duplicate rows dropped": (2, 3)}


def test_strict_loading_decodes_images_and_has_a_cache_of_its_own(make_set: MakeSet, counter: Counter) -> None:
    yaml = make_set(IMAGES | {"b": OTHER})
    path = yaml.parent / "images/val/a.png"
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    path.with_suffix(".jpg").write_bytes(jpeg[: len(jpeg) // 2] + b"\xff\xd9")  # only its pixel data are damaged
    path.unlink()
    assert counter.load(yaml).shapes[0].tolist() == [160, 160]
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of 4 images are refused(.|\n)*a\.jpg(.|\n)*cut short"):
            load_labels(load_dataset(yaml), "val", strict=True)
    assert counter.scans == 2
