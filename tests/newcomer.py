"""What a newcomer has at hand: a folder with data, and a server with what the docs name."""

from __future__ import annotations

import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest

from servers import Server, whole

SHARED = Path(os.environ.get("YOLOPOSE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
"""The folder of golden numbers, real data and weights."""

# less work of the same kind: one epoch and small images; images and weights from the test's own server
LESS = {
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


def less(text: str, server: Server) -> str:
    for old, new in LESS.items():
        text = text.replace(old, new.replace("ADDRESS", server.address))
    return text


def set_up(shared: Path, folder: Path) -> Path:
    """A copy of COCO8-pose as somebody's own data set."""
    shutil.copytree(shared / "data/coco8-pose/images", folder / "own/images")
    shutil.copytree(shared / "data/coco8-pose/labels", folder / "own/labels")
    text = (shared / "data/coco8-pose/coco8-pose.yaml").read_text()
    (folder / "your-dataset.yaml").write_text(re.sub(r"(?m)^path:.*$", "path: own", text))
    return folder / "your-dataset.yaml"


def place_for(shared: Path, server: Server, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Make the folder the current one, and gives the server what the docs name."""
    home = folder / "home"
    home.mkdir()
    patch.chdir(home)
    patch.setenv("YOLOPOSE_DATASETS_DIR", str(folder / "datasets"))
    set_up(shared, home)
    server.answers["/v8.3.0/yolo11n-pose.pt"] = whole((shared / "checkpoints/yolo11n-pose.pt").read_bytes())
    server.answers["/images/bus.jpg"] = whole((shared / "images/bus.jpg").read_bytes())
    server.answers["/v0.0.0/coco8-pose.zip"] = whole(archive(shared / "data/coco8-pose", "coco8-pose"))
    some_of_coco(shared, folder / "datasets/coco-pose")
    return home


def archive(folder: Path, name: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as made:
        for part in ("images", "labels"):
            for path in sorted((folder / part).rglob("*.*")):
                if path.suffix in (".jpg", ".txt"):
                    made.write(path, f"{name}/{path.relative_to(folder)}")
    return data.getvalue()


def some_of_coco(shared: Path, root: Path) -> None:
    """The few images of COCO val2017 that are at hand, laid out as the whole is."""
    source = shared / "data/coco-mini"
    files = sorted((source / "images/val").glob("*.jpg"))[:24]
    for part, suffix in (("images", ".jpg"), ("labels", ".txt")):
        (root / part / "val2017").mkdir(parents=True)
        for file in files:
            shutil.copyfile(
                source / part / "val" / f"{file.stem}{suffix}", root / part / "val2017" / f"{file.stem}{suffix}"
            )
    (root / "val2017.txt").write_text("".join(f"./images/val2017/{file.name}\n" for file in files))
