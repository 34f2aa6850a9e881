"""The commonest mistakes of a newcomer, each with the paragraph that answers it; docs/mistakes.md is this table.

`YOLOPOSE_WRITE_DOCS=1 pytest tests/test_mistakes.py` writes the page anew.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

import yolopose
from yolopose import YOLO
from yolopose.cli import main
from yolopose.formats import registry

pytest.importorskip("torch")

PAGE = Path(__file__).parents[1] / "docs/mistakes.md"
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
DATA = """path: .
train: images/train
val: images/val
kpt_shape: [3, 3]
flip_idx: [1, 0, 2]
names: {0: cat}
"""
ROW = "0 0.5 0.5 0.4 0.4 0.4 0.5 2 0.6 0.5 2 0.5 0.6 1\n"
TRAIN = "yolo train model=tiny-pose.yaml data=cats.yaml epochs=1 imgsz=64 workers=0 plots=False"

Prepare = Callable[[Path, pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Mistake:
    """A mistake, the line in which it is made, what its answer must say, and what must be broken for it first."""

    title: str
    line: str
    words: tuple[str, ...]
    prepare: Prepare | None = None


def text(name: str, content: str) -> Prepare:
    return lambda folder, _: (folder / name).write_text(content, encoding="utf-8") and None


def changed(old: str, new: str, name: str = "cats.yaml") -> Prepare:
    def prepare(folder: Path, _: pytest.MonkeyPatch) -> None:
        content = (folder / name).read_text()
        assert old in content
        (folder / name).write_text(content.replace(old, new))

    return prepare


def labels(row: str) -> Prepare:
    def prepare(folder: Path, _: pytest.MonkeyPatch) -> None:
        for path in (folder / "labels").rglob("*.txt"):
            path.write_text(row)

    return prepare


def no_labels(folder: Path, _: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / "labels")


def cut_weights(folder: Path, _: pytest.MonkeyPatch) -> None:
    path = folder / "cats.pt"
    path.write_bytes(path.read_bytes()[:20_000])


def left_by_training(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "runs/pose/train/weights").mkdir(parents=True)
    shutil.copyfile(folder / "cats.pt", folder / "runs/pose/train/weights/best.pt")


def without(package: str) -> Prepare:
    found = importlib.util.find_spec
    return lambda _, patch: patch.setattr(registry, "find_spec", lambda name: None if name == package else found(name))


MISTAKES = [
    Mistake("The image is not there", "yolo predict model=cats.pt source=bsu.jpg", ("bsu.jpg", "current folder")),
    Mistake("No image is named", "yolo predict model=cats.pt", ("source=",)),
    Mistake(
        "A path of another system",
        r"yolo predict model=cats.pt 'source=C:\images\bus.jpg'",
        (r"C:\images", "Windows"),
    ),
    Mistake("A folder without images", "yolo predict model=cats.pt source=labels", ("neither images", "jpg")),
    Mistake(
        "An image that is none", "yolo predict model=cats.pt source=text.jpg", ("text.jpg",), text("text.jpg", "hello")
    ),
    Mistake("A damaged video", "yolo predict model=cats.pt source=a.mp4", ("truncated", "ffmpeg"), text("a.mp4", "x")),
    Mistake("An option misspelt", "yolo predict model=cats.pt source=a.png cnof=0.4", ("Did you mean 'conf'",)),
    Mistake(
        "An option by the name that it has elsewhere",
        "yolo predict model=cats.pt source=a.png confidence=0.4",
        ("Did you mean 'conf'",),
    ),
    Mistake("Training options likewise", f"{TRAIN} batch_size=8", ("Did you mean 'batch'",)),
    Mistake(
        "A size with an x", "yolo predict model=cats.pt source=a.png imgsz=320x240", ("imgsz=320,240", "high", "wide")
    ),
    Mistake("A word where a number belongs", "yolo predict model=cats.pt source=a.png conf=high", ("conf", "high")),
    Mistake("A number out of range", "yolo predict model=cats.pt source=a.png conf=40", ("conf", "0", "1")),
    Mistake("An option without a value", "yolo predict model=cats.pt source=a.png imgsz=", ("imgsz=VALUE",)),
    Mistake("A mode misspelt", "yolo pose predcit source=a.png", ("Did you mean 'predict'",)),
    Mistake("No mode at all", "yolo model=cats.pt source=a.png", ("mode is missing", "predict")),
    Mistake("Another task", "yolo detect predict source=a.png", ("poses only",)),
    Mistake("A file without its key", "yolo predict cats.pt source=a.png", ("model=cats.pt",)),
    Mistake("A mode of a later version", "yolo track model=cats.pt source=a.png", ("not in this version",)),
    Mistake("Weights that are not there", "yolo predict model=cast.pt source=a.png", ("cast.pt", "Check the path")),
    Mistake("Weights of another task", "yolo predict model=yolo11n.pt source=a.png", ("yolo11n.pt", "yolo11n-pose.pt")),
    Mistake("Names of models run together", "yolo predict model=yolov11n-pose.pt source=a.png", ("=yolo11n-pose.pt",)),
    Mistake("And the other way round", "yolo predict model=yolo8n-pose.pt source=a.png", ("=yolov8n-pose.pt",)),
    Mistake("Weights that nobody publishes", "yolo predict model=yolo12n-pose.pt source=a.png", ("yolo12n-pose.yaml",)),
    Mistake(
        "Two words that contradict each other",
        "yolo predict model=cats.pt source=a.png end2end=False nms=False",
        ("omit one of them",),
    ),
    Mistake("A model without its ending", "yolo predict model=yolo11n source=a.png", ("=yolo11n-pose.pt (weights)",)),
    Mistake(
        "A model at a path of another system",
        r"yolo predict 'model=C:\nets\cats.pt' source=a.png",
        (r"C:\nets\cats.pt", "Windows"),
    ),
    Mistake(
        "The folder of a training as the model",
        "yolo predict model=runs/pose/train source=a.png",
        ("model=runs/pose/train/weights/best.pt?",),
        left_by_training,
    ),
    Mistake(
        "Weights that training left in its folder",
        "yolo predict model=best.pt source=a.png",
        ("model=runs/pose/train/weights/best.pt",),
        left_by_training,
    ),
    Mistake("An image as the model", "yolo predict model=a.png source=a.png", (".pt", ".yaml")),
    Mistake("A size that does not exist", "yolo predict model=yolo11q-pose.yaml source=a.png", ("no scale 'q'",)),
    Mistake("Weights cut off in a download", "yolo predict model=cats.pt source=a.png", ("damaged",), cut_weights),
    Mistake(
        "A web page saved as weights",
        "yolo predict model=cats.pt source=a.png",
        ("web page",),
        text("cats.pt", "<!DOCTYPE html><html>"),
    ),
    Mistake(
        "Public weights without a network", "yolo predict model=yolo11n-pose.pt source=a.png", ("offline", "https://")
    ),
    Mistake(
        "Weights on a machine without torch",
        "yolo predict model=cats.pt source=a.png",
        ("pip install torch",),
        without("torch"),
    ),
    Mistake("A GPU that is not there", "yolo predict model=cats.pt source=a.png device=7", ("GPU 7", "device=cpu")),
    Mistake("A device that is none", "yolo predict model=cats.pt source=a.png device=gpu", ("device='gpu'", "cpu")),
    Mistake("An input of no size", "yolo predict model=cats.pt source=a.png imgsz=0", ("imgsz",)),
    Mistake("A file of options that is not there", "yolo predict cfg=mine.yaml source=a.png", ("mine.yaml",)),
    Mistake(
        "A result where a file stands",
        "yolo predict model=cats.pt source=a.png project=text",
        ("folder",),
        text("text", "x"),
    ),
    Mistake("Training without data", "yolo train model=tiny-pose.yaml", ("data=",)),
    Mistake("A data YAML that is not there", "yolo train model=tiny-pose.yaml data=cat.yaml", ("cat.yaml",)),
    Mistake(
        "A data YAML at a path of another system",
        TRAIN.replace("data=cats.yaml", r"'data=C:\data\cats.yaml'"),
        (r"C:\data\cats.yaml", "Windows"),
    ),
    Mistake(".yml for .yaml", TRAIN.replace("cats.yaml", "cats.yml"), ("cats.yml", "There is data=cats.yaml")),
    Mistake(
        "The folder of the data",
        TRAIN.replace("cats.yaml", "."),
        ("is a folder", "it contains cats.yaml and tiny-pose.yaml"),
    ),
    Mistake("A data YAML with a tab", TRAIN, ("cats.yaml", "line"), text("cats.yaml", "path: .\n\ttrain: x\n")),
    Mistake("No kpt_shape", TRAIN, ("kpt_shape: [K, D]",), changed("kpt_shape: [3, 3]\n", "")),
    Mistake(
        "kpt_shape as one number", TRAIN, ("[3, 3]", "[3, 2]", "x y v"), changed("kpt_shape: [3, 3]", "kpt_shape: 3")
    ),
    Mistake("No names", TRAIN, ("names",), changed("names: {0: cat}\n", "")),
    Mistake(
        "Images that are elsewhere",
        TRAIN,
        ("images/elsewhere", "path:"),
        changed("path: .\ntrain: images/train\nval: images/val", "path: .\ntrain: images/elsewhere\nval: images/other"),
    ),
    Mistake("flip_idx of the wrong length", TRAIN, ("flip_idx", "0…2"), changed("[1, 0, 2]", "[1, 0]")),
    Mistake(
        "Another number of keypoints",
        TRAIN,
        ("kpt_shape [4, 3]", "17"),
        changed("kpt_shape: [3, 3]\nflip_idx: [1, 0, 2]", "kpt_shape: [4, 3]"),
    ),
    Mistake("Labels of boxes alone", TRAIN, ("detection labels, without keypoints",), labels("0 0.5 0.5 0.4 0.4\n")),
    Mistake(
        "Labels without visibility",
        TRAIN,
        ("kpt_shape: [3, 2]",),
        labels("0 0.5 0.5 0.4 0.4 0.4 0.5 0.6 0.5 0.5 0.6\n"),
    ),
    Mistake(
        "Labels of another number of keypoints",
        TRAIN,
        ("has 56 values", "kpt_shape: [17, 3]"),
        labels("0 0.5 0.5 0.4 0.4" + " 0.4 0.5 2" * 17 + "\n"),
    ),
    Mistake(
        "Predictions as labels, with their confidence", TRAIN, ("save_conf=True",), labels(ROW.replace("\n", " 0.9\n"))
    ),
    Mistake("Labels in pixels", TRAIN, ("row 1",), labels("0 32 32 20 20 28 32 2 36 32 2 32 40 2\n")),
    Mistake("A class that the YAML does not have", TRAIN, ("class",), labels(ROW.replace("0 0.5", "1 0.5", 1))),
    Mistake("No label files", TRAIN, ("labels", "images"), no_labels),
    Mistake("Weights of other keypoints", "yolo val model=yolo11n-pose.yaml data=cats.yaml", ("[17, 3]", "[3, 3]")),
    Mistake("Validation without data", "yolo val model=yolo11n-pose.yaml", ("data=",)),
    Mistake("No epoch", TRAIN.replace("epochs=1", "epochs=0"), ("epochs", "1")),
    Mistake("Resuming nothing", "yolo train resume=True", ("last.pt", "none was named")),
    Mistake("Nothing to resume", "yolo train resume=True model=yolo11n-pose.yaml", ("last.pt",)),
    Mistake("Resuming what has ended", "yolo train resume=True model=cats.pt", ("cats.pt",)),
    Mistake("A format that is not there", "yolo export model=cats.pt format=hailo", ("onnx",)),
    Mistake("Weights as a format", "yolo export model=cats.pt format=pt", ("best.pt", "other formats")),
    Mistake(
        "The converter is not installed",
        "yolo export model=cats.pt format=onnx",
        ("pip install onnx",),
        without("onnx"),
    ),
    Mistake("A damaged ONNX file", "yolo predict model=x.onnx source=a.png", ("damaged",), text("x.onnx", "junk")),
    Mistake("A setting that does not exist", "yolo settings dataset_dir=/data", ("datasets_dir",)),
    Mistake(
        "An annotation file that is none",
        "yolo convert source=notes.json",
        ("notes.json", "line 2, column 3"),
        text("notes.json", "{\n  x"),
    ),
    Mistake("Conversion into what is there", "yolo convert data=cats.yaml output=a.png", ("a.png already exists",)),
    Mistake("No COCO file to convert", "yolo convert source=annotations", ("annotations",)),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small data set, a small network, and its weights."""
    folder = tmp_path_factory.mktemp("cats")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for index in range(3):
            cv2.imwrite(str(folder / f"images/{split}/{index}.png"), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
            (folder / f"labels/{split}/{index}.txt").write_text(ROW)
    shutil.copyfile(folder / "images/train/0.png", folder / "a.png")
    (folder / "cats.yaml").write_text(DATA)
    (folder / "tiny-pose.yaml").write_text(MODEL)
    YOLO(folder / "tiny-pose.yaml").save(folder / "cats.pt")
    return folder


def answer(
    mistake: Mistake, world: Path, tmp_path: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The paragraph that a mistake is answered with; the folder is made nameless in it."""
    here = tmp_path / "here"
    shutil.copytree(world, here)
    patch.chdir(here)
    if mistake.prepare:
        mistake.prepare(here, patch)
    before = sorted(path for path in here.rglob("*") if path.suffix in (".pt", ".onnx"))
    assert main(shlex.split(mistake.line)[1:]) == 1
    assert sorted(path for path in here.rglob("*") if path.suffix in (".pt", ".onnx")) == before
    shown = capsys.readouterr().err
    said = shown[shown.index("error: ") + 7 :].strip()
    places = {str(here): "/home/me", str(Path(yolopose.__file__).parent): "yolopose"}
    for name in ("weights", "datasets"):
        places[os.environ[f"YOLOPOSE_{name.upper()}_DIR"]] = f"/home/me/.local/share/yolopose/{name}"
    for old, new in places.items():
        said = said.replace(old, new)
    return said


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.title for mistake in MISTAKES])
def test_one_paragraph_says_what_where_and_how_to_mend(
    mistake: Mistake,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = answer(mistake, world, tmp_path, monkeypatch, capsys)
    assert all(word in said for word in mistake.words), said
    assert "Traceback" not in said
    assert "\n\n" not in said
    assert 40 < len(said) < 1200, said


def steady(said: str) -> str:
    """A message without what differs between machines."""
    said = re.sub(r"(torch|onnxruntime) \d[\w.+]*", r"\1 VERSION", said)
    return re.sub(r"\(built with\w* CUDA\) sees .*?\.", "sees the CPU.", " ".join(said.split()))


def test_the_page_shows_what_is_said(
    world: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not os.environ.get("YOLOPOSE_WRITE_DOCS"):
        shown = PAGE.read_text(encoding="utf-8")
        assert all(f"### {mistake.title}\n" in shown for mistake in MISTAKES)
        assert shown.count("### ") == len(MISTAKES)
        return
    parts = ["# Common mistakes\n\nWhat is typed, and what yolopose answers. Every one of these is a test.\n"]
    for mistake in MISTAKES:
        with pytest.MonkeyPatch.context() as patch:
            said = answer(mistake, world, tmp_path_factory.mktemp("m"), patch, capsys)
        parts.append(f"\n### {mistake.title}\n\n```bash\n{mistake.line}\n```\n\n> {steady(said)}\n")
    PAGE.write_text("".join(parts), encoding="utf-8")


def test_it_is_about_newcomers(world: Path) -> None:
    assert len(MISTAKES) >= 40
    assert sys.modules["yolopose"]
