"""What a run tells: its rows, its progress line, its images."""

from yolopose.train.record.console import EpochLine
from yolopose.train.record.images import plot_labels, plot_train_batch
from yolopose.train.record.plots import plot_results
from yolopose.train.record.results_csv import COLUMNS, History, results_columns
from yolopose.train.record.said import HEADER_EVERY, epoch_summary, final_report

__all__ = [
    "COLUMNS", "HEADER_EVERY", "EpochLine", "History", "epoch_summary", "final_report", "plot_labels", "plot_results",
    "plot_train_batch", "results_columns",
]  # fmt: skip
