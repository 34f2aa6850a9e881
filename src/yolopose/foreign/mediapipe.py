"""MediaPipe pose and hands: a detector of regions, and a network that estimates the keypoints of each region.

Constants are those of MediaPipe's graphs (`pose_detection`, `palm_detection`, `pose_landmark`, `hand_landmark`). Every
image is treated on its own: MediaPipe's tracking, in which the keypoints of a frame define the region in the next one,
is replaced by detection in each image, and `track` of yolopose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import WeightsError
from yolopose.foreign.anchors import Regions, detections_from, make_anchors, weighted_nms
from yolopose.foreign.graph import Graph
from yolopose.foreign.layout import Estimator, Float32, Image, Layout, ModelFile, Poses, extent
from yolopose.schema import PoseSpec

_MIN_DETECTION = 0.1  # below it, regions hold no instance, and each costs a run of the second network
_MAX_DETECTION = 0.5  # MediaPipe's own limit
_REFINE_KERNEL = 7  # pixels of the heat map
_REFINE_MIN = 0.5


@dataclass(frozen=True, slots=True)
class Stage:
    """What differs between people and hands.

    Attributes:
        name: for messages.
        schema: name of the keypoint schema.
        side: side of the detector's input.
        strides: strides of its anchors; two anchors per position and entry.
        low: value of a black pixel in its input; a white one is 1.
        num_keypoints: K of the result.
        landmarks: values of the first output of the second network.
        from_box: whether the region is the box of the detector, enlarged; else a square around a center point.
        direction: detector keypoints (from, to) that point up in the region.
        scale: enlargement of the region.
        shift: shift of the region upwards, as a share of its height.
    """

    name: str
    schema: str
    side: int
    strides: tuple[int, ...]
    low: float
    num_keypoints: int
    landmarks: int
    from_box: bool
    direction: tuple[int, int]
    scale: float
    shift: float


PERSON = Stage("person", "mediapipe-pose", 224, (8, 16, 32, 32, 32), -1.0, 33, 195, False, (0, 1), 1.25, 0.0)
HAND = Stage("hand", "hand-keypoints", 192, (8, 16, 16, 16), 0.0, 21, 63, True, (0, 2), 2.6, 0.5)


@dataclass(frozen=True, slots=True)
class Region:
    """A rotated square in an image, in which the second network estimates keypoints.

    Attributes:
        center: x, y in pixels.
        size: side in pixels.
        rotation: radians, clockwise in the image.
        score: score of the detection.
    """

    center: tuple[float, float]
    size: float
    rotation: float
    score: float

    def corners(self) -> npt.NDArray[np.float32]:
        """Return (3, 2) top left, top right and bottom left corner in the image."""
        square = np.array([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5]]) * self.size
        return (square @ self._axes() + self.center).astype(np.float32)

    def to_image(self, shares: npt.NDArray[np.floating]) -> Float32:
        """Map (K, 2) shares of the square to pixels of the image."""
        return ((shares - 0.5) * self.size @ self._axes() + self.center).astype(np.float32)

    def _axes(self) -> npt.NDArray[np.float64]:
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        return np.array([[cos, sin], [-sin, cos]])


class MediaPipe:
    """Estimates poses with the two networks of MediaPipe; implements `Estimator`."""

    nms_done = False  # two regions may hold the same instance

    def __init__(self, file: ModelFile) -> None:
        self._stage = _stage(file.graph)
        if file.detector is None:
            raise WeightsError(
                f"{file.name} is the second stage of MediaPipe ({self._stage.name} keypoints); the detector of the "
                "first stage is missing. Put it into the same folder (pose_detection.tflite, "
                "palm_detection_lite.tflite, or the *_packed_assets.data of the npm package), or open a .task file, "
                "which holds both."
            )
        self._graph, self._detector = file.graph, file.detector
        self.imgsz = _side(file.graph), _side(file.graph)
        dims = 3 if self._stage is PERSON else 2
        self.spec: PoseSpec = file.spec_for(self._stage.num_keypoints, dims, self._stage.schema)
        self._anchors = make_anchors(self._stage.side, self._stage.strides)

    def estimate(self, image: Image, conf: float) -> Poses:
        """Return the poses above `conf`; the score is that of the detection times the presence of the instance."""
        regions = self.regions(image, min(max(conf, _MIN_DETECTION), _MAX_DETECTION))
        poses = [self._estimate_region(image, region) for region in regions]
        scores = np.array([region.score * presence for region, (_, presence) in zip(regions, poses, strict=True)])
        rows = np.flatnonzero(scores > conf)
        if not len(rows):
            return Poses.none(self.spec)
        points = np.stack([poses[index][0] for index in rows])[..., : self.spec.keypoints.dims]
        return Poses(extent(points), scores[rows].astype(np.float32), points)

    def regions(self, image: Image, min_score: float) -> list[Region]:
        """Return the regions of the first stage, by descending score."""
        height, width = image.shape[:2]
        whole = Region((width / 2, height / 2), float(max(width, height)), 0.0, 1.0)
        stage = self._stage
        pixels = _cut(image, whole, stage.side, cv2.BORDER_CONSTANT)
        boxes, scores = _detector_outputs(self._detector.run(pixels[None] * (1 - stage.low) + stage.low))
        detections = weighted_nms(detections_from(boxes, scores, self._anchors, stage.side, min_score))
        return [self._region(detections, index, whole) for index in range(len(detections.scores))]

    def _region(self, detections: Regions, index: int, whole: Region) -> Region:
        """Return the region of a detection."""
        stage = self._stage
        start, end = whole.to_image(detections.points[index][list(stage.direction)]).astype(np.float64)
        # the direction is that of the instance's vertical axis, from bottom to top
        rotation = math.pi / 2 - math.atan2(start[1] - end[1], end[0] - start[0])
        rotation -= 2 * math.pi * math.floor((rotation + math.pi) / (2 * math.pi))
        score = float(detections.scores[index])
        if not stage.from_box:
            size = 2 * float(np.hypot(*(end - start))) * stage.scale
            return Region((float(start[0]), float(start[1])), size, rotation, score)
        box = whole.to_image(detections.boxes[index].reshape(2, 2)).astype(np.float64)
        (cx, cy), (width, height) = box.mean(axis=0), box[1] - box[0]
        center = cx + height * stage.shift * math.sin(rotation), cy - height * stage.shift * math.cos(rotation)
        return Region((float(center[0]), float(center[1])), float(max(width, height)) * stage.scale, rotation, score)

    def _estimate_region(self, image: Image, region: Region) -> tuple[Float32, float]:
        """Return (K, 3) keypoints in pixels of the image, and the presence of the instance, 0…1."""
        side = self.imgsz[0]
        outputs = self._graph.run(_cut(image, region, side, cv2.BORDER_REPLICATE)[None])
        values = next(output for output in outputs if output.size == self._stage.landmarks)
        presence = float(next(output for output in outputs if output.size == 1).reshape(-1)[0])
        if self._stage is HAND:
            shares = values.reshape(-1, 3)[:, :2] / side
            confidences = np.ones(len(shares), np.float32)
        else:
            landmarks = values.reshape(-1, 5)
            shares = np.asarray(landmarks[:, :2] / side, np.float32)
            confidences = 1 / (1 + np.exp(-landmarks[:, 3].clip(-88, 88)))
            maps = next((output[0] for output in outputs if output.ndim == 4 and output.shape[3] == len(shares)), None)
            shares = shares if maps is None else refine(shares, maps)
        count = self._stage.num_keypoints
        points = region.to_image(shares[:count])
        return np.concatenate((points, confidences[:count, None]), axis=1).astype(np.float32), presence


def refine(shares: Float32, maps: Float32) -> Float32:
    """Move each keypoint to the weighted mean of its heat map around it, where that is confident.

    Args:
        shares: (K, 2) x, y as shares of the region.
        maps: (H, W, K) logits.
    """
    height, width = maps.shape[:2]
    reach = (_REFINE_KERNEL - 1) // 2
    refined = shares.copy()
    for index, (x, y) in enumerate(shares):
        column, row = int(x * width), int(y * height)
        if not (0 <= column < width and 0 <= row < height):
            continue
        columns = np.arange(max(0, column - reach), min(width, column + reach + 1))
        rows = np.arange(max(0, row - reach), min(height, row + reach + 1))
        weights = 1 / (1 + np.exp(-maps[np.ix_(rows, columns, [index])][..., 0].clip(-88, 88)))
        if weights.max() >= _REFINE_MIN:
            total = weights.sum()
            refined[index] = (weights.sum(axis=0) @ columns / width, weights.sum(axis=1) @ rows / height) / total
    return refined


def _cut(image: Image, region: Region, side: int, border: int) -> Float32:
    """Return a region as (side, side, 3) RGB 0…1; pixels outside the image are black or repeat its edge."""
    target = np.array([[0, 0], [side, 0], [0, side]], np.float32)
    matrix = cv2.getAffineTransform(region.corners(), target)
    crop = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=border)
    return (crop[..., ::-1] / 255).astype(np.float32)


def _detector_outputs(outputs: list[npt.NDArray[np.float32]]) -> tuple[Float32, Float32]:
    """Return (A, ≥ 4) values of the anchors and (A,) logits."""
    values = next(output for output in outputs if output.shape[-1] > 1)
    logits = next(output for output in outputs if output.shape[-1] == 1)
    return values.reshape(-1, values.shape[-1]), logits.reshape(-1)


def _side(graph: Graph) -> int:
    """Return the side of a square input (1, S, S, 3), 0 for another input."""
    shape = graph.inputs[0].shape
    return (
        (shape[1] or 0) if len(graph.inputs) == 1 and len(shape) == 4 and shape[1] == shape[2] and shape[3] == 3 else 0
    )


def _stage(graph: Graph) -> Stage:
    return PERSON if graph.outputs and _has_output(graph, PERSON.landmarks) else HAND


def _has_output(graph: Graph, values: int) -> bool:
    return any(math.prod(side or 1 for side in port.shape) == values for port in graph.outputs)


def _matches(graph: Graph) -> bool:
    if not graph.inputs or not _side(graph) or not _has_output(graph, 1):
        return False
    return _has_output(graph, PERSON.landmarks) or _has_output(graph, HAND.landmarks)


def _is_detector(graph: Graph) -> bool:
    if not graph.inputs or len(graph.outputs) != 2:
        return False
    anchors = {port.shape[1] for port in graph.outputs if len(port.shape) == 3}
    return any(
        _side(graph) == stage.side and anchors == {len(make_anchors(stage.side, stage.strides))}
        for stage in (PERSON, HAND)
    )


def _make(file: ModelFile) -> Estimator:
    return MediaPipe(file)


LAYOUT = Layout(
    name="mediapipe",
    title="MediaPipe pose and hands",
    signature="one image input (1, S, S, 3); outputs of 195 (39 keypoints of a person) or 63 values (21 of a hand)",
    matches=_matches,
    make=_make,
    first_stage=_is_detector,
)
