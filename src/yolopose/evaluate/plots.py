"""Curves and the confusion matrix as PNG images; matplotlib is optional and its state is left alone."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.files import atomic_path
from yolopose.base.log import warn_once
from yolopose.evaluate.metric import Metric

_DPI = 200
_LEGEND_CLASSES = 20  # more classes than this are drawn in gray, without names
_CELL_NUMBERS = 30  # more classes than this get no numbers in the cells of the matrix
_MEAN_COLOR = "#0b2a6f"


@dataclass(frozen=True, slots=True)
class _Plot:
    """One curve image: file suffix, labels, values per class, text of the legend's mean line."""

    file: str
    x_label: str
    y_label: str
    curves: npt.NDArray[np.float64]
    mean_label: str
    notes: Sequence[str]


def plot_curves(
    metric: Metric,
    names: Mapping[int, str],
    folder: str | Path,
    prefix: str,
    on_plot: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Draw the PR, F1, P and R curves of one kind into a folder.

    Args:
        metric: the scores.
        names: class names by index.
        folder: where `<prefix>PR_curve.png`, `…F1…`, `…P…` and `…R…` go.
        prefix: `Box` or `Pose`.
        on_plot: called with the path of each image.

    Returns:
        The images written; none where matplotlib is missing.
    """
    written: list[Path] = []
    classes = [names.get(int(index), str(index)) for index in metric.ap_class_index]
    for plot in _plots(metric):
        path = Path(folder) / f"{prefix}{plot.file}_curve.png"
        figure = new_figure(10, 6)
        if figure is None:
            break
        _draw_curves(figure, metric.px, plot, classes, f"{prefix} {plot.y_label}-{plot.x_label}")
        save_figure(figure, path)
        written.append(path)
        if on_plot:
            on_plot(path)
    return written


def _plots(metric: Metric) -> list[_Plot]:
    pr = _Plot(
        "PR", "Recall", "Precision", metric.prec_values, f"all classes: {metric.map50:.3f} mAP50",
        [f"{value:.3f}" for value in metric.ap50],
    )  # fmt: skip
    result = [pr]
    for file, label, curves in (
        ("F1", "F1", metric.f1_curve),
        ("P", "Precision", metric.p_curve),
        ("R", "Recall", metric.r_curve),
    ):
        mean = curves.mean(axis=0) if len(curves) else np.zeros(len(metric.px))
        best = int(mean.argmax())
        text = f"all classes: best {mean[best]:.2f} at {metric.px[best]:.3f}"
        result.append(_Plot(file, "Confidence", label, curves, text, [""] * len(curves)))
    return result


def _draw_curves(figure: Any, x: npt.NDArray[np.float64], plot: _Plot, classes: list[str], title: str) -> None:
    axes = figure.subplots()
    many = len(classes) > _LEGEND_CLASSES
    if len(classes) > 1:
        for name, note, curve in zip(classes, plot.notes, plot.curves, strict=True):
            style = {"color": "0.7"} if many else {"label": f"{name} {note}".strip()}
            axes.plot(x, curve, linewidth=1, **style)
    if len(classes):
        label = plot.mean_label if len(classes) > 1 else plot.mean_label.replace("all classes", classes[0])
        axes.plot(x, plot.curves.mean(axis=0), linewidth=2.5, color=_MEAN_COLOR, label=label)
        beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "frameon": False}
        above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "frameon": False}  # where no curve can pass
        axes.legend(**(beside if len(classes) > 1 else above))
    axes.set(xlabel=plot.x_label, ylabel=plot.y_label, xlim=(0, 1), ylim=(0, 1.01), title=title)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def plot_confusion(matrix: npt.NDArray[np.float64], names: Sequence[str], path: Path, normalized: bool) -> bool:
    """Draw a confusion matrix.

    Args:
        matrix: (n, n) rows predicted, columns true, `background` last.
        names: n names.
        path: the PNG.
        normalized: values are shares 0…1.

    Returns:
        False where matplotlib is missing and nothing was written.
    """
    count = len(names)
    side = min(max(5.5, 0.55 * count), 24)
    figure = new_figure(side + 1.5, side)
    if figure is None:
        return False
    axes = figure.subplots()
    top = 1.0 if normalized else max(float(matrix.max()), 1.0)
    # an empty cell stays white, so that what happens at all stands out
    shown = axes.imshow(np.where(matrix > 0, matrix, np.nan), cmap="Blues", vmin=0, vmax=top)
    figure.colorbar(shown, ax=axes, fraction=0.045, pad=0.03)
    if count <= _CELL_NUMBERS:
        size = 12 if count < 8 else 8 if count < 18 else 6
        for row, column in np.argwhere(matrix >= (0.005 if normalized else 0.5)):
            value = float(matrix[row, column])
            color = "white" if value > 0.55 * top else "0.1"
            text = f"{value:.2f}" if normalized else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    if count <= 100:
        axes.set_xticks(range(count), names, rotation=90 if count > 6 else 0)
        axes.set_yticks(range(count), names)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set(xlabel="True", ylabel="Predicted", title=f"Confusion matrix{', share of each true class' * normalized}")
    save_figure(figure, path)
    return True


def new_figure(width: float, height: float) -> Any:
    """Make a figure of that many inches with a canvas of its own; the caller's backend and figures stay as they are.

    Returns:
        The figure; None, with a note, where matplotlib is missing.
    """
    try:
        figure = importlib.import_module("matplotlib.figure").Figure(figsize=(width, height), layout="constrained")
        importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    except ImportError:
        warn_once("The plots are left out: matplotlib is not installed (pip install matplotlib, or plots=False).")
        return None
    return figure


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure, whole or not at all; the suffix of the path chooses the kind."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=_DPI)
