"""Time yolopose and the reference package, or two checkouts of yolopose, alternately (A B A B …) in one run.

    python benchmarks/side_by_side.py --reference PYTHON --shared FOLDER [--rows import,help,…] [--rounds 7]
    python benchmarks/side_by_side.py --baseline OTHER/src --shared FOLDER [--rows …]

PYTHON is the interpreter of a separate environment with the `ultralytics` package, OTHER another checkout of this
repository, which runs in the current environment. FOLDER contains `checkpoints/yolo11n-pose.pt`, `images/bus.jpg`,
`data/coco-mini`, `data/mouse` and `video/`. Warm rows keep one process per side; cold rows start a process each time.
Rows ending in `-1t` and `-2t` run both sides with that many torch threads, set after the packages have set theirs.
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

from comparison import Comparison, Row, Worker

ENGINES = {"pt": ".pt", "onnx": ".onnx", "openvino": "OpenVINO"}
FILES = {"onnx": "yolo11n-pose.onnx", "openvino": "yolo11n-pose_openvino_model"}
TUNED = {"autotune": True, "amp": True}  # bfloat16 on CPUs that have it


def image_row(run: Comparison, engine: str, threads: int | None = None, half: bool = False) -> Row:
    """One image, repeated."""
    title = f"bus.jpg, {ENGINES[engine]}{', half' if half else ''}{f', {threads} threads' if threads else ''}"
    params = {"source": str(run.shared / "images/bus.jpg"), **({"threads": threads} if threads else {})}
    ours = {"model": model_file(run, 0, engine), "options": {"half": True} if half else {}}
    return run.warm(title, "image", "s per image", ours, {"model": model_file(run, 1, engine)}, **params)


def each_row(run: Comparison, engine: str, title: str, source: str, threads: int | None = None) -> Row:
    """Every image of a folder or frame of a video, labels written."""
    title = f"{title}, {ENGINES[engine]}{f', {threads} threads' if threads else ''}"
    params = {"source": source, **({"threads": threads} if threads else {})}
    models = ({"model": model_file(run, 0, engine)}, {"model": model_file(run, 1, engine)})
    return run.warm(title, "predict_each", "s per image", *models, **params)


def validation_row(run: Comparison, engine: str, threads: int | None = None) -> Row:
    weights = model_file(run, 0, "pt")
    ours = {"model": weights if engine == "pt" else run.exported(0, FILES[engine], dynamic=True)}
    title = f"val, coco-mini, 133 images, 640, batch 8, {ENGINES[engine]} / .pt"
    params = {"data": str(run.work / "coco-mini/coco-mini.yaml"), **({"threads": threads} if threads else {})}
    return run.warm(title, "val", "s", ours, {"model": weights}, **params)


def training_row(
    run: Comparison, task: str, imgsz: int, batch: int, threads: int | None = None, tuned: bool = False
) -> Row:
    """Second epoch (`train`), peak memory of four steps (`memory`) or samples without a worker (`loader`)."""
    data = "coco-mini" if task == "loader" else "mouse"
    unit = {"train": "s per image", "memory": "GB", "loader": "s per sample"}[task]
    params = {
        "model": "yolo11n-pose.yaml", "data": str(run.work / data / f"{data}.yaml"), "imgsz": imgsz, "batch": batch,
        "images": 93, "steps": 4, **({"threads": threads} if threads else {}),
    }  # fmt: skip
    suffix = f"{', bfloat16' if tuned else ''}{f', {threads} threads' if threads else ''}"
    return run.warm(
        f"{task}, {data}, {imgsz}, batch {batch}{suffix}", task, unit, {"options": TUNED if tuned else {}}, {}, **params
    )


def cold_row(run: Comparison, engine: str) -> Row:
    """`yolo predict` on one image in a new process."""
    bus = run.shared / "images/bus.jpg"
    commands = (
        [*side.cli, "pose", "predict", f"model={model_file(run, index, engine)}", f"source={bus}"]
        for index, side in enumerate(run.sides)
    )
    return run.cold(f"`yolo predict` bus.jpg, {ENGINES[engine]}, new process", *commands)


def model_file(run: Comparison, index: int, engine: str) -> str:
    return str(run.work / "yolo11n-pose.pt") if engine == "pt" else run.exported(index, FILES[engine])


def all_rows(run: Comparison) -> dict[str, Callable[[], Row]]:
    """Return the rows by name; each is created when it is measured, so that no idle process holds memory."""
    rows: dict[str, Callable[[], Row]] = {
        "import": lambda: run.cold("import", *([s.python, "-c", f"import {s.package}"] for s in run.sides)),
        "class": lambda: run.cold(
            "from … import YOLO", *([s.python, "-c", f"from {s.package} import YOLO"] for s in run.sides)
        ),
        "help": lambda: run.cold("`yolo help`", *([*s.cli, "help"] for s in run.sides)),
        "cold-pt": lambda: cold_row(run, "pt"),
        "cold-onnx": lambda: cold_row(run, "onnx"),
        "loader": lambda: training_row(run, "loader", 640, 8),
        "loader-320": lambda: training_row(run, "loader", 320, 8),
        "memory-640": lambda: training_row(run, "memory", 640, 8),
        "bare-320": lambda: run.network_share("train, mouse, 320, batch 16 / the bare network", 320, 16),
        "bare-640": lambda: run.network_share("train, mouse, 640, batch 8 / the bare network", 640, 8),
    }
    images = str(run.work / "images")
    for engine in ENGINES:
        add_engine_rows(rows, run, engine, images)
    for threads, suffix in ((None, ""), (1, "-1t"), (2, "-2t")):
        for imgsz, batch in ((320, 16), (640, 8)):
            rows[f"train-{imgsz}{suffix}"] = lambda i=imgsz, b=batch, t=threads: training_row(run, "train", i, b, t)
    for imgsz, batch in ((320, 16), (640, 8)):
        rows[f"train-{imgsz}-bf16"] = lambda i=imgsz, b=batch: training_row(run, "train", i, b, tuned=True)
        title = f"train, mouse, {imgsz}, batch {batch}, bfloat16 / the bare network"
        rows[f"bare-{imgsz}-bf16"] = lambda t=title, i=imgsz, b=batch: run.network_share(t, i, b, TUNED)
    return rows


def add_engine_rows(rows: dict[str, Callable[[], Row]], run: Comparison, engine: str, images: str) -> None:
    """Add prediction and validation with one engine: as installed, and with equal numbers of threads."""
    for threads, suffix in ((None, ""), (1, "-1t"), (2, "-2t")):
        rows[f"{engine}{suffix}"] = lambda t=threads: image_row(run, engine, t)
        rows[f"folder-{engine}{suffix}"] = lambda t=threads: each_row(run, engine, "100 images, labels", images, t)
        rows[f"video-{engine}{suffix}"] = lambda t=threads: each_row(run, engine, "1000 frames, labels", run.video(), t)
    rows["val" if engine == "pt" else f"val-{engine}"] = lambda: validation_row(run, engine)
    rows[f"{engine}-half"] = lambda: image_row(run, engine, half=True)
    for name, title, source in (("folder", "100 images, labels", lambda: images), ("video", "1000 frames", run.video)):
        rows[f"bare-{name}-{engine}"] = lambda t=title, s=source: run.engine_share(
            f"{t}, {ENGINES[engine]}", model=model_file(run, 0, engine), source=s()
        )


def measure(row: Row, rounds: int, warm_up: int = 1) -> tuple[list[float], list[float]]:
    """Time both sides alternately; the first `warm_up` rounds are discarded."""
    times: tuple[list[float], list[float]] = ([], [])
    for index in range(-warm_up, rounds):
        for timer, values in zip(row.timers, times, strict=True):
            time.sleep(0.1)  # threads of the other side may still spin
            seconds = timer()
            if index >= 0:
                values.append(seconds)
    workers = [timer for timer in row.timers if isinstance(timer, Worker)]
    row.threads = [worker.request("threads") for worker in workers]
    for worker in workers:
        worker.process.terminate()
    return times


def table_line(name: str, row: Row, times: tuple[list[float], list[float]]) -> str:
    """Return a line of the table: the ratio is the median of the second side over that of the first."""
    first, second = (f"{statistics.median(values):.4g} ({min(values):.4g} … {max(values):.4g})" for values in times)
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    threads = " / ".join("-" if count is None else str(count) for count in row.threads)
    title = f"{row.title} (torch threads {threads})" if threads else row.title
    cells = (f"`{name}`", title, row.unit, first, second, f"{ratio:.2f}", len(times[0]))
    return f"| {' | '.join(map(str, cells))} |"


def machine(python: str) -> str:
    """Return CPU, versions and date for the head of the table."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    names = ("ultralytics", "torch", "onnxruntime")
    code = f"""
import importlib.metadata as m
for n in {names}:
    try: print(n, m.version(n), end=' ')
    except m.PackageNotFoundError: pass
"""
    versions = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return f"{date.today()}, {cpu}, {os.cpu_count()} cores, Python {platform.python_version()}; {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    other = parser.add_mutually_exclusive_group(required=True)
    other.add_argument("--reference", help="interpreter of the environment with the reference package")
    other.add_argument("--baseline", type=Path, help="src folder of another checkout of yolopose")
    parser.add_argument("--shared", required=True, type=Path, help="folder with weights, images and data")
    parser.add_argument("--rows", default="", help="names of rows, separated by commas; all by default")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--long", action="store_true", help="no warm-up round, for rows that take minutes")
    args: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        baseline = args.baseline and args.baseline.resolve()
        run = Comparison(args.shared.resolve(), Path(work), args.reference, baseline)
        print(f"{machine(run.sides[1].python)}\n")
        print(
            f"| row | what | unit | yolopose | {run.sides[1].label} | ratio | rounds |\n|---|---|---|---|---|---|---|"
        )
        rows = all_rows(run)
        for name in args.rows.split(",") if args.rows else rows:
            row = rows[name]()
            print(table_line(name, row, measure(row, args.rounds, 0 if args.long else 1)), flush=True)


if __name__ == "__main__":
    main()
