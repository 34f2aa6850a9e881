"""A small network of three classes, and a data set for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SMALL = """
nc: 3
kpt_shape: [5, 2]
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2f, [32, True]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[2, 3], 1, Pose, [nc, kpt_shape]]
"""


def write_images(folder: Path) -> Path:
    """Five images of noise to train on and three to measure on, an object in each; returns the data YAML."""
    rng, row = np.random.default_rng(0), " ".join(["1 0.5 0.5 0.6 0.6", *["0.4 0.6"] * 5])
    for split, count in {"train": 5, "val": 3}.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(0, 256, (64, 64 if number % 2 else 96, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / "images" / split / f"{number}.png"), pixels)
            (folder / "labels" / split / f"{number}.txt").write_text(row)
    file = folder / "few.yaml"
    file.write_text(
        "path: .\ntrain: images/train\nval: images/val\nkpt_shape: [5, 2]\nnames: [class0, class1, class2]\n"
    )
    return file
