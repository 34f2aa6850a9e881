"""results.png: how losses and metrics went, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from yolopose.evaluate.plots import new_figure, save_figure
from yolopose.train.record.results_csv import History

_SMOOTH = 9  # epochs that the smooth line averages over


def plot_results(history: History, path: Path) -> None:
    """Draw a small panel for each loss and metric against the epoch.

    Training losses stand above those of validation, box metrics above pose metrics.

    Args:
        history: the rows.
        path: the PNG; not written where matplotlib is missing.

    Raises:
        OutputError: it cannot be written.
    """
    figure = new_figure(22, 6)
    if figure is None:
        return
    epochs = np.array(history.column("epoch"))
    columns = history.columns
    rows = [
        [name for name in columns if name.startswith(part)] + [name for name in columns if name.endswith(kind)]
        for part, kind in (("train/", "(B)"), ("val/", "(P)"))
    ]
    panels = figure.subplots(len(rows), len(rows[0]), sharex=True)
    for names, row in zip(rows, panels, strict=True):
        for name, axes in zip(names, row, strict=True):
            _draw(axes, epochs, np.array(history.column(name)), name)
    save_figure(figure, path)


def _draw(axes: Any, epochs: np.ndarray, values: np.ndarray, name: str) -> None:
    known = np.isfinite(values)  # epochs without validation are bridged, for a lone value between gaps has no line
    epochs, values = epochs[known], values[known]
    axes.plot(epochs, values, marker="." if len(values) < 50 else None, linewidth=1.5, color="#1f5fbf")
    if len(values) > _SMOOTH:
        axes.plot(epochs, smooth(values), linewidth=1.5, color="#e08214", linestyle=":")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_title(name, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if name.startswith("metrics/"):
        axes.set_ylim(-0.02, 1.02)


def smooth(values: np.ndarray) -> np.ndarray:
    """Return running means over `_SMOOTH` epochs; at the ends over as many as there are."""
    kernel = np.ones(_SMOOTH)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
