"""What an inference engine offers to prediction and validation, whatever library it runs on.

An engine turns a batch of letterboxed images into `Candidates`: everything that scored above the
confidence threshold, before suppression. Engines that live on a device threshold there, so that a
full (8400, 56) output per image is not copied for nothing; `from_raw` does it in numpy for the rest.
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
    """Detections of a batch before suppression, in network-input pixels; rows of an image stand by falling score.

    Attributes:
        boxes: (N, 4) float32 x1, y1, x2, y2.
        scores: (N,) float32, 0…1.
        classes: (N,) int64.
        points: (N, K, D) float32.
        image: (N,) int64 index of the image in the batch, ascending.
        nms_done: True when the engine has already suppressed duplicates.
        sigmas: (N, K, 2) float32, σ of each point in x and y; None where the engine does not tell.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    points: npt.NDArray[np.float32]
    image: npt.NDArray[np.int64]
    nms_done: bool = False
    sigmas: npt.NDArray[np.float32] | None = None


class Runtime(Protocol):
    """An engine with a network loaded.

    Attributes:
        metadata: classes, keypoints, stride and input size of the network.
        device: where it runs, as words (`cpu`, `cuda:0`).
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
        """Run the network and keeps what scores above `conf`.

        Args:
            batch: (B, 3, H, W) RGB, uint8 0…255 or float32 0…1; H and W multiples of the stride. Where
                `metadata.batch` is not 0, B is at most that, and the engine pads.
            conf: scores must exceed it.
            max_nms: at most so many of each image, the highest.
            classes: keep these class indices alone.
            multi_label: every (box, class) pair above `conf` instead of the best class of each box.
        """
        ...

    def to_array(self, array: npt.NDArray[Any]) -> Any:
        """Return a host array the type that results of this engine hold (torch.Tensor or HostArray)."""
        ...


class Replicated(Runtime, Protocol):
    """An engine that several threads can use at once; optional, ask through `get_replicas`."""

    def replicas(self, count: int) -> Sequence[Runtime]:
        """Return engines that share the network, one for each of `count` threads.

        Each computes on its share of the processor (`cores // count`, at least one), so that all of them in use at
        once fill it. One thread at a time uses a replica; the engine itself may go on being used. An engine that
        computes one image at a time, such as one on a GPU, gives `[self]`.

        Args:
            count: threads, from 1.
        """
        ...


def get_replicas(runtime: Runtime, count: int) -> list[Runtime]:
    """Return what `runtime.replicas(count)` gives; `[runtime]` for an engine that has no such method."""
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
) -> Candidates:
    """Thresholds a raw output in numpy.

    Args:
        raw: (B, 4+nc+K·D, A) float32: cx, cy, w, h, class scores, keypoints; 2·K more with `uncertainty`.
        kpt_shape: (K, D).
        conf: scores must exceed it.
        max_nms: at most so many of each image, the highest.
        classes: keep these class indices alone.
        multi_label: every (box, class) pair above `conf` instead of the best class of each box.
        uncertainty: whether the output ends in σ of each point.
    """
    count, dims = kpt_shape
    nc = raw.shape[1] - 4 - count * (dims + 2 * uncertainty)
    scores = raw[:, 4 : 4 + nc]
    # all 8400 cells are only compared; what they hold is gathered for those that stay
    if multi_label and nc > 1:
        image, cls, anchor = np.nonzero(scores > conf)
    else:
        top = scores[:, 0] if nc == 1 else scores.max(axis=1)
        image, anchor = np.nonzero(top > conf)
        cls = np.zeros_like(image) if nc == 1 else scores[image, :, anchor].argmax(axis=1)
    score = scores[image, cls, anchor]
    if classes is not None:
        keep = np.isin(cls, np.asarray(classes))
        image, anchor, cls, score = image[keep], anchor[keep], cls[keep], score[keep]
    order = np.lexsort((-score, image))
    order = order[_rank_within(image[order]) < max_nms]
    image, anchor = image[order], anchor[order]
    rows = raw[image, :, anchor]
    points, sigmas = split_keypoints(rows[:, 4 + nc :].astype(np.float32, copy=False), kpt_shape, uncertainty)
    return Candidates(
        boxes=cxcywh_to_xyxy(rows[:, :4]).astype(np.float32, copy=False),
        scores=score[order].astype(np.float32, copy=False),
        classes=cls[order].astype(np.int64, copy=False),
        points=points,
        image=image.astype(np.int64, copy=False),
        sigmas=sigmas,
    )


def from_end2end(
    raw: npt.NDArray[np.float32],
    kpt_shape: tuple[int, int],
    *,
    conf: float,
    classes: Sequence[int] | None = None,
    uncertainty: bool = False,
) -> Candidates:
    """Thresholds an output that holds finished detections (suppression in the graph, or a network without need of it).

    Args:
        raw: (B, N, 6+K·D) float32: x1, y1, x2, y2, score, class, keypoints; rows of an image by falling score.
            2·K more with `uncertainty`.
        kpt_shape: (K, D).
        conf: scores must exceed it.
        classes: keep these class indices alone.
        uncertainty: whether the output ends in σ of each point.
    """
    keep = raw[:, :, 4] > conf
    if classes is not None:
        keep &= np.isin(raw[:, :, 5].astype(np.int64), np.asarray(classes))
    image, place = np.nonzero(keep)
    rows = raw[image, place].astype(np.float32, copy=False)
    points, sigmas = split_keypoints(rows[:, 6:], kpt_shape, uncertainty)
    return Candidates(
        boxes=rows[:, :4],
        scores=rows[:, 4],
        classes=rows[:, 5].astype(np.int64),
        points=points,
        image=image.astype(np.int64, copy=False),
        nms_done=True,
        sigmas=sigmas,
    )


def split_keypoints(
    values: npt.NDArray[np.float32], kpt_shape: tuple[int, int], uncertainty: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """Cut the (N, K·D[ + 2·K]) end of rows into (N, K, D) points and, with `uncertainty`, (N, K, 2) σ."""
    count, dims = kpt_shape
    points = values[:, : count * dims].reshape(-1, count, dims)
    return points, values[:, count * dims :].reshape(-1, count, 2) if uncertainty else None


def _rank_within(image: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Position of each row among those of its image; `image` is sorted."""
    starts = np.searchsorted(image, image, side="left")
    return np.arange(len(image)) - starts
