"""RTMO: one stage; boxes and keypoints in pixels of the input, suppressed again as its own tools do.

Input: the image, scaled to fit, at the top left of a square padded with 114; BGR, 0…255.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.foreign.graph import Graph, image_side
from yolopose.foreign.layout import Estimator, Float32, Image, Layout, ModelFile, Poses, Preprocessing
from yolopose.geometry.letterbox import PAD_VALUE

_NMS_IOU = 0.45


class Rtmo:
    """Estimates poses with an RTMO graph; implements `Estimator`."""

    nms_done = True

    def __init__(self, file: ModelFile) -> None:
        side = image_side(file.graph.inputs[0])
        self.imgsz = side or (640, 640)
        self._graph = file.graph
        self._preprocessing = file.preprocessing or Preprocessing(channels="bgr")
        self._dets, self._points = _output_indices(file.graph)
        count = file.graph.outputs[self._points].shape[2]
        self.spec = file.spec_for(17 if count is None else count, 3, "")

    def estimate(self, image: Image, conf: float) -> Poses:
        """Return the poses above `conf`; see `Estimator.estimate`."""
        padded, ratio = self._fit(image)
        outputs = self._graph.run(self._preprocessing.apply(padded)[None])
        rows = outputs[self._dets][0].astype(np.float32)
        points = outputs[self._points][0].astype(np.float32)
        boxes, scores = rows[:, :4] / np.float32(ratio), rows[:, 4]
        selected = _suppress(boxes, scores, conf)
        points = points[selected]
        points[..., :2] /= np.float32(ratio)
        return Poses(boxes[selected], scores[selected], points)

    def _fit(self, image: Image) -> tuple[Image, float]:
        """Return the padded image and its scale; sizes are rounded down, as in the training."""
        height, width = self.imgsz
        if image.shape[:2] == (height, width):
            return image, 1.0
        ratio = min(height / image.shape[0], width / image.shape[1])
        inner = max(1, int(image.shape[0] * ratio)), max(1, int(image.shape[1] * ratio))
        padded = np.full((height, width, 3), PAD_VALUE, np.uint8)
        resized = cv2.resize(image, (inner[1], inner[0]), interpolation=cv2.INTER_LINEAR)
        padded[: inner[0], : inner[1]] = resized
        return padded, ratio


def _suppress(boxes: Float32, scores: Float32, conf: float) -> npt.NDArray[np.int64]:
    """Return the rows that remain, by descending score; IoU counts whole pixels, as RTMO's own tools do."""
    order = np.flatnonzero(scores > conf)
    order = order[np.argsort(scores[order], kind="stable")[::-1]]
    areas = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    selected: list[int] = []
    while len(order):
        first, rest = order[0], order[1:]
        selected.append(int(first))
        sides = np.minimum(boxes[first, 2:], boxes[rest, 2:]) - np.maximum(boxes[first, :2], boxes[rest, :2]) + 1
        overlap = np.maximum(sides, 0).prod(axis=1)
        order = rest[overlap / (areas[first] + areas[rest] - overlap) <= _NMS_IOU]
    return np.array(selected, np.int64)


def _output_indices(graph: Graph) -> tuple[int, int]:
    """Return the indices of the boxes (1, N, 5) and of the keypoints (1, N, K, 3), -1 if missing."""
    ports = list(enumerate(graph.outputs))
    dets = next((index for index, port in ports if len(port.shape) == 3 and port.shape[2] == 5), -1)
    points = next((index for index, port in ports if len(port.shape) == 4 and port.shape[3] == 3), -1)
    return dets, points


def _matches(graph: Graph) -> bool:
    if len(graph.inputs) != 1 or len(graph.outputs) != 2 or len(graph.inputs[0].shape) != 4:
        return False
    return graph.inputs[0].shape[1] in (3, None) and min(_output_indices(graph)) >= 0


def _make(file: ModelFile) -> Estimator:
    return Rtmo(file)


LAYOUT = Layout(
    name="rtmo",
    title="RTMO",
    signature="one image input (B, 3, H, W); outputs (B, N, 5) boxes with scores and (B, N, K, 3) keypoints",
    matches=_matches,
    make=_make,
)
