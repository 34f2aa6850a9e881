"""Scripts as people write them for `ultralytics` run with the import line changed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from docs_setup import SHARED

SCRIPTS = Path(__file__).parent / "migration_scripts"
QUICK = ("crop_persons.py", "folder_to_csv.py", "notebook.py")
NEEDS = {
    "flask_server.py": "flask",
    "supervision_annotate.py": "supervision",
    "export_and_compare.py": "onnxscript",
    "track_history.py": "scipy",
    "threads.py": "scipy",
    "commands.sh": "scipy",
    "kfold.py": "yaml",
}
POINTS = (
    "path: {root}\ntrain: images/train\nval: images/val\nkpt_shape: [4, 3]\nflip_idx: [0, 1, 2, 3]\nnames: [mouse]\n"
)
REFERENCE = "ultralytics"


def prepare(folder: Path, shared: Path) -> Path:
    """Write what the scripts read: weights, images, a video, two data sets."""
    shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", folder / "yolo11n-pose.pt")
    shutil.copyfile(shared / "images/bus.jpg", folder / "bus.jpg")
    shutil.copytree(shared / "data/coco8-pose", folder / "coco8")
    (folder / "images").mkdir()
    for file in sorted((folder / "coco8/images").rglob("*.jpg"))[:4]:
        shutil.copyfile(file, folder / "images" / file.name)
    text = (shared / "data/coco8-pose/coco8-pose.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith(("path:", "download:"))]
    (folder / "data.yaml").write_text("\n".join([f"path: {folder / 'coco8'}", *lines]) + "\n")
    for split in ("train", "val"):
        for file in sorted((shared / "data/mouse/images" / split).glob("*.jpg"))[:4]:
            for kind, source in (("images", file), ("labels", shared / f"data/mouse/labels/{split}/{file.stem}.txt")):
                (folder / "mouse" / kind / split).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / "mouse" / kind / split / source.name)
    (folder / "points.yaml").write_text(POINTS.format(root=folder / "mouse"))
    image = cv2.resize(cv2.imread(str(folder / "bus.jpg")), (320, 426))
    writer = cv2.VideoWriter(str(folder / "walk.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 320))
    for step in range(6):
        writer.write(image[10 * step : 10 * step + 320])
    writer.release()
    return folder


def run(script: Path, folder: Path, package: str) -> str:
    """Run a script with a package; return what it printed on standard error if it failed."""
    text = script.read_text(encoding="utf-8").replace(f"from {REFERENCE} ", f"from {package} ")
    commands = [[sys.executable, script.name]]
    if script.suffix == ".sh":
        yolo = [sys.executable, "-m", package] if package != REFERENCE else ["yolo"]
        commands = [[*yolo, *shlex.split(line)[1:]] for line in text.splitlines()]
    (folder / script.name).write_text(text, encoding="utf-8")
    for command in commands:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=560, check=False)
        if done.returncode:
            return f"{command}: {done.stderr[-3000:]}"
    return ""


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("scripts"), shared)


def scripts() -> list[Path]:
    return sorted([*SCRIPTS.glob("*.py"), *SCRIPTS.glob("*.sh")])


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, id=path.name, marks=() if path.name in QUICK else pytest.mark.slow) for path in scripts()],
)
def test_script(script: Path, folder: Path) -> None:
    library = NEEDS.get(script.name)
    if find_spec("torch") is None or (library and find_spec(library) is None):
        pytest.skip(f"{library or 'torch'} is not installed")
    assert run(script, folder, "yolopose") == ""


def test_there_are_twenty_scripts() -> None:
    assert len(scripts()) >= 20
    assert all(f"from {REFERENCE} import YOLO" in path.read_text() for path in SCRIPTS.glob("*.py"))


if __name__ == "__main__":  # `python tests/test_migration_scripts.py FOLDER [SCRIPT …]` runs them with `ultralytics`
    target = Path(sys.argv[1])
    if not (target / "data.yaml").exists():
        prepare(target, Path(os.environ.get("YOLOPOSE_SHARED", SHARED)))
    for path in scripts():
        if not sys.argv[2:] or path.name in sys.argv[2:]:
            print(path.name, run(path, target, REFERENCE) or "runs")
