"""Whether σ of a YOLO26 network's points is what it says: the share of truths within 1 σ and 2 σ.

    python benchmarks/calibration.py --model yolo26n-pose.pt --data my-data.yaml [--split val] [--imgsz 640]

Detections are paired with labeled objects by the overlap of their boxes (.5 and more, the surest first). For each
labeled point r² = (Δx/σx)² + (Δy/σy)²; of a normal distribution 39.3 % lie within r = 1 and 86.5 % within r = 2, of
Laplace ones in x and y (the law that residual log-likelihood starts from) 35.3 % and 70.7 %. The last column is the
factor that would bring the median of r to that of a normal distribution.
"""

from __future__ import annotations

import argparse

import numpy as np

from yolopose import YOLO
from yolopose.data import load_dataset, load_labels
from yolopose.geometry import box_iou, cxcywh_to_xyxy

NORMAL_MEDIAN = float(np.sqrt(2 * np.log(2)))


def distances(model: YOLO, given: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, int]:
    """(N, K) distances in σ, NaN for points without a label; the same in pixels; objects of the truth."""
    dataset = load_dataset(given.data, splits=[given.split])
    labels = load_labels(dataset, given.split)
    in_sigma: list[np.ndarray] = []
    in_pixels: list[np.ndarray] = []
    for index, file in enumerate(labels.files):
        truth, (height, width) = labels[index], labels.shapes[index]
        (result,) = model.predict(file, uncertainty=True, conf=given.conf, imgsz=given.imgsz, verbose=False)
        found = result.numpy()
        if not len(found) or not len(truth.boxes):
            continue
        size = np.array([width, height])
        overlap = box_iou(found.boxes.xyxy.astype(float), cxcywh_to_xyxy(truth.boxes) * np.tile(size, 2))
        for row in np.argsort(-found.boxes.conf, kind="stable"):
            column = int(overlap[row].argmax())
            if overlap[row, column] < 0.5:
                continue
            overlap[:, column] = 0  # an object is found once
            apart = found.keypoints.xy[row] - truth.keypoints[column, :, :2] * size
            labeled = truth.keypoints[column, :, 2] > 0
            in_sigma.append(np.where(labeled, np.linalg.norm(apart / found.keypoints.sigma[row], axis=1), np.nan))
            in_pixels.append(np.where(labeled, np.linalg.norm(apart, axis=1), np.nan))
    if not in_sigma:
        raise SystemExit(f"Nothing of {given.data}, {given.split} is found with conf={given.conf}.")
    return np.array(in_sigma), np.array(in_pixels), len(labels.classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--conf", type=float, default=0.25)
    given = parser.parse_args()
    model = YOLO(given.model)
    r, pixels, objects = distances(model, given)
    print(f"{len(r)} of {objects} objects found\n\n| point | labeled | within 1 σ | within 2 σ | median, px | factor |")
    print("|---|---|---|---|---|---|")
    rows = [("all", slice(None)), *((name, index) for index, name in enumerate(model.spec.keypoints.keypoint_names(0)))]
    for name, which in rows:
        known = ~np.isnan(r[:, which])
        if known.any():
            own = r[:, which][known]
            print(
                f"| {name} | {len(own)} | {(own <= 1).mean():.1%} | {(own <= 2).mean():.1%} | "
                f"{np.median(pixels[:, which][known]):.1f} | {np.median(own) / NORMAL_MEDIAN:.2f} |"
            )


if __name__ == "__main__":
    main()
