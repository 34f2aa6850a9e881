"""Ours and the reference package in turn (A B A B …) in one run; rows for RESULTS.md.

    python benchmarks/side_by_side.py --reference PYTHON --shared FOLDER [--rows import,help,…] [--rounds 7]

PYTHON is that of a separate environment with the `ultralytics` package, FOLDER holds `checkpoints/yolo11n-pose.pt`,
`images/bus.jpg`, `data/coco-mini` and `data/mouse`. Data are copied first, since both packages write caches beside
labels. Warm rows keep one process of each side alive; cold rows start a new process each time.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from comparison import PACKAGES, Comparison, Row, Warm

RESULTS = Path(__file__).parent / "RESULTS.md"
WORDS = {
    ("pt", False): ".pt, float32",
    ("pt", True): ".pt, ours with half",
    ("onnx", False): ".onnx, float32",
    ("openvino", False): "OpenVINO, ours float32",
    ("openvino", True): "OpenVINO, ours with half",
}
VALIDATIONS = {"val": "pt", "val-onnx": "onnx", "val-openvino": "openvino"}
PLANNED = {"deterministic": False, "amp": True}  # the measured plan: bfloat16 on processors that have it
DYNAMIC = {"onnx": "yolo11n-pose.onnx", "openvino": "yolo11n-pose_openvino_model"}  # they take the same rectangles


def rows_of(run: Comparison) -> dict[str, Callable[[], Row]]:
    """The rows by name; made when their turn comes, so that no idle process holds memory."""
    weights, bus = str(run.work / "yolo11n-pose.pt"), str(run.shared / "images/bus.jpg")
    coco, mouse = str(run.work / "coco-mini/coco-mini.yaml"), str(run.work / "mouse/mouse.yaml")

    def imports() -> Row:
        return run.cold(
            "import",
            *([python, "-c", f"import {package}"] for python, package in zip(run.pythons, PACKAGES, strict=True)),
        )

    def full_import() -> Row:
        codes = (f"from {package} import YOLO" for package in PACKAGES)
        return run.cold(
            "from … import YOLO", *([python, "-c", code] for python, code in zip(run.pythons, codes, strict=True))
        )

    def predict(model: str, words: str, theirs: str | None = None) -> Row:
        models = (model, theirs or model)
        lines = (["pose", "predict", f"model={each}", f"source={bus}"] for each in models)
        return run.cold(words, *([run.tool(side, "yolo"), *line] for side, line in enumerate(lines)))

    def file(side: int, engine: str) -> str:
        if engine == "pt":
            return weights
        return run.exported(side, "yolo11n-pose.onnx" if engine == "onnx" else "yolo11n-pose_openvino_model")

    def image(engine: str, half: bool, threads: int | None = None) -> Row:
        words = f"bus.jpg, {WORDS[engine, half]}" + (f", reference at {threads} threads" if threads else "")
        ours = {"model": file(0, engine), "options": {"half": True} if half else {}}
        theirs = {"model": file(1, engine), **({"threads": threads} if threads else {})}
        return run.warm(words, "image", "s per image", ours, theirs, source=bus)

    def each(words: str, source: str, engine: str, half: bool) -> Row:
        ours = {"model": file(0, engine), "options": {"half": True} if half else {}}
        return run.warm(
            f"{words}, {WORDS[engine, half]}", "each", "s per image", ours, {"model": file(1, engine)}, source=source
        )

    def share(words: str, source: str, engine: str, half: bool) -> Row:
        given = {"model": file(0, engine), "options": {"half": True} if half else {}, "source": source}
        return run.share(f"{words}, {WORDS[engine, half]}", **given)

    def engines(kind: Callable[..., Row], prefix: str, words: str, source: Callable[[], str]) -> dict[str, Any]:
        return {
            f"{prefix}-{engine}{'-half' if half else ''}": lambda engine=engine, half=half: kind(
                words, source(), engine, half
            )
            for engine, half in WORDS
        }

    def validation(engine: str) -> Row:
        ours = {"model": weights if engine == "pt" else run.exported(0, DYNAMIC[engine], dynamic=True)}
        words = f"val, coco-mini, 133 images, 640, batch 8, {WORDS[engine, False]} / reference .pt"
        return run.warm(words, "val", "s", ours, {"model": weights}, data=coco)

    def training(words: str, imgsz: int, batch: int) -> Row:
        given = {"model": "yolo11n-pose.yaml", "data": mouse, "imgsz": imgsz, "batch": batch, "images": 93}
        return run.warm(words, "train", "s per image", **given)

    def planned(imgsz: int, batch: int) -> Row:
        words = f"train, mouse, {imgsz}, batch {batch}, ours with deterministic=False, amp=True"
        given = {"model": "yolo11n-pose.yaml", "data": mouse, "imgsz": imgsz, "batch": batch, "images": 93}
        return run.warm(words, "train", "s per image", {"options": PLANNED}, {}, **given)

    def loader(imgsz: int, data: str) -> Row:
        words = f"samples with mosaic, {Path(data).stem}, {imgsz}, processor time, no worker"
        given = {"model": "yolo11n-pose.yaml", "data": data, "imgsz": imgsz, "batch": 8}
        return run.warm(words, "loader", "s a sample", **given)

    def memory(imgsz: int, batch: int) -> Row:
        given = {"model": "yolo11n-pose.yaml", "data": mouse, "imgsz": imgsz, "batch": batch, "steps": 4}
        return run.warm(f"memory of training, mouse, {imgsz}, batch {batch}", "memory", "GB at most", **given)

    images = str(run.work / "images")
    return {
        "import": imports,
        "class": full_import,
        "help": lambda: run.cold("`yolo help`", *([run.tool(side, "yolo"), "help"] for side in (0, 1))),
        "cold-pt": lambda: predict(weights, "`yolo predict` bus.jpg, .pt, new process"),
        "cold-onnx": lambda: predict(file(0, "onnx"), "`yolo predict` bus.jpg, .onnx, new process", file(1, "onnx")),
        **{f"{e}{'-half' if h else ''}": lambda e=e, h=h: image(e, h) for e, h in WORDS},
        **{f"{e}{'-half' if h else ''}-2": lambda e=e, h=h: image(e, h, 2) for e, h in WORDS},
        **engines(each, "folder", "100 images, txt written", lambda: images),
        **engines(share, "bare-folder", "100 images, txt written", lambda: images),
        **engines(each, "video", "1000 frames, txt written", run.video),
        **engines(share, "bare-video", "1000 frames, txt written", run.video),
        **{name: lambda e=engine: validation(e) for name, engine in VALIDATIONS.items()},
        "train-320": lambda: training("train, mouse, 320, batch 16, float32", 320, 16),
        "train-640": lambda: training("train, mouse, 640, batch 8, float32", 640, 8),
        "plan-320": lambda: planned(320, 16),
        "plan-640": lambda: planned(640, 8),
        "loader": lambda: loader(640, coco),
        "loader-320": lambda: loader(320, coco),
        "memory-640": lambda: memory(640, 8),
        "bare-320": lambda: run.bare("train, mouse, 320, batch 16 / the bare network", 320, 16),
        "bare-640": lambda: run.bare("train, mouse, 640, batch 8 / the bare network", 640, 8),
        "bare-plan-320": lambda: run.bare("train, mouse, 320, batch 16, bf16 / the bare network", 320, 16, PLANNED),
        "bare-plan-640": lambda: run.bare("train, mouse, 640, batch 8, bf16 / the bare network", 640, 8, PLANNED),
    }  # fmt: skip


def measure(row: Row, rounds: int, warm_up: int = 1) -> tuple[list[float], list[float]]:
    """Times both sides in turn, after a round that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(1 - warm_up, rounds + 1):
        for side, found in zip(row.sides, times, strict=True):
            time.sleep(0.1)  # threads of the side before may spin on for a while
            seconds = side()
            if number:
                found.append(seconds)
    warm = [side for side in row.sides if isinstance(side, Warm)]
    if warm:
        row.threads = [side.ask("threads") for side in warm]
    for side in warm:
        side.process.terminate()
    return times


def line_of(name: str, row: Row, times: tuple[list[float], list[float]], machine: str) -> str:
    ours, theirs = (f"{statistics.median(each):.4g} ({min(each):.4g} … {max(each):.4g})" for each in times)
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    threads = " / ".join("-" if each is None else str(each) for each in row.threads)
    words = f"{row.words} (torch threads {threads})" if threads else row.words
    cells = (date.today(), words, ours, theirs, row.per, f"{ratio:.2f}", len(times[0]), f"`{name}`", machine)
    return f"| {' | '.join(map(str, cells))} |"


def machine(reference: str) -> str:
    model = next((text.split(":")[1].strip() for text in _cpu() if text.startswith("model name")), platform.machine())
    names = ("ultralytics", "torch", "onnxruntime")
    code = f"import importlib.metadata as m; print(*(n + ' ' + m.version(n) for n in {names}))"
    versions = subprocess.run([reference, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions}"


def _cpu() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", required=True, help="Python of the environment with the reference package")
    parser.add_argument("--shared", required=True, type=Path, help="folder with weights, images and data")
    parser.add_argument("--rows", default="", help="names of rows, with commas; all when left out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--long", action="store_true", help="no round that does not count, for rows of minutes")
    parser.add_argument("--record", action="store_true", help="append to RESULTS.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        run = Comparison(given.reference, given.shared.resolve(), Path(work))
        rows, about = rows_of(run), machine(given.reference)
        for name in given.rows.split(",") if given.rows else rows:
            row = rows[name]()
            line = line_of(name, row, measure(row, given.rounds, 0 if given.long else 1), about)
            print(line, flush=True)
            if given.record:
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
