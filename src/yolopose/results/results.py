"""`Results`: what was found in one image, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.results import tables, writing
from yolopose.results.arrays import Array, HostArray, copied, host
from yolopose.results.frame import Frame
from yolopose.results.instances import Boxes, Keypoints, Rows
from yolopose.results.plotting import Plotted
from yolopose.schema import KeypointSchema

_PARTS = ("preprocess", "inference", "postprocess")


class Results(Plotted):
    """Boxes and keypoints of one image.

    `len`, indexing and iteration go by instance: `result[0]` is a result that holds the first one alone.

    Args:
        orig_img: (H, W, 3) BGR uint8, or (H, W); or a function that reads it, called once, when it is first needed.
        path: file that the image came from, or a made-up name.
        names: class names by index.
        boxes: (N, 6 or 7) array as in `Boxes.data`, or None.
        keypoints: (N, K, D) array as in `Keypoints.data`, or None.
        speed: milliseconds for `preprocess`, `inference`, `postprocess`.
        schema: names and skeleton of the keypoints; without it 17 points are drawn as a COCO person.
        error: why the image could not be read; None when it could.
        save_dir: folder of the run that made it, or None when nothing is saved.
        frame: where it stands in a video or stream; None for an image of its own.
        orig_shape: (height, width), pixels, that boxes and keypoints are given in; the image's own when left out.
        sigmas: (N, K, 2) array as in `Keypoints.sigma`, or None.

    Attributes:
        orig_img: the image.
        boxes: `Boxes` or None.
        keypoints: `Keypoints` or None.
        masks: always None, as are `probs`, `obb`, `semantic_mask` and `depth`: other tasks have them.

    Raises:
        UsageError: an array has a shape that is not possible, or boxes and keypoints differ in number.
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
    ) -> None:
        # results of parts of it share one reading
        self._image = cache(orig_img) if callable(orig_img) else orig_img
        height, width = self.orig_img.shape[:2] if orig_shape is None else orig_shape
        self.orig_shape: tuple[int, int] = int(height), int(width)
        self.path = str(path)
        self.names = dict(names) if isinstance(names, Mapping) else dict(enumerate(names))
        self.speed: dict[str, float | None] = dict(speed) if speed else dict.fromkeys(_PARTS)
        self.schema = schema
        self.error = error
        self.save_dir = None if save_dir is None else str(save_dir)
        self.frame = frame
        self.boxes = None if boxes is None else Boxes(_data(boxes), self.orig_shape)
        self.keypoints = self._keypoints(keypoints, sigmas)
        if self.boxes is not None and self.keypoints is not None and len(self.boxes) != len(self.keypoints):
            raise UsageError(
                f"A result needs the keypoints of every box: got {len(self.boxes)} boxes, but keypoints of "
                f"{len(self.keypoints)} instances."
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
        """Make the empty result of an image that could not be read, so that results line up with sources."""
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

    def _keypoints(self, keypoints: Any, sigmas: Any) -> Keypoints | None:
        if keypoints is None:
            return None
        data = _data(keypoints)
        known = isinstance(keypoints, Keypoints) and keypoints.names is not None
        sigmas = keypoints.sigma if isinstance(keypoints, Keypoints) else sigmas
        return Keypoints(data, self.orig_shape, keypoints.names if known else self._point_names(), sigmas)

    def _point_names(self) -> tuple[str, ...] | None:
        """Name of the keypoints, unless the classes in the image name them differently."""
        if self.schema is None or not self.schema.names:
            return None
        if set(self.schema.names) == {0}:  # the usual case needs no look at the classes, which may lie on a GPU
            return self.schema.keypoint_names(0)
        classes = {0} if self.boxes is None or not len(self.boxes) else {int(c) for c in host(self.boxes.cls)}
        found = {self.schema.keypoint_names(index) for index in classes}
        return found.pop() if len(found) == 1 else None

    def _with(self, boxes: Boxes | None, keypoints: Keypoints | None) -> Results:
        """The same image with other rows."""
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
        """What is pickled and copied: the image itself, not the way to read it."""
        return {**self.__dict__, "_image": self.orig_img}

    def _each(self, change: Callable[[Any], Any]) -> Results:
        return self._with(*(None if part is None else change(part) for part in (self.boxes, self.keypoints)))

    def __len__(self) -> int:
        part = self.boxes if self.boxes is not None else self.keypoints
        return 0 if part is None else len(part)

    def __getitem__(self, index: Any) -> Results:
        return self._each(lambda part: part[index])

    def __iter__(self) -> Iterator[Results]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.orig_shape
        points = "" if self.keypoints is None else f", keypoints {self.keypoints.shape}"
        return f"Results({self.path!r}, {width}×{height} pixels: {self.verbose().removesuffix(', ')}{points})"

    def cpu(self) -> Results:
        """Return it with arrays in host memory."""
        return self._each(lambda part: part.cpu())

    def numpy(self) -> Results:
        """Return it with plain numpy arrays."""
        return self._each(lambda part: part.numpy())

    def cuda(self) -> Results:
        """Return it with arrays on the GPU.

        Raises:
            UsageError: the arrays are no torch.Tensor.
        """
        return self._each(lambda part: part.cuda())

    def to(self, *args: Any, **kwargs: Any) -> Results:
        """Return it with arrays of another type of number or on another device, as `torch.Tensor.to`.

        Raises:
            UsageError: the arrays are no torch.Tensor, and a device other than the CPU is named.
        """
        return self._each(lambda part: part.to(*args, **kwargs))

    def new(self) -> Results:
        """Return a result of the same image that holds nothing yet."""
        return self._with(None, None)

    def update(self, boxes: Any = None, keypoints: Any = None) -> None:
        """Replace boxes (clipped to the image) or keypoints by other arrays.

        Args:
            boxes: (N, 6 or 7), pixels; None keeps them.
            keypoints: (N, K, D), pixels; None keeps them.

        Raises:
            UsageError: a shape is not possible, or boxes and keypoints differ in number; nothing was replaced.
        """
        changed = Results(
            self._image,
            self.path,
            self.names,
            boxes=self.boxes if boxes is None else self._clipped(_data(boxes)),
            keypoints=self.keypoints if keypoints is None else keypoints,
            schema=self.schema,
            orig_shape=self.orig_shape,
        )
        self.boxes, self.keypoints = changed.boxes, changed.keypoints

    def _clipped(self, boxes: Any) -> Array:
        boxes = copied(Boxes(boxes, self.orig_shape).data)
        height, width = self.orig_shape
        boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(0, width)
        boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(0, height)
        return boxes

    def verbose(self) -> str:
        """Return the text of the log line: `"4 persons, 1 dog, "`, `"(no detections), "`, or why it was not read."""
        if self.error is not None:
            return f"(not read: {self.error.rstrip('. ')}), "
        if not len(self):
            return "(no detections), "
        return tables.counts(self.boxes, self.names) or f"{len(self)} poses, "

    def save_txt(self, txt_file: str | Path, save_conf: bool = False, append: bool = True) -> str:
        """Write one line per instance: class, box cx cy w h, then x y (v) of every point, as shares of the image.

        Args:
            txt_file: the file; its folder is made. Without instances no file is made.
            save_conf: whether the confidence of the box follows.
            append: whether lines are added to those already there; False replaces them.

        Returns:
            The path. A track id stands at the end of its line.

        Raises:
            OutputError: it cannot be written.
        """
        lines = [] if self.boxes is None else writing.label_lines(self.boxes, self.keypoints, save_conf)
        writing.append_lines(txt_file, lines, append)
        return str(txt_file)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> list[Path]:
        """Write the image inside each box as `save_dir/CLASS/NAME.jpg`, then `NAME-2.jpg` and so on.

        Args:
            save_dir: folder; it is made.
            file_name: name of the files; the ending `.jpg` may be left out.

        Returns:
            The files, in the order of the boxes.

        Raises:
            OutputError: a file cannot be written.
        """
        if self.boxes is None or not len(self.boxes):
            return []
        stem = Path(file_name).name.removesuffix(".jpg")
        return writing.save_crops(self.orig_img, self.boxes, self.names, save_dir, stem)

    def summary(self, normalize: bool = False, decimals: int = 5) -> list[dict[str, Any]]:
        """Return one dictionary per instance.

        Args:
            normalize: whether coordinates are shares of the image's width and height instead of pixels.
            decimals: digits after the point.

        Returns:
            `{name, class, confidence, box: {x1, y1, x2, y2}, keypoints: {x: […], y: […], visible: […]}}`, with
            `track_id` before `keypoints` when tracked; `visible` is missing when D = 2, and keypoints have
            `sigma_x: […]` and `sigma_y: […]` beside where σ is told.
        """
        return tables.summary_rows(self.boxes, self.keypoints, self.names, normalize, decimals)

    def to_json(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as JSON text."""
        return tables.to_json(self.summary(normalize, decimals))

    tojson = to_json

    def to_csv(self, normalize: bool = False, decimals: int = 5) -> str:
        """Return the summary as CSV text with a header line."""
        return tables.to_csv(self.summary(normalize, decimals), tables.columns(self.boxes, self.keypoints))

    def to_df(self, normalize: bool = False, decimals: int = 5) -> Any:
        """Return the summary as a polars DataFrame, or a pandas one where polars is not installed.

        Raises:
            DependencyError: neither is installed.
        """
        return tables.to_dataframe(self.summary(normalize, decimals), tables.columns(self.boxes, self.keypoints))


def _data(part: Any) -> Any:
    return part.data if isinstance(part, Rows) else part
