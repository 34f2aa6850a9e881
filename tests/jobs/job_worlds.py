"""Images, and workers with an engine without a network; `OPENER` is imported by the processes of a job."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import numpy as np

from fake_runtime import SPEC, FakeRuntime
from yolopose.config import PredictOptions, TrackOptions, check_options
from yolopose.jobs import JobResult, run_checked
from yolopose.jobs.predictor import YoloPredictor
from yolopose.predict import predict
from yolopose.results import Results
from yolopose.track import StreamTrackers

OPENER = "job_worlds:FakePredictor"


class FakeYOLO:
    """Detects rectangles; inputs with some names fail."""

    spec = SPEC
    device = "cpu"
    is_foreign = False
    overrides = MappingProxyType({})

    def predict(self, parts: list[Any], stream: bool, **options: Any) -> Iterator[Results]:
        options = {name: value for name, value in options.items() if name != "device"}
        for part in parts:
            if "kill" in Path(getattr(part, "path", "")).name:
                os.kill(os.getpid(), signal.SIGKILL)
        for result in predict(FakeRuntime(), parts, PredictOptions(**options)):
            if "boom" in Path(result.path).name:
                raise RuntimeError("the engine failed")
            yield result

    def track(self, parts: list[Any], stream: bool, **options: Any) -> Iterator[Results]:
        options = {name: value for name, value in options.items() if name != "device"}
        trackers = StreamTrackers(fps=30)
        return predict(FakeRuntime(), parts, TrackOptions(**options), None, trackers)


class FakePredictor(YoloPredictor):
    def _open(self, model: str) -> Any:
        return FakeYOLO()


def make_images(folder: Path, count: int) -> list[Path]:
    """Write images with one rectangle each, at places that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for number in range(count):
        image = np.zeros((40 + number % 7, 60, 3), np.uint8)
        left = number % 23
        image[10:30, left : left + 20] = (0, 0, 255)
        files.append(folder / f"image{number:04d}.png")
        cv2.imwrite(str(files[-1]), image)
    return files


def make_video(path: Path, count: int) -> Path:
    """Write a video of a moving rectangle."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (96, 64))
    for number in range(count):
        image = np.zeros((64, 96, 3), np.uint8)
        image[16:48, 16 + 2 * number : 48 + 2 * number] = (0, 0, 255)
        writer.write(image)
    writer.release()
    return path


def make_model(folder: Path) -> Path:
    """Write a file that identifies the fake network."""
    path = folder / "fake.onnx"
    path.write_bytes(b"fake network")
    return path


def run(source: Any, output: Any, **options: Any) -> JobResult:
    """Run a job with the fake engine."""
    values = {"source": source, "output": output, "verbose": False, **options}
    return run_checked(check_options("batch", values), OPENER)


def parquet_files(output: Path) -> dict[str, bytes]:
    """Return the files of rows by name."""
    return {file.name: file.read_bytes() for file in sorted((output / "rows").iterdir())}
