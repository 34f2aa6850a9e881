"""Common mistakes and their error messages; docs/mistakes.md is generated from this table.

`YOLOPOSE_WRITE_DOCS=1 pytest tests/test_mistakes.py` writes the page.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
import textwrap
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
    """A mistake: title, command line, phrases that its error contains, and a function that prepares the folder."""

    title: str
    line: str
    phrases: tuple[str, ...]
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


def with_training_folder(folder: Path, _: pytest.MonkeyPatch) -> None:
    (folder / "runs/pose/train/weights").mkdir(parents=True)
    shutil.copyfile(folder / "cats.pt", folder / "runs/pose/train/weights/best.pt")


def without(package: str) -> Prepare:
    found = importlib.util.find_spec
    return lambda _, patch: patch.setattr(registry, "find_spec", lambda name: None if name == package else found(name))


MISTAKES = [
    Mistake("Missing image", "yolo predict model=cats.pt source=bsu.jpg", ("bsu.jpg", "current folder")),
    Mistake("No source", "yolo predict model=cats.pt", ("source=",)),
    Mistake(
        "Windows path of an image",
        r"yolo predict model=cats.pt 'source=C:\images\bus.jpg'",
        (r"C:\images", "Windows"),
    ),
    Mistake("Folder without images", "yolo predict model=cats.pt source=labels", ("neither images nor videos", "jpg")),
    Mistake("Not an image", "yolo predict model=cats.pt source=text.jpg", ("text.jpg",), text("text.jpg", "hello")),
    Mistake("Damaged video", "yolo predict model=cats.pt source=a.mp4", ("truncated", "ffmpeg"), text("a.mp4", "x")),
    Mistake("Misspelled option", "yolo predict model=cats.pt source=a.png cnof=0.4", ("Did you mean 'conf'",)),
    Mistake(
        "Option name of another tool",
        "yolo predict model=cats.pt source=a.png confidence=0.4",
        ("Did you mean 'conf'",),
    ),
    Mistake("Training option of another tool", f"{TRAIN} batch_size=8", ("Did you mean 'batch'",)),
    Mistake(
        "Size with an x",
        "yolo predict model=cats.pt source=a.png imgsz=320x240",
        ("imgsz=320,240", "high", "wide"),
    ),
    Mistake("Text instead of a number", "yolo predict model=cats.pt source=a.png conf=high", ("conf", "high")),
    Mistake("Value out of range", "yolo predict model=cats.pt source=a.png conf=40", ("conf", "0", "1")),
    Mistake("Option without a value", "yolo predict model=cats.pt source=a.png imgsz=", ("imgsz=VALUE",)),
    Mistake("Misspelled mode", "yolo pose predcit source=a.png", ("Did you mean 'predict'",)),
    Mistake("No mode", "yolo model=cats.pt source=a.png", ("mode is missing", "predict")),
    Mistake("Other task", "yolo detect predict source=a.png", ("poses only",)),
    Mistake("File without an option name", "yolo predict cats.pt source=a.png", ("model=cats.pt",)),
    Mistake(
        "Unknown tracker",
        "yolo track model=cats.pt source=a.png tracker=bytetrak.yaml",
        ("Did you mean 'bytetrack.yaml'", "oks.yaml"),
    ),
    Mistake("Missing weights", "yolo predict model=cast.pt source=a.png", ("cast.pt", "Check the path")),
    Mistake("Weights of another task", "yolo predict model=yolo11n.pt source=a.png", ("yolo11n.pt", "yolo11n-pose.pt")),
    Mistake("Mixed-up name (yolov11)", "yolo predict model=yolov11n-pose.pt source=a.png", ("=yolo11n-pose.pt",)),
    Mistake("Mixed-up name (yolo8)", "yolo predict model=yolo8n-pose.pt source=a.png", ("=yolov8n-pose.pt",)),
    Mistake("Unpublished weights", "yolo predict model=yolo12n-pose.pt source=a.png", ("yolo12n-pose.yaml",)),
    Mistake(
        "Contradicting options",
        "yolo predict model=cats.pt source=a.png end2end=False nms=False",
        ("omit one of them",),
    ),
    Mistake("Model without a suffix", "yolo predict model=yolo11n source=a.png", ("=yolo11n-pose.pt (weights)",)),
    Mistake(
        "Windows path of a model",
        r"yolo predict 'model=C:\nets\cats.pt' source=a.png",
        (r"C:\nets\cats.pt", "Windows"),
    ),
    Mistake(
        "Training folder as the model",
        "yolo predict model=runs/pose/train source=a.png",
        ("model=runs/pose/train/weights/best.pt?",),
        with_training_folder,
    ),
    Mistake(
        "Weights inside a training folder",
        "yolo predict model=best.pt source=a.png",
        ("model=runs/pose/train/weights/best.pt",),
        with_training_folder,
    ),
    Mistake("Image as the model", "yolo predict model=a.png source=a.png", (".pt", ".yaml")),
    Mistake("Unknown model scale", "yolo predict model=yolo11q-pose.yaml source=a.png", ("no scale 'q'",)),
    Mistake("Truncated weights", "yolo predict model=cats.pt source=a.png", ("damaged",), cut_weights),
    Mistake(
        "Web page saved as weights",
        "yolo predict model=cats.pt source=a.png",
        ("web page",),
        text("cats.pt", "<!DOCTYPE html><html>"),
    ),
    Mistake(
        "Public weights in offline mode", "yolo predict model=yolo11n-pose.pt source=a.png", ("offline", "https://")
    ),
    Mistake(
        "Weights without torch",
        "yolo predict model=cats.pt source=a.png",
        ("pip install torch",),
        without("torch"),
    ),
    Mistake("Missing GPU", "yolo predict model=cats.pt source=a.png device=7", ("GPU 7", "device=cpu")),
    Mistake("Unknown device", "yolo predict model=cats.pt source=a.png device=gpu", ("device='gpu'", "cpu")),
    Mistake("Image size zero", "yolo predict model=cats.pt source=a.png imgsz=0", ("imgsz",)),
    Mistake("Missing options file", "yolo predict cfg=mine.yaml source=a.png", ("mine.yaml",)),
    Mistake(
        "File in place of a run folder",
        "yolo predict model=cats.pt source=a.png project=text",
        ("folder",),
        text("text", "x"),
    ),
    Mistake("Training without a data set", "yolo train model=tiny-pose.yaml", ("data=",)),
    Mistake("Missing data YAML", "yolo train model=tiny-pose.yaml data=cat.yaml", ("cat.yaml",)),
    Mistake(
        "Windows path of a data YAML",
        TRAIN.replace("data=cats.yaml", r"'data=C:\data\cats.yaml'"),
        (r"C:\data\cats.yaml", "Windows"),
    ),
    Mistake(".yml instead of .yaml", TRAIN.replace("cats.yaml", "cats.yml"), ("Did you mean data=cats.yaml",)),
    Mistake(
        "Folder instead of a data YAML",
        TRAIN.replace("cats.yaml", "."),
        ("is a folder", "it contains cats.yaml and tiny-pose.yaml"),
    ),
    Mistake("Tab in a data YAML", TRAIN, ("cats.yaml", "line"), text("cats.yaml", "path: .\n\ttrain: x\n")),
    Mistake("No kpt_shape", TRAIN, ("kpt_shape: [K, D]",), changed("kpt_shape: [3, 3]\n", "")),
    Mistake(
        "kpt_shape with one number", TRAIN, ("[3, 3]", "[3, 2]", "x y v"), changed("kpt_shape: [3, 3]", "kpt_shape: 3")
    ),
    Mistake("No class names", TRAIN, ("names",), changed("names: {0: cat}\n", "")),
    Mistake(
        "Wrong image folders",
        TRAIN,
        ("images/elsewhere", "path:"),
        changed("path: .\ntrain: images/train\nval: images/val", "path: .\ntrain: images/elsewhere\nval: images/other"),
    ),
    Mistake("flip_idx of the wrong length", TRAIN, ("flip_idx", "0…2"), changed("[1, 0, 2]", "[1, 0]")),
    Mistake(
        "Model and data set with different keypoints",
        TRAIN,
        ("kpt_shape [4, 3]", "17"),
        changed("kpt_shape: [3, 3]\nflip_idx: [1, 0, 2]", "kpt_shape: [4, 3]"),
    ),
    Mistake(
        "Detection labels",
        TRAIN,
        ("without keypoints",),
        labels("0 0.5 0.5 0.4 0.4\n"),
    ),
    Mistake(
        "Labels without visibility",
        TRAIN,
        ("kpt_shape: [3, 2]",),
        labels("0 0.5 0.5 0.4 0.4 0.4 0.5 0.6 0.5 0.5 0.6\n"),
    ),
    Mistake(
        "Labels with another number of keypoints",
        TRAIN,
        ("has 56 values", "kpt_shape: [17, 3]"),
        labels("0 0.5 0.5 0.4 0.4" + " 0.4 0.5 2" * 17 + "\n"),
    ),
    Mistake("Predictions with confidence as labels", TRAIN, ("save_conf=True",), labels(ROW.replace("\n", " 0.9\n"))),
    Mistake("Labels in pixels", TRAIN, ("row 1",), labels("0 32 32 20 20 28 32 2 36 32 2 32 40 2\n")),
    Mistake("Unknown class in a label", TRAIN, ("class",), labels(ROW.replace("0 0.5", "1 0.5", 1))),
    Mistake("No label files", TRAIN, ("labels", "images"), no_labels),
    Mistake("Weights with other keypoints", "yolo val model=yolo11n-pose.yaml data=cats.yaml", ("[17, 3]", "[3, 3]")),
    Mistake("Validation without a data set", "yolo val model=yolo11n-pose.yaml", ("data=",)),
    Mistake("Zero epochs", TRAIN.replace("epochs=1", "epochs=0"), ("epochs", "1")),
    Mistake("Resume without a model", "yolo train resume=True", ("last.pt", "no model was given")),
    Mistake("Resume with a model YAML", "yolo train resume=True model=yolo11n-pose.yaml", ("last.pt",)),
    Mistake("Resume of a finished run", "yolo train resume=True model=cats.pt", ("cats.pt",)),
    Mistake("Unknown export format", "yolo export model=cats.pt format=hailo", ("onnx",)),
    Mistake("Weights as an export format", "yolo export model=cats.pt format=pt", ("best.pt", "other formats")),
    Mistake(
        "Missing converter",
        "yolo export model=cats.pt format=onnx",
        ("pip install onnx",),
        without("onnx"),
    ),
    Mistake("Damaged ONNX file", "yolo predict model=x.onnx source=a.png", ("damaged",), text("x.onnx", "junk")),
    Mistake("Unknown setting", "yolo settings dataset_dir=/data", ("datasets_dir",)),
    Mistake(
        "Not an annotation file",
        "yolo convert source=notes.json",
        ("notes.json", "line 2, column 3"),
        text("notes.json", "{\n  x"),
    ),
    Mistake("Existing output file", "yolo convert data=cats.yaml output=a.png", ("a.png already exists",)),
    Mistake("Missing COCO file", "yolo convert source=annotations", ("annotations",)),
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


def error_message(
    mistake: Mistake, world: Path, tmp_path: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Return the error of a mistake with neutral paths."""
    here = tmp_path / "here"
    shutil.copytree(world, here)
    patch.chdir(here)
    if mistake.prepare:
        mistake.prepare(here, patch)
    before = sorted(path for path in here.rglob("*") if path.suffix in (".pt", ".onnx"))
    assert main(shlex.split(mistake.line)[1:]) == 1
    assert sorted(path for path in here.rglob("*") if path.suffix in (".pt", ".onnx")) == before
    shown = capsys.readouterr().err
    message = shown[shown.index("error: ") + 7 :].strip()
    places = {str(here): "/home/me", str(Path(yolopose.__file__).parent): "yolopose"}
    for name in ("weights", "datasets"):
        places[os.environ[f"YOLOPOSE_{name.upper()}_DIR"]] = f"/home/me/.local/share/yolopose/{name}"
    for old, new in places.items():
        message = message.replace(old, new)
    return message


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.title for mistake in MISTAKES])
def test_error_is_one_helpful_paragraph(
    mistake: Mistake,
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    message = error_message(mistake, world, tmp_path, monkeypatch, capsys)
    assert all(phrase in message for phrase in mistake.phrases), message
    assert "Traceback" not in message
    assert "\n\n" not in message
    assert 40 < len(message) < 1200, message


def quote(message: str) -> str:
    """Return a message as a block quote of at most 120 columns."""
    return "\n".join(
        f"> {line}" for line in textwrap.wrap(message, 118, break_long_words=False, break_on_hyphens=False)
    )


def normalize(message: str) -> str:
    """Return a message without parts that differ between machines."""
    message = re.sub(r"(torch|onnxruntime) \d[\w.+]*", r"\1 VERSION", message)
    return re.sub(r"\(built with\w* CUDA\) sees .*?\.", "sees the CPU.", " ".join(message.split()))


def test_page_is_up_to_date(
    world: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if not os.environ.get("YOLOPOSE_WRITE_DOCS"):
        shown = PAGE.read_text(encoding="utf-8")
        assert all(f"### {mistake.title}\n" in shown for mistake in MISTAKES)
        assert shown.count("### ") == len(MISTAKES)
        return
    parts = ["# Common mistakes\n\nEach section has a command line and the error that it causes. A test checks them.\n"]
    for mistake in MISTAKES:
        with pytest.MonkeyPatch.context() as patch:
            message = error_message(mistake, world, tmp_path_factory.mktemp("m"), patch, capsys)
        parts.append(f"\n### {mistake.title}\n\n```bash\n{mistake.line}\n```\n\n{quote(normalize(message))}\n")
    PAGE.write_text("".join(parts), encoding="utf-8")


def test_covers_many_mistakes(world: Path) -> None:
    assert len(MISTAKES) >= 40
    assert sys.modules["yolopose"]
