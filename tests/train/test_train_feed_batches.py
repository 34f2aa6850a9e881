from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from feed_scenes import options, scene_files, spec

from yolopose.base.errors import DataError
from yolopose.data import Annotations
from yolopose.train.feed import TrainBatch, TrainBatches, train_batches
from yolopose.train.feed.image_cache import FileImages, open_images

SIZES = [(60, 90), (90, 60), (64, 64), (200, 100), (40, 80), (64, 100), (100, 64)]
BUSY = {"mosaic": 0.8, "fliplr": 0.5, "hsv_h": 0.1, "hsv_s": 0.5, "hsv_v": 0.4, "scale": 0.5, "mixup": 0.3}


@pytest.fixture
def imgs(tmp_path: Path) -> Annotations:
    return scene_files(tmp_path / "set", SIZES)


def feed(table: Annotations, *, workers: int = 0, **changes: float | bool | str) -> TrainBatches:
    return train_batches(table, spec(), options(**{**BUSY, **changes}), imgsz=64, batch=3, workers=workers)


def same(first: TrainBatch, second: TrainBatch) -> bool:
    names = TrainBatch.__dataclass_fields__
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_the_form_of_a_batch(imgs: Annotations) -> None:
    batches = feed(imgs)
    made = list(batches.epoch(0))
    assert [len(one) for one in made] == [3, 3, 1]
    assert len(batches) == 3
    assert sorted(torch.cat([one.index for one in made]).tolist()) == list(range(7))
    for one in made:
        count = len(one.classes)
        assert one.images.shape == (len(one), 3, 64, 64)
        assert one.images.dtype == torch.uint8
        assert one.boxes.shape == (count, 4)
        assert one.keypoints.shape == (count, 3, 3)
        assert one.batch_idx.shape == (count,)
        assert (one.batch_idx.dtype, one.classes.dtype) == (torch.int64, torch.int64)
        assert (one.boxes.dtype, one.keypoints.dtype) == (torch.float32, torch.float32)
        assert (one.batch_idx.diff() >= 0).all()
        assert ((one.boxes >= 0) & (one.boxes <= 1)).all()
        assert ((one.keypoints[..., :2] >= 0) & (one.keypoints[..., :2] <= 1)).all()
        assert same(one.to("cpu"), one)


def test_channels_are_red_green_blue(imgs: Annotations) -> None:
    batch = next(iter(feed(imgs, mosaic=0, hsv_h=0, hsv_s=0, hsv_v=0, scale=0, mixup=0, fliplr=0).epoch(0)))
    x, y, _ = batch.keypoints[0, 0]  # drawn in BGR (255, 0, 0): blue
    image = batch.images[int(batch.batch_idx[0])]
    assert image[:, int(y * 64), int(x * 64)].tolist() == [0, 0, 255]


def test_workers_threads_and_caches_change_nothing(imgs: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    expected = {epoch: list(feed(imgs).epoch(epoch)) for epoch in (0, 1)}
    assert not same(expected[0][0], expected[1][0])
    for workers in (1, 2):
        batches = feed(imgs, workers=workers)
        next(batches.epoch(0))  # an epoch that is left early does not spoil the next
        for epoch in (1, 0):  # a resumed run starts at any epoch
            made = list(batches.epoch(epoch))
            assert all(same(a, b) for a, b in zip(made, expected[epoch], strict=True))
        batches.close()
    other = list(feed(imgs, seed=1).epoch(0))
    assert not same(other[0], expected[0][0])


def test_the_global_random_state_is_left_alone(imgs: Annotations) -> None:
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # the state looked after
    list(feed(imgs, workers=1).epoch(0))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()


def test_mosaic_ends_with_close_mosaic(imgs: Annotations) -> None:
    batches = feed(imgs, mosaic=1, mixup=0, epochs=5, close_mosaic=2)
    several = [max(torch.bincount(one.batch_idx).tolist()) for epoch in range(5) for one in batches.epoch(epoch)]
    assert max(several[:9]) > 1
    assert max(several[9:]) == 1
    assert same(next(batches.epoch(0, mosaic=False)), next(feed(imgs, mosaic=0, mixup=0).epoch(0))) is False
    assert max(torch.bincount(next(batches.epoch(0, mosaic=False)).batch_idx).tolist()) == 1


def test_rect_batches_have_the_shape_of_their_images(imgs: Annotations) -> None:
    made = list(feed(imgs, rect=True, scale=0).epoch(0))
    assert sorted(torch.cat([one.index for one in made]).tolist()) == list(range(7))
    assert len({tuple(one.images.shape[2:]) for one in made}) > 1
    for one in made:
        ratios = imgs.shapes[one.index.numpy(), 0] / imgs.shapes[one.index.numpy(), 1]
        height, width = one.images.shape[2:]
        assert height % 32 == width % 32 == 0
        assert max(height, width) == 64
        assert height >= min(ratios.max(), 1) * 64
        assert width >= min(1 / ratios.min(), 1) * 64
        assert (one.batch_idx.bincount() == 1).all()  # never a mosaic
    orders = [[tuple(one.index.tolist()) for one in feed(imgs, rect=True).epoch(epoch)] for epoch in range(6)]
    assert len(set(map(tuple, orders))) > 1


@pytest.mark.parametrize("cache", ["ram", "disk", True])
def test_cached_images_are_the_images(imgs: Annotations, cache: str | bool) -> None:
    cached = open_images(imgs, 200, cache)
    files = FileImages(imgs)
    for one in (cached, pickle.loads(pickle.dumps(cached))):
        for index in range(7):
            np.testing.assert_array_equal(one[index], files[index])
    small = open_images(imgs, 64, cache)
    assert [max(small[index].shape) for index in range(7)] == [64] * 7
    list(feed(imgs, cache=cache).epoch(0))


def test_the_disk_cache_is_made_anew_when_a_image_changes(imgs: Annotations) -> None:
    open_images(imgs, 200, "disk")
    (path,) = (imgs.files[0].parents[1] / "labels").glob("*.npy")
    first = path.stat().st_mtime_ns
    open_images(imgs, 200, "disk")
    assert path.stat().st_mtime_ns == first
    os.utime(imgs.files[2], ns=(1, 1))
    open_images(imgs, 200, "disk")
    assert path.stat().st_mtime_ns != first
    path.write_bytes(path.read_bytes()[:500])
    np.testing.assert_array_equal(open_images(imgs, 200, "disk")[6], FileImages(imgs)[6])


def test_a_cache_without_room_is_only_a_warning(
    imgs: Annotations, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yolopose.train.feed.image_cache.available_memory", lambda: 1000)
    assert isinstance(open_images(imgs, 64, "ram"), FileImages)
    (imgs.files[0].parents[1] / "labels").rmdir()
    (imgs.files[0].parents[1] / "labels").write_text("in the way")
    assert isinstance(open_images(imgs, 64, "disk"), FileImages)
    assert capsys.readouterr().err.count("read from their files") == 2


def test_recent_images_are_kept_within_the_limit(imgs: Annotations) -> None:
    images = FileImages(imgs, limit=40_000)
    kept = images[0]
    assert images[0] is kept
    for index in (1, 2):
        images[index]
    assert images[0] is not kept


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["gone", "broken", "other size"])
def test_a_image_that_cannot_be_read_is_named(imgs: Annotations, workers: int, fault: str) -> None:
    path = imgs.files[4]
    if fault == "gone":
        path.unlink()
    else:
        path.write_bytes(b"no image" if fault == "broken" else imgs.files[0].read_bytes())
    with pytest.raises(DataError, match=r"4\.png") as caught:
        list(feed(imgs, workers=workers).epoch(0))
    assert "Traceback" not in str(caught.value)


def test_a_worker_that_dies_is_an_error_and_the_next_epoch_works(
    imgs: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = feed(imgs, workers=1)
    main = os.getpid()
    make = type(batches.builder).make

    def dying(*args: object) -> object:
        if os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return make(*args)  # type: ignore[arg-type]  # passed on as they came

    with monkeypatch.context() as patch:
        patch.setattr(type(batches.builder), "make", dying)
        with pytest.raises(DataError, match="workers"):
            list(batches.epoch(0))
    assert len(list(batches.epoch(0))) == 3
