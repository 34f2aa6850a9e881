"""Ours and the reference package in turn (A B A B …) in one run; rows for RECORDS.md.

    python benchmarks/side_by_side.py --reference PYTHON --shared FOLDER [--rows import,help,…] [--rounds 7]

PYTHON is that of a separate environment with the `ultralytics` package, FOLDER holds `checkpoints/yolo11n-pose.pt`,
`images/bus.jpg`, `data/coco-mini` and `data/mouse`. Data are copied first, since both packages write caches beside
labels. Warm rows keep one process of each side alive; cold rows start a new process each time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RECORDS = HERE / "RECORDS.md"
PACKAGES = ("yolopose", "ultralytics")


@dataclass(frozen=True)
class Row:
    """What is compared.

    Attributes:
        words: what is timed, for the table.
        sides: for each package a function that gives seconds.
        per: what the seconds are for.
    """

    words: str
    sides: tuple[Callable[[], float], Callable[[], float]]
    per: str = "s"


class Warm:
    """A process that does a task whenever it is asked."""

    def __init__(
        self, python: str, package: str, task: str, given: dict[str, Any], environment: dict[str, str]
    ) -> None:
        command = [python, str(HERE / "worker.py"), package, task, json.dumps(given)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=environment, cwd=tempfile.gettempdir(),
        )  # fmt: skip

    def ask(self, line: str) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args} ended without an answer")
        return json.loads(answer)

    def __call__(self) -> float:
        return float(self.ask("go"))


class Comparison:
    """The two environments, and the folder in which both work."""

    def __init__(self, reference: str, shared: Path, work: Path) -> None:
        self.pythons = (sys.executable, reference)
        self.shared, self.work = shared, work
        base = {**os.environ, "MPLBACKEND": "Agg"}
        for name in ("coco-mini", "mouse"):
            shutil.copytree(shared / "data" / name, work / name)
            for text in (work / name).glob("*.yaml"):
                lines = [line for line in text.read_text().splitlines() if not line.startswith("path:")]
                text.write_text("\n".join([f"path: {work / name}", *lines]) + "\n")
        shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", work / "yolo11n-pose.pt")
        (work / "pictures").mkdir()
        for file in sorted((work / "coco-mini/images/val").iterdir())[:32]:
            shutil.copyfile(file, work / "pictures" / file.name)
        quiet = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(work)}
        self.environments = ({**base, "YOLOPOSE_CONFIG_DIR": str(work), "YOLOPOSE_OFFLINE": "1"}, {**base, **quiet})

    def cold(self, words: str, *commands: list[str]) -> Row:
        """A row whose every time is a whole process."""
        ours, theirs = (self._process(side, command) for side, command in enumerate(commands))
        return Row(words, (ours, theirs))

    def _process(self, side: int, command: list[str]) -> Callable[[], float]:
        def run() -> float:
            with tempfile.TemporaryDirectory(dir=self.work) as folder:
                start = time.perf_counter()
                subprocess.run(command, check=True, env=self.environments[side], cwd=folder, capture_output=True)
                return time.perf_counter() - start

        return run

    def warm(self, words: str, task: str, per: str = "s", **given: Any) -> Row:
        """A row of two processes that stay."""
        ours, theirs = (
            Warm(python, package, task, given, environment)
            for python, package, environment in zip(self.pythons, PACKAGES, self.environments, strict=True)
        )
        threads = [side.ask("about")["threads"] for side in (ours, theirs)]
        return Row(f"{words} (torch threads {threads[0]} / {threads[1]})", (ours, theirs), per)

    def bare(self, words: str, imgsz: int, batch: int) -> Row:
        """Our training beside the bare network: the share that everything around it costs."""
        given = {
            "model": "yolo11n-pose.yaml",
            "data": str(self.work / "mouse/mouse.yaml"),
            "imgsz": imgsz,
            "batch": batch,
        }
        ours = Warm(sys.executable, "yolopose", "train", {**given, "pictures": 93}, self.environments[0])
        network = Warm(sys.executable, "yolopose", "bare", given, self.environments[0])
        return Row(words, (ours, network), "s a picture")

    def tool(self, side: int, name: str) -> str:
        return str(Path(self.pythons[side]).parent / name)


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

    def predict(model: str, words: str) -> Row:
        line = ["pose", "predict", f"model={model}", f"source={bus}"]
        return run.cold(words, *([run.tool(side, "yolo"), *line] for side in (0, 1)))

    def onnx() -> str:
        path = run.work / "yolo11n-pose.onnx"
        if not path.exists():
            command = [run.tool(0, "yolo"), "export", f"model={weights}", "format=onnx"]
            subprocess.run(command, check=True, env=run.environments[0], cwd=run.work, capture_output=True)
        return str(path)

    def training(words: str, imgsz: int, batch: int) -> Row:
        given = {"model": "yolo11n-pose.yaml", "data": mouse, "imgsz": imgsz, "batch": batch, "pictures": 93}
        return run.warm(words, "train", "s a picture", **given)

    pictures = str(run.work / "pictures")
    return {
        "import": imports,
        "class": full_import,
        "help": lambda: run.cold("`yolo help`", *([run.tool(side, "yolo"), "help"] for side in (0, 1))),
        "cold-pt": lambda: predict(weights, "`yolo predict` bus.jpg, .pt, new process"),
        "cold-onnx": lambda: predict(onnx(), "`yolo predict` bus.jpg, .onnx, new process"),
        "pt": lambda: run.warm("bus.jpg, .pt, float32, 640", "picture", model=weights, source=bus),
        "onnx": lambda: run.warm("bus.jpg, .onnx, float32, 640 × 640", "picture", model=onnx(), source=bus),
        "folder": lambda: run.warm("folder of 32 pictures, .pt", "folder", model=weights, source=pictures),
        "val": lambda: run.warm("val, coco-mini, 133 pictures, 640", "val", model=weights, data=coco),
        "train-320": lambda: training("train, mouse, 320, batch 16, float32", 320, 16),
        "train-640": lambda: training("train, mouse, 640, batch 8, float32", 640, 8),
        "bare-320": lambda: run.bare("train, mouse, 320, batch 16 / the bare network", 320, 16),
        "bare-640": lambda: run.bare("train, mouse, 640, batch 8 / the bare network", 640, 8),
    }  # fmt: skip


def measure(row: Row, rounds: int) -> tuple[list[float], list[float]]:
    """Times both sides in turn, after one round that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for side, found in zip(row.sides, times, strict=True):
            seconds = side()
            if number:
                found.append(seconds)
    for side in row.sides:
        if isinstance(side, Warm):
            side.process.terminate()
    return times


def line_of(name: str, row: Row, times: tuple[list[float], list[float]], machine: str) -> str:
    ours, theirs = (f"{statistics.median(each):.4g} ({min(each):.4g} … {max(each):.4g})" for each in times)
    ratio = statistics.median(times[1]) / statistics.median(times[0])
    cells = (date.today(), row.words, ours, theirs, row.per, f"{ratio:.2f}", len(times[0]), f"`{name}`", machine)
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
    parser.add_argument("--shared", required=True, type=Path, help="folder with weights, pictures and data")
    parser.add_argument("--rows", default="", help="names of rows, with commas; all when left out")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="append to RECORDS.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        run = Comparison(given.reference, given.shared.resolve(), Path(work))
        rows, about = rows_of(run), machine(given.reference)
        for name in given.rows.split(",") if given.rows else rows:
            row = rows[name]()
            line = line_of(name, row, measure(row, given.rounds), about)
            print(line, flush=True)
            if given.record:
                with RECORDS.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
