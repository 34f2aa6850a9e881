"""`Results`: boxes and keypoints of one image, and their conversion to files, texts and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results import tables, writing
from yolopose.results.arrays import Array, HostArray, copy_array, to_numpy
from yolopose.results.instances import Boxes, InstanceArray, Keypoints
from yolopose.results.plotting import PlotMixin
from yolopose.schema import KeypointSchema

_PHASES = ("preprocess", "inference", "postprocess")
_OTHER_TASKS = ("masks", "probs", "obb", "semantic_mask", "depth")


@dataclass(frozen=True, slots=True)
class Frame:
    """Position of an image in a video or live stream.

    Attributes:
        number: frame number from 1, including frames skipped by `vid_stride`.
        total: number of frames according to the video; None if unknown, and for a stream.
        fps: frames per second of the video or stream; 0 if unknown.
        video: index of the video or stream in the source.
        live: whether it comes from a camera or stream.
        at: seconds of wall time since the first frame of its camera or stream; None for a video.

    Examples:
        >>> from yolopose.results import Frame
        >>> Frame(number=31, fps=30.0).seconds
        1.0
    """

    number: int
    total: int | None = None
    fps: float = 0.0
    video: int = 0
    live: bool = False
    at: float | None = None

    @property
    def seconds(self) -> float | None:
        """Time since the first frame; None if the frame rate of a video is unknown."""
        if self.live:
            return self.at
        return (self.number - 1) / self.fps if self.fps > 0 else None


class Results(PlotMixin):
    """Boxes and keypoints of one image.

    `len`, indexing and iteration are by instance: `result[0]` is a result with the first instance only.

    Args:
        orig_img: (H, W, 3) BGR uint8, or (H, W); or a function that loads it, called once, on first access.
        path: file of the image, or a generated name.
        names: class names by index.
        boxes: (N, 6 or 7) array as in `Boxes.data`; None for boxes around the keypoints, of class 0 and with the mean
            confidence of the keypoints.
        keypoints: (N, K, D) array as in `Keypoints.data`; None for K = 0, or no instances where `boxes` is None too.
        speed: milliseconds for `preprocess`, `inference`, `postprocess`.
        schema: names and skeleton of the keypoints; without it, 17 keypoints are drawn as a COCO person.
        error: why the image could not be read; None if it was.
        save_dir: folder of the run, or None if nothing is saved.
        frame: position in a video or stream; None for an image.
        orig_shape: (height, width), pixels, to which boxes and keypoints refer; by default the size of the image.
        sigmas: (N, K, 2) array as in `Keypoints.sigma`, or None.
        visible: (N, K) probability that each keypoint is visible, as in `Keypoints.visible`, or None.

    Attributes:
        orig_img: the image.
        boxes: `Boxes`, never None; without instances of shape (0, 6).
        keypoints: `Keypoints`, never None; without instances of shape (0, K, D).
        raw_keypoints: the measured ones where `keypoints` are smoothed (`track(…, smooth=True)`), else None.
        masks: always None, like `probs`, `obb`, `semantic_mask` and `depth`, which belong to other tasks.

    Raises:
        UsageError: an array of invalid shape, or different numbers of boxes and keypoints.

    Examples:
        >>> import numpy as np
        >>> from yolopose import Results
        >>> boxes = np.array([[10.0, 20.0, 110.0, 220.0, 0.9, 0.0]])  # x1, y1, x2, y2, confidence, class
        >>> keypoints = np.full((1, 17, 3), 0.8)
        >>> result = Results(np.zeros((240, 320, 3), np.uint8), "a.jpg", ["person"], boxes=boxes, keypoints=keypoints)
        >>> len(result), result.verbose(), result.orig_shape
        (1, '1 person, ', (240, 320))
        >>> result.summary()[0]["name"]
        'person'
        >>> result.plot().shape
        (240, 320, 3)
    """

    masks = probs = obb = semantic_mask = depth = None

    def __init__(
        self,
        orig_img: npt.NDArray[Any] | Callable[[], npt.NDArray[Any]],
        path: str | Path,
        names: Mapping[int, str] | Sequence[str],
        *,
        boxes: Any = None,
        keypoints: Any = None,
        speed: Mapping[str, float | None] | None = None,
        schema: KeypointSchema | None = None,
        error: str | None = None,
        save_dir: str | Path | None = None,
        frame: Frame | None = None,
        orig_shape: tuple[int, int] | None = None,
        sigmas: Any = None,
        visible: Any = None,
    ) -> None:
        # Results of single instances (`result[0]`) share the loaded image.
        self._image = cache(orig_img) if callable(orig_img) else orig_img
        height, width = self.orig_img.shape[:2] if orig_shape is None else orig_shape
        self.orig_shape: tuple[int, int] = int(height), int(width)
        self.path = str(path)
        self.names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        self.speed: dict[str, float | None] = dict(speed) if speed else dict.fromkeys(_PHASES)
        self.schema = schema
        self.error = error
        self.save_dir = None if save_dir is None else str(save_dir)
        self.frame = frame
        if boxes is None:
            boxes = _boxes_around(_get_data(keypoints)) if keypoints is not None else HostArray(np.zeros((0, 6), "f4"))
            if keypoints is None:
                keypoints = HostArray(np.zeros((0, *(schema.shape if schema else (17, 3))), np.float32))
        self.boxes: Boxes = Boxes(_get_data(boxes), self.orig_shape)
        self.keypoints: Keypoints = self._make_keypoints(keypoints, sigmas, visible)
        self.raw_keypoints: Keypoints | None = None
        if len(self.boxes) != len(self.keypoints):
            raise UsageError(
                f"Boxes and keypoints must have the same number of instances: got {len(self.boxes)} boxes and "
                f"{len(self.keypoints)} sets of keypoints."
            )

    @classmethod
    def unreadable(
        cls,
        path: str | Path,
        names: Mapping[int, str] | Sequence[str],
        error: str,
        *,
        schema: KeypointSchema | None = None,
        save_dir: str | Path | None = None,
        frame: Frame | None = None,
    ) -> Results:
        """Return an empty result for an image that could not be read, so that results match the sources."""
        points = (0, *schema.shape) if schema else (0, 17, 3)
        return cls(
            np.zeros((0, 0, 3), np.uint8),
            path,
            names,
            boxes=HostArray(np.zeros((0, 6), np.float32)),
            keypoints=HostArray(np.zeros(points, np.float32)),
            schema=schema,
            error=error,
            save_dir=save_dir,
            frame=frame,
        )

    def _make_keypoints(self, keypoints: Any, sigmas: Any, visible: Any) -> Keypoints:
        if keypoints is None:
            return Keypoints(self.boxes.data[:, :0].reshape((len(self.boxes), 0, 3)), self.orig_shape)
        names: tuple[str, ...] | None = None
        if isinstance(keypoints, Keypoints):
            names, sigmas, visible = keypoints.names, keypoints.sigma, keypoints.visible
        data = _get_data(keypoints)
        if names is None and tuple(np.shape(data))[-2:-1] != (0,):
            names = self._keypoint_names()
        return self._mask_keypoints(Keypoints(data, self.orig_shape, names, sigmas, visible))

    def _mask_keypoints(self, keypoints: Keypoints) -> Keypoints:
        """Set what a network outputs for keypoints that the class of an instance does not have to 0."""
        by_class = None if self.schema is None else self.schema.point_mask(max(len(self.names), 1))
        count = keypoints.shape[1]
        if by_class is None or by_class.shape[1] != count or len(self.boxes) != len(keypoints):
            return keypoints
        classes = to_numpy(self.boxes.cls).astype(int)
        mask = by_class[np.clip(classes, 0, len(by_class) - 1)].reshape(-1, count)
        data, sigma, visible = (
            None if array is None else _set_zero(array, ~mask)
            for array in (keypoints.data, keypoints.sigma, keypoints.visible)
        )
        return Keypoints(data, self.orig_shape, keypoints.names, sigma, visible, _like(keypoints.data, mask))

    def _keypoint_names(self) -> tuple[str, ...] | None:
        """Return the names of the keypoints, or None if they differ between the classes in the image."""
        if self.schema is None or not self.schema.names:
            return None
        if set(self.schema.names) == {0}:  # the usual case: do not copy the classes from the GPU
            return self.schema.keypoint_names(0)
        classes = {int(c) for c in to_numpy(self.boxes.cls)} or {0}
        names = {self.schema.keypoint_names(index) for index in classes}
        return names.pop() if len(names) == 1 else None

    def _replace(self, boxes: Boxes, keypoints: Keypoints) -> Results:
        """Return a result of the same image with other instances."""
        return Results(
            self._image,
            self.path,
            self.names,
            boxes=boxes,
            keypoints=keypoints,
            speed=self.speed,
            schema=self.schema,
            error=self.error,
            save_dir=self.save_dir,
            frame=self.frame,
            orig_shape=self.orig_shape,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Load the image before pickling and copying."""
        return {**self.__dict__, "_image": self.orig_img}

    def _apply(self, function: Callable[[Any], Any]) -> Results:
        applied = self._replace(function(self.boxes), function(self.keypoints))
        applied.raw_keypoints = None if self.raw_keypoints is None else function(self.raw_keypoints)
        return applied

    def copy_with(self, keypoints: Keypoints) -> Results:
        """Return a result of the same image and boxes with other keypoints."""
        return self._replace(self.boxes, keypoints)

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Results:
        return self._apply(lambda instances: instances[index])

    def __iter__(self) -> Iterator[Results]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.orig_shape
        counts = self.verbose().removesuffix(", ")
        return f"Results({self.path!r}, {width}×{height} pixels: {counts}, keypoints {self.keypoints.shape})"

    def cpu(self) -> Results:
        """Return a copy with arrays in host memory."""
        return self._apply(lambda instances: instances.cpu())

    def numpy(self) -> Results:
        """Return a copy with plain numpy arrays."""
        return self._apply(lambda instances: instances.numpy())

    def cuda(self) -> Results:
        """Return a copy with arrays on the GPU.

        Raises:
            UsageError: the arrays are not torch tensors.
        """
        return self._apply(lambda instances: instances.cuda())

    def to(self, *args: Any, **kwargs: Any) -> Results:
        """Return a copy with another dtype or device, as `torch.Tensor.to`.

        Raises:
            UsageError: a device other than the CPU is given, and the arrays are not torch tensors.
        """
        return self._apply(lambda instances: instances.to(*args, **kwargs))

    def new(self) -> Results:
        """Return a result of the same image without instances."""
        return self._replace(self.boxes[:0], self.keypoints[:0])

    def update(self, boxes: Any = None, *, keypoints: Any = None, **others: Any) -> None:
        """Replace boxes (clipped to the image) or keypoints.

        Args:
            boxes: (N, 6 or 7), pixels; None to keep them.
            keypoints: (N, K, D), pixels; None to keep them, or K = 0 without instances.
            **others: `masks`, `probs`, `obb`, `semantic_mask`, `depth`: None, since poses have none.

        Raises:
            UsageError: an invalid shape, or different numbers of boxes and keypoints; nothing is replaced.
        """
        unknown = [name for name, value in others.items() if name not in _OTHER_TASKS or value is not None]
        if unknown:
            raise UsageError(f"update({unknown[0]}=…) is not possible: poses have boxes and keypoints only.")
        current = self.keypoints if len(self.keypoints) and self.keypoints.shape[1] else None
        updated = Results(
            self._image,
            self.path,
            self.names,
            boxes=(self.boxes if len(self.boxes) else None) if boxes is None else self._clip(_get_data(boxes)),
            keypoints=current if keypoints is None else keypoints,
            schema=self.schema,
            orig_shape=self.orig_shape,
        )
        self.boxes = updated.boxes
        self.keypoints = updated.keypoints

    def _clip(self, boxes: Any) -> Array:
        boxes = copy_array(Boxes(boxes, self.orig_shape).data)
        height, width = self.orig_shape
        boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(0, width)
        boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(0, height)
        return boxes

    def verbose(self) -> str:
        """Return the text for log lines: `"4 persons, 1 dog, "`, `"(no detections), "`, or the error."""
        if self.error is not None:
            return f"(not read: {self.error.rstrip('. ')}), "
        if not len(self):
            return "(no detections), "
        return tables.format_counts(self.boxes, self.names)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False, append: bool = True) -> str:
        """Write one line per instance: class, box cx cy w h, x y (v) of each keypoint, [confidence], [track id].

        Coordinates are divided by width and height of the image.

        Args:
            txt_file: the file; its folder is created. Without instances no file is created.
            save_conf: whether to add the confidence of the box.
            append: whether to append to an existing file instead of replacing it.

        Returns:
            The path.

        Raises:
            OutputError: it cannot be written.
        """
        lines = writing.label_lines(self.boxes, self.keypoints, save_conf)
        writing.write_lines(txt_file, lines, append)
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> list[Path]:
        """Write the image inside each box as `save_dir/CLASS/NAME.jpg`, then `NAME-2.jpg` and so on.

        Args:
            save_dir: folder; it is created.
            file_name: name of the files, with or without the suffix `.jpg`.

        Returns:
            The files, in the order of the boxes.

        Raises:
            OutputError: a file cannot be written.
        """
        if not len(self.boxes):
            return []
        stem = Path(file_name).name.removesuffix(".jpg")
        return writing.save_crops(self.orig_img, self.boxes, self.names, save_dir, stem)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dictionary per instance.

        Args:
            normalize: whether to divide coordinates by width and height of the image.
            decimals: number of decimals.

        Returns:
            `{name, class, confidence, box: {x1, y1, x2, y2}, keypoints: {x: […], y: […], visible: […]}}`, with
            `track_id` before `keypoints` with tracking. `visible` is missing if D = 2; with three states of visibility,
            keypoints have `state: […]` (0 absent, 1 hidden, 2 visible), `p_hidden: […]` and `p_visible: […]`, and with
            uncertainty `sigma_x: […]` and `sigma_y: […]`, too.
        """
        return tables.summary_rows(self.boxes, self.keypoints, self.names, normalize, decimals)

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as JSON text."""
        return tables.to_json(self.summary(normalize, decimals))

    tojson = to_json

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return one line of CSV per instance, after a line with the columns of `to_df`."""
        return tables.to_csv(self._flat_rows(normalize, decimals), self._columns)

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Return a polars DataFrame, or a pandas DataFrame if polars is not installed, with one row per instance.

        The columns are `name`, `class`, `confidence`, `x1`, `y1`, `x2`, `y2`, with tracking `track_id`, and for each
        keypoint `NAME_x`, `NAME_y`, `NAME_conf` (if D = 3), with three states of visibility `NAME_state`,
        `NAME_p_hidden`, `NAME_p_visible`, and with uncertainty `NAME_sigma_x`, `NAME_sigma_y`. NAME is `keypoint_0`, …
        if the names are unknown or differ between the classes of the network.

        Raises:
            DependencyError: neither is installed.
        """
        return tables.to_dataframe(self._flat_rows(normalize, decimals), self._columns)

    @property
    def _columns(self) -> list[str]:
        return tables.flat_columns(self.boxes, self.keypoints, self.schema)

    def _flat_rows(self, normalize: bool, decimals: int) -> list[dict[str, Any]]:
        return tables.flat_rows(self.boxes, self.keypoints, self.names, self.schema, normalize, decimals)


def _like(array: Any, mask: npt.NDArray[np.bool_]) -> Any:
    """Return a mask as the kind of array, and on the device, of another array."""
    if hasattr(array, "new_tensor"):
        return array.new_tensor(mask.astype(np.float32)) > 0
    return mask.view(HostArray) if isinstance(array, HostArray) else mask


def _set_zero(array: Any, mask: npt.NDArray[np.bool_]) -> Any:
    """Return a copy of an (N, K, …) array that is 0 where the mask is set."""
    result = copy_array(array)
    result[_like(array, mask)] = 0
    return result


def _boxes_around(keypoints: Any) -> Any:
    """Return (N, 6) boxes around keypoints, in their kind of array; points with NaN and (0, 0) are left out."""
    data = Keypoints(keypoints, (1, 1)).data
    points = to_numpy(data).astype(np.float64)
    boxes = np.zeros((len(points), 6), np.float32)
    for box, instance in zip(boxes, points, strict=True):
        placed = instance[np.isfinite(instance[:, :2]).all(axis=1) & (instance[:, :2] != 0).any(axis=1)]
        if len(placed):
            box[:4] = *placed[:, :2].min(axis=0), *placed[:, :2].max(axis=0)
            box[4] = placed[:, 2].mean() if placed.shape[1] == 3 else 1.0
    return data.new_tensor(boxes) if hasattr(data, "new_tensor") else boxes.view(type(data))


def _get_data(instances: Any) -> Any:
    return instances.data if isinstance(instances, InstanceArray) else instances
