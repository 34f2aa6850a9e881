"""One side of a comparison: loads a package once, then does its task each time a line comes, and answers with seconds.

Run by side_by_side.py under each package's own Python. It imports nothing but the package that it is told to.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class _Enough(Exception):
    """What was to be timed is done."""


def tasks(YOLO: Any, given: dict[str, Any]) -> dict[str, Callable[[], float]]:
    """What can be timed, by name; each call gives seconds, or seconds per image where it says so."""
    held: list[Any] = []
    options: dict[str, Any] = given.get("options", {})

    def model() -> Any:
        if not held:
            held.append(YOLO(given["model"]))
        return held[0]

    def timed(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def each(**options: Any) -> float:
        """Seconds an image (or frame) of a source whose results are taken one by one and written as label files."""
        with tempfile.TemporaryDirectory() as folder:
            start, count = time.perf_counter(), 0
            for _ in model()(given["source"], stream=True, verbose=False, save_txt=True, project=folder, **options):
                count += 1
            return (time.perf_counter() - start) / count

    def train() -> float:
        """Seconds an image of the second epoch, without validation."""
        marks: list[float] = []
        trained = YOLO(given["model"])
        trained.add_callback("on_train_epoch_start", lambda _: marks.append(time.perf_counter()))
        trained.add_callback("on_train_epoch_end", lambda _: marks.append(time.perf_counter()))
        with tempfile.TemporaryDirectory() as folder:
            trained.train(
                data=given["data"], epochs=2, imgsz=given["imgsz"], batch=given["batch"], val=False, plots=False,
                project=folder, verbose=False, save=False, **{"amp": False, **options},
            )  # fmt: skip
        return (marks[3] - marks[2]) / given["images"]

    def loader() -> float:
        """Processor seconds a sample, made without any worker, mosaic on; the second time through the images."""
        import cv2

        found: list[float] = []

        def go_through(trainer: Any) -> None:
            cv2.setNumThreads(1)
            for _ in range(2):
                start = time.process_time()
                # the reference's trainer has its loader in a public attribute
                batches = trainer.train_loader if hasattr(trainer, "train_loader") else trainer._batches.epoch(0)
                count = sum(len(batch["img"] if isinstance(batch, dict) else batch) for batch in batches)
                found.append((time.process_time() - start) / count)
            raise _Enough

        trained = YOLO(given["model"])
        trained.add_callback("on_train_start", go_through)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
            trained.train(
                data=given["data"], epochs=100, imgsz=given["imgsz"], batch=given["batch"], val=False, plots=False,
                project=folder, verbose=False, workers=0, amp=False,
            )  # fmt: skip
        return found[1]

    def memory() -> float:
        """GB that the process held at most in the first steps of a training."""
        steps: list[int] = []

        def count(trainer: Any) -> None:
            steps.append(1)
            if len(steps) == given["steps"]:
                raise _Enough

        trained = YOLO(given["model"])
        trained.add_callback("on_train_batch_end", count)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
            trained.train(
                data=given["data"], epochs=100, imgsz=given["imgsz"], batch=given["batch"], val=False, plots=False,
                project=folder, verbose=False, workers=0, amp=False,
            )  # fmt: skip
        (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # noqa: SIM115
        return int(line.split()[1]) * 1024 / 1e9

    return {
        "image": lambda: timed(lambda: model()(given["source"], verbose=False, **options)),
        "each": lambda: each(**options),
        "val": lambda: timed(
            lambda: model().val(
                data=given["data"], plots=False, verbose=False, imgsz=640, batch=8, project=tempfile.gettempdir()
            )
        ),
        "train": train,
        "loader": loader,
        "memory": memory,
    }


def bare_engine(given: dict[str, Any]) -> Callable[[], float]:
    """Seconds an image of an engine that is given ready inputs one after the other, in its own best way."""
    from itertools import islice

    from yolopose import YOLO
    from yolopose.config import PredictOptions
    from yolopose.data.letterboxing import letterbox_batch
    from yolopose.predict.plan import Plan
    from yolopose.predict.sources import open_source

    options = PredictOptions(**given.get("options", {}))
    runtime = YOLO(given["model"])._engine(options)
    plan = Plan.make(runtime.metadata, options)
    items = [entry.load() for entry in islice(open_source(given["source"]).entries, 100)]
    batches = [letterbox_batch([item.image], [plan.fit(item)]) for item in items]

    def once() -> float:
        start = time.perf_counter()
        for batch in batches:
            runtime.raw(batch)  # type: ignore[attr-defined]  # every engine has it
        return (time.perf_counter() - start) / len(batches)

    return once


def bare(given: dict[str, Any]) -> float:
    """Seconds an image of the bare network, forward and backward, on one batch in memory."""
    import torch
    import yaml

    from yolopose.nn import build_network

    data = yaml.safe_load(Path(given["data"]).read_text())
    network = build_network("yolo11n-pose.yaml", nc=len(data["names"]), kpt_shape=data["kpt_shape"]).train()
    network = network.to(memory_format=torch.channels_last)
    side, count = given["imgsz"], given["batch"]
    images = torch.rand(count, 3, side, side).contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(given["options"])):
            output = network(images)
        (output.boxes.float().sum() + output.scores.float().sum() + output.kpts.float().sum()).backward()

    once()
    start = time.perf_counter()
    for _ in range(4):
        once()
    return (time.perf_counter() - start) / 4 / count


def main() -> None:
    package, task, given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115  # what the package says is no answer
    work = task_named(package, task, given)
    for line in sys.stdin:
        reply = threads(package) if line.strip() == "threads" else work()
        print(json.dumps(reply), file=answers, flush=True)


def task_named(package: str, task: str, given: dict[str, Any]) -> Callable[[], float]:
    if task == "bare":
        return lambda: bare(given)
    if task == "bare-engine":
        return bare_engine(given)
    yolo = importlib.import_module(package).YOLO
    work = tasks(yolo, given)[task]
    return work if "threads" not in given else lambda: on_threads(given["threads"], work)


def on_threads(count: int, work: Callable[[], float]) -> float:
    """Do the work on so many of torch's threads; said anew each time, since a package may set them when it begins."""
    import torch

    torch.set_num_threads(count)
    return work()


def threads(package: str) -> int | None:
    """What torch computes on now; None where this side has not loaded it."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


if __name__ == "__main__":
    main()
