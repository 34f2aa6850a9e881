from __future__ import annotations

import colorsys
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from feed_scenes import annotations, batch_spec, check_dots, make_scenes, pose_spec, train_options

from yolopose.config.train_options import AugmentOptions
from yolopose.data import ImageLabels
from yolopose.geometry import Transform2D
from yolopose.train.feed import TrainBatches
from yolopose.train.feed.augment import GeometricOperation, Image, PixelOperation, Size, random_stream
from yolopose.train.feed.operations import (
    HSV,
    OPERATIONS,
    FlipLR,
    Mosaic,
    Rotate,
    Scale,
    Translate,
    free_window,
    hsv_tables,
)
from yolopose.train.feed.sampling import SampleBuilder, SampleParams

SIDE = 256
BUSY = {
    "degrees": 20, "translate": 0.2, "scale": 0.4, "shear": 8, "perspective": 0.0005, "flipud": 0.5, "fliplr": 0.5,
    "mosaic": 0.7, "mixup": 0.5, "cutmix": 0.5, "hsv_h": 0.1, "hsv_s": 0.5, "hsv_v": 0.4, "bgr": 0.5,
}  # fmt: skip


def test_every_augmentation_option_is_a_field_of_one_operation() -> None:
    names = [field.name for operation in OPERATIONS for field in fields(operation)]
    options = {field.name for field in fields(AugmentOptions)} - {"augmentations"}  # own transforms
    assert sorted(names) == sorted(options)


def test_streams_depend_on_each_of_their_keys() -> None:
    first = random_stream(0, 1, 2, "Rotate").random(4)
    np.testing.assert_array_equal(first, random_stream(0, 1, 2, "Rotate").random(4))
    others = [random_stream(*key).random() for key in ((1, 1, 2, "Rotate"), (0, 2, 2, "Rotate"), (0, 1, 3, "Rotate"))]
    others += [random_stream(0, 1, 2, "Scale").random(), random_stream(0, 1, 2, "MixUp/Rotate").random()]
    assert len({first[0], *others}) == 6
    draws = np.array([random_stream(0, 0, index, "Rotate").random() for index in range(4000)])
    assert draws.mean() == pytest.approx(0.5, abs=0.02)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.05


@pytest.mark.parametrize("gains", [(0.1, 0.3, -0.2), (-0.4, -0.7, 0.4), (0.0, 0.5, 0.0)])
def test_hsv_matches_the_formula(gains: tuple[float, float, float]) -> None:
    before = np.random.default_rng(1).integers(0, 256, (1, 400, 3), dtype=np.uint8)
    after = HSV().apply(before.copy(), hsv_tables(*gains))
    for old, new in zip(before[0], after[0], strict=True):
        h, s, v = colorsys.rgb_to_hsv(*old[::-1] / 255)
        expected = colorsys.hsv_to_rgb((h + gains[0]) % 1, min(s * (1 + gains[1]), 1), min(v * (1 + gains[2]), 1))
        # 8-bit images store the hue in steps of 2 degrees, rounded twice
        assert np.abs(np.array(expected[::-1]) * 255 - new).max() < 16, (old, new)


def test_hsv_keeps_gray_and_zero_gains_only_round() -> None:
    gray = np.full((2, 2, 3), 100, np.uint8)
    assert (HSV().apply(gray, hsv_tables(0.3, 0.7, 0.2)) == 120).all()
    pixels = np.random.default_rng(2).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    expected = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV), cv2.COLOR_HSV2BGR)
    np.testing.assert_array_equal(HSV().apply(pixels, hsv_tables(0, 0, 0)), expected)


def test_hsv_gains_are_uniform() -> None:
    tables = np.array([HSV(0, 0.7, 0.4).parameters(random_stream(0, 0, index, "HSV")) for index in range(2000)])
    for channel, gain in ((1, 0.7), (2, 0.4)):
        factors = tables[:, channel, 100] / 100
        assert factors.min() == pytest.approx(1 - gain, abs=0.02)
        assert factors.max() == pytest.approx(1 + gain, abs=0.02)
        assert factors.mean() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("operation", "value", "low", "high"),
    [
        (Scale(0.5), lambda matrix: matrix[0, 0], 0.5, 1.5),
        (Translate(0.1), lambda matrix: matrix[0, 2], -12, 12),
        (Translate(0.1), lambda matrix: matrix[1, 2], -10, 10),
        (Rotate(30), lambda matrix: np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])), -30, 30),
    ],
    ids=["scale", "translate-x", "translate-y", "rotate"],
)
def test_geometric_parameters_are_uniform_in_their_range(operation, value, low: float, high: float) -> None:
    transforms = [operation.transform(random_stream(0, 0, index, operation.name), (100, 120)) for index in range(2000)]
    values = np.array([value(transform.matrix) for transform in transforms])
    tolerance = 0.01 * (high - low)
    assert low <= values.min() < low + tolerance
    assert high - tolerance < values.max() <= high
    assert values.mean() == pytest.approx((low + high) / 2, abs=3 * tolerance)


def test_flips_have_their_probability() -> None:
    drawn = [FlipLR(0.3).transform(random_stream(0, 0, index, "FlipLR"), (9, 9)) for index in range(2000)]
    assert np.mean([transform is not None for transform in drawn]) == pytest.approx(0.3, abs=0.03)


class Source:
    """An image source for mosaics."""

    imgsz = 64
    shape = (64, 64)
    sizes = ((100, 200), (200, 100), (50, 50), (30, 40))

    def image_size(self, index: int) -> Size:
        return self.sizes[index]

    def random_index(self, rng: np.random.Generator) -> int:
        return int(rng.integers(4))


def test_mosaic_images_meet_at_a_point_of_the_middle() -> None:
    for index in range(50):
        layout = Mosaic(1.0).layout(random_stream(0, 0, index, "Mosaic"), 0, Source())  # type: ignore[arg-type]
        assert layout is not None
        assert layout.size == (128, 128)
        assert layout.tiles[0].index == 0
        boxes = np.array([tile.transform.boxes(np.array([0.0, 0, 1, 1])) for tile in layout.tiles])
        corners = [boxes[0, 2:], boxes[1, [0, 3]], boxes[2, [2, 1]], boxes[3, :2]]
        np.testing.assert_allclose(corners, [corners[0]] * 4)
        assert (corners[0] >= 32).all()
        assert (corners[0] <= 96).all()
        np.testing.assert_allclose((boxes[:, 2:] - boxes[:, :2]).max(1), 64)


def test_free_window_touches_no_box() -> None:
    labels = ImageLabels(np.zeros(1, np.int32), np.array([[40.0, 40, 60, 60]]), np.zeros((1, 1, 3)))
    windows = [free_window(random_stream(0, 0, index, "CutMix"), (100, 100), labels) for index in range(200)]
    drawn = [window for window in windows if window is not None]
    assert 50 < len(drawn) < 200
    for left, top, right, bottom in drawn:
        assert 0 <= left < right <= 100
        assert 0 <= top < bottom <= 100
        assert left >= 60 or right <= 40 or top >= 60 or bottom <= 40


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "changes", [{}, {"mosaic": 1, "scale": 0.9, "mixup": 1, "cutmix": 1, "degrees": 90, "perspective": 0.001}], ids=str
)
def test_accepts_background_tiny_images_and_single_keypoints(count: int, changes: dict[str, float]) -> None:
    boxes = [np.zeros((0, 4)), np.array([[0.5, 0.5, 0.8, 0.8]])]
    points = [np.zeros((0, count, 3)), np.full((1, count, 3), 0.5)]
    table = annotations(boxes, points, [(10, 10), (10, 300)], [Path("a.png"), Path("b.png")])
    images = [np.full((10, 10, 3), 50, np.uint8), np.full((10, 300, 3), 50, np.uint8)]
    spec = pose_spec(count, tuple(range(count)))
    builder = SampleBuilder(table, spec, train_options(**changes, fliplr=0.5), images, imgsz=64, seed=0)
    for epoch in range(10):
        for index in (0, 1):
            image, labels = builder.build(batch_spec(index, 2, (64, 64), epoch=epoch), index)
            assert image.shape == (64, 64, 3)
            assert labels.keypoints.shape == (len(labels.classes), count, 3)
            assert np.isfinite(labels.keypoints).all()
            assert ((labels.boxes >= 0) & (labels.boxes <= 64)).all()


def test_bgr_reverses_the_channels() -> None:
    table, images = make_scenes([(64, 64)])
    builder = SampleBuilder(table, pose_spec(), train_options(bgr=1), images, imgsz=64, seed=0)
    image, _ = builder.build(batch_spec(0, 1, (64, 64)), 0)
    np.testing.assert_array_equal(image, images[0][:, :, ::-1])


# -- a new augmentation is one class and its row in the table --------------------------------------


@dataclass(frozen=True)
class Transpose(GeometricOperation):
    """Exchange rows and columns, which mirrors."""

    probability: float = 0.5

    def transform(self, rng: np.random.Generator, shape: Size) -> Transform2D | None:
        swap = Transform2D(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))
        return swap if rng.random() < self.probability else None


@dataclass(frozen=True)
class Darken(PixelOperation):
    """Scale all channels by a uniform random factor."""

    low: float = 0.3

    def parameters(self, rng: np.random.Generator) -> np.ndarray:
        return np.array([rng.uniform(self.low, 1)], np.float32)

    def apply(self, image: Image, parameters: np.ndarray) -> Image:
        return (image * parameters).astype(np.uint8)

    def apply_torch(self, images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
        return (images * parameters[:, :, None, None]).floor()


@dataclass(frozen=True)
class Invert(PixelOperation):
    """A pixel operation without torch code."""

    def parameters(self, rng: np.random.Generator) -> np.ndarray:
        return np.zeros(0)

    def apply(self, image: Image, parameters: np.ndarray) -> Image:
        return 255 - image


def drawn_params(changes: dict[str, float]) -> list[SampleParams]:
    table, images = make_scenes([(192, 256), (256, 192), (256, 256)])
    builder = SampleBuilder(table, pose_spec(), train_options(**changes), images, imgsz=SIDE, seed=3)
    return [builder.sample_params(batch_spec(index, 3, (SIDE, SIDE)), index) for index in range(3)]


def test_new_operations_change_no_other_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[float]] = {}

    def recorded(seed: int, epoch: int, index: int, name: str) -> np.random.Generator:
        stream = random_stream(seed, epoch, index, name)
        drawn.setdefault(f"{index}/{name}", []).append(random_stream(seed, epoch, index, name).random())
        return stream

    monkeypatch.setattr("yolopose.train.feed.sampling.random_stream", recorded)
    before = drawn_params(BUSY)
    expected = dict(drawn)
    drawn.clear()
    monkeypatch.setattr("yolopose.train.feed.sampling.OPERATIONS", [Darken, Transpose, *reversed(OPERATIONS)])
    after = drawn_params(BUSY)
    assert expected.items() <= drawn.items()
    assert {name.split("/")[-1] for name in drawn.keys() - expected.keys()} == {"Darken", "Transpose"}
    for old, new in zip(before, after, strict=True):
        assert [tile.index for tile in old.base.layout.tiles] == [tile.index for tile in new.base.layout.tiles]
        assert [overlay.opacity for overlay in old.overlays] == [overlay.opacity for overlay in new.overlays]
        np.testing.assert_array_equal(old.pixel[0], new.pixel[2])  # the tables of HSV; BGR and HSV are exchanged


@pytest.mark.parametrize("changes", [{}, {"degrees": 30, "scale": 0.3}, {"fliplr": 0.5}], ids=str)
def test_labels_follow_a_new_geometric_operation(changes: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.train.feed.sampling.OPERATIONS", [*OPERATIONS, Transpose])
    table, images = make_scenes([(192, 256), (256, 192), (256, 256)])
    builder = SampleBuilder(table, pose_spec(), train_options(**changes), images, imgsz=SIDE, seed=3)
    total = 0
    mirrored = set()
    for epoch in range(4):
        for index in range(3):
            spec = batch_spec(index, 3, (SIDE, SIDE), epoch=epoch)
            image, labels = builder.build(spec, index)
            canvas = builder.sample_params(spec, index).base
            mirrored.add(canvas.mirrored)
            # flip_idx exchanges the first two keypoints of mirrored samples
            total += check_dots(image, labels, order=(1, 0, 2) if canvas.mirrored else (0, 1, 2))
    assert total >= 15
    assert mirrored == {False, True}


def test_mirroring_operations_are_dropped_without_flip_idx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.train.feed.sampling.OPERATIONS", [*OPERATIONS, Transpose])
    table, images = make_scenes([(SIDE, SIDE)])
    spec = pose_spec(flip_idx=None)
    builder = SampleBuilder(table, spec, train_options(fliplr=1, flipud=1), images, imgsz=SIDE, seed=0)
    for epoch in range(5):
        image, _ = builder.build(batch_spec(0, 1, (SIDE, SIDE), epoch=epoch), 0)
        np.testing.assert_array_equal(image, images[0])


def test_torch_renders_a_new_pixel_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.train.feed.sampling.OPERATIONS", [*OPERATIONS, Darken])
    table, images = make_scenes([(64, 64)] * 3)
    monkeypatch.setattr("yolopose.train.feed.loader.open_images", lambda *_, **__: images)
    first, second = (
        next(TrainBatches(table, pose_spec(), train_options(), imgsz=64, batch=3, workers=0, render_on=device).epoch(0))
        for device in (None, torch.device("cpu"))
    )
    assert torch.equal(first.images, second.images)
    brightest = first.images.flatten(1).amax(1)
    assert len(set(brightest.tolist())) == 3
    assert (brightest < 255).all()


def test_the_augmentation_of_the_documents_works(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    code = text.split("### Adding an augmentation")[1].split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) < 15
    operations = [*OPERATIONS]
    monkeypatch.setattr("yolopose.train.feed.operations.OPERATIONS", operations)
    monkeypatch.setattr("yolopose.train.feed.sampling.OPERATIONS", operations)
    exec(compile(code, "docs/training.md", "exec", dont_inherit=True), {"__name__": "docs"})  # noqa: S102
    table, images = make_scenes([(64, 64)])
    builder = SampleBuilder(table, pose_spec(), train_options(), images, imgsz=64, seed=0)
    image, _ = builder.build(batch_spec(0, 1, (64, 64)), 0)
    ratio = image.astype(float).mean() / images[0].mean()
    assert 0.69 < ratio < 0.99


def test_workers_render_pixel_operations_without_torch_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("yolopose.train.feed.sampling.OPERATIONS", [*OPERATIONS, Invert])
    table, images = make_scenes([(64, 64)])
    monkeypatch.setattr("yolopose.train.feed.loader.open_images", lambda *_, **__: images)
    device = torch.device("cpu")
    batches = TrainBatches(table, pose_spec(), train_options(), imgsz=64, batch=1, workers=0, render_on=device)
    image = next(batches.epoch(0)).images[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(image, 255 - images[0][:, :, ::-1])
    assert "Invert has no torch code" in capsys.readouterr().out
