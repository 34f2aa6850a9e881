"""The head of YOLO26: two branches, distances and points given directly, and how sure it is of each point.

The one-to-many branch learns from several cells for each object, and duplicates of what it finds are suppressed. The
one-to-one branch learns from one cell for each object (YOLOv10, arXiv 2405.14458), so its best cells are the
detections, without suppression.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from yolopose.base.errors import ModelError
from yolopose.nn.conv import Conv
from yolopose.nn.head import (
    HeadOutput,
    LevelBranches,
    PoseHead,
    branch,
    decode_boxes,
    joined,
    level_shapes,
    light_branch,
    set_biases,
    tracing,
)
from yolopose.nn.realnvp import RealNVP

MAX_DET = 300
"""Detections that the one-to-one branch gives for each image."""

_BRANCHES = ("cv2", "cv3", "cv4", "cv4_kpts", "cv4_sigma")
_NEVER = -1e4  # logit of a cell that is no cell


class Pose26(PoseHead):
    """Pose head of YOLO26. Every branch stands twice: by its name the one-to-many one, as `one2one_…` the other.

    Args:
        nc: classes.
        kpt_shape: (K, D), D 2 or 3.
        ch: channels of the feature maps, finest level first.
        light: class branch of depth-wise convolutions; False is the plain one of YOLOv8.

    Attributes:
        end2end: whether evaluation mode uses the one-to-one branch and gives finished detections.
        uncertainty: whether evaluation mode gives σ of each point as well.
        has_all_branches: False once a branch has been left away for inference.
    """

    def __init__(self, nc: int, kpt_shape: tuple[int, int], ch: Sequence[int], light: bool = True) -> None:
        super().__init__(nc, kpt_shape, 1)
        self.end2end = False
        self.uncertainty = False
        self.has_all_branches = True
        count, dims = kpt_shape
        c2, c3 = max(16, ch[0] // 4), max(ch[0], min(nc, 100))
        c4 = max(ch[0] // 4, count * (dims + 2))
        class_branch = light_branch if light else branch

        def trunk(c1: int) -> nn.Module:
            return nn.Sequential(Conv(c1, c4, 3), Conv(c4, c4, 3))

        def last(values: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(c4, values, 1) for _ in ch)

        # in this order, which is that of the family's state_dicts
        self.cv2 = nn.ModuleList(branch(c, c2, 4) for c in ch)
        self.cv3 = nn.ModuleList(class_branch(c, c3, nc) for c in ch)
        self.one2one_cv2 = nn.ModuleList(branch(c, c2, 4) for c in ch)
        self.one2one_cv3 = nn.ModuleList(class_branch(c, c3, nc) for c in ch)
        self.cv4 = nn.ModuleList(trunk(c) for c in ch)
        self.one2one_cv4 = nn.ModuleList(trunk(c) for c in ch)
        self.flow_model: RealNVP | None = RealNVP()
        self.cv4_kpts = last(count * dims)
        self.cv4_sigma: nn.ModuleList | None = last(2 * count)
        self.one2one_cv4_kpts = last(count * dims)
        self.one2one_cv4_sigma: nn.ModuleList | None = last(2 * count)

    def outputs(self, maps: Sequence[Tensor]) -> HeadOutput:
        """[(B, cᵢ, hᵢ, wᵢ), …] → raw outputs of both branches; of the one that is left, after `prune`.

        The one-to-one branch learns by itself: no gradient of it reaches the maps.
        """
        if not self.has_all_branches:
            return self._branch("one2one_" if self.end2end else "", maps)
        single = self._branch("one2one_", [x.detach() for x in maps])
        many = self._branch("", maps)
        return HeadOutput(many.boxes, many.scores, many.kpts, many.shapes, many.sigmas, single)

    def _branch(self, prefix: str, maps: Sequence[Tensor]) -> HeadOutput:
        cv2, cv3, cv4, kpts, sigma = (getattr(self, prefix + name) for name in _BRANCHES)
        trunks = [trunk(x) for trunk, x in zip(cv4, maps, strict=True)]
        sigmas = None if sigma is None else joined(sigma, trunks)
        return HeadOutput(joined(cv2, maps), joined(cv3, maps), joined(kpts, trunks), level_shapes(maps), sigmas)

    def branches(self) -> list[LevelBranches]:
        """What reads the map of each level, in the branch that evaluation mode uses."""
        prefix = "one2one_" if self.end2end else ""
        rows = zip(*(getattr(self, prefix + name) for name in _BRANCHES[:4]), strict=True)
        return [LevelBranches(box, cls, trunk, points, 1.0, 0.0) for box, cls, trunk, points in rows]

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput | Tensor:
        """Return the output of both branches in training mode, that of one, decoded, in evaluation mode."""
        if self.training or not self.has_all_branches:
            return super().forward(maps)
        return self.decode(self._branch("one2one_" if self.end2end else "", maps))

    def decode(self, output: HeadOutput) -> Tensor:
        """Raw outputs → finished detections with `end2end`, else all cells; float32, pixels.

        Returns:
            (B, 4+nc+K·D, A): cx, cy, w, h, scores 0…1, keypoints; with `end2end` (B, `MAX_DET`, 6+K·D): x1, y1, x2,
            y2, score, class, keypoints by falling score, where rows that no cell is left for have score 0. With
            `uncertainty` 2·K more: σ in x and y of each point.
        """
        if self.end2end:
            return self._final(output.one2one or output)
        points, strides = self.anchors(output.shapes, output.boxes.device)
        boxes = decode_boxes(output.boxes.float(), points, strides)
        keypoints = self._keypoints(output.kpts, points, strides)
        parts = (boxes, output.scores.float().sigmoid(), keypoints, *self._sigmas(output.sigmas, strides))
        return torch.cat(parts, 1)

    def _final(self, output: HeadOutput) -> Tensor:
        """The best pairs of a cell and a class; only their cells are decoded."""
        points, strides = self.anchors(output.shapes, output.boxes.device)
        scores, values = output.scores.float(), [output.boxes, output.kpts]
        values += [output.sigmas] if self.uncertainty and output.sigmas is not None else []
        # a graph for any input size cannot know whether there are as many cells as detections
        missing = MAX_DET if tracing() else max(MAX_DET - scores.shape[2], 0)
        if missing:
            scores = functional.pad(scores, (0, missing), value=_NEVER)
            values = [functional.pad(value, (0, missing)) for value in values]
            points, strides = functional.pad(points, (0, missing)), functional.pad(strides, (0, missing))
        cells = scores.amax(1).topk(MAX_DET).indices  # (B, 300)
        pairs = scores.transpose(1, 2).gather(1, cells[..., None].expand(-1, -1, self.nc)).flatten(1)
        best, index = pairs.topk(MAX_DET)
        cell = cells.gather(1, index // self.nc)
        chosen = [value.float().gather(2, cell[:, None].expand(-1, value.shape[1], -1)) for value in values]
        points = points[:, cell].transpose(0, 1)  # (B, 2, 300)
        strides = strides[cell][:, None]
        near, far = chosen[0].chunk(2, 1)
        boxes = torch.cat((points - near, points + far), 1) * strides
        keypoints = self._keypoints(chosen[1], points[:, None], strides[:, None])
        kind = (index % self.nc)[:, None].to(best.dtype)
        sigmas = self._sigmas(chosen[2] if len(chosen) > 2 else None, strides)
        return torch.cat((boxes, best.sigmoid()[:, None], kind, keypoints, *sigmas), 1).transpose(1, 2)

    def _keypoints(self, raw: Tensor, points: Tensor, strides: Tensor) -> Tensor:
        """(B, K·D, A) raw → (B, K·D, A) x, y in pixels [and visibility 0…1], float32."""
        raw = raw.float().unflatten(1, self.kpt_shape)
        xy = (raw[:, :, :2] + points) * strides
        return (xy if self.kpt_shape[1] == 2 else torch.cat((xy, raw[:, :, 2:].sigmoid()), 2)).flatten(1, 2)

    def _sigmas(self, raw: Tensor | None, strides: Tensor) -> list[Tensor]:
        """[(B, 2·K, A) σ in pixels], or nothing where it is not asked for."""
        return [raw.float().sigmoid() * strides] if self.uncertainty and raw is not None else []

    def select_output(self, end2end: bool, uncertainty: bool = False) -> None:
        """Choose what evaluation mode gives.

        Raises:
            ModelError: that branch, or σ, has been left away.
        """
        sigma = self.one2one_cv4_sigma if end2end else self.cv4_sigma
        if (not self.has_all_branches and end2end != self.end2end) or (uncertainty and sigma is None):
            raise ModelError(
                "the network was reduced to one branch for inference (fuse()), and what is asked for is gone from it: "
                "open the weights again."
            )
        self.end2end, self.uncertainty = end2end, uncertainty

    def prune(self) -> None:
        """Leave away what evaluation mode does not use: the other branch, the flow, and σ unless it is given."""
        unused = "" if self.end2end else "one2one_"
        used = "one2one_" if self.end2end else ""
        gone = [unused + name for name in _BRANCHES] + ([] if self.uncertainty else [f"{used}cv4_sigma"])
        for name in (*gone, "flow_model"):
            setattr(self, name, None)
        self.has_all_branches = False

    def training_only_modules(self) -> list[nn.Module]:
        """Return the convolutions that only learning needs: those of σ."""
        return [part for parts in (self.cv4_sigma, self.one2one_cv4_sigma) if parts is not None for part in parts]

    def reset(self) -> None:
        """Set the start values that are the head's own: the flow, and box and class biases of both branches."""
        if self.flow_model is not None:
            self.flow_model.reset()
        set_biases(self.cv2, self.cv3, self.stride)
        set_biases(self.one2one_cv2, self.one2one_cv3, self.stride)
