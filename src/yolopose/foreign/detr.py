"""DETR networks with keypoints: DETRPose (and exports with its interface), RF-DETR.

Both scale the image to the input without keeping its aspect ratio. DETRPose takes RGB 0…1 and the size of the image,
and returns keypoints in its pixels, without boxes or confidences of keypoints. RF-DETR takes normalized RGB, and
returns boxes and keypoints as shares of the image, and logits.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.foreign.graph import Graph, image_side
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
    extent,
)
from yolopose.geometry import cxcywh_to_xyxy

_TRACE_ALPHA = 0.2  # exponent of the localization uncertainty in the score, RF-DETR's default
_TINY = 1e-12


class DetrPose:
    """Estimates poses with a DETRPose graph; implements `Estimator`. Boxes are those around the keypoints."""

    nms_done = True

    def __init__(self, file: ModelFile) -> None:
        self._graph = file.graph
        self._preprocessing = file.preprocessing or Preprocessing(std=(255.0, 255.0, 255.0))
        self._image = next(index for index, port in enumerate(file.graph.inputs) if len(port.shape) == 4)
        self.imgsz = image_side(file.graph.inputs[self._image]) or (640, 640)
        self._scores, self._points = (file.graph.output(name) for name in ("scores", "keypoints"))
        count = file.graph.outputs[self._points].shape[2]
        self.spec = file.spec_for(17 if count is None else count, 2, "")

    def estimate(self, image: Image, conf: float) -> Poses:
        """Return the poses above `conf`; see `Estimator.estimate`."""
        pixels = self._preprocessing.apply(_stretch(image, self.imgsz))[None]
        size = np.array([[image.shape[1], image.shape[0]]])
        outputs = self._graph.run(*((pixels, size) if self._image == 0 else (size, pixels)))
        scores = outputs[self._scores][0].astype(np.float32)
        rows = _above(scores, conf)
        points = outputs[self._points][0][rows].astype(np.float32)
        return Poses(extent(points), scores[rows], points)


class RfDetr:
    """Estimates poses with an RF-DETR keypoint graph; implements `Estimator`."""

    nms_done = True

    def __init__(self, file: ModelFile) -> None:
        self._graph = file.graph
        self._preprocessing = file.preprocessing or Preprocessing(mean=IMAGENET_MEAN, std=IMAGENET_STD)
        self.imgsz = image_side(file.graph.inputs[0]) or (576, 576)
        self._outputs = [file.graph.output(name) for name in ("dets", "labels", "keypoints")]
        slots = file.graph.outputs[self._outputs[2]].shape[2] or 17
        # keypoints are padded per class; older files have a class without keypoints before that of people
        self._slots = slots
        self._count = 17 if slots % 17 == 0 else slots
        self._class = slots // self._count - 1
        self.spec = file.spec_for(self._count, 3, "")

    def estimate(self, image: Image, conf: float) -> Poses:
        """Return the poses above `conf`; see `Estimator.estimate`."""
        pixels = self._preprocessing.apply(_stretch(image, self.imgsz))[None]
        outputs = self._graph.run(pixels)
        boxes, logits, values = (outputs[index][0].astype(np.float32) for index in self._outputs)
        values = values.reshape(len(values), -1, self._count, values.shape[-1])[:, self._class]
        scores = _sigmoid(logits[:, min(self._class, logits.shape[1] - 1)])
        if values.shape[-1] >= 7:
            scores = _fuse_uncertainty(scores, values)
        rows = _above(scores, conf)
        size = np.array([image.shape[1], image.shape[0]], np.float32)
        points = values[rows, :, :3].copy()
        points[..., :2] *= size
        points[..., 2] = _sigmoid(points[..., 2])
        return Poses(cxcywh_to_xyxy(boxes[rows]) * np.tile(size, 2), scores[rows], points)


def _stretch(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_LINEAR), np.uint8)


def _above(scores: Float32, conf: float) -> npt.NDArray[np.int64]:
    """Return the rows above `conf`, by descending score."""
    order = np.argsort(-scores, kind="stable")
    return order[scores[order] > conf]


def _sigmoid(values: Float32) -> Float32:
    return (1 / (1 + np.exp(-values.clip(-88, 88)))).astype(np.float32)


def _fuse_uncertainty(scores: Float32, values: Float32) -> Float32:
    """Lower the scores of poses with uncertain keypoints, as RF-DETR does.

    Each keypoint has log l11, l21 and log l22 of the Cholesky factor of its precision matrix in columns 4 to 6. The
    score becomes sigmoid(log s - α log t), where t is the mean trace of the covariances, weighted by findability.

    Args:
        scores: (Q,) 0…1.
        values: (Q, K, ≥ 7).
    """
    first, cross, second = (values[..., column].astype(np.float64) for column in (4, 5, 6))
    traces = np.exp(-2 * first) + np.exp(-2 * second) + cross**2 * np.exp(-2 * first - 2 * second)
    weights = np.maximum(_sigmoid(values[..., 2]).astype(np.float64), _TINY)
    mean_trace = (traces * weights).sum(axis=1) / weights.sum(axis=1)
    fused = np.maximum(scores.astype(np.float64), _TINY) * np.maximum(mean_trace, _TINY) ** -_TRACE_ALPHA
    return (fused / (1 + fused)).astype(np.float32)  # sigmoid of the logarithm


def _is_detrpose(graph: Graph) -> bool:
    points = graph.output("keypoints")
    if len(graph.inputs) != 2 or min(graph.output("scores"), graph.output("labels"), points) < 0:
        return False
    shape = graph.outputs[points].shape
    return len(shape) == 4 and shape[3] in (2, None) and any(len(port.shape) == 4 for port in graph.inputs)


def _is_rfdetr(graph: Graph) -> bool:
    indices = [graph.output(name) for name in ("dets", "labels", "keypoints")]
    if len(graph.inputs) != 1 or min(indices) < 0:
        return False
    boxes, points = graph.outputs[indices[0]].shape, graph.outputs[indices[2]].shape
    return len(boxes) == 3 and boxes[2] in (4, None) and len(points) == 4 and (points[3] or 3) >= 3


def _matches(graph: Graph) -> bool:
    return _is_detrpose(graph) or _is_rfdetr(graph)


def _make(file: ModelFile) -> Estimator:
    return DetrPose(file) if _is_detrpose(file.graph) else RfDetr(file)


LAYOUT = Layout(
    name="detr-keypoints",
    title="DETRPose and RF-DETR keypoints",
    signature=(
        "inputs images (B, 3, H, W) and orig_target_sizes (B, 2) with outputs scores, labels and keypoints "
        "(B, N, K, 2); or one image input with outputs dets (B, N, 4), labels and keypoints (B, N, K, 3 or more)"
    ),
    matches=_matches,
    make=_make,
)
