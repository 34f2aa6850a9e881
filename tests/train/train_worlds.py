"""A small world to train in: drawn images as files, and a network of a few thousand parameters."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

MODEL = """
nc: 1
kpt_shape: [3, 3]
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2, 3], 1, Pose, [nc, kpt_shape]]
"""
DUAL_MODEL = MODEL.replace("nc: 1\n", "nc: 1\nend2end: True\nreg_max: 1\n").replace("Pose,", "Pose26,")
# nothing random beside seeds; enough steps for so few images
FAST = {
    "recipe": "reference",
    "imgsz": 64, "batch": 4, "nbs": 4, "epochs": 2, "workers": 0, "plots": False, "verbose": False, "close_mosaic": 0,
    "optimizer": "AdamW", "lr0": 0.01, "device": "cpu",
}  # fmt: skip


def make_world(root: Path, *, images: int = 8, dims: int = 3, classes: int = 1) -> tuple[Path, Path]:
    """Write images of a bright block with three labeled points; returns the data YAML and the model YAML."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(images):
            image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
            w, h = rng.uniform(0.3, 0.6, 2)
            cx, cy = rng.uniform(w / 2, 1 - w / 2), rng.uniform(h / 2, 1 - h / 2)
            low, high = ((cx - w / 2) * 64, (cy - h / 2) * 64), ((cx + w / 2) * 64, (cy + h / 2) * 64)
            cv2.rectangle(image, [int(v) for v in low], [int(v) for v in high], (40, 200, 250), -1)
            points = [(cx - w / 3, cy), (cx + w / 3, cy), (cx, cy + h / 3)]
            tail = " 2" if dims == 3 else ""
            row = f"{index % classes} {cx} {cy} {w} {h} " + " ".join(f"{x} {y}{tail}" for x, y in points)
            cv2.imwrite(str(root / "images" / split / f"{index}.png"), image)
            (root / "labels" / split / f"{index}.txt").write_text(row + "\n")
    names = ", ".join(f"kind{index}" for index in range(classes))
    data, model = root / "blocks.yaml", root / "tiny-pose.yaml"
    text = f"path: .\ntrain: images/train\nval: images/val\nkpt_shape: [3, {dims}]\nflip_idx: [1, 0, 2]\n"
    data.write_text(f"{text}names: [{names}]\n")
    model.write_text(MODEL)
    return data, model
