"""Every Python block and command of the reference documentation page runs with the import changed."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from docs_setup import SHARED, copy_dataset, make_home, shorten
from servers import Server
from yolopose import YOLO
from yolopose.cli import main

pytest.importorskip("torch")
pytest.importorskip("onnx")

BLOCKS, LINES, INLINE = 7, 9, 3
NOT_RUNNABLE: list[str] = []  # commands of the page that do not run here
# commands within sentences: missing parts are filled in, and the device is one that every machine has
FILL_IN = {"device=0|cpu": "device=cpu", "device=0": "device=cpu", "model=yolo11n-pose.onnx": "{0} source={1}"}


def page() -> Path:
    return SHARED / "spec/00-the-page.md"


def fenced(kind: str) -> list[str]:
    """Return the code blocks of a kind without their indentation."""
    if not page().is_file():
        return []
    blocks = re.findall(rf"^( *)```{kind}\n(.*?)^ *```", page().read_text(encoding="utf-8"), re.M | re.S)
    return ["".join(line[len(indent) :] for line in block.splitlines(True)) for indent, block in blocks]


def commands() -> list[str]:
    lines = [line for block in fenced("bash") for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.startswith("yolo ")]


def inline(server: Server | None = None) -> list[str]:
    """Return the commands within sentences."""
    text = page().read_text(encoding="utf-8") if page().is_file() else ""
    lines = re.findall(r"`(yolo [^`]*)`", text)
    image = f"{server.address}/images/bus.jpg" if server else ""
    for old, new in FILL_IN.items():
        lines = [line.replace(old, new.format(old, image)) for line in lines]
    return lines


@pytest.fixture(scope="module")
def custom(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """Return best.pt of a trained network."""
    shared: Path = request.getfixturevalue("shared")
    root = tmp_path_factory.mktemp("custom")
    data = copy_dataset(shared, root)
    options = {"epochs": 1, "imgsz": 64, "plots": False, "verbose": False, "workers": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLOPOSE_CONFIG_DIR", str(root))
        model = YOLO("yolo11n-pose.yaml")
        model.train(data=data, project=root / "runs", **options)
    return Path(model.model_name)


@pytest.fixture
def home(server: Server, shared: Path, custom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = make_home(shared, server, tmp_path, monkeypatch)
    (home / "path/to").mkdir(parents=True)
    shutil.copyfile(custom, home / "path/to/best.pt")
    return home


def test_page_is_covered(shared: Path) -> None:
    assert (len(fenced("python")), len(commands()), len(inline())) == (BLOCKS, LINES, INLINE)
    assert NOT_RUNNABLE == []


@pytest.mark.parametrize("number", range(BLOCKS))
def test_python_blocks(number: int, home: Path, server: Server) -> None:
    code = shorten(fenced("python")[number], server)
    exec(compile(code, f"block {number}", "exec"), {"__name__": "page"})  # noqa: S102


@pytest.mark.parametrize("number", range(LINES))
def test_commands(number: int, home: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(shorten(commands()[number], server))
    assert main(words[1:]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("number", range(INLINE))
def test_commands_within_sentences(number: int, home: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    line = inline(server)[number]
    if ".onnx" in line:
        assert main(["export", "model=yolo11n-pose.pt", "format=onnx", "imgsz=64"]) == 0
    assert main([*shlex.split(line)[1:], "imgsz=64"]) == 0, capsys.readouterr().err


def test_exported_file_predicts_and_validates(home: Path, server: Server) -> None:
    assert main(["export", "model=yolo11n-pose.pt", "format=onnx", "imgsz=128"]) == 0
    assert main(["predict", "model=yolo11n-pose.onnx", f"source={server.address}/images/bus.jpg"]) == 0
    assert main(["val", "model=yolo11n-pose.onnx", "data=your-dataset.yaml"]) == 0
    assert (home / "runs/pose/predict/bus.jpg").stat().st_size > 1000
