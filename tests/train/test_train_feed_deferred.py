"""Rendering by torch returns what OpenCV renders, except for rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from feed_scenes import make_scenes, pose_spec, train_options

from yolopose.base.errors import TrainError
from yolopose.train.feed import TrainBatches, device_render
from yolopose.train.feed.batch import make_batch, make_deferred_batch
from yolopose.train.feed.deferred import DeferredImages
from yolopose.train.feed.device_render import render_images
from yolopose.train.feed.operations import HSV, hsv_tables
from yolopose.train.feed.sampling import BatchSpec, SampleBuilder

CPU = torch.device("cpu")
DEVICES = [CPU, *([torch.device("cuda", 0)] if torch.cuda.is_available() else [])]
SIZES = [(192, 256), (256, 192), (900, 700), (64, 80), (150, 240)]
GEOMETRIC: dict[str, float] = {"degrees": 20, "translate": 0.2, "scale": 0.5, "shear": 8, "perspective": 0.0005}
COLOR: dict[str, float] = {"hsv_h": 0.1, "hsv_s": 0.7, "hsv_v": 0.4}


def make_photos(side: int = 128, channels: int = 3, **changes: float) -> tuple[SampleBuilder, BatchSpec]:
    """Return samples of smooth colors with some noise, as in photos: an offset of half a pixel is visible in them."""
    table, images = make_scenes(SIZES)
    rng = np.random.default_rng(0)
    for number, image in enumerate(images):
        coarse = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        smooth: Any = cv2.resize(coarse, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        color = np.clip(smooth.astype(int) + rng.integers(-4, 5, image.shape), 0, 255).astype(np.uint8)
        images[number] = np.dstack((color, color[:, :, ::-1]))[:, :, :channels]
    spec = replace(pose_spec(), channels=channels)
    builder = SampleBuilder(table, spec, train_options(**changes), images, imgsz=side, seed=5)
    return builder, BatchSpec(0, np.arange(5), np.arange(5), (side, side), True)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"scale": 0.5, "translate": 0.2}, {"fliplr": 1.0, "flipud": 0.5}, {"mosaic": 1.0}, GEOMETRIC,
        {"mosaic": 1.0, **GEOMETRIC}, {"mosaic": 0.5, "mixup": 0.5, **GEOMETRIC},
        {"cutmix": 1.0, "mosaic": 0.5, "scale": 0.5},
        {"bgr": 0.5}, {"mosaic": 1.0, "mixup": 1.0, "cutmix": 1.0, "fliplr": 0.5, "bgr": 0.5, **GEOMETRIC, **COLOR},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_torch_renders_as_opencv(device: torch.device, changes: dict[str, float]) -> None:
    builder, spec = make_photos(**changes)
    for epoch in range(3):
        spec = replace(spec, epoch=epoch)
        expected = make_batch(builder, spec)
        batch = make_deferred_batch(builder, spec).render(device).to("cpu")
        for name in ("batch_idx", "classes", "boxes", "keypoints", "index"):
            assert torch.equal(getattr(expected, name), getattr(batch, name))
        assert batch.images.shape == expected.images.shape
        assert batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        difference = (batch.images.int() - expected.images.int()).abs().amax(1).float()
        # older versions of OpenCV interpolate in steps of 1/32 pixel; at the edge of a tile they may pick another tile
        assert difference.mean() < (1 if "hsv_h" in changes else 0.4)
        assert difference.quantile(0.99) <= (4 if "hsv_h" in changes else 2)


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_four_channels(channels: int) -> None:
    everything = {"mosaic": 0.7, "mixup": 0.5, "cutmix": 0.5, "fliplr": 0.5, "bgr": 1.0, **GEOMETRIC, **COLOR}
    builder, spec = make_photos(channels=channels, **everything)
    color, _ = make_photos(**{**everything, "bgr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0})
    assert builder.pixel_operations == []  # HSV and BGR need color
    for epoch in range(2):
        spec = replace(spec, epoch=epoch)
        expected = make_batch(builder, spec)
        batch = make_deferred_batch(builder, spec).render(CPU)
        assert batch.images.shape == expected.images.shape == (5, channels, 128, 128)
        assert (batch.images.int() - expected.images.int()).abs().float().mean() < 0.4
        # the first channels are those of the same sample of color images, B, G, R instead of R, G, B
        rgb = make_batch(color, spec)
        assert torch.equal(expected.boxes, rgb.boxes)
        common = min(channels, 3)
        difference = expected.images[:, :common].int() - rgb.images.flip(1)[:, :common].int()
        assert difference.abs().max() <= 1


def test_an_offset_of_half_a_pixel_is_detected() -> None:
    builder, spec = make_photos(mosaic=1.0, **GEOMETRIC)
    batch = make_deferred_batch(builder, spec)
    batch.parts.unpack().images.transforms[..., 0, 2] += 0.5
    difference = (batch.render(CPU).images.int() - make_batch(builder, spec).images.int()).abs().amax(1).float()
    assert difference.mean() > 0.4


@pytest.mark.parametrize("gains", [(0.0, 0.0, 0.0), (0.3, 0.5, -0.4), (-0.015, 0.7, 0.4), (0.5, -0.9, 0.1)])
def test_torch_converts_hsv_as_opencv(gains: tuple[float, float, float]) -> None:
    grid = np.arange(0, 256, 5, dtype=np.uint8)
    colors = np.stack(np.meshgrid(grid, grid, grid), -1).reshape(1, -1, 3)
    tables = hsv_tables(*gains)
    expected = HSV().apply(colors.copy(), tables)
    images = torch.from_numpy(colors)[None].float()
    changed = HSV().apply_torch(images, torch.from_numpy(tables)[None])[0].numpy()
    difference = np.abs(changed - expected.astype(float))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.4  # some versions of OpenCV truncate, others round


@pytest.mark.parametrize("workers", [0, 2])
def test_threads_and_processes_make_deferred_batches(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2)), raising=False)
    table, images = make_scenes(SIZES)
    monkeypatch.setattr("yolopose.train.feed.loader.open_images", lambda *_, **__: images)
    options = train_options(mosaic=1.0, scale=0.5)
    epochs = [
        list(TrainBatches(table, pose_spec(), options, imgsz=64, batch=2, workers=count, render_on=device).epoch(0))
        for count, device in ((workers, CPU), (0, None))
    ]
    assert [len(batch) for batch in epochs[0]] == [2, 2, 1]
    for batch, expected in zip(*epochs, strict=True):
        assert torch.equal(batch.boxes, expected.boxes)
        assert (batch.images.float() - expected.images.float()).abs().mean() < 1


def test_a_canvas_without_pieces_is_gray() -> None:
    builder, spec = make_photos()
    batch = make_deferred_batch(builder, spec)
    deferred = batch.parts.unpack().images
    deferred.target[0] = 0
    images = render_images(deferred)
    assert (images[0] == 114).all()
    assert (images[1] != 114).any()


@pytest.mark.parametrize("failures", [1, 2])
def test_rendering_is_retried_once_when_memory_is_full(failures: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table, images = make_scenes(SIZES)
    monkeypatch.setattr("yolopose.train.feed.loader.open_images", lambda *_, **__: images)
    calls: list[int] = []

    def failing(deferred_images: DeferredImages) -> torch.Tensor:
        calls.append(len(calls))
        if len(calls) <= failures:
            raise RuntimeError("CUDA out of memory")
        return render_images(deferred_images)

    monkeypatch.setattr("yolopose.train.feed.batch.render_images", failing)
    batches = TrainBatches(table, pose_spec(), train_options(), imgsz=64, batch=2, workers=0, render_on=CPU).epoch(0)
    if failures == 1:
        assert [len(batch) for batch in batches] == [2, 2, 1]
    else:
        with pytest.raises(TrainError, match="Out of memory on cpu while 2 images of 64 × 64 pixels are augmented"):
            next(batches)


def test_rendering_a_few_images_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    builder, spec = make_photos(mosaic=0.5, mixup=0.5, cutmix=0.5, bgr=0.5, **GEOMETRIC, **COLOR)
    batch = make_deferred_batch(builder, spec)
    expected = batch.render(CPU).images
    monkeypatch.setattr(device_render, "_PIXELS", 1)
    assert torch.equal(batch.render(CPU).images, expected)
