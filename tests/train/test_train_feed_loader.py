from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from feed_scenes import pose_spec, train_options, write_scenes

from yolopose.base.errors import DataError
from yolopose.data import Annotations
from yolopose.train.feed import TrainBatch, TrainBatches

SIZES = [(60, 90), (90, 60), (64, 64), (200, 100), (40, 80), (64, 100), (100, 64)]
BUSY = {"mosaic": 0.8, "fliplr": 0.5, "hsv_h": 0.1, "hsv_s": 0.5, "hsv_v": 0.4, "scale": 0.5, "mixup": 0.3}


@pytest.fixture
def table(tmp_path: Path) -> Annotations:
    return write_scenes(tmp_path / "set", SIZES)


def make_batches(table: Annotations, *, workers: int = 0, **changes: float | bool | str) -> TrainBatches:
    options = train_options(**{**BUSY, **changes})
    return TrainBatches(table, pose_spec(), options, imgsz=64, batch=3, workers=workers)


def are_equal(first: TrainBatch, second: TrainBatch) -> bool:
    names = TrainBatch.__dataclass_fields__.keys() - {"damaged", "num_pseudo"}
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in names)


def test_shapes_and_types_of_a_batch(table: Annotations) -> None:
    batches = make_batches(table)
    epoch = list(batches.epoch(0))
    assert [len(batch) for batch in epoch] == [3, 3, 1]
    assert len(batches) == 3
    assert sorted(torch.cat([batch.index for batch in epoch]).tolist()) == list(range(7))
    for batch in epoch:
        count = len(batch.classes)
        assert batch.images.shape == (len(batch), 3, 64, 64)
        assert batch.images.dtype == torch.uint8
        assert batch.boxes.shape == (count, 4)
        assert batch.keypoints.shape == (count, 3, 3)
        assert batch.batch_idx.shape == (count,)
        assert (batch.batch_idx.dtype, batch.classes.dtype) == (torch.int64, torch.int64)
        assert (batch.boxes.dtype, batch.keypoints.dtype) == (torch.float32, torch.float32)
        assert (batch.batch_idx.diff() >= 0).all()
        assert ((batch.boxes >= 0) & (batch.boxes <= 1)).all()
        assert ((batch.keypoints[..., :2] >= 0) & (batch.keypoints[..., :2] <= 1)).all()
        assert are_equal(batch.to("cpu"), batch)


def test_fast_decode_changes_only_the_sharpness(tmp_path: Path) -> None:
    table = write_scenes(tmp_path / "jpeg", [(384, 512), (512, 384), (400, 600)], suffix=".jpg")
    whole, fast = (next(make_batches(table, fast_decode=fast).epoch(0)) for fast in (False, True))
    for name in ("index", "classes", "batch_idx", "boxes", "keypoints"):
        assert torch.equal(getattr(whole, name), getattr(fast, name))
    difference = (whole.images.int() - fast.images.int()).abs().float()
    assert 0 < difference.mean() < 1


def test_channels_are_rgb(table: Annotations) -> None:
    batch = next(make_batches(table, mosaic=0, hsv_h=0, hsv_s=0, hsv_v=0, scale=0, mixup=0, fliplr=0).epoch(0))
    x, y, _ = batch.keypoints[0, 0]  # its dot is blue
    image = batch.images[int(batch.batch_idx[0])]
    assert image[:, int(y * 64), int(x * 64)].tolist() == [0, 0, 255]


def test_batches_depend_on_seed_and_epoch_only(table: Annotations, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    expected = {epoch: list(make_batches(table).epoch(epoch)) for epoch in (0, 1)}
    assert not are_equal(expected[0][0], expected[1][0])
    for workers in (1, 2):
        batches = make_batches(table, workers=workers)
        next(batches.epoch(0))  # an epoch that ends early does not affect the next
        for epoch in (1, 0):  # a resumed run starts at any epoch
            made = list(batches.epoch(epoch))
            assert all(are_equal(a, b) for a, b in zip(made, expected[epoch], strict=True))
        batches.close()
    other_seed = next(make_batches(table, seed=1).epoch(0))
    assert not are_equal(other_seed, expected[0][0])


def test_golden_sample_parameters(table: Annotations) -> None:
    # made anew once, when each operation got a random stream of its own: `seed` promises the same samples from then on
    builder = make_batches(table, cutmix=0.5, degrees=10).builder
    spec = make_batches(table).batch_specs(0, multi_image=True)[0]
    assert spec.index.tolist() == [2, 4, 3]
    params = builder.sample_params(spec, 2)
    assert [tile.index for tile in params.base.layout.tiles] == [2, 3, 0, 6]
    expected = [[-0.959652, -0.035629, 95.697944], [-0.035629, 0.959652, -27.137479]]
    np.testing.assert_allclose(params.base.transform.matrix[:2], expected, rtol=1e-4)
    assert params.pixel[0][0, ::60].tolist() == [15, 75, 135, 15, 75]


def test_the_global_random_state_is_not_touched(table: Annotations) -> None:
    torch_state = torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    list(make_batches(table, workers=1).epoch(0))
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_mosaic_ends_with_close_mosaic(table: Annotations) -> None:
    batches = make_batches(table, mosaic=1, mixup=0, epochs=5, close_mosaic=2)
    instances = [max(batch.batch_idx.bincount().tolist()) for epoch in range(5) for batch in batches.epoch(epoch)]
    assert max(instances[:9]) > 1
    assert max(instances[9:]) == 1
    # without mosaic a sample is what it would be with mosaic=0: no other draw depends on it
    without = next(make_batches(table, mosaic=0, mixup=0).epoch(0))
    assert are_equal(next(batches.epoch(0, multi_image=False)), without)


def test_rect_batches_fit_their_images(table: Annotations) -> None:
    epoch = list(make_batches(table, rect=True, scale=0).epoch(0))
    assert sorted(torch.cat([batch.index for batch in epoch]).tolist()) == list(range(7))
    assert len({tuple(batch.images.shape[2:]) for batch in epoch}) > 1
    for batch in epoch:
        shapes = table.shapes[batch.index.numpy()]
        ratios = shapes[:, 0] / shapes[:, 1]
        height, width = batch.images.shape[2:]
        assert height % 32 == width % 32 == 0
        assert max(height, width) == 64
        assert height >= min(ratios.max(), 1) * 64
        assert width >= min(1 / ratios.min(), 1) * 64
        assert (batch.batch_idx.bincount() == 1).all()  # never a mosaic
    orders = {
        tuple(tuple(batch.index.tolist()) for batch in make_batches(table, rect=True).epoch(epoch))
        for epoch in range(6)
    }
    assert len(orders) > 1


@pytest.mark.parametrize("cache", ["ram", "disk"])
def test_makes_batches_from_cached_images(table: Annotations, cache: str) -> None:
    assert [len(batch) for batch in make_batches(table, cache=cache, workers=1).epoch(0)] == [3, 3, 1]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("fault", ["missing", "other size"])
def test_names_an_image_that_cannot_be_read(table: Annotations, workers: int, fault: str) -> None:
    path = table.files[4]
    if fault == "missing":
        path.unlink()
    else:
        path.write_bytes(table.files[0].read_bytes())
    with pytest.raises(DataError, match=r"4\.png") as caught:
        list(make_batches(table, workers=workers).epoch(0))
    assert "Traceback" not in str(caught.value)


def test_a_dead_worker_is_an_error_and_the_next_epoch_works(
    table: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = make_batches(table, workers=1)
    main = os.getpid()
    build = type(batches.builder).build

    def dying(*args: object) -> object:
        if os.getpid() != main:
            os.kill(os.getpid(), signal.SIGKILL)
        return build(*args)  # type: ignore[arg-type]  # passed on unchanged

    with monkeypatch.context() as patch:
        patch.setattr(type(batches.builder), "build", dying)
        with pytest.raises(DataError, match="workers"):
            list(batches.epoch(0))
    assert len(list(batches.epoch(0))) == 3


@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_an_image_that_does_not_decode_has_no_labels(
    table: Annotations, device: torch.device | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    table.files[2].write_bytes(table.files[2].read_bytes()[:-50])
    alone = {"mosaic": 0, "mixup": 0}
    epochs = [
        list(
            TrainBatches(
                table, pose_spec(), train_options(**{**BUSY, **changes}), imgsz=64, batch=3, workers=workers,
                render_on=device,
            ).epoch(0)
        )
        for changes in (alone, {})
        for workers in (0, 2)
    ]  # fmt: skip
    for first, second in (epochs[:2], epochs[2:]):
        assert all(are_equal(*pair) for pair in zip(first, second, strict=True))
    counts = {int(index): 0 for batch in epochs[0] for index in batch.index}
    for batch in epochs[0]:
        for row in batch.batch_idx.tolist():
            counts[int(batch.index[row])] += 1
    assert [counts[index] for index in range(7)] == [1, 1, 0, 1, 1, 1, 1]
    assert "It is not used." in capfd.readouterr().err
