"""`augmentations=[…]`: own transforms and those of albumentations move keypoints as they move pixels."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_worlds import FAST, make_world

from yolopose import YOLO
from yolopose.base.errors import TrainError, UsageError
from yolopose.base.yamlfile import read_yaml
from yolopose.cli import main
from yolopose.config import check_options
from yolopose.data import ImageLabels
from yolopose.train.feed.augment import GeometricOperation
from yolopose.train.feed.user_transforms import UserTransforms

SIDE = 64
FLIP = [1, 0, 2]
POINTS = np.array([[20, 20, 2], [40, 20, 1], [30, 44, 2], [0, 0, 0]], np.float32)


def sample(points: np.ndarray = POINTS[None, :3]) -> tuple[np.ndarray, ImageLabels]:
    """Return an image with a white dot at each keypoint, and its labels."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for x, y, v in points.reshape(-1, 3):
        if v:
            image[int(y) - 2 : int(y) + 2, int(x) - 2 : int(x) + 2] = 255
    return image, ImageLabels(np.zeros(len(points), np.int64), np.array([[10, 10, 50, 54]], np.float32), points.copy())


def apply(transforms: list[Any], flip_idx: list[int] | None = FLIP, seed: int = 0) -> tuple[np.ndarray, ImageLabels]:
    return UserTransforms(transforms, flip_idx)(*sample(), np.random.default_rng(seed))


def test_function_of_the_image_receives_rgb() -> None:
    seen: list[np.ndarray] = []

    def red(image: np.ndarray) -> np.ndarray:
        seen.append(image.copy())
        image[..., 0] = 200
        return image

    image, labels = apply([red])
    assert image[0, 0].tolist() == [0, 0, 200]  # BGR
    assert seen[0].shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(labels.keypoints, sample()[1].keypoints)


@pytest.mark.parametrize(("channels", "received"), [(1, [7]), (3, [9, 8, 7]), (4, [9, 8, 7, 6])])
def test_gray_and_a_fourth_channel_keep_their_place(channels: int, received: list[int]) -> None:
    image = np.full((SIDE, SIDE, channels), [7, 8, 9, 6][:channels], np.uint8)
    seen: list[np.ndarray] = []

    def look(image: np.ndarray) -> np.ndarray:
        seen.append(image.copy())
        return image

    result, _ = UserTransforms([look], None)(image, sample()[1], np.random.default_rng(0))
    assert seen[0][0, 0].tolist() == received
    np.testing.assert_array_equal(result, image)


def shift(image: np.ndarray, keypoints: np.ndarray, bboxes: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    step = int(rng.integers(1, 30))
    bboxes[:, 0::2] += step
    keypoints[..., 0] += step
    return {"image": np.roll(image, step, axis=1), "bboxes": bboxes, "keypoints": keypoints}


def test_function_with_labels() -> None:
    image, labels = apply([shift], seed=1)
    step = int(np.random.default_rng(1).integers(1, 30))
    assert labels.boxes[0, 0] == 10 + step
    for x, y, v in labels.keypoints[0]:
        assert v == 0 or image[int(y), int(x)].tolist() == [255] * 3
    again = apply([shift], seed=1)
    np.testing.assert_array_equal(again[0], image)
    assert not np.array_equal(apply([shift], seed=2)[1].boxes, labels.boxes)


def test_keypoints_and_boxes_outside_are_dropped() -> None:
    def move(**values: Any) -> dict[str, Any]:
        values["keypoints"][..., 0] += 30
        return values

    labels = apply([move])[1]
    assert labels.keypoints[0, :, 2].tolist() == [2, 0, 2]
    assert labels.keypoints[0, 1].tolist() == [0, 0, 0]

    def leave(bboxes: np.ndarray, **values: Any) -> dict[str, Any]:
        return {**values, "bboxes": bboxes + 100}

    assert len(apply([leave])[1].classes) == 0


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda image: image[:10], r"returned uint8 of shape \(10, 64, 3\)"),
        (lambda image: image / 255, "returned float64"),
        (lambda image: None, "returned NoneType"),
        (lambda **values: {"keypoints": np.zeros((2, 3, 3))}, "one row per instance"),
        (lambda image: 1 / 0, "ZeroDivisionError"),
        (dict, "create an object of it"),
    ],
)
def test_faults_of_a_transform_are_named(transform: Any, message: str) -> None:
    with pytest.raises(UsageError, match=f"augmentations.*{message}"):
        apply([transform])


# -- albumentations --------------------------------------------------------------------------------


def brightest_error(image: np.ndarray, labels: ImageLabels) -> float:
    """Return the largest distance, in pixels, of a labeled keypoint from the nearest bright pixel."""
    bright = np.argwhere(image.max(axis=2) > 40)[:, ::-1]
    labeled = labels.keypoints[labels.keypoints[..., 2] > 0][:, :2]
    return float(np.linalg.norm(bright[None] - labeled[:, None], axis=2).min(axis=1).max())


def albumentations() -> Any:
    return pytest.importorskip("albumentations")


@pytest.mark.parametrize(
    "make",
    [
        lambda a: [a.Rotate(limit=(20, 20), p=1)],
        lambda a: [a.Affine(scale=0.7, translate_px=5, p=1)],
        lambda a: [a.ShiftScaleRotate(p=1), a.GaussianBlur(blur_limit=3, p=1)],
        lambda a: [a.Compose([a.Transpose(p=1), a.RandomBrightnessContrast(p=1)], keypoint_params=None)],
        lambda a: [a.VerticalFlip(p=1)],
        lambda a: [a.HorizontalFlip(p=1), a.Rotate(p=1)],
        lambda a: [a.RandomResizedCrop(size=(SIDE, SIDE), scale=(0.8, 1), p=1)],
    ],
)
def test_keypoints_follow_the_pixels(make: Any) -> None:
    a = albumentations()
    for seed in range(5):
        image, labels = apply(make(a), seed=seed)
        assert len(labels.classes) == 1
        assert (labels.keypoints[0, :, 2] > 0).sum() >= 2
        assert brightest_error(image, labels) < 3


def test_mirroring_exchanges_left_and_right() -> None:
    """An even number of mirrors does not; without `flip_idx` the sample stays as it is."""
    a = albumentations()
    mirrored = apply([a.HorizontalFlip(p=1)])[1].keypoints[0]
    expected = POINTS[[1, 0, 2]]
    np.testing.assert_allclose(mirrored[:, 0], SIDE - expected[:, 0], atol=1)
    assert mirrored[:, 2].tolist() == expected[:, 2].tolist()
    twice = apply([a.HorizontalFlip(p=1), a.VerticalFlip(p=1)])[1].keypoints[0]
    assert twice[:, 2].tolist() == POINTS[:3, 2].tolist()
    image, labels = apply([a.HorizontalFlip(p=1)], flip_idx=None)
    np.testing.assert_array_equal(image, sample()[0])
    np.testing.assert_array_equal(labels.keypoints, sample()[1].keypoints)


def test_agrees_with_albumentations_called_directly() -> None:
    a = albumentations()
    transforms = [a.Rotate(limit=30, p=1), a.Perspective(p=1), a.HueSaturationValue(p=1)]
    image, labels = apply(transforms, seed=3)
    seed = int(np.random.default_rng(3).integers(2**31))
    direct = a.Compose(transforms, keypoint_params=a.KeypointParams("xy", remove_invisible=False), seed=seed)
    direct.set_random_seed(seed)
    picture, original = sample()
    expected = direct(image=picture[..., ::-1].copy(), keypoints=original.keypoints[0, :, :2])
    np.testing.assert_allclose(labels.keypoints[0, :, :2], expected["keypoints"], atol=1e-3)
    np.testing.assert_array_equal(image[..., ::-1], expected["image"])


def test_samples_depend_on_the_seed_only() -> None:
    a = albumentations()
    transforms = UserTransforms([a.Rotate(limit=90, p=1), a.GaussNoise(p=1)], FLIP)
    first = [transforms(*sample(), np.random.default_rng(seed))[0] for seed in (1, 2, 1)]
    np.testing.assert_array_equal(first[0], first[2])
    assert not np.array_equal(first[0], first[1])
    copied = pickle.loads(pickle.dumps(transforms))
    np.testing.assert_array_equal(copied(*sample(), np.random.default_rng(1))[0], first[0])


# -- in training -----------------------------------------------------------------------------------


class Count(GeometricOperation):
    def transform(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        return None


def darken(image: np.ndarray) -> np.ndarray:
    return image // 2


def test_a_run_with_own_transforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The number of workers changes nothing; resuming needs the same transforms; args.yaml names them."""
    data, yaml = make_world(tmp_path / "world")
    options = {**FAST, "data": data, "seed": 1, "augmentations": [darken, shift, Count()]}
    model = YOLO(yaml)
    model.train(**{**options, "project": tmp_path / "one", "epochs": 1})
    args = read_yaml(tmp_path / "one/train/args.yaml", "args")
    assert args["augmentations"][:2] == ["darken", "shift"]
    other = YOLO(yaml)
    other.train(**{**options, "workers": 1, "project": tmp_path / "two", "epochs": 1})
    plain = YOLO(yaml)
    plain.train(**{**options, "augmentations": [], "project": tmp_path / "three", "epochs": 1})
    weights = [next(iter(trained.state_dict().values())).cpu().numpy() for trained in (model, other, plain)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_resuming_needs_the_same_transforms(tmp_path: Path) -> None:
    data, yaml = make_world(tmp_path / "world")
    model = YOLO(yaml)

    def interrupt(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise KeyboardInterrupt

    model.add_callback("on_train_epoch_start", interrupt)
    options = {**FAST, "data": data, "project": tmp_path / "runs"}
    with pytest.raises(KeyboardInterrupt):
        model.train(**options, augmentations=[darken])
    last = YOLO(tmp_path / "runs/train/weights/last.pt")
    with pytest.raises(TrainError, match=r"used augmentations=\[darken\]"):
        last.train(resume=True)
    last.train(resume=True, augmentations=[darken], device="cpu", verbose=False)


@pytest.mark.parametrize("given", [["Blur(p=0.1)"], [3], "blur"])
def test_options_refuse_what_is_not_a_transform(given: Any) -> None:
    with pytest.raises(UsageError, match="augmentations="):
        check_options("train", {"augmentations": given})


def test_command_line_refuses_transforms(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "data=a.yaml", "augmentations=[1]"]) == 1
    assert "in Python" in capsys.readouterr().err


def test_several_devices_are_refused(tmp_path: Path) -> None:
    data, yaml = make_world(tmp_path)
    with pytest.raises(UsageError, match="one device only"):
        YOLO(yaml).train(**{**FAST, "data": data, "device": "cpu,cpu", "augmentations": [darken]}, project=tmp_path)


def test_transforms_are_copied_for_each_thread() -> None:
    transforms = copy.deepcopy(UserTransforms([darken], FLIP))
    assert transforms(*sample(), np.random.default_rng(0))[0].max() == 127
