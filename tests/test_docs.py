"""Every Python block and command of README and docs runs, with fewer epochs and smaller images."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foreign_graphs
from docs_setup import MODEL, copy_mice, make_home, shorten
from servers import Server
from yolopose import YOLO
from yolopose.cli import main

pytest.importorskip("torch")
pytest.importorskip("onnx")
if find_spec("openvino") is None:  # importorskip would import it, and it reports imports
    pytest.skip("openvino is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "docs/installation.md",
    "docs/quickstart.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/tasks").glob("*.md")),
    "docs/training.md",
    "docs/training-clusters.md",
    "docs/few-images.md",
    "docs/data.md",
    "docs/visibility.md",
    "docs/converting.md",
    "docs/doctor.md",
    "docs/predicting.md",
    "docs/embeddings.md",
    "docs/other-networks.md",
    "docs/tracking.md",
    "docs/batch-jobs.md",
    "docs/exporting.md",
    "docs/toolchains.md",
    "docs/evaluation.md",
    "docs/tuning.md",
    "docs/deploying.md",
    "docs/serving.md",
    "docs/safety.md",
    "docs/architecture.md",
]
CONVERSIONS = ("docs/converting.md", "docs/tasks/labels-of-other-tools.md")  # they read annotations of other tools
# commands that are tested elsewhere: installation by CI, the server in tests/serve, resuming in test_train_loop,
# formats in test_model_benchmark, test_formats_nms and test_formats_int8, several devices in
# test_train_distributed_processes, toolchains in test_toolchains_installer, jobs that continue in test_jobs_run, on
# Ray and S3 in test_jobs_remote
ELSEWHERE = (
    "pip install",
    "make ",
    "yolo pose train resume=True",
    "yolo pose track resume=",  # test_predict_resume
    "yolo benchmark",
    "yolo export nms=True",
    "yolo export int8=True",
    "yolo toolchain install",
    "yolo toolchain run",
    "torchrun",
    "yolo batch engine=ray",
    "yolo batch output=results/",
    "yolo batch source=s3",
    "yolo serve",
    "yolo pose train folds=",  # test_model_folds
    "yolo pose train resume=runs",
    "yolo calibrate",  # test_model_calibrate
    "yolo tune",  # test_model_tune
    "yolo pose train cfg=runs/pose/tune",
    "yolo pose train data=my-data.yaml model=yolo11n-pose.pt device=",
)


def fenced(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


def commands() -> list[tuple[str, str]]:
    lines = [(page, line) for page in PAGES for block in fenced(page, "bash") for line in block.splitlines()]
    pages = {line.split("  #")[0].strip(): page for page, line in reversed(lines)}  # a command of two pages runs once
    return [(page, line) for line, page in reversed(pages.items()) if line]


def write_video(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for shade in range(0, 240, 40):
        writer.write(np.full((48, 64, 3), shade, np.uint8))
    writer.release()


@pytest.fixture
def home(server: Server, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = make_home(shared, server, tmp_path, monkeypatch)
    (home / "my-network.yaml").write_text(MODEL)
    (home / "images").mkdir()
    for name in ("image.jpg", "bus.jpg", "images/one.jpg"):
        shutil.copyfile(shared / "images/bus.jpg", home / name)
    write_video(home / "walk.mp4")
    (home / "annotations").mkdir()
    shutil.copyfile(
        shared / "data/coco-mini/annotations/person_keypoints_val.json", home / "annotations/person_keypoints_val.json"
    )
    shutil.copytree(shared / "data/coco-mini/images/val", home / "images/val")
    shutil.copyfile(home / "your-dataset.yaml", home / "my-data.yaml")
    copy_mice(shared, home)
    foreign_graphs.rtmo(home / "rtmo-s.onnx")  # instead of downloads
    foreign_graphs.rtmo(home / "rtmo-l.onnx")
    foreign_graphs.simcc(home / "rtmpose-m.onnx")
    return home


def write_sources(home: Path) -> None:
    """Write the sources of docs/converting.md, made of the mice."""
    from yolopose.data.convert.conversion import convert

    pytest.importorskip("sleap_io")
    for name in ("deeplabcut", "labelme", "via", "roboflow", "sleap", "cvat", "labelstudio"):
        target = home / {"deeplabcut": "my-dlc-project"}.get(name, f"my-{name}")
        if not target.exists():
            copies = True if name == "cvat" else None  # an export of CVAT contains the images
            convert(home / "mice.yaml", target, to=name, copy_images=copies, verbose=False)


@pytest.mark.parametrize("page", [page for page in PAGES if fenced(page, "python")])
def test_python_blocks(page: str, home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from yolopose.train.feed import operations

    monkeypatch.setattr(operations, "OPERATIONS", [*operations.OPERATIONS])  # a block adds an augmentation
    if page in CONVERSIONS:
        write_sources(home)
    if 'YOLO("yolo11n-pose.onnx")' in "".join(fenced(page, "python")):  # the page exports it with a command
        assert main(["export", "model=yolo11n-pose.pt", "format=onnx", "imgsz=64"]) == 0
    names: dict[str, object] = {"__name__": "docs", "model": YOLO("my-network.yaml")}
    for number, block in enumerate(fenced(page, "python")):
        code = compile(shorten(block, server), f"{page}, block {number}", "exec", dont_inherit=True)
        exec(code, names)  # noqa: S102


def command_param(page: str, line: str) -> Any:
    """Mark slow commands whose kind test_the_page runs too."""
    long = (" train " in line and "figures" not in line) or "dynamic=True" in line or "format=onnx imgsz=640" in line
    return pytest.param(page, line, marks=pytest.mark.slow if long else ())


@pytest.mark.parametrize(
    ("page", "line"), [command_param(*command) for command in commands() if not command[1].startswith(ELSEWHERE)]
)
def test_commands(page: str, line: str, home: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    if "yolo11n-pose.onnx" in line:
        assert main(["export", "model=yolo11n-pose.pt", "format=onnx", "imgsz=64"]) == 0
    if page in CONVERSIONS:
        write_sources(home)
        for folder in ("mice-yolo", "mice-dlc"):
            if f"={folder}/data.yaml" in line or "mice-split" in line:
                assert main(["convert", "source=my-dlc-project", f"output={folder}"]) == 0
        if "data=mice-split" in line:
            assert main(["data", "split", "data=mice-dlc/data.yaml", "output=mice-split"]) == 0
    if "data=my-labels" in line:
        assert main(["convert", "source=annotations/", "output=my-labels"]) == 0
    if "index=images.npz" in line:
        assert main(["embed", "model=yolo11n-pose.pt", "source=images/", "output=images.npz", "imgsz=64"]) == 0
    if "runs/pose/train/weights/best.pt" in line:
        (home / "runs/pose/train/weights").mkdir(parents=True)
        data = "my-data.yaml" if "data=my-data.yaml" in line else "mice.yaml"
        YOLO("my-network.yaml").train(
            data=data, epochs=1, imgsz=64, plots=False, project="runs/pose", name="train", exist_ok=True
        )
    if line.startswith(("yolo compare", "yolo report")):
        saved = ["plots=False", "save_txt=True"]
        for _ in range(2):
            assert main(["val", "model=yolo11n-pose.pt", "data=coco8-pose.yaml", "imgsz=64", *saved]) == 0
    assert line.startswith("yolo ")
    assert main(shlex.split(shorten(line, server))[1:]) == 0, capsys.readouterr().err


def test_architecture_names_what_exists() -> None:
    """Functions and classes that the page names are defined in the package."""
    names: set[str] = set()
    for path in (ROOT / "src/yolopose").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(node, ast.Name):
                names.add(node.id)
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    calls = set(re.findall(r"`(?:\w+\.)?(\w+)\(\)`|`[A-Z]\w+\.(\w+)`", text))
    assert len(calls) > 30
    assert {name for pair in calls for name in pair if name} <= names
    for file in set(re.findall(r"`((?:\w+/)+\w+\.py)`", text)):
        assert (ROOT / "src/yolopose" / file).is_file() or (ROOT / file).is_file(), file


def test_lines_tested_elsewhere_are_few() -> None:
    assert len([line for _, line in commands() if line.startswith(ELSEWHERE)]) <= 32
