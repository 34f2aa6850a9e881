"""Scripts as people write them for `ultralytics` run with the import line changed."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import pytest

from yolopose.cli import main

SCRIPTS = Path(__file__).parent / "migration_scripts"
OWN_PROCESS = ("processes.py",)  # its processes import it
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


def run(script: Path) -> None:
    """Run a script in the current folder, with the import line changed; raise what it raises."""
    text = script.read_text(encoding="utf-8").replace("from ultralytics ", "from yolopose ")
    Path(script.name).write_text(text, encoding="utf-8")
    if script.suffix == ".sh":
        for line in text.splitlines():
            assert main(shlex.split(line)[1:]) == 0, line
    elif script.name in OWN_PROCESS:
        subprocess.run([sys.executable, script.name], check=True, timeout=560)
    else:
        exec(compile(text, script.name, "exec"), {"__name__": "__main__"})  # noqa: S102


@pytest.fixture(scope="module")
def folder(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare(tmp_path_factory.mktemp("scripts"), shared)


def scripts() -> list[Path]:
    return sorted([*SCRIPTS.glob("*.py"), *SCRIPTS.glob("*.sh")])


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, id=path.name, marks=() if path.name in QUICK else pytest.mark.slow) for path in scripts()],
)
def test_script(script: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = NEEDS.get(script.name)
    if find_spec("torch") is None or (library and find_spec(library) is None):
        pytest.skip(f"{library or 'torch'} is not installed")
    monkeypatch.chdir(folder)
    run(script)


def test_there_are_twenty_scripts() -> None:
    assert len(scripts()) >= 20
    assert all("from ultralytics import YOLO" in path.read_text() for path in SCRIPTS.glob("*.py"))
