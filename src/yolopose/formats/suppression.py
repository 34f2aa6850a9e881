"""`nms=True`: suppression of duplicates as a plain graph, behind any network and for any converter.

Greedy suppression goes box by box, which no static graph does. Here all boxes decide at once: a box stays when no
better one that stays overlaps it. Said again and again, beginning with "all stay", this settles from the best box
downwards: after n rounds every box is right whose fate hangs on a chain of at most n others, and what no longer
changes is what the greedy way gives. Chains in images are short, since a box that goes takes its claims along.
"""

from __future__ import annotations

from yolopose.nn import PoseModel  # it loads torch in the way that is wanted, so it comes first

# isort: split
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from yolopose.base.errors import UsageError
from yolopose.config import ExportOptions
from yolopose.schema import ModelMetadata

CANDIDATES = 1024
"""Boxes of an image that are compared with one another, the best."""
ROUNDS = 32
_CONF = 0.25  # as in prediction


@dataclass(frozen=True, slots=True)
class Suppression:
    """What is fixed in the file.

    Attributes:
        conf: scores must exceed it.
        iou: overlap above which two boxes are one object.
        max_det: rows of the output for each image.
        agnostic: compare boxes of different classes too.
        classes: keep these class indices alone; None for all.
    """

    conf: float
    iou: float
    max_det: int
    agnostic: bool
    classes: tuple[int, ...] | None

    @classmethod
    def of(cls, options: ExportOptions, names: dict[int, str]) -> Suppression:
        """Read the options of an export.

        Raises:
            UsageError: a class index is none of the network's.
        """
        wanted = options.classes
        classes = None if wanted is None else (wanted,) if isinstance(wanted, int) else tuple(wanted)
        for index in classes or ():
            if index not in names:
                known = ", ".join(f"{number} ({name})" for number, name in names.items())
                raise UsageError(f"classes={wanted}: there is no class {index}; this network has {known}.")
        conf = _CONF if options.conf is None else options.conf
        return cls(conf, options.iou, options.max_det, options.agnostic_nms, classes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as the record of the file keeps them."""
        found = asdict(self)
        return {**found, "classes": None if self.classes is None else list(self.classes)}


class Suppressed(nn.Module):
    """A network that gives finished detections.

    Args:
        network: (B, 3, H, W) → (B, 4+nc+K·D, A), as `ExportJob` makes it.
        nc: classes.
        rules: what is kept.
        cells: A; None where it follows from the size of the input.
    """

    def __init__(self, network: nn.Module, nc: int, rules: Suppression, cells: int | None) -> None:
        super().__init__()
        self.network, self.nc, self.rules = network, nc, rules
        self.count = max(CANDIDATES if cells is None else min(CANDIDATES, cells), rules.max_det)
        self.padding = self.count if cells is None else max(0, self.count - cells)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) 0…1 → (B, max_det, 6+K·D): x1, y1, x2, y2, score, class, keypoints.

        Rows stand by falling score; those behind the last detection are 0.
        """
        return self.select(self.network(images))

    def select(self, raw: Tensor) -> Tensor:
        """(B, 4+nc+K·D, A) → (B, max_det, 6+K·D); see `forward`."""
        if self.padding:  # a small input has fewer cells than are taken
            raw = nn.functional.pad(raw, (0, self.padding))
        scores, cls = self._best(raw)
        top, places = scores.topk(self.count, dim=1)
        rows = _columns(raw, places)
        cls = cls.gather(1, places).to(raw.dtype)
        center, half = rows[:, :2], rows[:, 2:4] / 2
        boxes = torch.cat((center - half, center + half), 1)
        kept = top * self._survive(boxes, cls, top)
        scores, places = kept.topk(self.rules.max_det, dim=1)
        found = torch.cat((boxes, top[:, None], cls[:, None], rows[:, 4 + self.nc :]), 1)
        found = _columns(found, places) * (scores > 0).to(raw.dtype)[:, None]
        return found.transpose(1, 2)

    def _best(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """(B, A) score of the best class, 0 where it does not count, and (B, A) that class."""
        scores = raw[:, 4 : 4 + self.nc]
        if self.nc == 1:  # TFLite's converter knows no largest of one
            best, cls = scores[:, 0], torch.zeros_like(scores[:, 0])
        else:
            best, cls = scores.max(1)
        counts = best > self.rules.conf
        if self.rules.classes is not None:
            wanted = torch.zeros_like(counts)
            for index in self.rules.classes:
                wanted = wanted | (cls == index)
            counts = counts & wanted
        return best * counts.to(raw.dtype), cls

    def _survive(self, boxes: Tensor, cls: Tensor, scores: Tensor) -> Tensor:
        """(B, N) 1 for each box that greedy suppression keeps, else 0; boxes (B, 4, N) stand by falling score."""
        removes = duplicates(boxes, self.rules.iou)
        if self.nc > 1 and not self.rules.agnostic:
            removes = removes & (cls[:, :, None] == cls[:, None])
        # ranks hang on the scores only so that no converter stores a million comparisons as constants
        rank = torch.arange(self.count, dtype=boxes.dtype, device=boxes.device) + 0 * scores
        removes = (removes & (rank[:, :, None] < rank[:, None])).to(boxes.dtype)
        return settle(removes, ROUNDS)


def settle(removes: Tensor, rounds: int) -> Tensor:
    """Which boxes stay.

    Args:
        removes: (B, N, N) 1 where the box of the row, if it stays, removes that of the column; 0 on and below the
            diagonal.
        rounds: how often all decide; the result is exact when no box hangs on a longer chain.

    Returns:
        (B, N) 1 for those that stay, else 0.
    """
    stays = torch.ones_like(removes[:, :1])
    for _ in range(rounds):
        stays = (stays @ removes < 0.5).to(removes.dtype)
    return stays[:, 0]


def duplicates(boxes: Tensor, iou: float) -> Tensor:
    """(B, 4, N) corner boxes → (B, N, N) whether the IoU of each pair exceeds the limit."""
    x1, y1, x2, y2 = boxes.unbind(1)
    width = torch.minimum(x2[:, :, None], x2[:, None]) - torch.maximum(x1[:, :, None], x1[:, None])
    height = torch.minimum(y2[:, :, None], y2[:, None]) - torch.maximum(y1[:, :, None], y1[:, None])
    common = width.relu() * height.relu()
    area = (x2 - x1) * (y2 - y1)
    # multiplied out, so that boxes without area make no NaN
    return common > iou * (area[:, :, None] + area[:, None] - common)


def cells_of(metadata: ModelMetadata, strides: Sequence[int]) -> int | None:
    """Return the cells that a network has for its one input size; None where it takes any."""
    if metadata.dynamic:
        return None
    height, width = metadata.imgsz
    return sum((height // stride) * (width // stride) for stride in strides)


def suppressed(decoded: nn.Module, network: PoseModel, metadata: ModelMetadata, rules: Suppression) -> Suppressed:
    """Put suppression behind a network that is to be exported."""
    return Suppressed(decoded, metadata.spec.nc, rules, cells_of(metadata, network.stride)).eval()


def _columns(values: Tensor, places: Tensor) -> Tensor:
    """(B, C, A) and (B, N) → (B, C, N): the columns at those places."""
    return values.gather(2, places[:, None].expand(-1, values.shape[1], -1))
