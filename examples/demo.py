"""A first look without network or files: builds a network, prints its table, predicts on pictures drawn here.

The network has random weights, so its poses mean nothing yet: what the demo shows is the whole way from a
model YAML to annotated pictures. (Learning comes with the training release.)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np

from yolopose import YOLO
from yolopose.base.files import atomic_path
from yolopose.schema import COCO_PERSON_SKELETON

# a standing figure, COCO order, in a unit square
FIGURE = np.array(
    [
        [0.50, 0.08], [0.52, 0.06], [0.48, 0.06], [0.55, 0.08], [0.45, 0.08], [0.62, 0.22], [0.38, 0.22],
        [0.70, 0.38], [0.30, 0.38], [0.74, 0.52], [0.26, 0.52], [0.58, 0.52], [0.42, 0.52], [0.60, 0.74],
        [0.40, 0.74], [0.61, 0.96], [0.39, 0.96],
    ]
)  # fmt: skip


def draw_figure(image: np.ndarray, rng: np.random.Generator) -> None:
    """Draws one figure of random size, place, colour and posture into the picture."""
    height, width = image.shape[:2]
    size = rng.uniform(0.4, 0.8) * height
    corner = rng.uniform([-0.1 * size, 0.0], [width - 0.9 * size, height - size])
    points = (FIGURE + rng.normal(0, 0.02, FIGURE.shape)) * size + corner
    colour = tuple(int(value) for value in rng.integers(30, 256, 3))
    for first, second in COCO_PERSON_SKELETON:
        ends = [tuple(round(value) for value in points[index]) for index in (first, second)]
        cv2.line(image, ends[0], ends[1], colour, max(2, int(size / 25)), cv2.LINE_AA)
    centre = tuple(round(value) for value in points[:5].mean(axis=0))
    cv2.circle(image, centre, int(size / 14), colour, -1, cv2.LINE_AA)


def draw_pictures(folder: Path, count: int = 4, seed: int = 0) -> None:
    """Writes `count` pictures of figures before a noisy background."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        coarse = rng.integers(0, 120, (9, 12, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        for _ in range(int(rng.integers(1, 4))):
            draw_figure(image, rng)
        with atomic_path(folder / f"figures{index}.png") as path:
            cv2.imwrite(str(path), image)


def main() -> int:
    """Runs the demo; prints the paths of what it wrote."""
    root = Path("demo")
    pictures = root / "pictures"
    draw_pictures(pictures)
    start = time.perf_counter()
    model = YOLO("yolo11n-pose.yaml")
    print(f"Built yolo11n-pose in {time.perf_counter() - start:.2f} s:")
    model.info(detailed=True)
    # random weights score everything low and much alike: a few of the best are enough to see the drawing
    results = model.predict(pictures, conf=0.0, max_det=2, save=True, project=root, name="predict")
    milliseconds = np.mean([sum(result.speed.values()) for result in results])
    print(f"\nPredicted {len(results)} pictures, {milliseconds:.0f} ms each.")
    print("The weights are random, so these poses mean nothing yet; load trained ones with YOLO('x.pt').")
    print(f"Pictures drawn:   {pictures.resolve()}")
    print(f"Pictures with poses: {Path(results[0].save_dir).resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
