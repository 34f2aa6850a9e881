"""Training of the keypoint branch alone before the first epoch, on feature maps that are computed once.

Where the weights know other keypoints, the keypoint branch starts from random values. Its large first gradients would
distort the learned features (LP-FT, arXiv 2202.10054), and most steps of a short run would pass before the branch has
learned where the keypoints are. Behind frozen layers a sample always has the same feature maps, so a step of the branch
costs a few percent of a step of the whole network.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from yolopose.base.log import LOGGER
from yolopose.config import TrainSettings
from yolopose.criterion import Targets, build_criterion
from yolopose.nn import HeadOutput, PoseModel
from yolopose.train.auto_batch import memory_meter
from yolopose.train.data import TrainData, class_weights
from yolopose.train.feed import TrainBatch, TrainBatches
from yolopose.train.fused_step import make_adamw
from yolopose.train.precision import Precision
from yolopose.train.process import is_async

_VIEWS = 3
"""Augmented samples per training image."""
_MAX_SAMPLES = 1024
_MEMORY_SHARE = 0.1
"""Largest share of the free memory for feature maps and outputs."""
_BATCH = 16
_LEARNING_RATE = 0.005
_BETAS = (0.9, 0.999)
_WARMUP_STEPS = 20
_MAX_NORM = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class _Samples:
    """N training samples behind the frozen layers.

    Attributes:
        maps: feature maps of each level, (N, C, h, w).
        outputs: of the head; their keypoints are not used.
        labels: classes, normalized boxes and normalized keypoints of each sample.
        size: (height, width) of the network input.
    """

    maps: list[Tensor]
    outputs: HeadOutput
    labels: list[tuple[Tensor, Tensor, Tensor]]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def targets(self, index: Tensor) -> Targets:
        """Return the ground truth of a batch of samples."""
        labels = [self.labels[i] for i in index.tolist()]
        counts = torch.tensor([len(classes) for classes, _, _ in labels])
        classes, boxes, keypoints = (torch.cat(column) for column in zip(*labels, strict=True))
        batch_idx = torch.arange(len(index)).repeat_interleave(counts)
        return Targets.from_normalized(batch_idx, classes, boxes, keypoints, self.size)


def warm_up_head(network: PoseModel, data: TrainData, settings: TrainSettings, device: torch.device) -> float:
    """Train the keypoint branch for `head_steps` steps; all other parameters and statistics stay as they are.

    Nothing happens where `freeze` includes the branch.

    Args:
        network: changed in place; it is on `device` afterwards.
        data: of the run.
        settings: of the run.
        device: where to compute.

    Returns:
        The seconds that it took.
    """
    steps = settings.head_steps
    start = time.monotonic()
    branch = network.head.keypoint_branch()
    parameters = [parameter for parameter in branch.parameters() if parameter.requires_grad]
    if not parameters:
        return 0.0
    network.to(device)
    precision = Precision(settings.amp, device)
    samples = _make_samples(network, data, settings, precision, device)
    weights = class_weights(data.train, data.spec.nc, settings.cls_pw)
    criterion = build_criterion(network, data.spec, settings, weights, settings.assigner)
    branch.train()
    optimizer = make_adamw([{"params": parameters, "weight_decay": 0.0}], _LEARNING_RATE, _BETAS)
    rng = np.random.default_rng(settings.seed)
    losses: list[Tensor] = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps)
        index = torch.from_numpy(rng.choice(len(samples), min(_BATCH, len(samples)), replace=False))
        on_device = index.to(device)
        with precision.autocast():
            output = network.head.outputs(
                [level[on_device] for level in samples.maps], known=_select(samples.outputs, on_device)
            )
        terms = criterion(output, samples.targets(index))
        precision.backward(terms.total)
        precision.step(optimizer, parameters, _MAX_NORM, on_device=is_async(device))
        optimizer.zero_grad()
        losses.append(terms.items["pose"])  # read at the end, so that a GPU does not wait
    network.train()
    values = torch.stack(losses).tolist()
    seconds = time.monotonic() - start
    LOGGER.info(
        f"Keypoint branch: {steps} steps on {len(samples)} samples with the other layers frozen in {seconds:.0f} s; "
        f"pose loss {np.mean(values[:10]):.3g} to {np.mean(values[-10:]):.3g}."
    )
    return seconds


@torch.no_grad()
def _make_samples(
    network: PoseModel, data: TrainData, settings: TrainSettings, precision: Precision, device: torch.device
) -> _Samples:
    """Run the frozen layers once on augmented samples of the training images."""
    network.eval()
    # Samples of one shape, since every step takes other ones; the run fills its cache in memory, this one reads files.
    source = replace(settings, rect=False, cache=settings.cache if settings.cache == "disk" else False)
    batches = TrainBatches(data.train, data.spec, source, imgsz=settings.imgsz, batch=_BATCH, workers=0)
    maps: list[list[Tensor]] = []
    outputs: list[HeadOutput] = []
    labels: list[tuple[Tensor, Tensor, Tensor]] = []
    size, limit = (settings.imgsz, settings.imgsz), 0
    for view in range(_VIEWS):
        # epochs after those of the run, whose samples are others
        for batch in batches.epoch(settings.epochs + view, multi_image=True):
            images = batch.images.to(device).to(torch.float32, memory_format=torch.channels_last).div_(255)
            with precision.autocast():
                maps.append(network.features(images))
                outputs.append(network.head.outputs(maps[-1]))
            labels += _labels_of(batch)
            limit = limit or min(_VIEWS * len(data.train), _sample_limit(maps[0], outputs[0], device))
            if len(labels) >= limit:
                break
        if len(labels) >= limit:
            break
    batches.close()
    return _Samples([torch.cat(level) for level in zip(*maps, strict=True)], _concat(outputs), labels, size)


def _labels_of(batch: TrainBatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    parts = [batch.slice_images(i, i + 1) for i in range(len(batch))]
    return [(part.classes, part.boxes, part.keypoints) for part in parts]


def _sample_limit(maps: list[Tensor], outputs: HeadOutput, device: torch.device) -> int:
    """Return the number of samples that fit the share of the memory."""
    values = [*maps, *_tensors(outputs)]
    per_sample = sum(value.nbytes for value in values) / len(maps[0])
    meter = memory_meter(device)
    # the final concatenation holds everything twice
    fitting = _MEMORY_SHARE * meter.free() / (2 * per_sample) if meter else _MAX_SAMPLES
    return max(min(_MAX_SAMPLES, int(fitting)), _BATCH)


def _learning_rate(step: int, steps: int) -> float:
    """Return the rate of a step: a short linear warm-up, then half a cosine."""
    return _LEARNING_RATE * min(1.0, (step + 1) / _WARMUP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


# -- outputs of a head ------------------------------------------------------------------------------


def _tensors(output: HeadOutput) -> list[Tensor]:
    own = [value for field in fields(output) if isinstance(value := getattr(output, field.name), Tensor)]
    return own + (_tensors(output.one2one) if output.one2one else [])


def _select(output: HeadOutput, index: Tensor) -> HeadOutput:
    """Return the boxes and scores of some images."""
    one2one = _select(output.one2one, index) if output.one2one else None
    return HeadOutput(output.boxes[index], output.scores[index], output.kpts[:0], output.shapes, None, one2one)


def _concat(outputs: list[HeadOutput]) -> HeadOutput:
    """Concatenate the boxes and scores of batches; their keypoints are dropped."""
    first = outputs[0]
    boxes, scores = torch.cat([output.boxes for output in outputs]), torch.cat([output.scores for output in outputs])
    one2one = _concat([output.one2one for output in outputs if output.one2one]) if first.one2one else None
    return HeadOutput(boxes, scores, first.kpts[:0], first.shapes, None, one2one)
