"""Output of a training run: console lines, results.csv and plots."""

from yolopose.train.record.console import HEADER_EVERY, EpochLine, epoch_summary, final_report
from yolopose.train.record.plots import plot_labels, plot_results, plot_train_batch
from yolopose.train.record.results_csv import COLUMNS, History, results_columns

__all__ = [
    "COLUMNS", "HEADER_EVERY", "EpochLine", "History", "epoch_summary", "final_report", "plot_labels", "plot_results",
    "plot_train_batch", "results_columns",
]  # fmt: skip
