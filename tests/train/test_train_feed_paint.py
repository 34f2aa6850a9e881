"""What the device paints is what OpenCV paints, but for rounding (tried on the CPU)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from feed_scenes import options, scenes, spec

from yolopose.base.errors import TrainError
from yolopose.train.feed import render_gpu as painting
from yolopose.train.feed.color import change_hsv, hsv_tables
from yolopose.train.feed.deferred import DeferredImages
from yolopose.train.feed.loader import make_batch, make_deferred, train_batches
from yolopose.train.feed.render_gpu import paint, recolored
from yolopose.train.feed.sampling import BatchSpec, SampleBuilder

CPU = torch.device("cpu")
DEVICES = [CPU, *([torch.device("cuda", 0)] if torch.cuda.is_available() else [])]
SIZES = [(192, 256), (256, 192), (900, 700), (64, 80), (150, 240)]
GEOMETRY: dict[str, float] = {"degrees": 20, "translate": 0.2, "scale": 0.5, "shear": 8, "perspective": 0.0005}
HSV: dict[str, float] = {"hsv_h": 0.1, "hsv_s": 0.7, "hsv_v": 0.4}


def photographs(side: int = 128, **changes: float) -> tuple[SampleBuilder, BatchSpec]:
    """Smooth colors with some noise, as photographs have: what is a little off shows, and is no more off than that."""
    table, images = scenes(SIZES)
    rng = np.random.default_rng(0)
    for number, image in enumerate(images):
        rough = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        smooth: Any = cv2.resize(rough, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        images[number] = np.clip(smooth.astype(int) + rng.integers(-4, 5, image.shape), 0, 255).astype(np.uint8)
    sampler = SampleBuilder(table, spec(), options(**changes), images, imgsz=side, seed=5)
    return sampler, BatchSpec(0, np.arange(5), np.arange(5), (side, side), True)


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"scale": 0.5, "translate": 0.2}, {"fliplr": 1.0, "flipud": 0.5}, {"mosaic": 1.0}, GEOMETRY,
        {"mosaic": 1.0, **GEOMETRY}, {"mosaic": 0.5, "mixup": 0.5, **GEOMETRY},
        {"cutmix": 1.0, "mosaic": 0.5, "scale": 0.5},
        {"bgr": 0.5}, {"mosaic": 1.0, "mixup": 1.0, "cutmix": 1.0, "fliplr": 0.5, "bgr": 0.5, **GEOMETRY, **HSV},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_the_device_paints_what_opencv_paints(device: torch.device, changes: dict[str, float]) -> None:
    sampler, request = photographs(**changes)
    for epoch in range(3):
        asked = BatchSpec(epoch, request.index, request.pool, request.shape, request.mosaic)
        plain, sketched = make_batch(sampler, asked), make_deferred(sampler, asked)
        painted = sketched.painted(device).to("cpu")
        for name in ("batch_idx", "classes", "boxes", "keypoints", "index"):
            assert torch.equal(getattr(plain, name), getattr(painted, name))
        assert painted.images.shape == plain.images.shape
        assert painted.images.dtype == torch.uint8
        assert painted.images.is_contiguous(memory_format=torch.channels_last)
        off = (painted.images.int() - plain.images.int()).abs().amax(1).float()
        # older versions of OpenCV count places in 32nds of a pixel; on a tile's edge they may take another one's pixel
        assert off.mean() < (1 if "hsv_h" in changes else 0.4)
        assert off.quantile(0.99) <= (4 if "hsv_h" in changes else 2)


def test_a_place_that_is_half_a_pixel_off_would_be_seen() -> None:
    sampler, request = photographs(mosaic=1.0, **GEOMETRY)
    plain, sketched = make_batch(sampler, request), make_deferred(sampler, request)
    sketched.sketch.maps[..., 0, 2] += 0.5
    off = (sketched.painted(CPU).images.int() - plain.images.int()).abs().amax(1).float()
    assert off.mean() > 0.4


@pytest.mark.parametrize("gains", [(0.0, 0.0, 0.0), (0.3, 0.5, -0.4), (-0.015, 0.7, 0.4), (0.5, -0.9, 0.1)])
def test_colors_change_as_in_opencv(gains: tuple[float, float, float]) -> None:
    grid = np.arange(0, 256, 5, dtype=np.uint8)
    colors = np.stack(np.meshgrid(grid, grid, grid), -1).reshape(1, -1, 3)
    expected = colors.copy()
    change_hsv(expected, *gains)
    tables = torch.from_numpy(hsv_tables(*gains)[0].T.copy())[None]
    found = recolored(torch.from_numpy(colors)[None].float(), tables)[0].numpy()
    off = np.abs(found - expected.astype(float))
    assert off.max() <= 1
    assert (off > 0).mean() < 0.4  # some versions of OpenCV cut off, others round


@pytest.mark.parametrize("workers", [0, 2])
def test_painted_batches_come_from_threads_and_processes(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(2)), raising=False)
    table, images = scenes(SIZES)
    monkeypatch.setattr("yolopose.train.feed.loader.open_images", lambda *_: images)
    chosen = options(mosaic=1.0, scale=0.5)
    made = [
        list(train_batches(table, spec(), chosen, imgsz=64, batch=2, workers=count, render_on=device).epoch(0))
        for count, device in ((workers, CPU), (0, None))
    ]
    assert [len(batch) for batch in made[0]] == [2, 2, 1]
    for one, two in zip(*made, strict=True):
        assert torch.equal(one.boxes, two.boxes)
        assert (one.images.float() - two.images.float()).abs().mean() < 1


def test_a_canvas_without_any_piece_is_gray() -> None:
    sampler, request = photographs()
    sketch = make_deferred(sampler, request).sketch
    sketch.target[0] = 0
    images = paint(sketch, CPU)
    assert (images[0] == 114).all()
    assert (images[1] != 114).any()


@pytest.mark.parametrize("full", [1, 2])
def test_full_memory_is_tried_once_more_and_then_said(full: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table, images = scenes(SIZES)
    monkeypatch.setattr("yolopose.train.feed.loader.open_images", lambda *_: images)
    tried: list[int] = []

    def scarce(sketch: DeferredImages, device: torch.device) -> torch.Tensor:
        tried.append(len(tried))
        if len(tried) <= full:
            raise RuntimeError("CUDA out of memory")
        return paint(sketch, device)

    monkeypatch.setattr("yolopose.train.feed.batch.paint", scarce)
    made = train_batches(table, spec(), options(), imgsz=64, batch=2, workers=0, render_on=CPU).epoch(0)
    if full == 1:
        assert [len(batch) for batch in made] == [2, 2, 1]
    else:
        with pytest.raises(TrainError, match="Out of memory on cpu while 2 images of 64 × 64 pixels are augmented"):
            next(made)


def test_painting_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, request = photographs(mosaic=0.5, mixup=0.5, cutmix=0.5, **GEOMETRY, **HSV)
    sketch = make_deferred(sampler, request).sketch
    whole = paint(sketch, CPU)
    monkeypatch.setattr(painting, "_PIXELS", 1)
    assert torch.equal(paint(sketch, CPU), whole)
