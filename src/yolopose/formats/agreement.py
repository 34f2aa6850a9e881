"""Compare the output of an exported file with that of its network, in pixels and score units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import ExportError
from yolopose.data.images import letterbox_batch
from yolopose.formats.metadata import LEVELS
from yolopose.geometry import Letterbox
from yolopose.runtime import Batch
from yolopose.schema import ModelMetadata

if TYPE_CHECKING:
    from yolopose.formats.graph_runtime import GraphRuntime
    from yolopose.formats.protocol import ExportJob

Float32 = npt.NDArray[np.float32]

_COMPARED = 20  # rows per image with the highest scores: detections are made of these
_TIED = 0.001  # rows whose scores differ by less may be in another order
# largest differences by bits, in pixels and score: engines sum in another order and round to fewer bits
_LIMITS = {32: (0.1, 0.001), 16: (6.0, 0.05), 8: (64.0, 0.3)}
_INTEGER_LIMITS = (64.0, 0.5)  # files whose first and last layers are 8-bit too
# share of the best score of an image below which boxes and points are not compared, by bits
_MIN_SHARE = {32: 0.0, 16: 0.25, 8: 0.25}


@dataclass(frozen=True, slots=True)
class Agreement:
    """Largest differences between a file and its network.

    Attributes:
        box: difference of box coordinates, pixels.
        score: difference of scores, 0…1.
        point: difference of keypoints, pixels.
        empty: whether neither output has a detection to compare.
    """

    box: float
    score: float
    point: float
    empty: bool = False

    def __str__(self) -> str:
        if self.empty:
            return "neither detects anything in it"
        return f"boxes within {self.box:.2g} px, scores within {self.score:.1g}, keypoints within {self.point:.2g} px"

    def worst(self, other: Agreement) -> Agreement:
        """Return the larger difference of each kind."""
        if self.empty or other.empty:
            return other if self.empty else self
        pairs = ((self.box, other.box), (self.score, other.score), (self.point, other.point))
        box, score, point = (float(np.max(pair)) for pair in pairs)  # max() would drop NaN
        return Agreement(box, score, point)

    def within(self, pixels: float, score: float) -> bool:
        """Return whether boxes and keypoints differ by at most `pixels` and scores by at most `score`; NaN does not."""
        return self.empty or (self.box <= pixels and self.point <= pixels and self.score <= score)


NO_DETECTIONS = Agreement(0.0, 0.0, 0.0, empty=True)


def compare_with_torch(job: ExportJob, runtime: GraphRuntime) -> Agreement:
    """Run an exported file and its network on the image of the job, for each kind of input shape of the file.

    Raises:
        ExportError: the outputs differ by more than rounding.
    """
    import torch

    from yolopose.formats.export_modules import with_nms

    integer = job.bits == 8 and runtime.metadata.outputs == LEVELS
    pixels, score = _INTEGER_LIMITS if integer else _LIMITS[job.bits]
    network = with_nms(job.network, job.network, job.metadata, job.nms) if job.nms else job.network
    worst = NO_DETECTIONS
    for batch in _input_batches(job):
        with torch.inference_mode():
            expected = network(torch.from_numpy(batch).float().div_(255)).numpy()
        output = runtime.raw(batch)
        if output.shape != expected.shape:
            raise ExportError(
                f"The output of the file has shape {output.shape}, that of the network {expected.shape}; the file was "
                "removed."
            )
        worst = worst.worst(_compare_outputs(job, output, expected, score))
    if not worst.within(pixels, score):
        raise ExportError(
            f"The file does not reproduce the network ({worst}; at most {pixels:g} px and {score:g} are rounding) and "
            "was removed. Try format=onnx with another opset or simplify=False."
        )
    return worst


def _compare_outputs(job: ExportJob, output: Float32, expected: Float32, score: float) -> Agreement:
    min_share = _MIN_SHARE[job.bits]
    if job.nms:
        return compare_detections(output, expected, job.metadata, job.nms.conf, score, min_share)
    if job.metadata.end2end:
        return compare_best(output, expected, job.metadata, min_share)
    return compare_anchors(output, expected, job.metadata, min_share)


def _input_batches(job: ExportJob) -> list[Batch]:
    """Return the image as inputs: the fixed size; for a free size, also two images in a small rectangle."""
    metadata, image = job.metadata, job.image
    source = image.shape[0], image.shape[1]
    channels = metadata.spec.channels
    count = metadata.batch or 1
    batches = [letterbox_batch([image] * count, [Letterbox.fit(source, metadata.imgsz)] * count, channels)]
    if metadata.dynamic:
        height, width = (-(-side // (2 * metadata.stride)) * metadata.stride for side in metadata.imgsz)
        small = Letterbox.fit(source, (height, width), auto=True, stride=metadata.stride)
        batches.append(letterbox_batch([image] * 2, [small] * 2, channels))
    return batches


def compare_anchors(output: Float32, expected: Float32, metadata: ModelMetadata, min_share: float = 0.0) -> Agreement:
    """Compare (B, 4+nc+K·D[+2·K], A) outputs at the anchors with the highest scores.

    Args:
        output: output of the file.
        expected: output of the network.
        metadata: metadata of the file.
        min_share: share of an image's best score below which only scores are compared: boxes and points of background
            anchors are arbitrary, and vary at low precision.
    """
    nc = metadata.spec.nc
    count, dims = metadata.spec.keypoints.shape
    anchor_idx = np.argsort(-expected[:, 4 : 4 + nc].max(1), axis=1)[:, None, :_COMPARED]
    values, references = (np.take_along_axis(array, anchor_idx, 2) for array in (output, expected))
    difference = np.abs(values - references)
    score = float(difference[:, 4 : 4 + nc].max())
    difference *= _is_confident(np.maximum(values, references)[:, 4 : 4 + nc].max(1, keepdims=True), min_share)
    points = difference[:, 4 + nc : 4 + nc + count * dims].reshape(len(difference), count, dims, difference.shape[2])
    return Agreement(float(difference[:, :4].max()), score, float(points[:, :, :2].max()))


def compare_best(output: Float32, expected: Float32, metadata: ModelMetadata, min_share: float = 0.0) -> Agreement:
    """Compare the best rows of (B, N, 6+K·D[+2·K]) outputs, each with the nearest row, since nearly tied rows swap.

    Of rows that score hardly more than the last row only scores are compared: they may be missing in the other output,
    as with an untrained network. Arguments as in `compare_anchors`.
    """
    count, dims = metadata.spec.keypoints.shape
    columns = [*range(4), *(6 + dims * point + axis for point in range(count) for axis in (0, 1))]
    best = expected[:, :_COMPARED]
    distance = np.abs(best[:, :, None, columns] - output[:, None, :, columns]).max(3)
    nearest = np.take_along_axis(output, distance.argmin(2)[..., None], 1)
    difference = np.abs(nearest - best)
    score = float(difference[..., 4].max())
    last = np.minimum(output[:, -1:, 4], expected[:, -1:, 4])
    compared = _is_confident(np.maximum(nearest, best)[..., 4], min_share) & (best[..., 4] >= last + _TIED)
    difference *= compared[..., None]
    empty = not compared.any() and score < _TIED
    return Agreement(float(difference[..., :4].max()), score, float(difference[..., columns[4:]].max()), empty)


def _is_confident(scores: Float32, min_share: float) -> npt.NDArray[np.bool_]:
    """Return which scores reach a share of the best along the last axis."""
    return scores >= min_share * scores.max(-1, keepdims=True, initial=0)


def compare_detections(
    output: Float32,
    expected: Float32,
    metadata: ModelMetadata,
    conf: float,
    score_limit: float,
    min_share: float = 0.0,
) -> Agreement:
    """Compare (B, N, 6+K·D) outputs: each detection with the nearest one of the other output, both ways.

    Args:
        output: output of the file.
        expected: output of the network.
        metadata: metadata of the file.
        conf: threshold of both.
        score_limit: detections within this share of `conf` may be missing in the other output.
        min_share: see `compare_anchors`.

    Returns:
        Infinite differences if a detection has no counterpart of its class.
    """
    total = NO_DETECTIONS
    for image, reference in zip(output, expected, strict=True):
        for rows, others in ((image, reference), (reference, image)):
            confident = (rows[:, 4] * (1 - score_limit) > conf) & _is_confident(rows[:, 4], min_share)
            for row in rows[confident]:
                same_class = others[(others[:, 4] > 0) & (others[:, 5] == row[5])]
                total = total.worst(_compare_nearest(row, same_class, metadata))
    return total


def _compare_nearest(row: Float32, others: Float32, metadata: ModelMetadata) -> Agreement:
    """Compare a detection with the one whose box is nearest."""
    if not len(others):
        return Agreement(np.inf, np.inf, np.inf)
    difference = np.abs(others - row)
    nearest = difference[difference[:, :4].max(1).argmin()]
    count, dims = metadata.spec.keypoints.shape
    points = nearest[6 : 6 + count * dims].reshape(count, dims)[:, :2]
    return Agreement(float(nearest[:4].max()), float(nearest[4]), float(points.max()))
