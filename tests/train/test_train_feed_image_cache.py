from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from feed_scenes import write_scenes

from yolopose.base.errors import DataError
from yolopose.data import Annotations
from yolopose.data.images import DamagedImageError
from yolopose.train.feed.image_cache import FileImages, open_images

SIZES = [(60, 90), (90, 60), (64, 64), (200, 100), (40, 80), (64, 100), (100, 64)]


@pytest.fixture
def table(tmp_path: Path) -> Annotations:
    return write_scenes(tmp_path / "set", SIZES)


@pytest.mark.parametrize("cache", ["ram", "disk", True])
def test_cached_images_equal_the_files(table: Annotations, cache: str | bool) -> None:
    cached = open_images(table, 200, cache)
    files = FileImages(table)
    for images in (cached, pickle.loads(pickle.dumps(cached))):
        for index in range(7):
            np.testing.assert_array_equal(images[index], files[index])
    small = open_images(table, 64, cache)
    assert [max(small[index].shape) for index in range(7)] == [64] * 7


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(
    ("size", "reduced"), [((192, 256), (48, 64)), ((190, 256), (95, 128)), ((189, 256), None), ((48, 96), None)]
)
def test_large_jpegs_are_decoded_at_a_reduced_scale(
    tmp_path: Path, size: tuple[int, int], reduced: tuple[int, int] | None, suffix: str
) -> None:
    table = write_scenes(tmp_path / "set", [size], suffix=suffix)
    whole = FileImages(table)[0]
    expected = reduced if reduced and suffix == ".jpg" else size
    for channels in (3, 1, 4):
        images = FileImages(table, channels, min_side=64)
        for source in (images, pickle.loads(pickle.dumps(images))):
            assert source[0].shape == (*expected, channels)
    averaged = cv2.resize(whole, expected[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(FileImages(table, min_side=64)[0].astype(int) - averaged).mean() < 1


def test_a_reduced_image_that_has_changed_is_an_error(tmp_path: Path) -> None:
    table = write_scenes(tmp_path / "set", [(192, 256)], suffix=".jpg")
    cv2.imwrite(str(table.files[0]), np.zeros((256, 512, 3), np.uint8))
    with pytest.raises(DataError, match="has changed"):
        FileImages(table, min_side=64)[0]
    table.files[0].write_bytes(table.files[0].read_bytes()[:-40])
    with pytest.raises(DamagedImageError):
        FileImages(table, min_side=64)[0]


def test_disk_cache_is_rebuilt_when_an_image_changes(table: Annotations) -> None:
    open_images(table, 200, "disk")
    (path,) = (table.files[0].parents[1] / "labels").glob("*.npy")
    first = path.stat().st_mtime_ns
    open_images(table, 200, "disk")
    assert path.stat().st_mtime_ns == first
    os.utime(table.files[2], ns=(1, 1))
    open_images(table, 200, "disk")
    assert path.stat().st_mtime_ns != first


def test_damaged_disk_cache_is_rebuilt(table: Annotations) -> None:
    open_images(table, 200, "disk")
    (path,) = (table.files[0].parents[1] / "labels").glob("*.npy")
    path.write_bytes(path.read_bytes()[:500])
    np.testing.assert_array_equal(open_images(table, 200, "disk")[6], FileImages(table)[6])


def test_cache_without_space_is_a_warning(
    table: Annotations, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yolopose.train.feed.image_cache.available_memory", lambda: 1000)
    assert isinstance(open_images(table, 64, "ram"), FileImages)
    labels = table.files[0].parents[1] / "labels"
    labels.rmdir()
    labels.write_text("a file where the folder should be")
    assert isinstance(open_images(table, 64, "disk"), FileImages)
    assert capsys.readouterr().err.count("read from their files") == 2


def test_recently_decoded_images_stay_within_the_limit(table: Annotations) -> None:
    images = FileImages(table, limit=40_000)
    first = images[0]
    assert images[0] is first
    for index in (1, 2):
        images[index]
    assert images[0] is not first


@pytest.mark.parametrize("cache", ["ram", "disk", False])
def test_images_that_do_not_decode_are_marked(table: Annotations, cache: str | bool) -> None:
    table.files[3].write_bytes(table.files[3].read_bytes()[:-50])
    for images in (open_images(table, 200, cache), open_images(table, 200, cache)):  # the second time from the file
        for copy in (images, pickle.loads(pickle.dumps(images))):
            with pytest.raises(DamagedImageError):
                copy[3]
            np.testing.assert_array_equal(copy[4], FileImages(table)[4])
    table.files[4].unlink()
    with pytest.raises(DataError, match="could be read when the training started"):
        open_images(table, 200, cache)[4]
