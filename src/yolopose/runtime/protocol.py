"""Protocol of an inference engine, and the numpy code that turns a raw network output into `Candidates`.

An engine maps a batch of letterboxed images to `Candidates`: every detection above the confidence threshold, before
NMS. Engines on a device apply the threshold there, so that the full (8400, 56) output of an image is never copied to
the host; `from_raw` applies it in numpy for the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolopose.geometry import cxcywh_to_xyxy
from yolopose.schema import ModelMetadata

Batch = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Detections of a batch before NMS, in network-input pixels, sorted by image and then by descending score.

    Attributes:
        boxes: (N, 4) float32 x1, y1, x2, y2.
        scores: (N,) float32, 0…1.
        classes: (N,) int64.
        points: (N, K, D) float32.
        batch_idx: (N,) int64 index of the image in the batch, ascending.
        nms_done: True when the engine has already suppressed duplicates.
        sigmas: (N, K, 2) float32, σ of each keypoint in x and y; None without uncertainty.
        visible: (N, K) float32, probability 0…1 that each keypoint is visible, of at most its confidence; None with
            two states of visibility.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    points: npt.NDArray[np.float32]
    batch_idx: npt.NDArray[np.int64]
    nms_done: bool = False
    sigmas: npt.NDArray[np.float32] | None = None
    visible: npt.NDArray[np.float32] | None = None


class Runtime(Protocol):
    """An engine with a loaded network.

    Attributes:
        metadata: classes, keypoints, stride and input size of the network.
        device: name of the device (`cpu`, `cuda:0`).
    """

    metadata: ModelMetadata
    device: str

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Run the network and return the detections above `conf`.

        Args:
            batch: (B, C, H, W), uint8 0…255 or float32 0…1, C the channels of the network (RGB with 3); H and W
                multiples of the stride. If `metadata.batch` is not 0, B must not exceed it, and the engine pads.
            conf: exclusive lower limit of scores.
            max_nms: maximum number of candidates per image, highest scores first.
            classes: class indices to keep; None for all.
            multi_label: return every (box, class) pair above `conf` instead of the best class of each box.
        """
        ...

    def to_array(self, array: npt.NDArray[Any]) -> Any:
        """Convert a host array to the type that results of this engine hold (torch.Tensor or HostArray)."""
        ...


class Replicated(Runtime, Protocol):
    """An engine that several threads can use at once; optional, see `get_replicas`."""

    def replicas(self, count: int) -> Sequence[Runtime]:
        """Return engines that share the network, one for each of `count` threads.

        Each replica computes on its share of the cores (`cores // count`, at least one), so that all of them together
        use the whole CPU. A replica must be used by one thread at a time; the engine itself remains usable. An engine
        that computes one batch at a time, such as one on a GPU, returns `[self]`.

        Args:
            count: number of threads, from 1.
        """
        ...


def get_replicas(runtime: Runtime, count: int) -> list[Runtime]:
    """Return `runtime.replicas(count)`, or `[runtime]` for an engine without replicas."""
    replicas = getattr(runtime, "replicas", None)
    return [runtime] if replicas is None else list(replicas(count))


def from_raw(
    raw: npt.NDArray[np.float32],
    kpt_shape: tuple[int, int],
    *,
    conf: float,
    max_nms: int = 30_000,
    classes: Sequence[int] | None = None,
    multi_label: bool = False,
    uncertainty: bool = False,
    states: int = 2,
) -> Candidates:
    """Apply the confidence threshold to a raw output.

    Args:
        raw: (B, 4+nc+K·D, A) float32 with A anchors: cx, cy, w, h, class scores, keypoints; K more rows with 3
            `states`, then 2·K more with `uncertainty`.
        kpt_shape: (K, D).
        conf: exclusive lower limit of scores.
        max_nms: maximum number of candidates per image, highest scores first.
        classes: class indices to keep; None for all.
        multi_label: return every (box, class) pair above `conf` instead of the best class of each box.
        uncertainty: whether the output ends with σ of each keypoint.
        states: 3 if the output has the probability that each keypoint is visible, else 2.
    """
    nc = raw.shape[1] - 4 - keypoint_values(kpt_shape, uncertainty, states)
    scores = raw[:, 4 : 4 + nc]
    # Compare all 8400 anchors, but gather boxes and keypoints only of those above the threshold.
    if multi_label and nc > 1:
        batch_idx, cls, anchor = np.nonzero(scores > conf)
    else:
        best = scores[:, 0] if nc == 1 else scores.max(axis=1)
        batch_idx, anchor = np.nonzero(best > conf)
        cls = np.zeros_like(batch_idx) if nc == 1 else scores[batch_idx, :, anchor].argmax(axis=1)
    score = scores[batch_idx, cls, anchor]
    if classes is not None:
        mask = np.isin(cls, np.asarray(classes))
        batch_idx, anchor, cls, score = batch_idx[mask], anchor[mask], cls[mask], score[mask]
    order = np.lexsort((-score, batch_idx))
    order = order[_rank_in_image(batch_idx[order]) < max_nms]
    batch_idx = batch_idx[order]
    rows = raw[batch_idx, :, anchor[order]]
    return Candidates(
        boxes=cxcywh_to_xyxy(rows[:, :4]).astype(np.float32, copy=False),
        scores=score[order].astype(np.float32, copy=False),
        classes=cls[order].astype(np.int64, copy=False),
        batch_idx=batch_idx.astype(np.int64, copy=False),
        **split_keypoints(rows[:, 4 + nc :].astype(np.float32, copy=False), kpt_shape, uncertainty, states),
    )


def from_end2end(
    raw: npt.NDArray[np.float32],
    kpt_shape: tuple[int, int],
    *,
    conf: float,
    classes: Sequence[int] | None = None,
    uncertainty: bool = False,
    states: int = 2,
) -> Candidates:
    """Apply the confidence threshold to an output without duplicates (NMS in the graph, or a one-to-one head).

    Args:
        raw: (B, N, 6+K·D) float32: x1, y1, x2, y2, score, class, keypoints; rows of an image by descending score.
            K more columns with 3 `states`, then 2·K more with `uncertainty`.
        kpt_shape: (K, D).
        conf: exclusive lower limit of scores.
        classes: class indices to keep; None for all.
        uncertainty: whether the output ends with σ of each keypoint.
        states: 3 if the output has the probability that each keypoint is visible, else 2.
    """
    mask = raw[:, :, 4] > conf
    if classes is not None:
        mask &= np.isin(raw[:, :, 5].astype(np.int64), np.asarray(classes))
    batch_idx, row = np.nonzero(mask)
    rows = raw[batch_idx, row].astype(np.float32, copy=False)
    return Candidates(
        boxes=rows[:, :4],
        scores=rows[:, 4],
        classes=rows[:, 5].astype(np.int64),
        batch_idx=batch_idx.astype(np.int64, copy=False),
        nms_done=True,
        **split_keypoints(rows[:, 6:], kpt_shape, uncertainty, states),
    )


def keypoint_values(kpt_shape: tuple[int, int], uncertainty: bool, states: int) -> int:
    """Return the number of output values of the keypoints of an instance, see `split_keypoints`."""
    num_points, dims = kpt_shape
    return num_points * (dims + (states == 3) + 2 * uncertainty)


def split_keypoints(
    values: npt.NDArray[np.float32], kpt_shape: tuple[int, int], uncertainty: bool, states: int = 2
) -> dict[str, Any]:
    """Split (N, K·D[ + K][ + 2·K]) values into the fields of `Candidates` that describe keypoints.

    Returns:
        `points` (N, K, D); `visible` (N, K) with 3 `states`, else None; `sigmas` (N, K, 2) with `uncertainty`, else
        None.
    """
    num_points, dims = kpt_shape
    start = num_points * dims
    stop = start + num_points * (states == 3)
    return {
        "points": values[:, :start].reshape(-1, num_points, dims),
        "visible": values[:, start:stop] if states == 3 else None,
        "sigmas": values[:, stop:].reshape(-1, num_points, 2) if uncertainty else None,
    }


def _rank_in_image(batch_idx: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the position of each row among the rows of its image; `batch_idx` is sorted."""
    starts = np.searchsorted(batch_idx, batch_idx, side="left")
    return np.arange(len(batch_idx)) - starts
