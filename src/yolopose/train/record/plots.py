"""Plots of a training run: results.png, labels.jpg and the first batches."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data import Annotations
from yolopose.evaluate.plots import GRID_IMAGES, Overlay, image_grid, new_figure, plot_label, save_figure
from yolopose.geometry import cxcywh_to_xyxy
from yolopose.results.writing import save_image
from yolopose.schema import PoseSpec
from yolopose.train.feed import TrainBatch
from yolopose.train.record.results_csv import History

_BLUE = "#1f5fbf"
_ORANGE = "#e08214"
_BAR_COLORS = {"hidden": "#8fb8e8", "unlabeled": "#d0d0d0"}
_SMOOTHING = 9  # epochs
_MAX_OUTLINES = 500  # boxes
_MAX_NAMES = 30  # classes or keypoints; more are not named


def plot_results(history: History, path: Path) -> None:
    """Plot each loss and metric over the epochs.

    Training losses are above validation losses, box metrics above pose metrics; pixel errors are on the right.

    Args:
        history: the rows.
        path: the PNG; not written without matplotlib.

    Raises:
        OutputError: it cannot be written.
    """
    # fixed margins: fitting the layout of so many panels takes as long as drawing them
    figure = new_figure(22, 6, layout=None)
    if figure is None:
        return
    epochs = np.array(history.column("epoch"))
    columns = history.columns
    train_only = [name for name in columns if name.startswith("train/") and name.replace("train", "val") not in columns]
    grid = [
        [name for name in columns if name.startswith(prefix) and name not in train_only]
        + [name for name in columns if name.endswith(suffix)]
        + [name for name in columns if name == pixels]
        for prefix, suffix, pixels in (("train/", "(B)", "pixels/mean"), ("val/", "(P)", "pixels/PCK@5px"))
    ]
    grid[0] += train_only
    panels = figure.subplots(len(grid), len(grid[0]), sharex=True)
    for names, row in zip(grid, panels, strict=True):
        for name, axes in zip_longest(names, row):
            if name is None:
                axes.set_axis_off()
            else:
                _plot_column(axes, epochs, np.array(history.column(name)), name)
    figure.subplots_adjust(left=0.025, right=0.99, top=0.93, bottom=0.06, wspace=0.3, hspace=0.2)
    save_figure(figure, path)


def moving_average(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return averages over `_SMOOTHING` epochs, over fewer at both ends."""
    kernel = np.ones(_SMOOTHING)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def plot_train_batch(batch: TrainBatch, path: Path, files: Sequence[str], spec: PoseSpec) -> None:
    """Draw up to 16 samples of a batch with their boxes and skeletons.

    Args:
        batch: the samples.
        path: the JPEG.
        files: caption of each sample.
        spec: classes and keypoints.

    Raises:
        OutputError: it cannot be written.
    """
    images = batch.images[:GRID_IMAGES].cpu().numpy()
    size = np.array(images.shape[:1:-1], dtype=np.float32)  # width, height
    boxes = cxcywh_to_xyxy(batch.boxes.numpy()) * np.tile(size, 2)
    keypoints = batch.keypoints.numpy() * np.append(size, np.float32(1))
    classes = batch.classes.numpy()
    overlays: list[Overlay] = []
    for index in range(len(images)):
        rows = batch.batch_idx.numpy() == index
        detections = np.column_stack((boxes[rows], np.ones(rows.sum()), classes[rows]))
        overlays.append((detections.astype(np.float32), keypoints[rows].astype(np.float32)))
    grid = image_grid(images, list(files[: len(images)]), overlays, spec.names, spec.keypoints, conf=False)
    save_image(grid, path)


def plot_labels(table: Annotations, spec: PoseSpec, path: Path) -> None:
    """Plot instances per class and image, positions and sizes of boxes, and the visibility of keypoints.

    Args:
        table: the annotations.
        spec: classes and keypoints.
        path: the JPEG; not written without matplotlib.

    Raises:
        OutputError: it cannot be written.
    """
    figure = new_figure(14, 9)
    if figure is None:
        return
    panels = [figure.add_subplot(2, 3, number) for number in range(1, 7)]
    boxes = table.boxes
    instances = {"instances": np.bincount(table.classes, minlength=spec.nc)}
    _plot_bars(panels[0], list(spec.classes), instances, "instances per class")
    _plot_outlines(panels[1], boxes)
    _plot_density(panels[2], boxes[:, 0], boxes[:, 1], "box centers", "x", "y", y_down=True)
    _plot_density(panels[3], boxes[:, 2], boxes[:, 3], "box sizes", "width", "height")
    names = [plot_label(name) for name in spec.keypoints.keypoint_names(0)]
    fractions = visibility_fractions(table.keypoints[..., 2], spec.keypoints.dims)
    _plot_bars(panels[4], names, fractions, "keypoint visibility, fraction of instances")
    panels[4].set_xlim(0, 1)
    per_image = np.diff(table.offsets)
    panels[5].hist(per_image, bins=np.arange(per_image.max(initial=0) + 2) - 0.5, color=_BLUE, rwidth=0.9)
    panels[5].set(title="instances per image", xlabel="instances", ylabel="images")
    panels[5].xaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)


def visibility_fractions(visibility: npt.NDArray[np.floating], dims: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return for each keypoint the fractions of instances on which it is visible, hidden and unlabeled.

    Args:
        visibility: (N, K) 0, 1 or 2.
        dims: 2 if labels hold only (x, y), which does not distinguish visible from hidden.

    Returns:
        (K,) fractions 0…1 by kind, which sum to 1; all 0 without instances.
    """
    count = max(len(visibility), 1)
    masks = {"labeled": visibility > 0} if dims == 2 else {"visible": visibility > 1, "hidden": visibility == 1}
    masks["unlabeled"] = visibility == 0
    return {kind: mask.sum(axis=0) / count for kind, mask in masks.items()}


def _plot_column(axes: Any, epochs: npt.NDArray[Any], values: npt.NDArray[np.float64], name: str) -> None:
    # gaps are bridged: a single value between two epochs without validation would not be drawn as a line
    measured = np.isfinite(values)
    epochs = epochs[measured]
    values = values[measured]
    axes.plot(epochs, values, marker="." if len(values) < 50 else None, linewidth=1.5, color=_BLUE)
    if len(values) > _SMOOTHING:
        axes.plot(epochs, moving_average(values), linewidth=1.5, color=_ORANGE, linestyle=":")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_title(name, fontsize=10)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if name.startswith(("metrics/", "pixels/PCK")):
        axes.set_ylim(-0.02, 1.02)


def _plot_bars(axes: Any, names: list[str], kinds: dict[str, npt.NDArray[Any]], title: str) -> None:
    """Plot horizontal bars, the kinds stacked."""
    left = np.zeros(len(names))
    for kind, values in kinds.items():
        axes.barh(np.arange(len(names)), values, left=left, color=_BAR_COLORS.get(kind, _BLUE), label=kind)
        left = left + values
    axes.invert_yaxis()
    axes.set_title(title)
    if len(names) <= _MAX_NAMES:
        axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    if len(kinds) > 1:
        # below the axes: anywhere inside it would hide bars
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=len(kinds), frameon=False)


def _plot_outlines(axes: Any, boxes: npt.NDArray[Any]) -> None:
    """Plot boxes around a common center, to compare their shapes and sizes."""
    for width, height in boxes[:: max(len(boxes) // _MAX_OUTLINES, 1), 2:4]:
        x = np.array([-1, 1, 1, -1, -1]) * width / 2
        y = np.array([-1, -1, 1, 1, -1]) * height / 2
        axes.plot(x, y, color=_BLUE, alpha=0.15, linewidth=0.8)
    axes.set(title="boxes", xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), aspect="equal")


def _plot_density(
    axes: Any, x: npt.NDArray[Any], y: npt.NDArray[Any], title: str, x_label: str, y_label: str, *, y_down: bool = False
) -> None:
    counts, *_, mesh = axes.hist2d(x, y, bins=40, range=[[0, 1], [0, 1]], cmap="Blues", cmin=1)
    top = np.nanmax(counts, initial=1)
    mesh.set_clim(-0.4 * top, top)  # a single instance is light blue, not the white of empty bins
    axes.set(title=title, xlabel=x_label, ylabel=y_label, aspect="equal")
    if y_down:
        axes.invert_yaxis()
