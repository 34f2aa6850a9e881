"""`Checkpoint`: the content of a weights file, independent of the package that wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from yolopose.base.errors import WeightsError
from yolopose.schema import ModelMetadata, PoseSpec


@dataclass(slots=True, kw_only=True)
class Checkpoint:
    """Weights with their metadata and training state.

    Attributes:
        state: parameters and buffers by name; floats are float32 after reading.
        model_yaml: the model YAML as a dict; empty for a bare state_dict.
        metadata: classes, keypoints, stride, …; None where the file has none.
        train_args: training arguments, plain values.
        metrics: validation metrics of these weights.
        epoch: last finished epoch from 0; -1 after a finished training or where unknown.
        date: when it was written, ISO 8601; may be empty.
        version: version of the writing package; may be empty.
        license: license of the weights according to the file; may be empty.
        origin: `yolopose`, `reference` (a public checkpoint or state_dict) or `safetensors` (not written by us).
        dtype: floating-point type in the file, `float32` or `float16`.
        extra: training state (optimizer, scaler, …): plain values, lists, dicts and tensors. Stored only in .pt files.
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
            WeightsError: the file has no metadata of a pose network.
        """
        if self.metadata is None:
            raise WeightsError(
                "These weights come without the architecture and keypoints of a pose network, so they are not a model. "
                'Build one from a YAML and load the weights into it: `YOLO("yolo11n-pose.yaml").load("weights.pt")`.'
            )
        return self.metadata.spec
