"""Own transforms of training samples: `augmentations=[…]` of `train`.

They act on the finished sample, after mosaic and the geometric operations. Three kinds are supported: functions of the
image, callables that receive and return labels too, and transforms of albumentations.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.base.log import warn_once
from yolopose.data import ImageLabels
from yolopose.train.feed.augment import Image, Operation
from yolopose.train.feed.labels import box_candidates

_TARGETS = ("keypoints", "bboxes", "classes", "rng")
# three points of the unit square, whose orientation shows whether a transform mirrors
_PROBES = np.array([[0.3, 0.3], [0.6, 0.3], [0.3, 0.6]])
_Transform = Callable[[Image, ImageLabels, np.random.Generator], tuple[Image, ImageLabels]]


def describe_transform(transform: object) -> str:
    """Return a transform as text, for args.yaml and messages."""
    name = getattr(transform, "__name__", "")
    return name if name else " ".join(repr(transform).split())[:200]


class UserTransforms:
    """Applies the transforms of the user to samples, in order.

    Args:
        transforms: as given to `augmentations=`; instances of `Operation` are left to the builder of the samples.
        flip_idx: permutation of keypoints for mirrored images, if the data set has one.

    Raises:
        UsageError: an item is a class instead of an object.
    """

    def __init__(self, transforms: Sequence[Any], flip_idx: Sequence[int] | None) -> None:
        self._groups: list[Any] = []
        self._flip_idx = None if flip_idx is None else list(flip_idx)
        for transform in transforms:
            if isinstance(transform, type):
                name = transform.__name__
                raise UsageError(f"augmentations= contains the class {name}: create an object of it, {name}(…).")
            if isinstance(transform, Operation):
                continue
            if not _is_albumentations(transform):
                self._groups.append(transform)
            elif self._groups and isinstance(self._groups[-1], list):
                self._groups[-1].append(transform)
            else:
                self._groups.append([transform])
        self._local = threading.local()

    def __len__(self) -> int:
        return len(self._groups)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the copies of this thread behind."""
        return {**self.__dict__, "_local": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def __call__(self, image: Image, labels: ImageLabels, rng: np.random.Generator) -> tuple[Image, ImageLabels]:
        """Transform a sample.

        Args:
            image: (H, W, C) uint8: gray, BGR, or BGR and a fourth channel. Transforms receive RGB.
            labels: boxes x1, y1, x2, y2 and keypoints x, y, v in pixels.
            rng: random numbers of this sample.

        Returns:
            Image and labels of the same kind and size.

        Raises:
            UsageError: a transform fails, or returns something else than an image and labels of the sample.
        """
        if not hasattr(self._local, "steps"):
            # objects of albumentations hold random states, so each thread has its own
            self._local.steps = [self._step(group) for group in self._groups]
        pixels = _swap_red_blue(image)
        for step, group in zip(self._local.steps, self._groups, strict=True):
            names = ", ".join(map(describe_transform, group if isinstance(group, list) else [group]))
            try:
                changed, moved = step(pixels, labels, rng)
            except UsageError:
                raise
            except Exception as error:
                raise UsageError(f"augmentations: {names} failed ({type(error).__name__}: {error}).") from error
            pixels = _checked_image(changed, pixels, names)
            labels = labels if moved is labels else _checked_labels(moved, labels, pixels, names)
        return _swap_red_blue(pixels), labels

    def _step(self, group: Any) -> _Transform:
        if isinstance(group, list):
            return _Albumentations(group, self._flip_idx)
        return _Callable(group)


class _Callable:
    """A function of the image, or of image and labels by keyword."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # a function written in C
            parameters = {}
        anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        self._targets = [name for name in _TARGETS if anything or name in parameters]
        self._by_keyword = anything or "image" in parameters

    def __call__(self, image: Image, labels: ImageLabels, rng: np.random.Generator) -> tuple[Image, ImageLabels]:
        values = {
            "keypoints": labels.keypoints.copy(),
            "bboxes": labels.boxes.copy(),
            "classes": labels.classes.copy(),
            "rng": rng,
        }
        targets = {name: values[name] for name in self._targets}
        # a copy: an own transform may draw into its argument
        result = (
            self._function(image=image.copy(), **targets)
            if self._by_keyword
            else self._function(image.copy(), **targets)
        )
        if not isinstance(result, Mapping):
            return result, labels
        moved = ImageLabels(
            np.asarray(result.get("classes", labels.classes)),
            np.asarray(result.get("bboxes", labels.boxes), dtype=np.float32).reshape(-1, 4),
            np.asarray(result.get("keypoints", labels.keypoints), dtype=np.float32),
        )
        unchanged = all(name not in result for name in ("classes", "bboxes", "keypoints"))
        return result.get("image", image), labels if unchanged else moved


class _Albumentations:
    """Transforms of albumentations, composed to one that moves boxes and keypoints."""

    def __init__(self, transforms: Sequence[Any], flip_idx: Sequence[int] | None) -> None:
        library: Any = import_module("albumentations")
        self._flip_idx = flip_idx
        self._compose = library.Compose(
            [_without_params(copy.deepcopy(transform), library) for transform in transforms],
            bbox_params=library.BboxParams(format="pascal_voc", label_fields=["rows"], clip=True),
            keypoint_params=library.KeypointParams(format="xy", remove_invisible=False),
        )

    def __call__(self, image: Image, labels: ImageLabels, rng: np.random.Generator) -> tuple[Image, ImageLabels]:
        height, width = image.shape[:2]
        count, points = labels.keypoints.shape[:2]
        probes = _PROBES * (width, height)
        if hasattr(self._compose, "set_random_seed"):
            self._compose.set_random_seed(int(rng.integers(2**31)))
        result = self._compose(
            image=image,
            bboxes=np.clip(labels.boxes, 0, [width, height, width, height]),
            rows=list(range(count)),
            keypoints=np.concatenate((probes, labels.keypoints[..., :2].reshape(-1, 2))).astype(np.float32),
        )
        rows = np.asarray(result["rows"], dtype=np.int64)
        xy = np.asarray(result["keypoints"], dtype=np.float32)[:, :2]
        moved = xy[len(probes) :].reshape(count, points, 2)[rows]
        keypoints = np.concatenate((moved, labels.keypoints[rows, :, 2:]), axis=-1)
        if _orientation(xy[: len(probes)]) * _orientation(probes) < 0:
            if self._flip_idx is None:
                warn_once(
                    "A transform of augmentations= mirrors images, but the data set has no `flip_idx`: mirrored "
                    "samples are used without it."
                )
                return image, labels
            keypoints = keypoints[:, self._flip_idx]
        boxes = np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, 4)
        before = ImageLabels(labels.classes[rows], labels.boxes[rows], labels.keypoints[rows])
        keep = box_candidates(before.boxes, boxes)
        return result["image"], ImageLabels(before.classes[keep], boxes[keep], keypoints[keep])


def _swap_red_blue(image: Image) -> Image:
    """Return an image, (H, W, C), with red and blue exchanged; gray and a fourth channel stay in their place."""
    channels = image.shape[2]
    order = [2, 1, 0, *range(3, channels)] if channels >= 3 else list(range(channels))
    return np.ascontiguousarray(image[:, :, order])


def _without_params(transform: Any, library: Any) -> Any:
    """Return a `Compose` as a sequence, because a composition of its own for labels is around all transforms."""
    if not isinstance(transform, library.Compose):
        return transform
    return library.Sequential(list(transform.transforms), p=transform.p)


def _is_albumentations(transform: object) -> bool:
    return any(kind.__module__.partition(".")[0] == "albumentations" for kind in type(transform).__mro__)


def _orientation(points: npt.NDArray[Any]) -> float:
    """Return twice the signed area of a triangle, (3, 2)."""
    first = points[1] - points[0]
    second = points[2] - points[0]
    return float(first[0] * second[1] - first[1] * second[0])


def _checked_image(image: object, before: Image, names: str) -> Image:
    if isinstance(image, np.ndarray) and image.shape == before.shape and image.dtype == np.uint8:
        return np.ascontiguousarray(image)
    got = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UsageError(
        f"augmentations: {names} returned {got}; a transform returns the image in its size, uint8 of shape "
        f"{before.shape}, or a dictionary with it as `image`."
    )


def _checked_labels(moved: ImageLabels, before: ImageLabels, image: Image, names: str) -> ImageLabels:
    """Return labels with boxes clipped to the image; keypoints outside the image have v = 0.

    Raises:
        UsageError: they are not the labels of one set of instances.
    """
    height, width = image.shape[:2]
    count = len(moved.classes)
    if moved.boxes.shape != (count, 4) or moved.keypoints.shape != (count, *before.keypoints.shape[1:]):
        raise UsageError(
            f"augmentations: {names} returned {len(moved.boxes)} boxes, keypoints of shape {moved.keypoints.shape} and "
            f"{count} classes; all three need one row per instance, keypoints {before.keypoints.shape[1:]} values each."
        )
    finite = np.isfinite(moved.boxes).all(axis=1)
    boxes = np.clip(moved.boxes[finite], 0, [width, height, width, height]).astype(np.float32)
    keep = (boxes[:, 2] - boxes[:, 0] > 1) & (boxes[:, 3] - boxes[:, 1] > 1)
    keypoints = moved.keypoints[finite][keep]
    x, y = keypoints[..., 0], keypoints[..., 1]
    labeled = (keypoints[..., 2] > 0) & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    keypoints = np.where(labeled[..., None], keypoints, 0).astype(np.float32)
    return ImageLabels(moved.classes[finite][keep].astype(before.classes.dtype), boxes[keep], keypoints)
