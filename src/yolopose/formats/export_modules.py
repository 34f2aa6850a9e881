"""Torch modules that wrap a network for export: decoding at fixed precision, NMS in the graph, outputs per level.

NMS as a graph: greedy suppression visits box after box, which a static graph cannot do. Here all boxes are decided at
once: a box survives if no better surviving box overlaps it. Starting from "all survive" and repeated n times, this is
exact for every box that depends on a chain of at most n other boxes, and a fixed point equals the greedy result. Chains
in images are short, because a suppressed box no longer suppresses others.
"""

from __future__ import annotations

from yolopose.nn import PoseModel  # first: it sets how torch is loaded

# isort: split
import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from yolopose.config import ExportSettings
from yolopose.formats.metadata import LEVELS
from yolopose.schema import ModelMetadata

MAX_CANDIDATES = 1024
"""Boxes of an image that NMS compares with one another, by descending score."""
NMS_ROUNDS = 32


def build_module(network: PoseModel, metadata: ModelMetadata, nms: NmsConfig | None, half: bool) -> nn.Module:
    """Return the module to export; see `ExportJob.build_module`."""
    if metadata.outputs == LEVELS:
        return LevelOutputs(network).eval()
    decoded = Decoded(network, half, None if metadata.dynamic else metadata.imgsz).eval()
    return decoded if nms is None else with_nms(decoded, network, metadata, nms)


class Decoded(nn.Module):
    """A network with float32 input and output; positions are decoded in float32 at any inner precision.

    Args:
        network: the network.
        half: whether the layers compute in float16.
        imgsz: (height, width) whose anchors become constants of the graph; None to compute them in the graph.
    """

    def __init__(self, network: PoseModel, half: bool, imgsz: tuple[int, int] | None) -> None:
        super().__init__()
        # channels_last weights of training would show up in the graph, and ExecuTorch rejects them
        plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        self.network = plain.half() if half else plain
        self.half_inside = half
        if imgsz is not None:
            self.network.head.fix_anchors(network.infer_shapes(*imgsz))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) float32 0…1 → decoded float32 output."""
        # `type_as` instead of a fixed dtype: an engine that widens the weights of the graph widens the input with them
        values = images.type_as(next(self.network.parameters())) if self.half_inside else images
        return self.network.head.decode(self.network.outputs(values))


# -- NMS in the graph ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NmsConfig:
    """Parameters of NMS that become constants of the file.

    Attributes:
        conf: scores must exceed it.
        iou: IoU above which two boxes are duplicates.
        max_det: rows of the output per image.
        agnostic: whether boxes of different classes suppress each other.
        classes: class indices to keep; None for all.
    """

    conf: float
    iou: float
    max_det: int
    agnostic: bool
    classes: tuple[int, ...] | None

    @classmethod
    def from_settings(cls, settings: ExportSettings) -> NmsConfig:
        """Return the parameters in the settings of an export."""
        return cls(settings.conf, settings.iou, settings.max_det, settings.agnostic_nms, settings.classes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for the metadata of the file."""
        return {**asdict(self), "classes": None if self.classes is None else list(self.classes)}


class NmsModule(nn.Module):
    """A network followed by NMS.

    Args:
        network: (B, C, H, W) → (B, 4+nc+K·D, A).
        nc: number of classes.
        config: parameters of NMS.
        anchors: A; None if it depends on the input size.
    """

    def __init__(self, network: nn.Module, nc: int, config: NmsConfig, anchors: int | None) -> None:
        super().__init__()
        self.network = network
        self.nc = nc
        self.config = config
        self.count = max(MAX_CANDIDATES if anchors is None else min(MAX_CANDIDATES, anchors), config.max_det)
        self.padding = self.count if anchors is None else max(0, self.count - anchors)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) 0…1 → (B, max_det, 6+K·D): x1, y1, x2, y2, score, class, keypoints.

        Rows are sorted by descending score; those after the last detection are 0.
        """
        return self.select(self.network(images))

    def select(self, raw: Tensor) -> Tensor:
        """(B, 4+nc+K·D, A) → (B, max_det, 6+K·D); see `forward`."""
        if self.padding:  # topk needs at least `count` columns, and a small input has fewer anchors
            raw = nn.functional.pad(raw, (0, self.padding))
        scores, cls = self._best_class(raw)
        top, anchor_idx = scores.topk(self.count, dim=1)
        rows = _gather_columns(raw, anchor_idx)
        cls = cls.gather(1, anchor_idx).to(raw.dtype)
        center = rows[:, :2]
        half = rows[:, 2:4] / 2
        boxes = torch.cat((center - half, center + half), 1)
        surviving = top * self._survivors(boxes, cls, top)
        scores, row_idx = surviving.topk(self.config.max_det, dim=1)
        detections = torch.cat((boxes, top[:, None], cls[:, None], rows[:, 4 + self.nc :]), 1)
        detections = _gather_columns(detections, row_idx) * (scores > 0).to(raw.dtype)[:, None]
        return detections.transpose(1, 2)

    def _best_class(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, A) scores of the best class, 0 for ignored anchors, and (B, A) class indices."""
        scores = raw[:, 4 : 4 + self.nc]
        if self.nc == 1:  # the converter of TFLite fails on a maximum over one channel
            best = scores[:, 0]
            cls = torch.zeros_like(best)
        else:
            best, cls = scores.max(1)
        valid = best > self.config.conf
        if self.config.classes is not None:
            wanted = torch.zeros_like(valid)
            for index in self.config.classes:
                wanted = wanted | (cls == index)
            valid = valid & wanted
        return best * valid.to(raw.dtype), cls

    def _survivors(self, boxes: Tensor, cls: Tensor, scores: Tensor) -> Tensor:
        """Return (B, N) 1 for each box that greedy NMS keeps, else 0; boxes (B, 4, N) by descending score."""
        removes = iou_exceeds(boxes, self.config.iou)
        if self.nc > 1 and not self.config.agnostic:
            removes = removes & (cls[:, :, None] == cls[:, None])
        # `0 * scores` makes ranks depend on the input, else converters store a million comparisons as constants
        rank = torch.arange(self.count, dtype=boxes.dtype, device=boxes.device) + 0 * scores
        removes = (removes & (rank[:, :, None] < rank[:, None])).to(boxes.dtype)
        return surviving_boxes(removes, NMS_ROUNDS)


def surviving_boxes(removes: Tensor, rounds: int) -> Tensor:
    """Decide which boxes survive.

    Args:
        removes: (B, N, N) 1 where the box of the row, if it survives, removes the box of the column; 0 on and below the
            diagonal.
        rounds: number of iterations; exact if no box depends on a longer chain.

    Returns:
        (B, N) 1 for surviving boxes, else 0.
    """
    survives = torch.ones_like(removes[:, :1])
    for _ in range(rounds):
        survives = (survives @ removes < 0.5).to(removes.dtype)
    return survives[:, 0]


def iou_exceeds(boxes: Tensor, iou: float) -> Tensor:
    """(B, 4, N) corner boxes → (B, N, N) whether the IoU of each pair exceeds the limit."""
    x1, y1, x2, y2 = boxes.unbind(1)
    width = torch.minimum(x2[:, :, None], x2[:, None]) - torch.maximum(x1[:, :, None], x1[:, None])
    height = torch.minimum(y2[:, :, None], y2[:, None]) - torch.maximum(y1[:, :, None], y1[:, None])
    intersection = width.relu() * height.relu()
    area = (x2 - x1) * (y2 - y1)
    # multiplied by the union instead of divided: boxes without area would give NaN
    return intersection > iou * (area[:, :, None] + area[:, None] - intersection)


def with_nms(decoded: nn.Module, network: PoseModel, metadata: ModelMetadata, config: NmsConfig) -> NmsModule:
    """Return a network followed by NMS.

    Args:
        decoded: module whose output NMS takes.
        network: the network in it, for its strides.
        metadata: metadata of the file.
        config: parameters of NMS.
    """
    anchors = None if metadata.dynamic else count_anchors(metadata.imgsz, network.stride)
    return NmsModule(decoded, metadata.spec.nc, config, anchors).eval()


def count_anchors(imgsz: tuple[int, int], strides: Sequence[int]) -> int:
    """Return the number of anchors of an input size (height, width)."""
    return sum((imgsz[0] // stride) * (imgsz[1] // stride) for stride in strides)


def _gather_columns(values: Tensor, index: Tensor) -> Tensor:
    """(B, C, A) values and (B, N) column indices → (B, C, N)."""
    return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))


# -- outputs per level --------------------------------------------------------------------------------------------


class LevelOutputs(nn.Module):
    """A network whose outputs are those of each level of the head, in grid units.

    In one 8-bit tensor, pixels up to 640 and scores up to 1 would share 255 steps. So distances, scores, points,
    visibilities and states of each level are outputs of their own, each with its own scale; `join_levels` decodes them.

    Args:
        network: fused, in evaluation mode.
    """

    @torch.no_grad()
    def __init__(self, network: PoseModel) -> None:
        super().__init__()
        self.network = network
        count, dims = network.spec.keypoints.shape
        parts = [
            [
                *_split_points(branch.points, count, dims, branch.scale, branch.shift),
                *([] if branch.states is None else [branch.states]),
            ]
            for branch in network.head.branches()
        ]
        self.points = nn.ModuleList(nn.ModuleList(part) for part in parts)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs in the order of `level_names`."""
        nc = self.network.spec.nc
        dfl = getattr(self.network.head, "dfl", None)
        outputs: list[Tensor] = []
        branches = self.network.head.branches()
        for x, branch, points in zip(self.network.features(images), branches, self.points, strict=True):
            boxes = branch.boxes(x).flatten(2)
            hidden = branch.trunk(x)
            values = [part(hidden).flatten(2) for part in points]  # type: ignore[union-attr]  # a list of modules
            outputs.append(boxes if dfl is None else dfl(boxes))
            outputs.append(branch.scores(x).view(len(x), nc, -1).sigmoid())
            outputs += [values[0], *(value.sigmoid() for value in values[1:])]
        return tuple(outputs)


def _split_points(last: Any, count: int, dims: int, scale: float, shift: float) -> list[nn.Conv2d]:
    """Split a convolution to (B, K·D, h, w) into one for x and y in grid units and, for D = 3, one for visibility.

    Each output of 8 bits has one scale, so x, y and visibility must not share one.
    """

    def select(rows: list[int], scale: float, shift: float) -> nn.Conv2d:
        conv = nn.Conv2d(last.in_channels, len(rows), last.kernel_size, last.stride, last.padding)
        conv.weight.copy_(last.weight[rows] * scale)
        conv.bias.copy_(last.bias[rows] * scale + shift)  # type: ignore[union-attr]  # it has a bias
        return conv

    parts = [select([dims * point + axis for point in range(count) for axis in (0, 1)], scale, shift)]
    if dims == 3:
        parts.append(select([dims * point + 2 for point in range(count)], 1.0, 0.0))
    return parts
