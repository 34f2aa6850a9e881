"""Demo without network or files: generate a data set of figures, train, validate and predict.

The training has a time limit, so that it ends after 4 minutes on any machine; a faster one learns more. After Ctrl-C,
the same command resumes the training.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

ROOT = Path("demo")
os.environ.setdefault("YOLOPOSE_DATASETS_DIR", str(ROOT.resolve() / "datasets"))  # all files are in one folder
# Rectangular batches have many shapes; by default oneDNN caches the kernels of 1024 shapes and discards older ones.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "20000")

from yolopose import YOLO, PoseMetrics, Results  # noqa: E402
from yolopose.base.errors import TrainError, YoloposeError  # noqa: E402
from yolopose.data import load_dataset  # noqa: E402

MINUTES = 4
# Small rectangles and small batches allow many steps in little time. With few steps, β1 = 0.8 adapts faster than the
# default 0.937, and a lower gain of the keypoint loss, by far the largest at first, lets the boxes be learned. The
# boxes of so short a training are rough, so NMS suppresses them at an IoU of 0.6 instead of 0.7.
# benchmarks/RESULTS.md lists the variants that were tried.
RECIPE: dict[str, Any] = {
    "data": "figures-pose.yaml", "time": MINUTES / 60, "imgsz": 192, "batch": 8, "nbs": 8, "rect": True,
    "optimizer": "AdamW", "lr0": 0.002, "momentum": 0.8, "warmup_epochs": 1, "pose": 4.0, "cls": 1.0,
    "mosaic": 0.0, "scale": 0.25, "translate": 0.05, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "iou": 0.6,
    "cache": "ram", "workers": 1, "project": ROOT, "name": "train", "exist_ok": True,
}  # fmt: skip
VAL_PERIOD = 10  # epochs between validations; the first and the last epoch are always validated
SHEET = ROOT / "predictions.jpg"
COLUMNS, ROWS = 4, 3  # of the sheet


def train() -> tuple[YOLO, PoseMetrics, float]:
    """Train or resume; return the best network, its metrics, and the minutes since the first batch."""
    started: list[float] = []

    def select_epochs(trainer: Any) -> None:
        trainer.args.val = trainer.epoch % VAL_PERIOD == 0 or trainer.epoch + 1 == trainer.epochs

    def open_model(path: str | Path) -> YOLO:
        model = YOLO(path)
        model.add_callback("on_train_start", lambda _: started.append(time.perf_counter()))
        model.add_callback("on_train_epoch_start", select_epochs)
        return model

    last = ROOT / "train/weights/last.pt"
    try:
        model = open_model(last if last.exists() else "yolo11n-pose.yaml")
        metrics = model.train(resume=True)
    except TrainError:  # no run to resume
        print(f"Training for {MINUTES} minutes; drawing the data set before takes some seconds.\n")
        model = open_model("yolo11n-pose.yaml")
        metrics = model.train(**RECIPE)
    minutes = (time.perf_counter() - started[0]) / 60
    return model, cast(PoseMetrics, metrics), minutes  # the data set has validation images, so metrics is not None


def write_sheet(results: list[Results]) -> None:
    """Write images with their predictions side by side."""
    images = [result.plot(line_width=2) for result in results]
    side = max(max(image.shape[:2]) for image in images)
    tiles = np.full((ROWS, COLUMNS, side, side, 3), 255, np.uint8)
    for tile, image in zip(tiles.reshape(-1, side, side, 3), images, strict=False):
        tile[: image.shape[0], : image.shape[1]] = image
    cv2.imwrite(str(SHEET), tiles.transpose(0, 2, 1, 3, 4).reshape(ROWS * side, COLUMNS * side, 3))


def describe(metrics: PoseMetrics) -> str:
    """Return the mean error of the detected keypoints."""
    errors = metrics.pixels
    detected = 1 - errors.undetected / max(errors.num_labeled, 1)
    if not detected:
        return "nothing detected"
    return f"{errors.mean_share:.1%} of the box diagonal = {errors.mean:.1f} px ({detected:.0%} detected)"


def main() -> int:
    """Run the demo; print the metrics and the paths of the files."""
    model, metrics, minutes = train()
    with (ROOT / "train/results.csv").open() as file:
        first = next(csv.DictReader(file))
    val_images = load_dataset(RECIPE["data"]).image_files("val")
    write_sheet(model.predict(val_images[: COLUMNS * ROWS], imgsz=RECIPE["imgsz"], verbose=False))
    print(f"\n{len(val_images)} validation images:{'box mAP50':>18}{'pose mAP50':>12}   mean keypoint error")
    box, pose = (float(first[f"metrics/mAP50({letter})"]) for letter in "BP")
    print(f"{'after epoch 1':22}{box:>18.3f}{pose:>12.3f}")
    print(f"{'best network':22}{metrics.box.map50:>18.3f}{metrics.pose.map50:>12.3f}   {describe(metrics)}")
    print(f"\nTraining took {minutes:.1f} minutes. Look at the predictions first:")
    for what, where in (
        ("predictions", SHEET.resolve()), ("report", (ROOT / "train/report.html").resolve().as_uri()),
        ("network", (ROOT / "train/weights/best.pt").resolve()), ("run folder", (ROOT / "train").resolve()),
        ("data set", os.environ["YOLOPOSE_DATASETS_DIR"]),
    ):  # fmt: skip
        print(f"{what + ':':14} {where}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt as interruption:
        print(f"\n{interruption or 'Interrupted.'}\nOr run the demo again to resume.", file=sys.stderr)
        sys.exit(130)
    except YoloposeError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(1)
