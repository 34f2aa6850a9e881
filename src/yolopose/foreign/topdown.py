"""Top-down networks: RTMPose, RTMW and DWPose (SimCC), ViTPose and HRNet (heat maps); one crop for each box.

The crop is the box enlarged by 1.25, with the aspect ratio of the network input. SimCC networks return a distribution
over x and one over y for each keypoint; the position is that of their maxima. Heat maps are decoded by DARK: after a
Gaussian blur, one Newton step on their logarithm moves the maximum to a position between pixels (Zhang et al.,
Distribution-Aware Coordinate Representation for Human Pose Estimation, CVPR 2020).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.foreign.graph import Arrays, Graph, image_side
from yolopose.foreign.layout import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Estimator,
    Float32,
    Image,
    Layout,
    ModelFile,
    Poses,
    Preprocessing,
)

_PADDING = 1.25
_SCORED_CONF = 0.2  # keypoints below it do not count in the score of a pose
_MAX_CROPS = 32  # in one call of the network
_BLUR = 11  # pixels of the heat map
_SPLITS = (1, 2, 3, 4)  # SimCC bins per pixel


class TopDown(ABC):
    """Estimates the pose in each box; implements `BoxEstimator`."""

    nms_done = True

    def __init__(self, file: ModelFile, count: int, imgsz: tuple[int, int]) -> None:
        self.imgsz = imgsz
        self.spec = file.spec_for(count, 3, "")
        self._graph = file.graph
        self._name = file.name
        self._fixed_batch = file.graph.inputs[0].shape[0]
        self._preprocessing = file.preprocessing or Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def estimate(self, image: Image, conf: float) -> Poses:
        """Refuse an image without boxes.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"{self._name} estimates the pose inside given boxes. Name a network that finds the instances "
            "(detector=yolo11n-pose.pt, or any other model that yolopose runs), give the boxes "
            "(given_boxes=detections.json, given_boxes=labels/ or a list of x1, y1, x2, y2), or use detector=image if "
            "one instance fills each image."
        )

    def estimate_in(self, image: Image, boxes: Float32) -> Poses:
        """Return one pose for each box; see `BoxEstimator.estimate_in`.

        The score of a pose is that of its box times the mean confidence of its keypoints above 0.2.
        """
        centers = (boxes[:, :2] + boxes[:, 2:4]) / 2
        scales = self._scales(boxes[:, 2:4] - boxes[:, :2])
        parts: list[Float32] = []
        step = self._fixed_batch or _MAX_CROPS
        for start in range(0, len(boxes), step):
            crops = [
                self._crop(image, center, scale)
                for center, scale in zip(centers[start : start + step], scales[start : start + step], strict=True)
            ]
            missing = (self._fixed_batch or len(crops)) - len(crops)
            batch = np.stack(crops + [np.zeros_like(crops[0])] * missing)
            parts.append(self.decode(self._graph.run(batch))[: len(crops)])
        if not parts:
            return Poses.none(self.spec)
        points = np.concatenate(parts)
        points[..., :2] = points[..., :2] * scales[:, None] + (centers - scales / 2)[:, None]
        return Poses(boxes[:, :4].astype(np.float32), _pose_scores(points[..., 2], boxes[:, 4]), points)

    def _scales(self, sizes: Float32) -> Float32:
        """Return (n, 2) widths and heights of the crops, in pixels of the image."""
        width, height = (np.maximum(sizes, 1) * _PADDING).T
        aspect = self.imgsz[1] / self.imgsz[0]
        wide = width > height * aspect
        return np.stack((np.where(wide, width, height * aspect), np.where(wide, width / aspect, height)), axis=1)

    def _crop(self, image: Image, center: Float32, scale: Float32) -> Float32:
        """Return a crop as input of the network, (3, H, W)."""
        height, width = self.imgsz
        ratio = width / float(scale[0])
        shift = np.array([width, height]) / 2 - ratio * center.astype(np.float64)
        matrix = np.array([[ratio, 0, shift[0]], [0, ratio, shift[1]]])
        crop = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)
        return self._preprocessing.apply(np.asarray(crop, np.uint8))

    @abstractmethod
    def decode(self, outputs: Arrays) -> Float32:
        """Return (n, K, 3) x and y as shares of the crop, and confidences."""


class SimCC(TopDown):
    """Decodes distributions over x and y."""

    def __init__(self, file: ModelFile) -> None:
        first, second = file.graph.outputs
        imgsz = _simcc_size(file.graph)
        self._x, self._y = _axes(file.graph)
        self._split = (file.graph.outputs[self._x].shape[2] or 2 * imgsz[1]) / imgsz[1]
        super().__init__(file, first.shape[1] or second.shape[1] or 17, imgsz)

    def decode(self, outputs: Arrays) -> Float32:
        """See `TopDown.decode`; the confidence is the mean of both maxima."""
        xs, ys = outputs[self._x], outputs[self._y]
        points = np.stack((xs.argmax(axis=2), ys.argmax(axis=2)), axis=2).astype(np.float32)
        confidences = (xs.max(axis=2) + ys.max(axis=2)) / 2
        points[confidences <= 0] = -1  # as in RTMPose's own tools
        points /= np.float32(self._split) * np.array([self.imgsz[1], self.imgsz[0]], np.float32)
        return np.concatenate((points, confidences[..., None]), axis=2).astype(np.float32)


class HeatMaps(TopDown):
    """Decodes heat maps by DARK."""

    def __init__(self, file: ModelFile) -> None:
        super().__init__(file, file.graph.outputs[0].shape[1] or 17, image_side(file.graph.inputs[0]) or (256, 192))

    def decode(self, outputs: Arrays) -> Float32:
        """See `TopDown.decode`; the confidence is the maximum of the heat map."""
        maps = outputs[0].astype(np.float32)
        confidences = maps.max(axis=(2, 3))
        points = dark(maps)
        points /= np.array([maps.shape[3] - 1, maps.shape[2] - 1], np.float32)
        return np.concatenate((points, confidences[..., None]), axis=2).astype(np.float32)


def dark(maps: Float32) -> Float32:
    """Return the positions of the maxima of heat maps between pixels.

    Args:
        maps: (n, K, H, W) non-negative.

    Returns:
        (n, K, 2) float32 x and y, pixels of the heat map.
    """
    count, num_points, height, width = maps.shape
    flat = maps.reshape(-1, height, width)
    peaks = flat.reshape(len(flat), -1).argmax(axis=1)
    points = np.stack((peaks % width, peaks // width), axis=1).astype(np.float32)
    blurred = np.stack([cv2.GaussianBlur(item, (_BLUR, _BLUR), 0) for item in flat])
    logs = np.pad(np.log(blurred.clip(0.001, 50)), ((0, 0), (1, 1), (1, 1)), mode="edge").astype(np.float64)
    rows, columns, index = peaks // width + 1, peaks % width + 1, np.arange(len(flat))

    def at(dx: int, dy: int) -> npt.NDArray[np.float64]:
        return logs[index, rows + dy, columns + dx]

    gradient = np.stack((at(1, 0) - at(-1, 0), at(0, 1) - at(0, -1)), axis=1) / 2
    xx, yy = at(1, 0) - 2 * at(0, 0) + at(-1, 0), at(0, 1) - 2 * at(0, 0) + at(0, -1)
    xy = (at(1, 1) - at(1, 0) - at(0, 1) + 2 * at(0, 0) - at(-1, 0) - at(0, -1) + at(-1, -1)) / 2
    hessian = np.stack((xx, xy, xy, yy), axis=1).reshape(-1, 2, 2) + np.finfo(np.float32).eps * np.eye(2)
    usable = np.abs(np.linalg.det(hessian)) > 0
    step = np.zeros_like(gradient)
    step[usable] = np.linalg.solve(hessian[usable], gradient[usable][..., None])[..., 0]
    positive = flat.reshape(len(flat), -1).max(axis=1) > 0
    points[positive] -= step[positive].astype(np.float32)
    return points.reshape(count, num_points, 2)


def _pose_scores(confidences: Float32, boxes: Float32) -> Float32:
    """Return the scores of poses: the score of the box times the mean confidence of the keypoints above 0.2."""
    counted = confidences > _SCORED_CONF
    mean = (confidences * counted).sum(axis=1) / np.maximum(counted.sum(axis=1), 1)
    return (boxes * np.clip(mean, 0, 1)).astype(np.float32)


def _axes(graph: Graph) -> tuple[int, int]:
    """Return the indices of the outputs for x and y: by name, else in this order."""
    names = [port.name.lower() for port in graph.outputs]
    return (1, 0) if names[0].endswith("y") and names[1].endswith("x") else (0, 1)


def _simcc_size(graph: Graph) -> tuple[int, int]:
    """Return (height, width) of the input; from the bins at 2 per pixel if the input is of free size."""
    side = image_side(graph.inputs[0])
    x, y = (graph.outputs[index].shape[2] for index in _axes(graph))
    return side or ((y or 512) // 2, (x or 384) // 2)


def _is_simcc(graph: Graph) -> bool:
    if [len(port.shape) for port in graph.outputs] != [3, 3]:
        return False
    (height, width), (x, y) = _simcc_size(graph), (graph.outputs[index].shape[2] for index in _axes(graph))
    return any((x or split * width) == split * width and (y or split * height) == split * height for split in _SPLITS)


def _is_heat_map(graph: Graph) -> bool:
    side = image_side(graph.inputs[0])
    if side is None or len(graph.outputs) != 1 or len(graph.outputs[0].shape) != 4:
        return False
    height, width = graph.outputs[0].shape[2:]
    return (
        height is not None
        and width is not None
        and any((height * stride, width * stride) == side for stride in (2, 4, 8))
    )


def _matches(graph: Graph) -> bool:
    if len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4 or graph.inputs[0].shape[1] not in (3, None):
        return False
    return _is_simcc(graph) or _is_heat_map(graph)


def _make(file: ModelFile) -> Estimator:
    return SimCC(file) if _is_simcc(file.graph) else HeatMaps(file)


LAYOUT = Layout(
    name="top-down",
    title="RTMPose and ViTPose (top-down)",
    signature=(
        "one image input (B, 3, H, W); outputs simcc_x (B, K, n·W) and simcc_y (B, K, n·H), or one heat map "
        "(B, K, H/4, W/4)"
    ),
    matches=_matches,
    make=_make,
)
