"""Distillation: a trained teacher guides the network by its feature maps and by its outputs.

Feature maps are compared by the correlation of each channel over all positions (PKD, Cao et al., arXiv 2207.02039), so
that teacher and student may have values of any size; a 1×1 convolution per level, the adapter, maps the channels of the
student to those of the teacher. Outputs are compared at the anchors that the teacher is confident of, with the losses
of the ground truth: boxes by CIoU, keypoints by OKS, scores and visibility by the divergence of the probabilities.

The teacher sees the augmented images of the student, once per batch and without gradients. Adapters are trained with
the network and stored in `last.pt` of an unfinished run only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from yolopose.base.download import sha256
from yolopose.base.errors import TrainError, UsageError
from yolopose.config import TrainSettings
from yolopose.criterion.similarity import ciou
from yolopose.formats import format_for_path, open_runtime
from yolopose.nn import HeadOutput, PoseModel
from yolopose.schema import ModelMetadata, PoseSpec
from yolopose.train.recipe import has_same_keypoints

TERMS = ("dis_feature", "dis_output")
"""Names of the losses, after those of the criterion."""

_MAX_ANCHORS = 256
"""Anchors of an image at which boxes and keypoints are compared: those with the highest scores of the teacher."""
_MIN_SCORE = 0.1
"""Score of the teacher below which the boxes and keypoints of an anchor are not compared."""
_EPS = 1e-6


class Teacher:
    """A trained network or exported file that guides a training.

    Args:
        path: weights, or an exported file without NMS.
        device: where the student is trained.

    Attributes:
        path: as given.
        runtime: the engine.
        network: the network in evaluation mode, without gradients; None for an exported file.
        metadata: its metadata.

    Raises:
        UsageError: the file has only final detections, or its engine does not run on this device.
        NotFoundError: the file does not exist.
        WeightsError: the file is damaged.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.path = path
        self.runtime: Any = open_runtime(path, device="cpu" if device.type == "cpu" else str(device))
        self.network: PoseModel | None = self.runtime.network if format_for_path(path).info.weights else None
        self.metadata: ModelMetadata = self.runtime.metadata
        if self.metadata.end2end or not hasattr(self.runtime, "raw"):
            raise UsageError(
                f"distill_model={path} contains only final detections, but the outputs at all anchors are needed: "
                "export it without nms=True and end2end=True, or give its .pt."
            )

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[list[Tensor] | None, Tensor]:
        """Run the teacher.

        Args:
            images: (B, C, H, W) 0…1.

        Returns:
            The feature maps that its head reads, None for an exported file; and its outputs (B, 4+nc+K·D, A) float32:
            cx, cy, w, h in pixels, scores, keypoints in pixels.
        """
        if self.network is None:
            raw = self.runtime.raw(images.float().cpu().contiguous().numpy())
            return None, torch.from_numpy(np.array(raw, dtype=np.float32)).to(images.device)
        maps = self.network.features(images)
        output = self.network.head(maps)
        assert isinstance(output, Tensor)  # noqa: S101  # a head in evaluation mode
        return maps, output

    def digest(self) -> str:
        """Return the SHA-256 of the file, or of the files of a folder."""
        if self.path.is_file():
            return sha256(self.path)
        return "-".join(sha256(file) for file in sorted(self.path.rglob("*")) if file.is_file())


def class_columns(teacher: PoseSpec, spec: PoseSpec) -> list[int] | None:
    """Return the class of the teacher for each class of the data, by name or else by position; None if there is none.

    Args:
        teacher: classes of the teacher.
        spec: classes of the data.
    """
    if set(spec.classes) <= set(teacher.classes):
        return [teacher.classes.index(name) for name in spec.classes]
    return list(range(spec.nc)) if teacher.nc == spec.nc else None


def check_teacher(teacher: Teacher, student: PoseModel, spec: PoseSpec, settings: TrainSettings) -> None:
    """Check that a teacher fits the network and the data.

    Raises:
        UsageError: it does not; the message has the remedy.
    """
    name = f"distill_model={teacher.path}"
    metadata = teacher.metadata
    if metadata.spec.channels != spec.channels:
        raise UsageError(
            f"{name} reads images of {metadata.spec.channels} channels, but the network {spec.channels}: both see the "
            "same images."
        )
    if not metadata.dynamic and (metadata.imgsz != (settings.imgsz,) * 2 or settings.multi_scale or settings.rect):
        raise UsageError(
            f"{name} was exported only for {list(metadata.imgsz)}, but images have {settings.imgsz} pixels"
            f"{' and other sizes' if settings.multi_scale or settings.rect else ''}: export it with dynamic=True or "
            f"imgsz={settings.imgsz}."
        )
    if not settings.dis_output:
        if teacher.network is None:
            raise UsageError(f"{name} is an exported file, which has no feature maps: dis_output=0 leaves nothing.")
        return
    columns = class_columns(metadata.spec, spec)
    if columns is None or not has_same_keypoints(metadata.spec, spec):
        raise UsageError(
            f"{name} predicts {metadata.spec.nc} classes and keypoints of shape {list(metadata.spec.keypoints.shape)}, "
            f"the data set has {spec.nc} and {list(spec.keypoints.shape)} (or other names): train the teacher on this "
            "data set first, or set dis_output=0 to use its feature maps only."
        )
    strides = teacher.network.stride if teacher.network else student.stride
    if strides != student.stride:
        raise UsageError(
            f"{name} has anchors with strides {list(strides)}, the network {list(student.stride)}: their outputs "
            "cannot be compared. Choose networks of the same kind, or set dis_output=0 to use feature maps only."
        )


class Distiller:
    """The losses of a network against its teacher.

    Args:
        teacher: the teacher.
        student: the network, on the device.
        spec: classes and keypoints of the data.
        settings: gains: `dis` of the feature maps, `dis_output` of the outputs, on top of `box`, `cls`, `pose`, `kobj`.
        device: where to compute.

    Attributes:
        adapters: a 1×1 convolution for each level that both have; the optimizer of the run trains them.

    Raises:
        UsageError: the teacher does not fit.
    """

    def __init__(
        self, teacher: Teacher, student: PoseModel, spec: PoseSpec, settings: TrainSettings, device: torch.device
    ) -> None:
        check_teacher(teacher, student, spec, settings)
        self._teacher = teacher
        self._head = student.head
        self._settings = settings
        self._columns = class_columns(teacher.metadata.spec, spec) or []
        self._kpt_shape = spec.keypoints.shape
        self._kpt_variance = (2 * torch.tensor(spec.keypoints.oks_sigmas, dtype=torch.float32)).square().to(device)
        own, other = student.stride, teacher.network.stride if teacher.network and settings.dis else ()
        self._levels = [(own.index(stride), other.index(stride)) for stride in own if stride in other]
        if settings.dis and teacher.network is not None and not self._levels:
            raise UsageError(f"distill_model={teacher.path} has no level with a stride of the network, {list(own)}.")
        self.adapters = self._make_adapters(student, settings.seed).to(device)

    def __str__(self) -> str:
        parts = [f"feature maps of {len(self._levels)} levels"] if self._levels else []
        parts += ["outputs"] if self._settings.dis_output else []
        return f"{' and '.join(parts)} of {self._teacher.path}"

    def _make_adapters(self, student: PoseModel, seed: int) -> nn.ModuleList:
        """Make adapters; between equal numbers of channels they start as the identity."""
        if not self._levels or self._teacher.network is None:
            return nn.ModuleList()
        own, other = (_channels(network) for network in (student, self._teacher.network))
        adapters = nn.ModuleList()
        with torch.random.fork_rng(devices=[]):  # the run draws the same numbers as without a teacher
            torch.manual_seed(seed)
            for level, teacher_level in self._levels:
                adapter = nn.Conv2d(own[level], other[teacher_level], 1, bias=False, device="cpu")
                if own[level] == other[teacher_level]:
                    nn.init.dirac_(adapter.weight)
                adapters.append(adapter)
        return adapters

    def losses(self, images: Tensor, maps: Sequence[Tensor], output: HeadOutput) -> tuple[Tensor, Tensor]:
        """Compute the losses of a batch; call it within the autocast of the forward pass.

        Args:
            images: (B, C, H, W) 0…1, as the student saw them.
            maps: feature maps that the head of the student reads.
            output: its raw output.

        Returns:
            The tensor to differentiate, sum of both × B; and the (2,) losses by `TERMS`, without gradient.

        Raises:
            UsageError: the teacher has another number of anchors.
        """
        teacher_maps, target = self._teacher(images)
        zero = output.scores.new_zeros((), dtype=torch.float32)
        feature = self._feature_loss(maps, teacher_maps) if teacher_maps and self._levels else zero
        with torch.autocast(images.device.type, enabled=False):
            outputs = self._output_losses(output, target) if self._settings.dis_output else zero
        values = torch.stack((feature * self._settings.dis, outputs * self._settings.dis_output))
        return values.sum() * len(images), values.detach()

    def _feature_loss(self, maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
        losses = [
            correlation_loss(adapter(maps[level]), teacher_maps[teacher_level])
            for adapter, (level, teacher_level) in zip(self.adapters, self._levels, strict=True)
        ]
        return torch.stack(losses).mean()

    def _output_losses(self, output: HeadOutput, target: Tensor) -> Tensor:
        """Return the mean over the branches of the head."""
        branches = [output, *([output.one2one] if output.one2one is not None else [])]
        return torch.stack([self._branch_loss(branch, target) for branch in branches]).mean()

    def _branch_loss(self, output: HeadOutput, target: Tensor) -> Tensor:
        count, dims = self._kpt_shape
        nc = self._teacher.metadata.spec.nc
        if target.shape[2] != output.scores.shape[2]:
            raise UsageError(
                f"distill_model={self._teacher.path} has {target.shape[2]} anchors, the network "
                f"{output.scores.shape[2]}: their outputs cannot be compared. Set dis_output=0, or choose a teacher of "
                "the same strides."
            )
        scores = target[:, 4 : 4 + nc][:, self._columns].clamp(0, 1)
        cls = divergence(output.scores.float(), scores).sum() / scores.sum().clamp(min=1)
        best = scores.amax(1)
        weight, anchors = best.topk(min(_MAX_ANCHORS, best.shape[1]))  # a fixed number: a GPU need not be waited for
        weight = torch.where(weight > _MIN_SCORE, weight, 0.0)

        def at_anchors(values: Tensor) -> Tensor:
            return values.float().gather(2, anchors[:, None].expand(-1, values.shape[1], -1)).transpose(1, 2)

        own, other = at_anchors(self._head.decode(output)), at_anchors(target[:, : 4 + nc + count * dims])
        boxes, target_boxes = _corners(own[..., :4]).flatten(0, 1), _corners(other[..., :4]).flatten(0, 1)
        total = weight.sum().clamp(min=1)
        box = ((1 - ciou(boxes, target_boxes)) * weight.flatten()).sum() / total
        starts = (4 + output.scores.shape[1], 4 + nc)  # states of visibility may follow the keypoints
        points, target_points = (
            values[..., start : start + count * dims].unflatten(2, (count, dims))
            for values, start in zip((own, other), starts, strict=True)
        )
        visible = target_points[..., 2] if dims == 3 else torch.ones_like(target_points[..., 0])
        area = (other[..., 2] * other[..., 3])[..., None].clamp(min=1)
        error = points[..., :2] - target_points[..., :2]
        dissimilarity = 1 - torch.exp(-error.square().sum(3) / (self._kpt_variance * area * 2))
        dissimilarity = dissimilarity + self._settings.kpt_l1 * error.abs().sum(3) / area.sqrt()
        factor = weight[..., None] * visible
        pose = (dissimilarity * factor).sum() / factor.sum().clamp(min=1)
        kobj = pose.new_zeros(())
        if dims == 3:
            logits = at_anchors(output.kpts).unflatten(2, self._kpt_shape)[..., 2]
            kobj = (divergence(logits, visible.clamp(0, 1)).mean(2) * weight).sum() / total
        gains = self._settings
        return gains.box * box + gains.cls * cls + gains.pose * pose + gains.kobj * kobj

    # -- checkpoints ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {"teacher": self._teacher.digest(), "adapters": self.adapters.state_dict()}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore `state_dict()`.

        Raises:
            TrainError: the teacher is another one.
        """
        if saved["teacher"] != self._teacher.digest():
            raise TrainError(
                f"{self._teacher.path} is not the teacher of the interrupted run: its content differs. Restore the "
                "file, or begin a new run."
            )
        self.adapters.load_state_dict(saved["adapters"])


def make_distiller(
    settings: TrainSettings, student: PoseModel, spec: PoseSpec, device: torch.device
) -> Distiller | None:
    """Open the teacher of a run; None without `distill_model`.

    Raises:
        UsageError: the teacher does not fit.
        NotFoundError: the file does not exist.
        WeightsError: the file is damaged.
    """
    if not settings.distill_model:
        return None
    return Distiller(Teacher(Path(settings.distill_model), device), student, spec, settings, device)


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean over channels of 1 − correlation over all positions of the batch (PKD, arXiv 2207.02039).

    Args:
        student: (B, C, H, W).
        teacher: (B, C, H, W).
    """
    return (_standardize(student.float()) - _standardize(teacher.float())).square().mean() / 2


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Return the divergence of probabilities from targets 0…1, element by element; 0 where they are equal."""
    cross = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return cross - functional.binary_cross_entropy(target, target, reduction="none")


def _standardize(x: Tensor) -> Tensor:
    mean = x.mean((0, 2, 3), keepdim=True)
    centered = x - mean
    return centered / (centered.square().mean((0, 2, 3), keepdim=True).sqrt() + _EPS)


def _corners(boxes: Tensor) -> Tensor:
    """(…, 4) cx, cy, w, h → x1, y1, x2, y2."""
    center, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat((center - half, center + half), -1)


def _channels(network: PoseModel) -> list[int]:
    """Return the channels of the maps that the head reads."""
    training = network.training
    parameter = next(network.parameters())
    side = 2 * max(network.stride)
    try:
        with torch.no_grad():
            maps = network.eval().features(parameter.new_zeros(1, network.spec.channels, side, side))
    finally:
        network.train(training)
    return [x.shape[1] for x in maps]
