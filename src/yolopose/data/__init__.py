"""Data sets: YAML, label files and their cache, image decoding, validation batches."""

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
from yolopose.data.yaml_checks import infer_flip_idx

__all__ = [
    "Dataset", "load_dataset", "shipped_datasets",
    "Annotations", "ImageLabels", "LabelCounts", "LabelIssue", "infer_flip_idx", "label_path", "load_labels",
    "ValBatch", "ValBatches",
    "IMAGE_SUFFIXES", "decode_image", "is_image", "read_image", "read_reduced", "to_bgr",
    "letterbox_batch", "letterbox_into",
]  # fmt: skip
