"""Every Python block and command of the page that we promise, run with the import line changed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from newcomer import SHARED, less, place_for, set_up
from servers import Server
from yolopose import YOLO
from yolopose.cli import main

pytest.importorskip("torch")
pytest.importorskip("onnx")

BLOCKS, LINES, INLINE = 7, 9, 3
CANNOT_RUN: list[str] = []  # lines of the page that do not run here, by name
# commands within sentences: what they leave open is filled in, and the device is the one that every machine has
FILLED = {"device=0|cpu": "device=cpu", "device=0": "device=cpu", "model=yolo11n-pose.onnx": "{0} source={1}"}


def page() -> Path:
    return SHARED / "spec/00-the-page.md"


def fenced(kind: str) -> list[str]:
    """The code blocks of a kind, their indentation taken off."""
    if not page().is_file():
        return []
    found = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", page().read_text(encoding="utf-8"), re.M | re.S)
    return ["".join(line[len(indent) :] for line in block.splitlines(True)) for indent, block in found]


def commands() -> list[str]:
    lines = [line for block in fenced("bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.startswith("yolo ")]


def inline(server: Server | None = None) -> list[str]:
    """The commands within sentences."""
    text = page().read_text(encoding="utf-8") if page().is_file() else ""
    found = re.findall(r"`(yolo [^`]*)`", text)
    image = f"{server.address}/images/bus.jpg" if server else ""
    for old, new in FILLED.items():
        found = [line.replace(old, new.format(old, image)) for line in found]
    return found


@pytest.fixture(scope="module")
def custom(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A custom model's best.pt, as training leaves it."""
    shared: Path = request.getfixturevalue("shared")
    root = tmp_path_factory.mktemp("custom")
    data = set_up(shared, root)
    options = {"epochs": 1, "imgsz": 64, "plots": False, "verbose": False, "workers": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOPOSE_CONFIG_DIR", str(root))
        model = YOLO("yolo11n-pose.yaml")
        model.train(data=data, project=root / "runs", **options)
    return Path(model.model_name)


@pytest.fixture
def place(server: Server, shared: Path, custom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = place_for(shared, server, tmp_path, monkeypatch)
    (home / "path/to").mkdir(parents=True)
    shutil.copyfile(custom, home / "path/to/best.pt")
    return home


def test_nothing_of_the_page_is_left_out(shared: Path) -> None:
    assert (len(fenced("python")), len(commands()), len(inline())) == (BLOCKS, LINES, INLINE)
    assert CANNOT_RUN == []


@pytest.mark.parametrize("number", range(BLOCKS))
def test_python_blocks(number: int, place: Path, server: Server) -> None:
    exec(compile(less(fenced("python")[number], server), f"block {number}", "exec"), {"__name__": "page"})  # noqa: S102


@pytest.mark.parametrize("number", range(LINES))
def test_commands(number: int, place: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(less(commands()[number], server))
    assert main(words[1:]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("number", range(INLINE))
def test_commands_within_sentences(
    number: int, place: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    line = inline(server)[number]
    if ".onnx" in line:
        assert main(["export", "model=yolo11n-pose.pt", "format=onnx", "imgsz=64"]) == 0
    assert main([*shlex.split(line)[1:], "imgsz=64"]) == 0, capsys.readouterr().err


def test_the_exported_file_predicts_and_validates(place: Path, server: Server) -> None:
    assert main(["export", "model=yolo11n-pose.pt", "format=onnx", "imgsz=128"]) == 0
    assert main(["predict", "model=yolo11n-pose.onnx", f"source={server.address}/images/bus.jpg"]) == 0
    assert main(["val", "model=yolo11n-pose.onnx", "data=your-dataset.yaml"]) == 0
    assert (place / "runs/pose/predict/bus.jpg").stat().st_size > 1000
