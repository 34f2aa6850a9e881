"""Learning to see figures, without network or files: draws its data, trains, measures, predicts.

Some minutes on two processor cores. Ctrl-C keeps what was learned; the same command goes on from there.
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
os.environ.setdefault("YOLOPOSE_DATASETS_DIR", str(ROOT.resolve() / "datasets"))  # everything stays in one folder
# rectangles come in many shapes; in its default 1024 places oneDNN forgets the kernels it has made for the first ones
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "20000")

from yolopose import YOLO  # noqa: E402
from yolopose.base.errors import TrainError, YoloposeError  # noqa: E402
from yolopose.data import load_dataset  # noqa: E402
from yolopose.geometry import box_iou  # noqa: E402

# Small rectangles and small batches: many steps in little time. From scratch, on what the package draws itself. Few
# steps call for quick ones: β1 .8 forgets sooner than .937, and the keypoint loss, far the largest at first, is held
# back so that boxes are found at all. Boxes of so short a training are rough, and two on one figure overlap less than
# those of a finished one: they are suppressed from .6 on instead of .7. docs/training.md tells what was tried.
RECIPE: dict[str, Any] = {
    "data": "figures-pose.yaml", "epochs": 20, "imgsz": 192, "batch": 8, "nbs": 8, "rect": True,
    "optimizer": "AdamW", "lr0": 0.002, "momentum": 0.8, "warmup_epochs": 1, "pose": 4.0, "cls": 1.0,
    "mosaic": 0.0, "scale": 0.25, "translate": 0.05, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "iou": 0.6,
    "cache": "ram", "workers": 1, "project": ROOT, "name": "train", "exist_ok": True,
}  # fmt: skip
EVERY = 10  # epochs from one measurement to the next; the first and the last are always measured


class KeypointError:
    """Mean distance of labeled points from the truth, in per cent of the diagonal of the figure's box."""

    def __init__(self) -> None:
        self.distances: list[float] = []
        self.figures = self.found = 0

    def start(self, _: Any) -> None:
        self.__init__()

    def add(self, run: Any) -> None:
        """Take for each figure the detection that overlaps it most, if by at least half."""
        for number, found in enumerate(run.detections):
            mine = run.batch.batch_idx == number
            self.figures += int(mine.sum())
            if not mine.any() or not len(found.boxes):
                continue
            overlaps = box_iou(run.batch.boxes[mine], found.boxes)
            for box, points, overlap in zip(run.batch.boxes[mine], run.batch.keypoints[mine], overlaps, strict=True):
                if overlap.max() < 0.5:
                    continue
                self.found += 1
                labeled = points[:, 2] > 0
                away = np.linalg.norm(found.points[overlap.argmax()][labeled, :2] - points[labeled, :2], axis=1)
                self.distances += (100 * away / np.hypot(*(box[2:] - box[:2]))).tolist()

    @property
    def mean(self) -> float:
        return float(np.mean(self.distances)) if self.distances else float("nan")

    @property
    def share(self) -> float:
        return 100 * self.found / max(self.figures, 1)


def train() -> tuple[YOLO, list[dict[str, float]]]:
    """Train, or goes on with an interrupted training; returns the network and what was measured in each epoch."""
    error, notes = KeypointError(), ROOT / "train/keypoint_error.jsonl"

    def choose(trainer: Any) -> None:
        trainer.args.val = trainer.epoch % EVERY == 0 or trainer.epoch + 1 == trainer.epochs

    def note(trainer: Any) -> None:
        if not trainer.args.val:
            return
        row = {**trainer.metrics, "epoch": trainer.epoch + 1, "error": error.mean, "share": error.share}
        with notes.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def model_of(path: str | Path) -> YOLO:
        model = YOLO(path)
        model.add_callback("on_train_epoch_start", choose)
        model.add_callback("on_val_start", error.start)
        model.add_callback("on_val_batch_end", error.add)
        model.add_callback("on_fit_epoch_end", note)
        return model

    last = ROOT / "train/weights/last.pt"
    try:
        model = model_of(last if last.exists() else "yolo11n-pose.yaml")
        model.train(resume=True)
    except TrainError:  # nothing was interrupted
        notes.unlink(missing_ok=True)
        model = model_of("yolo11n-pose.yaml")
        model.train(**RECIPE)
    rows = [json.loads(line) for line in notes.read_text().splitlines()]
    return model, [row for row in rows if row["epoch"] <= RECIPE["epochs"]]  # behind them: the best, measured again


def main() -> int:
    """Run the demo; prints what was measured and where the files are."""
    start = time.perf_counter()
    model, rows = train()
    minutes = (time.perf_counter() - start) / 60
    kept_aside = load_dataset("figures-pose.yaml").image_files("val")
    print("\nPoses on some of the images that were kept aside:")
    results = model.predict(
        kept_aside[:8], imgsz=RECIPE["imgsz"], save=True, project=ROOT, name="predict", exist_ok=True
    )
    print(f"\nMeasured on {len(kept_aside)} images that were not learned from:")
    print(f"{'':14}{'box mAP50':>12}{'pose mAP50':>12}{'mean keypoint error':>30}")
    for row in (rows[0], rows[-1]):
        found = f"{row['error']:.1f} % of box diagonal ({row['share']:.0f} % found)" if row["share"] else "none found"
        box, pose = row["metrics/mAP50(B)"], row["metrics/mAP50(P)"]
        print(f"{'epoch ' + str(int(row['epoch'])):14}{box:12.3f}{pose:12.3f}{found:>42}")
    print(f"\nTraining took {minutes:.1f} minutes.")
    for what, where in (
        ("images with poses", results[0].save_dir), ("the run, with curves", ROOT / "train"),
        ("the network", ROOT / "train/weights/best.pt"), ("the drawn data", os.environ["YOLOPOSE_DATASETS_DIR"]),
    ):  # fmt: skip
        print(f"{what + ':':22} {Path(where).resolve()}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt as interruption:
        print(
            f"\n{interruption or 'Interrupted.'}\nOr simply run the demo again: it goes on from there.", file=sys.stderr
        )
        sys.exit(130)
    except YoloposeError as fault:
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(1)
