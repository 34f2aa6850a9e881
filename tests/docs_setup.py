"""Set-up of the tests that run the documents: a folder with data, and a server with the files that they name."""

from __future__ import annotations

import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from servers import Server, whole
from yolopose.data.tracks import Tracks, write_tracks
from yolopose.schema import KeypointSchema

SHARED = Path(os.environ.get("YOLOPOSE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
"""Folder of fixtures, real data and weights."""

# less work of the same kind: one epoch and small images; downloads come from the test server
SHORTER = {
    "from ultralytics import YOLO": "from yolopose import YOLO",
    "epochs=100": "epochs=1",
    "imgsz=640": "imgsz=64",
    "imgsz=320": "imgsz=64",
    "data=figures-pose.yaml": "data=my-data.yaml",
    "https://ultralytics.com": "ADDRESS",
}
MODEL = """
nc: 1
kpt_shape: [17, 3]
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2, 3], 1, Pose, [nc, kpt_shape]]
"""


def shorten(text: str, server: Server) -> str:
    for old, new in SHORTER.items():
        text = text.replace(old, new.replace("ADDRESS", server.address))
    return text


def copy_dataset(shared: Path, folder: Path) -> Path:
    """Copy COCO8-pose as a user's own data set."""
    shutil.copytree(shared / "data/coco8-pose/images", folder / "own/images")
    shutil.copytree(shared / "data/coco8-pose/labels", folder / "own/labels")
    text = (shared / "data/coco8-pose/coco8-pose.yaml").read_text()
    (folder / "your-dataset.yaml").write_text(re.sub(r"(?m)^path:.*$", "path: own", text))
    return folder / "your-dataset.yaml"


def copy_mice(shared: Path, folder: Path) -> None:
    """Copy some frames of a mouse with four keypoints as `mice.yaml`."""
    for split in ("train", "val"):
        for file in sorted((shared / "data/mouse/images" / split).glob("*.jpg"))[:4]:
            for part, source in (("images", file), ("labels", shared / f"data/mouse/labels/{split}/{file.stem}.txt")):
                (folder / "mice" / part / split).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / "mice" / part / split / source.name)
    text = (shared / "data/mouse/mouse.yaml").read_text()
    (folder / "mice.yaml").write_text(re.sub(r"(?m)^path:.*$", "path: mice", text))


def write_walk(folder: Path) -> None:
    """Write the tracks of two people, `tracks.jsonl`, and their ground truth, `gt.jsonl`."""
    rng = np.random.default_rng(0)
    frames = np.repeat(np.arange(1, 41), 2)
    left = np.stack((frames * 3.0, 300 - frames * 3.0), axis=1)[np.arange(80), np.arange(80) % 2]
    boxes = np.stack((left, np.full(80, 40.0), left + 60, np.full(80, 200.0)), axis=1)
    points = rng.uniform(0, 1, (2, 17, 2))[np.arange(80) % 2] * (60, 160) + boxes[:, None, :2]
    labels = np.concatenate((points, np.full((80, 17, 1), 2)), axis=2)
    measured = np.concatenate((points + rng.normal(0, 1, points.shape), np.full((80, 17, 1), 0.9)), axis=2)
    for name, keypoints in (("gt", labels), ("tracks", measured)):
        tracks = Tracks.build(
            frames=frames, ids=1 + np.arange(80) % 2, boxes=boxes, keypoints=keypoints, name="walk", fps=30.0,
            size=(240, 320), schema=KeypointSchema.coco_person(),
        )  # fmt: skip
        write_tracks(folder / f"{name}.jsonl", tracks)


def make_home(shared: Path, server: Server, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Create a home folder, change to it, and let the server serve the files that the documents name."""
    home = folder / "home"
    home.mkdir()
    patch.chdir(home)
    patch.setenv("YOLOPOSE_DATASETS_DIR", str(folder / "datasets"))
    copy_dataset(shared, home)
    write_walk(home)
    server.answers["/v8.3.0/yolo11n-pose.pt"] = whole((shared / "checkpoints/yolo11n-pose.pt").read_bytes())
    server.answers["/images/bus.jpg"] = whole((shared / "images/bus.jpg").read_bytes())
    server.answers["/v0.0.0/coco8-pose.zip"] = whole(archive(shared / "data/coco8-pose", "coco8-pose"))
    copy_coco_subset(shared, folder / "datasets/coco-pose")
    return home


def archive(folder: Path, name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for part in ("images", "labels"):
            for path in sorted((folder / part).rglob("*.*")):
                if path.suffix in (".jpg", ".txt"):
                    made.write(path, f"{name}/{path.relative_to(folder)}")
    return data.getvalue()


def copy_coco_subset(shared: Path, root: Path) -> None:
    """Copy some images of COCO val2017 in the layout of the full data set."""
    source = shared / "data/coco-mini"
    files = sorted((source / "images/val").glob("*.jpg"))[:24]
    for part, suffix in (("images", ".jpg"), ("labels", ".txt")):
        (root / part / "val2017").mkdir(parents=True)
        for file in files:
            shutil.copyfile(
                source / part / "val" / f"{file.stem}{suffix}", root / part / "val2017" / f"{file.stem}{suffix}"
            )
    (root / "val2017.txt").write_text("".join(f"./images/val2017/{file.name}\n" for file in files))
