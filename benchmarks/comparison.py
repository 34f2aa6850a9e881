"""The two environments side by side: processes that stay, whole processes, and the files that both work on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PACKAGES = ("yolopose", "ultralytics")


@dataclass
class Row:
    """What is compared.

    Attributes:
        words: what is timed, for the table.
        sides: for each package a function that gives seconds.
        per: what the seconds are for.
        threads: what torch computed on at either side; None where it was not loaded. Filled in by the measurement.
    """

    words: str
    sides: tuple[Callable[[], float], Callable[[], float]]
    per: str = "s"
    threads: list[int | None] = field(default_factory=list)


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
        (work / "images").mkdir()
        for file in sorted((work / "coco-mini/images/val").iterdir())[:100]:
            shutil.copyfile(file, work / "images" / file.name)
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

    def warm(self, words: str, task: str, per: str = "s", *own: dict[str, Any], **given: Any) -> Row:
        """A row of two processes that stay; `own` is what one side alone is given: ours, then the reference's."""
        ours, theirs = (
            Warm(python, package, task, {**given, **(own[side] if own else {})}, environment)
            for side, (python, package, environment) in enumerate(
                zip(self.pythons, PACKAGES, self.environments, strict=True)
            )
        )
        return Row(words, (ours, theirs), per)

    def share(self, words: str, **given: Any) -> Row:
        """Our prediction beside its own engine alone: the share that everything around the engine costs."""
        ours = Warm(sys.executable, "yolopose", "each", given, self.environments[0])
        engine = Warm(sys.executable, "yolopose", "bare-engine", given, self.environments[0])
        return Row(f"{words} / the bare engine", (ours, engine), "s per image")

    def exported(self, side: int, name: str, dynamic: bool = False) -> str:
        """The network as either package writes it, for one size or (`dynamic`) any; made once."""
        kind = {"onnx": "onnx", "openvino_model": "openvino"}[name.split(".")[-1].split("_", 1)[-1]]
        path = self.work / f"{PACKAGES[side]}{'-dynamic' * dynamic}" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            weights = shutil.copyfile(self.shared / "checkpoints/yolo11n-pose.pt", path.parent / "yolo11n-pose.pt")
            command = [self.tool(side, "yolo"), "export", f"model={weights}", f"format={kind}", f"dynamic={dynamic}"]
            subprocess.run(command, check=True, env=self.environments[side], cwd=path.parent, capture_output=True)
        return str(path)

    def video(self) -> str:
        """1000 frames of the mouse video, as a file of their own."""
        path = self.work / "thousand.mp4"
        if not path.exists():
            import cv2

            capture = cv2.VideoCapture(str(self.shared / "video/mouse_openfield_m3v1.mp4"))
            size = tuple(int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, size)
            for _ in range(1000):
                writer.write(capture.read()[1])
            writer.release()
        return str(path)

    def bare(self, words: str, imgsz: int, batch: int, options: dict[str, Any] | None = None) -> Row:
        """Our training beside the bare network: the share that everything around it costs.

        With `options` of a measured plan the network computes in bfloat16.
        """
        given = {
            "model": "yolo11n-pose.yaml",
            "data": str(self.work / "mouse/mouse.yaml"),
            "imgsz": imgsz,
            "batch": batch,
            "options": options or {},
        }
        ours = Warm(sys.executable, "yolopose", "train", {**given, "images": 93}, self.environments[0])
        network = Warm(sys.executable, "yolopose", "bare", given, self.environments[0])
        return Row(words, (ours, network), "s per image")

    def tool(self, side: int, name: str) -> str:
        return str(Path(self.pythons[side]).parent / name)
