"""Calibration of the keypoint uncertainty of YOLO26: the share of ground truth within 1 sigma and 2 sigma.

    python benchmarks/calibration.py --model yolo26n-pose.pt --data my-data.yaml [--split val] [--imgsz 640]

Detections are matched with labeled instances by box IoU (.5 or more, by descending confidence). For each labeled
keypoint r² = (Δx/σx)² + (Δy/σy)². A normal distribution has 39.3 % within r = 1 and 86.5 % within r = 2; a Laplace
distribution in x and y (the base distribution of residual log-likelihood estimation) has 35.3 % and 70.7 %. The last
column is the factor on sigma that gives r the median of a normal distribution.
"""

from __future__ import annotations

import argparse

import numpy as np

from yolopose import YOLO
from yolopose.data import load_dataset, load_labels
from yolopose.evaluate.matching import greedy_match
from yolopose.geometry import box_iou, cxcywh_to_xyxy

NORMAL_MEDIAN = float(np.sqrt(2 * np.log(2)))
IOU = np.array([0.5])


def keypoint_distances(model: YOLO, args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, int]:
    """Return (N, K) distances in sigma (NaN if not labeled), the same in pixels, and the number of ground truths."""
    dataset = load_dataset(args.data, splits=[args.split])
    labels = load_labels(dataset, args.split)
    in_sigma: list[np.ndarray] = []
    in_pixels: list[np.ndarray] = []
    for index, file in enumerate(labels.files):
        gt = labels[index]
        height, width = labels.shapes[index]
        size = np.array([width, height])
        (result,) = model.predict(file, uncertainty=True, conf=args.conf, imgsz=args.imgsz, verbose=False)
        detections = result.numpy()
        order = np.argsort(-detections.boxes.conf, kind="stable")
        boxes = detections.boxes.xyxy[order].astype(float)
        matches = greedy_match(box_iou(cxcywh_to_xyxy(gt.boxes) * np.tile(size, 2), boxes), IOU)[:, 0]
        rows = order[matches >= 0]
        targets = gt.keypoints[matches[matches >= 0]]
        offsets = detections.keypoints.xy[rows] - targets[..., :2] * size
        labeled = targets[..., 2] > 0
        in_sigma.extend(np.where(labeled, np.linalg.norm(offsets / detections.keypoints.sigma[rows], axis=-1), np.nan))
        in_pixels.extend(np.where(labeled, np.linalg.norm(offsets, axis=-1), np.nan))
    if not in_sigma:
        raise SystemExit(f"Nothing in {args.data}, {args.split} is detected with conf={args.conf}.")
    return np.array(in_sigma), np.array(in_pixels), len(labels.classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--conf", type=float, default=0.25)
    args = parser.parse_args()
    model = YOLO(args.model)
    in_sigma, in_pixels, num_gt = keypoint_distances(model, args)
    print(f"{len(in_sigma)} of {num_gt} instances detected\n")
    print("| keypoint | labeled | within 1 σ | within 2 σ | median, px | factor |\n|---|---|---|---|---|---|")
    columns = [("all", slice(None)), *((name, k) for k, name in enumerate(model.spec.keypoints.keypoint_names(0)))]
    for name, column in columns:
        labeled = ~np.isnan(in_sigma[:, column])
        if labeled.any():
            r = in_sigma[:, column][labeled]
            print(
                f"| {name} | {len(r)} | {(r <= 1).mean():.1%} | {(r <= 2).mean():.1%} | "
                f"{np.median(in_pixels[:, column][labeled]):.1f} | {np.median(r) / NORMAL_MEDIAN:.2f} |"
            )


if __name__ == "__main__":
    main()
