"""Data sets: YAML, label files and their cache, image decoding, validation batches; splits, merged and known sets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from yolopose.data.batches import ValBatch, ValBatches
from yolopose.data.dataset import Dataset, load_dataset, shipped_datasets
from yolopose.data.images import (
    IMAGE_SUFFIXES,
    decode_image,
    is_image,
    letterbox_batch,
    letterbox_into,
    read_image,
    read_reduced,
    to_bgr,
)
from yolopose.data.label_file import LabelIssue
from yolopose.data.labels import Annotations, ImageLabels, LabelCounts, load_labels
from yolopose.data.paths import label_path
from yolopose.data.side_names import infer_flip_idx

if TYPE_CHECKING:
    from yolopose.data.catalog import get_dataset, known_datasets
    from yolopose.data.merging import merge_datasets
    from yolopose.data.splitting import sample_dataset, split_dataset

__all__ = [
    "Dataset", "load_dataset", "shipped_datasets",
    "Annotations", "ImageLabels", "LabelCounts", "LabelIssue", "infer_flip_idx", "label_path", "load_labels",
    "ValBatch", "ValBatches",
    "IMAGE_SUFFIXES", "decode_image", "is_image", "read_image", "read_reduced", "to_bgr",
    "letterbox_batch", "letterbox_into",
    "get_dataset", "known_datasets", "merge_datasets", "sample_dataset", "split_dataset",
]  # fmt: skip

# imported when they are used: training and prediction do not need them
_MODULES = {
    "get_dataset": "catalog",
    "known_datasets": "catalog",
    "merge_datasets": "merging",
    "sample_dataset": "splitting",
    "split_dataset": "splitting",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
