"""What a run tells: its rows, its progress line, its images."""

from yolopose.train.record.curves import save_results_image
from yolopose.train.record.history import COLUMNS, History, columns_of
from yolopose.train.record.images import save_labels_image, save_train_batch
from yolopose.train.record.line import EpochLine
from yolopose.train.record.said import HEAD_EVERY, epoch_lines, final_lines

__all__ = [
    "COLUMNS", "HEAD_EVERY", "EpochLine", "History", "columns_of", "epoch_lines", "final_lines", "save_labels_image",
    "save_results_image", "save_train_batch",
]  # fmt: skip
