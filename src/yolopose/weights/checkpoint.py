"""`Checkpoint`: what a weights file holds, whoever wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from yolopose.base.errors import WeightsError
from yolopose.schema import ModelMetadata, PoseSpec


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """Weights and the record that travels with them.

    Attributes:
        state: parameters and buffers by name; floats are float32 once read.
        model_yaml: the model YAML as a dict; empty when the file holds a bare state_dict.
        metadata: classes, keypoints, stride, …; None when the file does not say.
        train_args: training arguments, plain values.
        metrics: validation metrics at that time.
        epoch: last finished epoch from 0; -1 for a finished training or where it is not known.
        date: when it was written, ISO 8601; may be empty.
        version: version of the writing package; may be empty.
        license: license of the weights, as the file says; may be empty.
        origin: who wrote the file: `yolopose`, `reference` (a public checkpoint or state_dict), or `safetensors`
            (without our record).
        dtype: floating-point type that the file stores, `float32` or `float16`.
        extra: training state (optimizer, scaler, …): plain values, lists, dicts and tensors. Kept in .pt files only.
    """

    state: dict[str, Tensor]
    model_yaml: dict[str, Any] = field(default_factory=dict[str, Any])
    metadata: ModelMetadata | None = None
    train_args: dict[str, Any] = field(default_factory=dict[str, Any])
    metrics: dict[str, Any] = field(default_factory=dict[str, Any])
    epoch: int = -1
    date: str = ""
    version: str = ""
    license: str = ""
    origin: str = "yolopose"
    dtype: str = "float32"
    extra: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def spec(self) -> PoseSpec:
        """Classes and keypoints.

        Raises:
            WeightsError: the file does not say, or its network is none for poses.
        """
        if self.metadata is None:
            raise WeightsError(
                "These weights come without the architecture and keypoints of a pose network, so they are no model by "
                'themselves. Build one from a YAML and move them in: `YOLO("yolo11n-pose.yaml").load("weights.pt")`.'
            )
        return self.metadata.spec
