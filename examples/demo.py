"""Demo without network or files: generate a data set of figures, train, validate and predict.

Takes some minutes on two CPU cores. After Ctrl-C, the same command resumes the training.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path("demo")
os.environ.setdefault("YOLOPOSE_DATASETS_DIR", str(ROOT.resolve() / "datasets"))  # all files are in one folder
# Rectangular batches have many shapes; by default oneDNN caches the kernels of 1024 shapes and discards older ones.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "20000")

from yolopose import YOLO  # noqa: E402
from yolopose.base.errors import TrainError, YoloposeError  # noqa: E402
from yolopose.data import load_dataset  # noqa: E402
from yolopose.geometry import box_iou  # noqa: E402

# Small rectangles and small batches allow many steps in little time. With few steps, β1 = 0.8 adapts faster than the
# default 0.937, and a lower gain of the keypoint loss, by far the largest at first, lets the boxes be learned. The
# boxes of so short a training are rough, so NMS suppresses them at an IoU of 0.6 instead of 0.7.
# benchmarks/RESULTS-training.md lists the variants that were tried.
RECIPE: dict[str, Any] = {
    "data": "figures-pose.yaml", "epochs": 20, "imgsz": 192, "batch": 8, "nbs": 8, "rect": True,
    "optimizer": "AdamW", "lr0": 0.002, "momentum": 0.8, "warmup_epochs": 1, "pose": 4.0, "cls": 1.0,
    "mosaic": 0.0, "scale": 0.25, "translate": 0.05, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "iou": 0.6,
    "cache": "ram", "workers": 1, "project": ROOT, "name": "train", "exist_ok": True,
}  # fmt: skip
VAL_PERIOD = 10  # epochs between validations; the first and the last epoch are always validated


class KeypointError:
    """Mean distance of predicted from labeled keypoints, in percent of the diagonal of the ground-truth box."""

    def __init__(self) -> None:
        self.distances: list[float] = []
        self.figures = self.matched = 0

    def start(self, _: Any) -> None:
        self.__init__()

    def add(self, run: Any) -> None:
        """Match each figure with the detection of the highest IoU, if it is at least 0.5."""
        for index, detections in enumerate(run.detections):
            rows = run.batch.batch_idx == index
            self.figures += int(rows.sum())
            if not rows.any() or not len(detections.boxes):
                continue
            overlaps = box_iou(run.batch.boxes[rows], detections.boxes)
            for box, points, overlap in zip(run.batch.boxes[rows], run.batch.keypoints[rows], overlaps, strict=True):
                if overlap.max() < 0.5:
                    continue
                self.matched += 1
                labeled = points[:, 2] > 0
                distance = np.linalg.norm(
                    detections.points[overlap.argmax()][labeled, :2] - points[labeled, :2], axis=1
                )
                self.distances += (100 * distance / np.hypot(*(box[2:] - box[:2]))).tolist()

    @property
    def mean(self) -> float:
        return float(np.mean(self.distances)) if self.distances else float("nan")

    @property
    def share(self) -> float:
        return 100 * self.matched / max(self.figures, 1)


def train() -> tuple[YOLO, list[dict[str, float]]]:
    """Train or resume; return the network and the metrics of each validation."""
    error = KeypointError()
    log = ROOT / "train/keypoint_error.jsonl"

    def select_epochs(trainer: Any) -> None:
        trainer.args.val = trainer.epoch % VAL_PERIOD == 0 or trainer.epoch + 1 == trainer.epochs

    def write_row(trainer: Any) -> None:
        if not trainer.args.val:
            return
        row = {**trainer.metrics, "epoch": trainer.epoch + 1, "error": error.mean, "share": error.share}
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def open_model(path: str | Path) -> YOLO:
        model = YOLO(path)
        model.add_callback("on_train_epoch_start", select_epochs)
        model.add_callback("on_val_start", error.start)
        model.add_callback("on_val_batch_end", error.add)
        model.add_callback("on_fit_epoch_end", write_row)
        return model

    last = ROOT / "train/weights/last.pt"
    try:
        model = open_model(last if last.exists() else "yolo11n-pose.yaml")
        model.train(resume=True)
    except TrainError:  # no run to resume
        log.unlink(missing_ok=True)
        model = open_model("yolo11n-pose.yaml")
        model.train(**RECIPE)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    # the last row, of a later epoch, is the final validation of best.pt
    return model, [row for row in rows if row["epoch"] <= RECIPE["epochs"]]


def main() -> int:
    """Run the demo; print the metrics and the paths of the files."""
    start = time.perf_counter()
    model, rows = train()
    minutes = (time.perf_counter() - start) / 60
    val_images = load_dataset("figures-pose.yaml").image_files("val")
    print("\nPredictions on some validation images:")
    results = model.predict(
        val_images[:8], imgsz=RECIPE["imgsz"], save=True, project=ROOT, name="predict", exist_ok=True
    )
    print(f"\nMetrics on {len(val_images)} validation images:")
    print(f"{'':14}{'box mAP50':>12}{'pose mAP50':>12}{'mean keypoint error':>30}")
    for row in (rows[0], rows[-1]):
        found = f"{row['error']:.1f} % of box diagonal ({row['share']:.0f} % found)" if row["share"] else "none found"
        box, pose = row["metrics/mAP50(B)"], row["metrics/mAP50(P)"]
        print(f"{'epoch ' + str(int(row['epoch'])):14}{box:12.3f}{pose:12.3f}{found:>42}")
    print(f"\nTraining took {minutes:.1f} minutes.")
    for what, where in (
        ("annotated images", results[0].save_dir), ("run folder", ROOT / "train"),
        ("network", ROOT / "train/weights/best.pt"), ("data set", os.environ["YOLOPOSE_DATASETS_DIR"]),
    ):  # fmt: skip
        print(f"{what + ':':22} {Path(where).resolve()}")
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
