"""Two sides that are timed alternately: persistent workers, whole processes, and the files that both use."""

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


@dataclass(frozen=True)
class Side:
    """One of the two packages that are compared.

    Attributes:
        python: interpreter of its environment.
        package: `yolopose` or `ultralytics`.
        label: name in the table.
        environment: environment variables of its processes.
    """

    python: str
    package: str
    label: str
    environment: dict[str, str]

    @property
    def cli(self) -> list[str]:
        """The command `yolo` of this side."""
        if self.package == "yolopose":  # `python -m` respects PYTHONPATH, an installed script need not
            return [self.python, "-m", "yolopose"]
        return [str(Path(self.python).parent / "yolo")]


@dataclass
class Row:
    """One comparison.

    Attributes:
        title: what is timed.
        timers: one function per side, which returns seconds.
        unit: unit of the values.
        threads: number of torch threads of each side; None where torch was not imported. Set by the measurement.
    """

    title: str
    timers: tuple[Callable[[], float], Callable[[], float]]
    unit: str = "s"
    threads: list[int | None] = field(default_factory=list)


class Worker:
    """A process that runs a task on request; a timer."""

    def __init__(self, side: Side, task: str, params: dict[str, Any]) -> None:
        command = [side.python, str(HERE / "worker.py"), side.package, task, json.dumps(params)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=side.environment, cwd=tempfile.gettempdir(),
        )  # fmt: skip

    def request(self, line: str) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.process.args} ended without an answer")
        return json.loads(answer)

    def __call__(self) -> float:
        return float(self.request("run"))


class Comparison:
    """Both sides and their working folder.

    Args:
        shared: folder with weights, images and data; its data sets are copied, since both packages write caches beside
            labels.
        work: working folder.
        reference: interpreter of an environment with the `ultralytics` package, or
        baseline: `src` folder of another checkout of yolopose, which then takes the place of the reference.
    """

    def __init__(self, shared: Path, work: Path, reference: str | None = None, baseline: Path | None = None) -> None:
        self.shared = shared
        self.work = work
        for name in ("coco-mini", "mouse"):
            shutil.copytree(shared / "data" / name, work / name)
            for file in (work / name).glob("*.yaml"):
                lines = [line for line in file.read_text().splitlines() if not line.startswith("path:")]
                file.write_text("\n".join([f"path: {work / name}", *lines]) + "\n")
        shutil.copyfile(shared / "checkpoints/yolo11n-pose.pt", work / "yolo11n-pose.pt")
        (work / "images").mkdir()
        for file in sorted((work / "coco-mini/images/val").iterdir())[:100]:
            shutil.copyfile(file, work / "images" / file.name)
        base = {**os.environ, "MPLBACKEND": "Agg"}
        # both checkouts are found by PYTHONPATH, so that neither pays for the finder of an editable install
        ours = {**base, "YOLOPOSE_OFFLINE": "1", "PYTHONPATH": str(HERE.parent / "src")}
        first = Side(sys.executable, "yolopose", "yolopose", {**ours, "YOLOPOSE_CONFIG_DIR": str(work / "config-0")})
        if baseline:
            environment = {**ours, "YOLOPOSE_CONFIG_DIR": str(work / "config-1"), "PYTHONPATH": str(baseline)}
            second = Side(sys.executable, "yolopose", "baseline", environment)
        else:
            assert reference
            quiet = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(work)}
            second = Side(reference, "ultralytics", "reference", {**base, **quiet})
        self.sides = (first, second)

    def cold(self, title: str, *commands: list[str]) -> Row:
        """Return a row that times whole processes; one command per side."""
        first, second = (self._process(side, command) for side, command in zip(self.sides, commands, strict=True))
        return Row(title, (first, second))

    def _process(self, side: Side, command: list[str]) -> Callable[[], float]:
        def run() -> float:
            with tempfile.TemporaryDirectory(dir=self.work) as folder:
                start = time.perf_counter()
                subprocess.run(command, check=True, env=side.environment, cwd=folder, capture_output=True)
                return time.perf_counter() - start

        return run

    def warm(self, title: str, task: str, unit: str = "s", *per_side: dict[str, Any], **params: Any) -> Row:
        """Return a row of two persistent workers; `per_side` adds parameters of one side: first ours."""
        extra = per_side or ({}, {})
        first, second = (Worker(side, task, {**params, **own}) for side, own in zip(self.sides, extra, strict=True))
        return Row(title, (first, second), unit)

    def engine_share(self, title: str, **params: Any) -> Row:
        """Return a row that compares our prediction with its own bare engine."""
        ours = Worker(self.sides[0], "predict_each", params)
        engine = Worker(self.sides[0], "bare_engine", params)
        return Row(f"{title} / the bare engine", (ours, engine), "s per image")

    def network_share(self, title: str, imgsz: int, batch: int, options: dict[str, Any] | None = None) -> Row:
        """Return a row that compares our training with the bare network, in bfloat16 when there are `options`."""
        params = {
            "model": "yolo11n-pose.yaml",
            "data": str(self.work / "mouse/mouse.yaml"),
            "imgsz": imgsz,
            "batch": batch,
            "options": options or {},
        }
        ours = Worker(self.sides[0], "train", {**params, "images": 93})
        network = Worker(self.sides[0], "bare_network", params)
        return Row(title, (ours, network), "s per image")

    def exported(self, index: int, name: str, dynamic: bool = False) -> str:
        """Return the network as side `index` exports it, with one or (`dynamic`) any input size; made once."""
        side = self.sides[index]
        kind = {"onnx": "onnx", "openvino_model": "openvino"}[name.split(".")[-1].split("_", 1)[-1]]
        path = self.work / f"{side.label}{'-dynamic' * dynamic}" / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            weights = shutil.copyfile(self.shared / "checkpoints/yolo11n-pose.pt", path.parent / "yolo11n-pose.pt")
            command = [*side.cli, "export", f"model={weights}", f"format={kind}", f"dynamic={dynamic}"]
            subprocess.run(command, check=True, env=side.environment, cwd=path.parent, capture_output=True)
        return str(path)

    def video(self) -> str:
        """Return a video file with the first 1 000 frames of the mouse video."""
        path = self.work / "thousand.mp4"
        if not path.exists():
            import cv2

            capture = cv2.VideoCapture(str(self.shared / "video/mouse_openfield_m3v1.mp4"))
            width, height = (int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (width, height))
            for _ in range(1000):
                writer.write(capture.read()[1])
            writer.release()
        return str(path)
