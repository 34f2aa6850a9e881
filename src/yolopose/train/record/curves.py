"""results.png: how losses and metrics went, epoch by epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from yolopose.evaluate.plots import new_figure, save_figure
from yolopose.train.record.history import COLUMNS, History

_SMOOTH = 9  # epochs that the smooth line averages over


def save_results_picture(history: History, path: Path) -> None:
    """Draws a small panel for each loss and metric against the epoch.

    Args:
        history: the rows.
        path: the PNG; not written where matplotlib is missing.

    Raises:
        OutputError: it cannot be written.
    """
    names = [name for name in COLUMNS if name.startswith(("train/", "val/", "metrics/"))]
    figure = new_figure(18, 9)
    if figure is None:
        return
    epochs = history.column("epoch")
    for place, name in enumerate(names, 1):
        axes = figure.add_subplot(3, 6, place)
        _draw(axes, epochs, np.array(history.column(name)), name)
    save_figure(figure, path)


def _draw(axes: Any, epochs: list[float], values: np.ndarray, name: str) -> None:
    axes.plot(epochs, values, marker="." if len(values) < 50 else None, linewidth=1.5, color="#1f5fbf")
    known = np.isfinite(values)
    if known.sum() > _SMOOTH:
        axes.plot(np.array(epochs)[known], smooth(values[known]), linewidth=1.5, color="#e08214", linestyle=":")
    axes.set_title(name, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if name.startswith("metrics/"):
        axes.set_ylim(0, 1)


def smooth(values: np.ndarray) -> np.ndarray:
    """Returns running means over `_SMOOTH` epochs; at the ends over as many as there are."""
    kernel = np.ones(_SMOOTH)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
