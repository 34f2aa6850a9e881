from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolopose.base.errors import DataError
from yolopose.data.batches import ValBatch, ValBatches, batch_shape, letterbox_for, loaded_size
from yolopose.data.dataset import load_dataset
from yolopose.data.labels import Annotations, load_labels
from yolopose.geometry import Letterbox
from yolopose.geometry.letterbox import PAD_VALUE

MakeSet = Callable[..., Path]
SIZES = [(300, 400), (480, 640), (901, 333), (64, 64), (333, 901), (100, 133), (700, 700), (1300, 900)]
POINTS = [(0.3, 0.25), (0.7, 0.8)]


@pytest.fixture
def blob_images(make_set: MakeSet) -> Annotations:
    """Black images of many shapes; a white blob at each keypoint, a row saying where; point 2 in red."""
    row = f"0 .5 .525 .4 .55 {POINTS[0][0]} {POINTS[0][1]} 2 {POINTS[1][0]} {POINTS[1][1]} 1"
    yaml = make_set({f"{number}": row for number in range(len(SIZES))})
    for number, (height, width) in enumerate(SIZES):
        y, x = np.mgrid[:height, :width] + 0.5
        # blobs wide enough to survive scaling: their center of mass is the point, in pixel-edge coordinates
        blobs = [
            np.exp(-((x - px * width) ** 2 + (y - py * height) ** 2) / (2 * (max(height, width) / 60) ** 2))
            for px, py in POINTS
        ]
        image = np.stack((blobs[0], blobs[0], blobs[0] + blobs[1]), axis=2) * 250
        cv2.imwrite(str(yaml.parent / f"images/val/{number}.png"), image.astype(np.uint8))
    return load_labels(load_dataset(yaml), "val", cache=False)


def center(plane: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: plane.shape[0], : plane.shape[1]] + 0.5
    weight = plane.astype(float)
    return (x * weight).sum() / weight.sum(), (y * weight).sum() / weight.sum()


def test_helper_finds_the_center() -> None:
    plane = np.zeros((20, 30))
    plane[4:6, 10:12] = 1
    assert center(plane) == (11, 5)


@pytest.mark.parametrize("options", [{}, {"rect": False}, {"imgsz": (256, 416)}])
def test_gt_matches_the_image_content(blob_images: Annotations, options: dict) -> None:
    seen = 0
    for batch in ValBatches(blob_images, batch=3, **{"imgsz": 320, **options}):
        for number, index in enumerate(batch.indices):
            letterbox = batch.letterboxes[number]
            rows = slice(letterbox.top, letterbox.top + letterbox.inner[0])
            columns = slice(letterbox.left, letterbox.left + letterbox.inner[1])
            content = np.zeros((2, *batch.images.shape[2:]))  # red and green without the padding
            content[:, rows, columns] = batch.images[number, :2, rows, columns]
            red, green = content
            truth = batch.keypoints[batch.batch_idx == number][0]
            # green holds the first point alone, red holds both
            for point, plane in zip(truth, (green, np.clip(red - green, 0, None)), strict=True):
                assert np.hypot(*(np.array(center(plane)) - point[:2])) < 0.5
            assert truth[:, 2].tolist() == [2, 1]
            # the box was drawn around the two points with a margin: corners follow from the points
            box = batch.boxes[batch.batch_idx == number][0]
            assert np.allclose(box, [truth[0, 0], truth[0, 1], truth[1, 0], truth[1, 1]], atol=1e-3)
            # and the letterbox maps them back to the original image
            height, width = SIZES[index]
            back = letterbox.points_to_source(truth[:, :2])
            assert np.allclose(back, np.array(POINTS) * (width, height), atol=1e-3 * max(height, width))
            seen += 1
    assert seen == len(SIZES)


def test_padding_is_114_and_content_is_resized_once(blob_images: Annotations) -> None:
    for batch in ValBatches(blob_images, imgsz=320, batch=4):
        for number, index in enumerate(batch.indices):
            letterbox = batch.letterboxes[number]
            (height, width), top, left = letterbox.inner, letterbox.top, letterbox.left
            image = cv2.resize(
                cv2.imread(str(blob_images.files[index])), (width, height), interpolation=cv2.INTER_LINEAR
            )
            expected = np.full((*letterbox.out, 3), 114, np.uint8)
            expected[top : top + height, left : left + width] = image[:, :, ::-1]
            assert np.array_equal(batch.images[number].transpose(1, 2, 0), expected)
        assert batch.images.flags.c_contiguous


@pytest.mark.parametrize(
    ("source", "expected"),
    [((480, 640), (480, 640)), ((427, 640), (427, 640)), ((100, 133), (482, 640)), ((1300, 900), (640, 444)),
     ((1, 1000), (1, 640)), ((3, 3), (640, 640))],
)  # fmt: skip
def test_loaded_size(source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert loaded_size(source, 640) == expected


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.5, 0.75], (512, 672)),  # 0.75 · 20 + 0.5 = 15.5 → 16 · 32
        ([0.6], (416, 672)),  # 12.5 → 13
        ([1.5, 2.0], (672, 448)),  # 1/1.5 · 20 + 0.5 = 13.83 → 14
        ([0.5, 1.5], (672, 672)),
        ([0.5, 1.0], (672, 672)),
        ([1.0, 1.5], (672, 672)),
    ],
)
def test_batch_shape(ratios: list[float], expected: tuple[int, int]) -> None:
    assert batch_shape(np.array(ratios), 640) == expected


@pytest.mark.parametrize("imgsz", [64, 320, 640, 1280])
@pytest.mark.parametrize("stride", [32, 64])
def test_every_image_fits_its_batch_without_shrinking(imgsz: int, stride: int) -> None:
    rng = np.random.default_rng(3)
    for height, width in rng.integers(10, 3000, (300, 2)).tolist():
        shape = batch_shape(np.array([height / width]), imgsz, stride)
        letterbox = letterbox_for((height, width), imgsz, shape)
        assert letterbox.inner == loaded_size((height, width), imgsz)
        assert letterbox.out == shape
        assert shape[0] % stride == shape[1] % stride == 0


def test_sorts_by_aspect_ratio_then_path(blob_images: Annotations) -> None:
    batches = list(ValBatches(blob_images, batch=3, imgsz=64))
    order = [index for batch in batches for index in batch.indices]
    ratios = [SIZES[index][0] / SIZES[index][1] for index in range(len(SIZES))]
    assert order == sorted(range(len(SIZES)), key=lambda index: (ratios[index], index))
    assert [len(batch.indices) for batch in batches] == [3, 3, 2]


def test_sort_is_stable_for_many_equal_ratios(blob_images: Annotations) -> None:
    # numpy's default sort is stable below 16 entries, so this needs more
    shapes = np.tile(np.array([[480, 640], [640, 480], [240, 320]], np.int32), (100, 1))
    table = replace(blob_images, shapes=shapes, files=[Path(f"{number}.jpg") for number in range(300)])
    order = np.concatenate(ValBatches(table, batch=16).groups).tolist()
    ratios = shapes[:, 0] / shapes[:, 1]
    assert order == sorted(range(300), key=lambda index: (ratios[index], index))


def test_square_batches_in_path_order_without_rect(blob_images: Annotations) -> None:
    batches = ValBatches(blob_images, batch=3, imgsz=64, rect=False)
    assert batches.shapes == [(64, 64)] * 3
    assert [index for batch in batches for index in batch.indices] == list(range(len(SIZES)))


def _equal(first: ValBatch, second: ValBatch) -> bool:
    return first.indices == second.indices and np.array_equal(first.images, second.images)


def test_batches_do_not_depend_on_the_number_of_threads(blob_images: Annotations) -> None:
    batches = ValBatches(blob_images, batch=2, imgsz=96, workers=3)
    assert len(batches) == len(batches.shapes) == math.ceil(len(SIZES) / 2)
    first, second = list(batches), list(ValBatches(blob_images, batch=2, imgsz=96, workers=1))
    assert all(_equal(*pair) for pair in zip(first, second, strict=True))
    assert all(_equal(*pair) for pair in zip(first, batches, strict=True))
    assert [batch.images.shape[2:] for batch in first] == batches.shapes


def test_stopping_early_ends_the_threads(blob_images: Annotations) -> None:
    for batch in ValBatches(blob_images, batch=1, imgsz=96):
        assert batch.images.shape[0] == 1
        break


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "was readable when its labels were loaded"),
        (lambda path: cv2.imwrite(str(path), np.zeros((50, 50, 3), np.uint8)), "has changed"),
    ],
)
def test_names_an_image_that_became_unreadable(
    blob_images: Annotations, damage: Callable[[Path], object], words: str
) -> None:
    damage(blob_images.files[4])
    with pytest.raises(DataError, match=words) as caught:
        list(ValBatches(blob_images, imgsz=64))
    assert str(blob_images.files[4]) in str(caught.value)


def test_an_image_that_does_not_decode_is_gray_and_has_no_instances(
    blob_images: Annotations,
) -> None:
    (intact,) = ValBatches(blob_images, imgsz=64)
    position = intact.indices.index(4)
    path = blob_images.files[4]
    path.write_bytes(path.read_bytes()[:50])
    batches = ValBatches(blob_images, imgsz=64)
    (batch,) = batches
    assert batch.damaged == (position,)
    assert (batch.images[position] == PAD_VALUE).all()
    assert len(batch.images) == len(intact.images)
    keep = intact.batch_idx != position
    for name in ("batch_idx", "classes", "boxes", "keypoints"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(intact, name)[keep])
    (reason,) = batch.reasons
    assert f"{path} " in reason


def test_background_images_are_in_their_batch(make_set: MakeSet) -> None:
    yaml = make_set({"a": None, "b": "1 .5 .5 .2 .2 .4 .4 2 .6 .6 1", "c": None})
    (batch,) = ValBatches(load_labels(load_dataset(yaml), "val", cache=False), imgsz=64)
    assert (batch.batch_idx.tolist(), batch.classes.tolist(), batch.keypoints.shape) == ([1], [1], (1, 2, 3))


def test_batch_shapes_of_the_reference(blob_images: Annotations) -> None:
    """Recorded from the reference package, for the image sizes of a data set."""
    golden = json.loads((Path(__file__).parents[1] / "fixtures/val_batches.json").read_text())
    shapes = np.array(golden["image_shapes"], np.int32)
    annotations = replace(blob_images, shapes=shapes, files=[Path(f"{index}.jpg") for index in range(len(shapes))])
    batches = ValBatches(annotations, imgsz=golden["imgsz"], batch=golden["batch"])
    assert [list(shape) for shape in batches.shapes] == golden["batch_shapes"]


def test_batches_of_coco_mini(shared: Path) -> None:
    """Shapes and pixels that the reference package gives for the same set (recorded by running it)."""
    table = load_labels(load_dataset(shared / "data/coco-mini/coco-mini.yaml"), "val", cache=False)
    batches = ValBatches(table, imgsz=640, batch=16)
    assert batches.shapes == [*[(448, 672)] * 3, *[(512, 672)] * 2, (608, 672), (672, 672), (672, 512), (672, 448)]
    first = next(iter(batches))
    assert all(isinstance(letterbox, Letterbox) for letterbox in first.letterboxes)
    assert first.images.shape == (16, 3, 448, 672)
