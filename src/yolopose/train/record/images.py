"""Images of what is learned from: training batches as the network sees them, and the labels at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.data import Annotations
from yolopose.evaluate.plots import GRID_IMAGES, Overlay, image_grid, new_figure, save_figure
from yolopose.geometry import cxcywh_to_xyxy
from yolopose.results.writing import save_image
from yolopose.schema import PoseSpec
from yolopose.train.feed import TrainBatch

_COLORS = {"hidden": "#8fb8e8", "unlabeled": "#d0d0d0"}
_OUTLINES = 500
_NAMED = 30  # more classes or keypoints than this are not named


def plot_train_batch(batch: TrainBatch, path: Path, files: Sequence[str], spec: PoseSpec) -> None:
    """Draw up to 16 samples of a batch with their boxes and skeletons.

    Args:
        batch: the samples.
        path: the JPEG.
        files: a name for each sample.
        spec: classes and keypoints.

    Raises:
        OutputError: it cannot be written.
    """
    images = batch.images[:GRID_IMAGES].cpu().numpy()
    size = np.array(images.shape[:1:-1], dtype=np.float32)  # width, height
    boxes = cxcywh_to_xyxy(batch.boxes.numpy()) * np.tile(size, 2)
    points = batch.keypoints.numpy() * np.append(size, np.float32(1))
    classes, places = batch.classes.numpy(), batch.batch_idx.numpy()
    drawn: list[Overlay] = []
    for index in range(len(images)):
        mine = places == index
        labels = np.column_stack((boxes[mine], np.ones(mine.sum()), classes[mine]))
        drawn.append((labels.astype(np.float32), points[mine].astype(np.float32)))
    save_image(image_grid(images, list(files[: len(images)]), drawn, spec.names, spec.keypoints, conf=False), path)


def plot_labels(table: Annotations, spec: PoseSpec, path: Path) -> None:
    """Draw objects by class, where boxes lie and how large they are, and how many points are labeled.

    Args:
        table: the labels.
        spec: classes and keypoints.
        path: the JPEG; not written where matplotlib is missing.

    Raises:
        OutputError: it cannot be written.
    """
    figure = new_figure(14, 9)
    if figure is None:
        return
    panels = [figure.add_subplot(2, 3, place) for place in range(1, 7)]
    boxes = table.boxes
    _bars(panels[0], list(spec.classes), {"objects": np.bincount(table.classes, minlength=spec.nc)}, "objects by class")
    _outlines(panels[1], boxes)
    _density(panels[2], boxes[:, 0], boxes[:, 1], "box centers", "x", "y", down=True)
    _density(panels[3], boxes[:, 2], boxes[:, 3], "box sizes", "width", "height")
    _bars(
        panels[4],
        list(spec.keypoints.keypoint_names(0)),
        keypoint_shares(table.keypoints[..., 2], spec.keypoints.dims),
        "keypoints, share of the objects",
    )
    panels[4].set_xlim(0, 1)
    per_image = np.diff(table.offsets)
    panels[5].hist(per_image, bins=np.arange(per_image.max(initial=0) + 2) - 0.5, color="#1f5fbf", rwidth=0.9)
    panels[5].set(title="objects per image", xlabel="objects", ylabel="images")
    panels[5].xaxis.get_major_locator().set_params(integer=True)
    save_figure(figure, path)


def keypoint_shares(seen: npt.NDArray[np.floating], dims: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return for each keypoint the share of objects on which it is visible, hidden and unlabeled.

    Args:
        seen: (N, K) visibility 0, 1 or 2.
        dims: 2 where labels hold (x, y) alone, which do not tell visible from hidden.

    Returns:
        (K,) shares 0…1 by kind, which sum to 1; all are 0 without an object.
    """
    count = max(len(seen), 1)
    labeled = {"labeled": seen > 0} if dims == 2 else {"visible": seen > 1, "hidden": seen == 1}
    return {kind: mask.sum(axis=0) / count for kind, mask in {**labeled, "unlabeled": seen == 0}.items()}


def _bars(axes: Any, names: list[str], kinds: dict[str, npt.NDArray[Any]], title: str) -> None:
    """Horizontal bars, one kind behind the other."""
    left = np.zeros(len(names))
    for kind, counts in kinds.items():
        bgr = _COLORS.get(kind, "#1f5fbf")
        axes.barh(np.arange(len(names)), counts, left=left, color=bgr, label=kind)
        left = left + counts
    axes.invert_yaxis()
    axes.set_title(title)
    if len(names) <= _NAMED:
        axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    if len(kinds) > 1:
        # below the bars, since it would hide some anywhere among them
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=len(kinds), frameon=False)


def _outlines(axes: Any, boxes: npt.NDArray[Any]) -> None:
    """Boxes about a common center: their shapes and sizes."""
    for width, height in boxes[:: max(len(boxes) // _OUTLINES, 1), 2:4]:
        x, y = np.array([-1, 1, 1, -1, -1]) * width / 2, np.array([-1, -1, 1, 1, -1]) * height / 2
        axes.plot(x, y, color="#1f5fbf", alpha=0.15, linewidth=0.8)
    axes.set(title="boxes", xlim=(-0.5, 0.5), ylim=(-0.5, 0.5), aspect="equal")


def _density(
    axes: Any, x: npt.NDArray[Any], y: npt.NDArray[Any], title: str, x_label: str, y_label: str, down: bool = False
) -> None:
    counts, *_, mesh = axes.hist2d(x, y, bins=40, range=[[0, 1], [0, 1]], cmap="Blues", cmin=1)
    top = np.nanmax(counts, initial=1)
    mesh.set_clim(-0.4 * top, top)  # a single object is light blue, not the white of none
    axes.set(title=title, xlabel=x_label, ylabel=y_label, aspect="equal")
    if down:
        axes.invert_yaxis()
