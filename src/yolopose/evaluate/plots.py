"""Plots of a run: curves and confusion matrix (matplotlib, optional), and grids of annotated images (OpenCV)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.files import atomic_path
from yolopose.base.log import warn_once
from yolopose.base.text import one_line
from yolopose.data.arrays import planes_to_bgr
from yolopose.data.batches import ValBatch
from yolopose.evaluate.metric import Metric
from yolopose.results.drawing import annotate
from yolopose.results.style import Style
from yolopose.results.text import get_text_writer
from yolopose.results.writing import save_image
from yolopose.runtime.nms import Detections
from yolopose.schema import KeypointSchema

DPI = 200
_MAX_LABEL = 60  # characters of a name
MAX_LEGEND_CLASSES = 20  # with more classes, curves are gray and unnamed
MAX_ANNOTATED_CLASSES = 30  # with more classes, cells of the matrix show no values
MEAN_COLOR = "#0b2a6f"

GRID_IMAGES = 16
"""Images of a grid at most."""
GRID_SIDE = 1920
"""Longer side of a grid, pixels."""
MAX_ENLARGEMENT = 4.0  # of small network inputs
KEYPOINT_RADIUS = 9.0  # `Style.kpt_radius`: larger than usual, since tiles are small
MIN_DRAWN_CONF = 0.25
GAP = 4
CAPTION_HEIGHT = 18

Overlay = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""What is drawn on an image: (N, 6) x1, y1, x2, y2, score, class, and (N, K, D) keypoints, in its pixels."""


def plot_curves(
    metric: Metric,
    names: Mapping[int, str],
    folder: str | Path,
    prefix: str,
    on_plot: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Draw the PR, F1, P and R curves of boxes or poses into a folder.

    Args:
        metric: the scores.
        names: class names by index.
        folder: where `<prefix>PR_curve.png`, `…F1…`, `…P…` and `…R…` are written.
        prefix: `Box` or `Pose`.
        on_plot: called with the path of each image.

    Returns:
        The images written; empty if matplotlib is missing.
    """
    written: list[Path] = []
    classes = [names.get(int(index), str(index)) for index in metric.ap_class_index]
    for file_part, (x, curves, x_label, y_label) in zip(("PR", "F1", "P", "R"), metric.curves_results, strict=True):
        figure = new_figure(10, 6)
        if figure is None:
            break
        if file_part == "PR":
            mean_note = f"{metric.map50:.3f} mAP50"
            labels = [f"{name} {value:.3f}" for name, value in zip(classes, metric.ap50, strict=True)]
        else:
            mean = curves.mean(axis=0) if len(curves) else np.zeros(len(x))
            mean_note = f"best {mean.max():.2f} at {x[mean.argmax()]:.3f}"
            labels = classes
        axes = figure.subplots()
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(0, 1), ylim=(0, 1.01), title=f"{prefix} {y_label}-{x_label}")
        axes.grid(color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        if classes:
            mean_label = f"{classes[0] if len(classes) == 1 else 'all classes'}: {mean_note}"
            _draw_curves(axes, x, curves, labels, mean_label)
        path = Path(folder) / f"{prefix}{file_part}_curve.png"
        save_figure(figure, path)
        written.append(path)
        if on_plot:
            on_plot(path)
    return written


def _draw_curves(
    axes: Any, x: npt.NDArray[np.float64], curves: npt.NDArray[np.float64], labels: Sequence[str], mean_label: str
) -> None:
    labels = [plot_label(label) for label in labels]
    if len(labels) > 1:
        for label, curve in zip(labels, curves, strict=True):
            style = {"color": "0.7"} if len(labels) > MAX_LEGEND_CLASSES else {"label": label}
            axes.plot(x, curve, linewidth=1, **style)
    axes.plot(x, curves.mean(axis=0), linewidth=2.5, color=MEAN_COLOR, label=mean_label)
    # both places are outside the axes, where the legend hides no curve
    if len(labels) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False)
    else:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)


def plot_confusion(matrix: npt.NDArray[np.float64], names: Sequence[str], path: Path, normalized: bool) -> bool:
    """Draw a confusion matrix.

    Args:
        matrix: (n, n) rows predicted, columns ground truth, background last.
        names: n names.
        path: the PNG.
        normalized: values are shares 0…1 instead of counts.

    Returns:
        False if matplotlib is missing and nothing was written.
    """
    count = len(names)
    side = min(max(5.5, 0.55 * count), 24)
    figure = new_figure(side + 1.5, side)
    if figure is None:
        return False
    axes = figure.subplots()
    top = 1.0 if normalized else max(float(matrix.max()), 1.0)
    # NaN cells stay white, so that rare confusions are distinguishable from none
    heatmap = axes.imshow(np.where(matrix > 0, matrix, np.nan), cmap="Blues", vmin=0, vmax=top)
    figure.colorbar(heatmap, ax=axes, fraction=0.045, pad=0.03)
    if count <= MAX_ANNOTATED_CLASSES:
        size = 12 if count < 8 else 8 if count < 18 else 6
        for row, column in np.argwhere(matrix >= (0.005 if normalized else 0.5)):
            value = float(matrix[row, column])
            color = "white" if value > 0.55 * top else "0.1"
            text = f"{value:.2f}" if normalized else f"{value:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
    if count <= 100:
        labels = [plot_label(name) for name in names]
        axes.set_xticks(range(count), labels, rotation=90 if count > 6 else 0)
        axes.set_yticks(range(count), labels)
    axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    title = "Confusion matrix, normalized by ground-truth class" if normalized else "Confusion matrix"
    axes.set(xlabel="Ground truth", ylabel="Predicted", title=title)
    save_figure(figure, path)
    return True


def new_figure(width: float, height: float, layout: str | None = "constrained") -> Any:
    """Make a figure that does not touch the caller's matplotlib backend and figures.

    Args:
        width: inches.
        height: inches.
        layout: layout engine of matplotlib; None for fixed margins.

    Returns:
        The figure; None, with a warning, if matplotlib is missing.
    """
    try:
        figure = importlib.import_module("matplotlib.figure").Figure(figsize=(width, height), layout=layout)
        importlib.import_module("matplotlib.backends.backend_agg").FigureCanvasAgg(figure)
    except ImportError:
        warn_once("Plots are skipped: matplotlib is not installed (pip install matplotlib, or set plots=False).")
        return None
    return figure


def plot_label(name: str) -> str:
    """Return the name of a class or keypoint as one short line, which Matplotlib draws in reasonable time."""
    line = one_line(name[: _MAX_LABEL + 1])
    # a label that begins with an underscore is left out of legends
    line = f" {line}" if line.startswith("_") else line
    return line if len(name) <= _MAX_LABEL else f"{line[:_MAX_LABEL]}…"


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure atomically; the suffix of the path selects the file type.

    Names in it are text, never TeX: a class may be called `$`.
    """
    matplotlib: Any = importlib.import_module("matplotlib")
    for text in figure.findobj(importlib.import_module("matplotlib.text").Text):
        text.set_parse_math(False)
    with atomic_path(path) as temporary, matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        figure.savefig(temporary, dpi=DPI)


def save_batch_grids(
    folder: Path,
    number: int,
    batch: ValBatch,
    files: Sequence[Path],
    detections: Sequence[Detections],
    names: Mapping[int, str],
    schema: KeypointSchema,
) -> list[Path]:
    """Write `val_batchN_labels.jpg` and `val_batchN_pred.jpg`.

    Args:
        folder: the run folder.
        number: N.
        batch: the images with their ground truth.
        files: the image files.
        detections: of each image; only those with a score above 0.25 are drawn.
        names: class names.
        schema: keypoints.

    Returns:
        The two files.

    Raises:
        OutputError: a file cannot be written.
    """
    count = min(len(batch.images), GRID_IMAGES)
    labeled: list[Overlay] = []
    predictions: list[Overlay] = []
    for index, item in enumerate(detections[:count]):
        rows = batch.batch_idx == index
        labeled.append(_overlay(batch.boxes[rows], np.ones(rows.sum()), batch.classes[rows], batch.keypoints[rows]))
        keep = item.scores > MIN_DRAWN_CONF
        predictions.append(_overlay(item.boxes[keep], item.scores[keep], item.classes[keep], item.points[keep]))
    captions = [file.name for file in files[:count]]
    labels_path = folder / f"val_batch{number}_labels.jpg"
    pred_path = folder / f"val_batch{number}_pred.jpg"
    images = batch.images[:count]
    save_image(image_grid(images, captions, labeled, names, schema, conf=False), labels_path)
    save_image(image_grid(images, captions, predictions, names, schema, conf=True), pred_path)
    return [labels_path, pred_path]


def image_grid(
    images: npt.NDArray[np.uint8],
    captions: Sequence[str],
    overlays: Sequence[Overlay],
    names: Mapping[int, str],
    schema: KeypointSchema,
    conf: bool,
) -> npt.NDArray[np.uint8]:
    """Arrange annotated images in a near-square grid.

    Args:
        images: (B, C, H, W) uint8; RGB with 3 channels.
        captions: one line of text per image.
        overlays: boxes and keypoints of each image.
        names: class names.
        schema: keypoints.
        conf: show scores in the labels.

    Returns:
        (height, width, 3) uint8 BGR, at most `GRID_SIDE` pixels (plus the gaps) on its longer side.
    """
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[2:]
    scale = min(MAX_ENLARGEMENT, GRID_SIDE / max(rows * height, columns * width))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    tile_h = max(round(height * scale) - GAP, 1)
    tile_w = max(round(width * scale) - GAP, 1)
    grid = np.full((rows * (tile_h + GAP) + GAP, columns * (tile_w + GAP) + GAP, 3), 255, dtype=np.uint8)
    factor = np.array([tile_w / width, tile_h / height], dtype=np.float32)
    for index, (image, caption, (boxes, points)) in enumerate(zip(images, captions, overlays, strict=True)):
        bgr = planes_to_bgr(image)
        tile = np.asarray(cv2.resize(bgr, (tile_w, tile_h), interpolation=interpolation), dtype=np.uint8)
        boxes, points = boxes.copy(), points.copy()
        boxes[:, :4] *= np.tile(factor, 2)
        points[..., :2] *= factor
        annotate(tile, boxes, points, names, schema, Style(conf=conf, kpt_radius=KEYPOINT_RADIUS))
        _write_caption(tile, caption)
        row, column = divmod(index, columns)
        top = GAP + row * (tile_h + GAP)
        left = GAP + column * (tile_w + GAP)
        grid[top : top + tile_h, left : left + tile_w] = tile
    return grid


def _overlay(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    classes: npt.NDArray[np.integer],
    points: npt.NDArray[np.floating],
) -> Overlay:
    columns = np.concatenate((boxes, scores[:, None], classes[:, None]), axis=1)
    return columns.astype(np.float32), points.astype(np.float32)


def _write_caption(image: npt.NDArray[np.uint8], text: str) -> None:
    """Write the text into the lower left corner, on a darkened band."""
    writer = get_text_writer([text], min(CAPTION_HEIGHT, max(image.shape[0] // 12, 8)))
    width, height = writer.measure(text)
    top = max(image.shape[0] - height - 4, 0)
    band = image[top:, : width + 8]
    band[:] = band // 4
    writer.write(image, text, 4, top + 2, (255, 255, 255))
