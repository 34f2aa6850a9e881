"""The head of YOLO26: two branches, distances and keypoints predicted directly, and σ of each keypoint.

The one-to-many branch is trained with several anchors per instance and needs NMS. The one-to-one branch is trained with
one anchor per instance (YOLOv10, arXiv 2405.14458), so its best anchors are the detections.
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
    concat_levels,
    conv_branch,
    decode_boxes,
    decode_states,
    depthwise_branch,
    feature_shapes,
    init_biases,
    init_states,
    is_tracing,
)
from yolopose.nn.realnvp import RealNVP

MAX_DET = 300
"""Detections per image of the one-to-one branch."""

_BRANCHES = ("cv2", "cv3", "cv4", "cv4_kpts", "cv4_sigma")
_STATE = "cv4_state"  # only with three states of visibility
_PADDING_LOGIT = -1e4  # of anchors that only pad the number of detections


class Pose26(PoseHead):
    """Pose head of YOLO26. Modules of the one-to-one branch have the prefix `one2one_`.

    Args:
        nc: classes.
        kpt_shape: (K, D), D 2 or 3.
        ch: channels of the feature maps, finest level first.
        light: use the class branch of depth-wise convolutions; False is that of YOLOv8.
        states: see `PoseHead`.

    Attributes:
        end2end: whether evaluation mode uses the one-to-one branch and returns final detections.
        uncertainty: whether evaluation mode returns σ of each keypoint as well.
        has_all_branches: False after `prune`.
    """

    def __init__(
        self, nc: int, kpt_shape: tuple[int, int], ch: Sequence[int], light: bool = True, states: int = 2
    ) -> None:
        super().__init__(nc, kpt_shape, 1, states)
        self.end2end = False
        self.uncertainty = False
        self.has_all_branches = True
        count, dims = kpt_shape
        c2, c3 = max(16, ch[0] // 4), max(ch[0], min(nc, 100))
        c4 = max(ch[0] // 4, count * (dims + 2))
        class_branch = depthwise_branch if light else conv_branch

        def trunk(c1: int) -> nn.Module:
            return nn.Sequential(Conv(c1, c4, 3), Conv(c4, c4, 3))

        def last(values: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(c4, values, 1) for _ in ch)

        # the order of public state_dicts
        self.cv2 = nn.ModuleList(conv_branch(c, c2, 4) for c in ch)
        self.cv3 = nn.ModuleList(class_branch(c, c3, nc) for c in ch)
        self.one2one_cv2 = nn.ModuleList(conv_branch(c, c2, 4) for c in ch)
        self.one2one_cv3 = nn.ModuleList(class_branch(c, c3, nc) for c in ch)
        self.cv4 = nn.ModuleList(trunk(c) for c in ch)
        self.one2one_cv4 = nn.ModuleList(trunk(c) for c in ch)
        self.flow_model: RealNVP | None = RealNVP()
        self.cv4_kpts = last(count * dims)
        self.cv4_sigma: nn.ModuleList | None = last(2 * count)
        self.one2one_cv4_kpts = last(count * dims)
        self.one2one_cv4_sigma: nn.ModuleList | None = last(2 * count)
        self.cv4_state: nn.ModuleList | None = last(count) if states == 3 else None
        self.one2one_cv4_state: nn.ModuleList | None = last(count) if states == 3 else None

    def outputs(self, maps: Sequence[Tensor], known: HeadOutput | None = None) -> HeadOutput:
        """[(B, cᵢ, hᵢ, wᵢ), …] → raw outputs of both branches; of the remaining one after `prune`.

        No gradient of the one-to-one branch reaches the feature maps: only the one-to-many branch trains them.
        """
        if not self.has_all_branches:
            return self._branch(self._prefix, maps, known)
        one2one = self._branch("one2one_", [x.detach() for x in maps], known.one2one if known else None)
        many = self._branch("", maps, known)
        return HeadOutput(many.boxes, many.scores, many.kpts, many.shapes, many.sigmas, one2one, many.states)

    @property
    def _prefix(self) -> str:
        """Prefix of the modules that evaluation mode uses."""
        return "one2one_" if self.end2end else ""

    def keypoint_branch(self) -> nn.ModuleList:
        """Return the modules that only the keypoints and their σ depend on, of both branches."""
        names = [prefix + name for prefix in ("", "one2one_") for name in (*_BRANCHES[2:], _STATE)]
        modules = [getattr(self, name, None) for name in (*names, "flow_model")]
        return nn.ModuleList([module for module in modules if module is not None])

    def _branch(self, prefix: str, maps: Sequence[Tensor], known: HeadOutput | None = None) -> HeadOutput:
        cv2, cv3, cv4, kpts, sigma = (getattr(self, prefix + name) for name in _BRANCHES)
        trunks = [trunk(x) for trunk, x in zip(cv4, maps, strict=True)]
        sigmas = None if sigma is None else concat_levels(sigma, trunks)
        state = getattr(self, prefix + _STATE)
        return HeadOutput(
            known.boxes if known else concat_levels(cv2, maps),
            known.scores if known else concat_levels(cv3, maps),
            concat_levels(kpts, trunks),
            feature_shapes(maps),
            sigmas,
            states=None if state is None else concat_levels(state, trunks),
        )

    def branches(self) -> list[LevelBranches]:
        """Return the modules of each level in the branch that evaluation mode uses."""
        states = getattr(self, self._prefix + _STATE) or [None] * len(self.stride)
        levels = zip(*(getattr(self, self._prefix + name) for name in _BRANCHES[:4]), states, strict=True)
        return [LevelBranches(box, cls, trunk, points, 1.0, 0.0, state) for box, cls, trunk, points, state in levels]

    def keypoint_layers(self) -> list[tuple[int, nn.Conv2d]]:
        """Return stride and module of every convolution that outputs keypoints, in both branches."""
        branches = (getattr(self, prefix + "cv4_kpts", None) for prefix in ("", "one2one_"))
        return [pair for convs in branches if convs is not None for pair in zip(self.stride, convs, strict=True)]

    def forward(self, maps: Sequence[Tensor]) -> HeadOutput | Tensor:
        """Return raw outputs of both branches in training mode, the decoded output of one in evaluation mode."""
        if self.training or not self.has_all_branches:
            return super().forward(maps)
        return self.decode(self._branch(self._prefix, maps))

    def decode(self, output: HeadOutput) -> Tensor:
        """Raw outputs → final detections with `end2end`, else all anchors; float32, pixels.

        Returns:
            (B, 4+nc+K·D, A): cx, cy, w, h, scores 0…1, keypoints; with `end2end` (B, `MAX_DET`, 6+K·D): x1, y1, x2,
            y2, score, class, keypoints by descending score; rows beyond the number of anchors have score 0. With
            three states K more values: the probability that each keypoint is visible. With `uncertainty` 2·K more
            values: σ in x and y of each keypoint.
        """
        if self.end2end:
            return self._decode_final(output.one2one or output)
        points, strides = self.anchors(output.shapes, output.boxes.device)
        boxes = decode_boxes(output.boxes.float(), points, strides)
        keypoints = self._decode_keypoints(output.kpts, points, strides)
        extra = [*self._decode_states(output.states, keypoints), *self._decode_sigmas(output.sigmas, strides)]
        return torch.cat((boxes, output.scores.float().sigmoid(), keypoints, *extra), 1)

    def _decode_final(self, output: HeadOutput) -> Tensor:
        """Decode the anchors of the best `MAX_DET` pairs of anchor and class."""
        points, strides = self.anchors(output.shapes, output.boxes.device)
        scores = output.scores.float()
        values = [output.boxes, output.kpts]
        has_sigmas = self.uncertainty and output.sigmas is not None
        values += [value for value in (output.states, output.sigmas if has_sigmas else None) if value is not None]
        # a captured graph for any input size cannot test the number of anchors, so it always pads
        missing = MAX_DET if is_tracing() else max(MAX_DET - scores.shape[2], 0)
        if missing:
            scores = functional.pad(scores, (0, missing), value=_PADDING_LOGIT)
            values = [functional.pad(value, (0, missing)) for value in values]
            points, strides = functional.pad(points, (0, missing)), functional.pad(strides, (0, missing))
        # first the best anchors, then the best pairs among them: a top-k over all pairs would be nc times larger
        anchors = scores.amax(1).topk(MAX_DET).indices  # (B, MAX_DET)
        pairs = scores.transpose(1, 2).gather(1, anchors[..., None].expand(-1, -1, self.nc)).flatten(1)
        best, index = pairs.topk(MAX_DET)
        anchor_idx = anchors.gather(1, index // self.nc)
        selected = [value.float().gather(2, anchor_idx[:, None].expand(-1, value.shape[1], -1)) for value in values]
        points = points[:, anchor_idx].transpose(0, 1)  # (B, 2, MAX_DET)
        strides = strides[anchor_idx][:, None]
        near, far = selected[0].chunk(2, 1)
        boxes = torch.cat((points - near, points + far), 1) * strides
        keypoints = self._decode_keypoints(selected[1], points[:, None], strides[:, None])
        classes = (index % self.nc)[:, None].to(best.dtype)
        states = self._decode_states(None if output.states is None else selected[2], keypoints)
        sigmas = self._decode_sigmas(selected[-1] if has_sigmas else None, strides)
        return torch.cat((boxes, best.sigmoid()[:, None], classes, keypoints, *states, *sigmas), 1).transpose(1, 2)

    def _decode_keypoints(self, raw: Tensor, points: Tensor, strides: Tensor) -> Tensor:
        """(B, K·D, A) raw → (B, K·D, A) x, y in pixels [and visibility 0…1], float32."""
        raw = raw.float().unflatten(1, self.kpt_shape)
        xy = (raw[:, :, :2] + points) * strides
        return (xy if self.kpt_shape[1] == 2 else torch.cat((xy, raw[:, :, 2:].sigmoid()), 2)).flatten(1, 2)

    def _decode_states(self, logits: Tensor | None, keypoints: Tensor) -> list[Tensor]:
        """Return [(B, K, A) probabilities that each of the (B, K·D, A) keypoints is visible], or [] with two states."""
        return [] if logits is None else decode_states(logits, keypoints.unflatten(1, self.kpt_shape)[:, :, 2])

    def _decode_sigmas(self, raw: Tensor | None, strides: Tensor) -> list[Tensor]:
        """Return [(B, 2·K, A) σ in pixels], or [] without `uncertainty`."""
        return [raw.float().sigmoid() * strides] if self.uncertainty and raw is not None else []

    def select_output(self, end2end: bool, uncertainty: bool = False) -> None:
        """Select the output of evaluation mode.

        Raises:
            ModelError: that branch, or σ, was pruned.
        """
        sigma = self.one2one_cv4_sigma if end2end else self.cv4_sigma
        if (not self.has_all_branches and end2end != self.end2end) or (uncertainty and sigma is None):
            raise ModelError(
                "The network was pruned to one branch by fuse(), and this output was removed: load the weights again."
            )
        self.end2end = end2end
        self.uncertainty = uncertainty

    def prune(self) -> None:
        """Remove what evaluation mode does not use: the other branch, the flow, and σ without `uncertainty`."""
        other = "" if self.end2end else "one2one_"
        removed = [other + name for name in (*_BRANCHES, _STATE)] + (
            [] if self.uncertainty else [f"{self._prefix}cv4_sigma"]
        )
        for name in (*removed, "flow_model"):
            setattr(self, name, None)
        self.has_all_branches = False

    def training_only_modules(self) -> list[nn.Module]:
        """Return the convolutions that only training needs: those of σ."""
        return [part for parts in (self.cv4_sigma, self.one2one_cv4_sigma) if parts is not None for part in parts]

    def reset_parameters(self) -> None:
        """Initialize the flow, and the biases of box and class branches."""
        if self.flow_model is not None:
            self.flow_model.reset_parameters()
        init_biases(self.cv2, self.cv3, self.stride)
        init_biases(self.one2one_cv2, self.one2one_cv3, self.stride)
        init_states(self.cv4_state)
        init_states(self.one2one_cv4_state)
