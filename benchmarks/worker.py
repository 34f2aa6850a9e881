"""One side of a comparison: import a package, run a task for each line of standard input, answer with a number.

Started by side_by_side.py with the interpreter of each package. It imports only the package that it is given.
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
from itertools import islice
from pathlib import Path
from typing import Any


class _Enough(Exception):
    """Raised in a callback to end a training early."""


def prediction_tasks(YOLO: Any, params: dict[str, Any]) -> dict[str, Callable[[], float]]:
    """Return the timers of prediction and validation; the model is loaded by the first call."""
    options: dict[str, Any] = params.get("options", {})
    models: list[Any] = []

    def model() -> Any:
        if not models:
            models.append(YOLO(params["model"]))
        return models[0]

    def image() -> float:
        network = model()
        start = time.perf_counter()
        network(params["source"], verbose=False, **options)
        return time.perf_counter() - start

    def predict_each() -> float:
        """Return seconds per image (or frame) of a stream of results that are written as label files."""
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            stream = model()(params["source"], stream=True, verbose=False, save_txt=True, project=folder, **options)
            count = sum(1 for _ in stream)
            return (time.perf_counter() - start) / count

    def val() -> float:
        network = model()
        start = time.perf_counter()
        network.val(data=params["data"], plots=False, verbose=False, imgsz=640, batch=8, project=tempfile.gettempdir())
        return time.perf_counter() - start

    return {"image": image, "predict_each": predict_each, "val": val}


def training_tasks(YOLO: Any, params: dict[str, Any]) -> dict[str, Callable[[], float]]:
    """Return the timers of training, each with a new model."""

    def run(callbacks: dict[str, Callable[[Any], None]], **options: Any) -> None:
        model = YOLO(params["model"])
        for event, callback in callbacks.items():
            model.add_callback(event, callback)
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(_Enough):
            model.train(
                data=params["data"], imgsz=params["imgsz"], batch=params["batch"], val=False, plots=False,
                project=folder, verbose=False, **options,
            )  # fmt: skip

    def train() -> float:
        """Return seconds per image of the second epoch, without validation."""
        marks: list[float] = []

        def mark(_: Any) -> None:
            limit_threads(params)  # both packages set their number of threads when a training starts
            marks.append(time.perf_counter())

        callbacks = {"on_train_epoch_start": mark, "on_train_epoch_end": mark}
        run(callbacks, epochs=2, save=False, **{"amp": False, **params.get("options", {})})
        return (marks[3] - marks[2]) / params["images"]

    def loader() -> float:
        """Return CPU seconds per sample with mosaic, made without a worker, in the second pass over the images."""
        import cv2

        seconds: list[float] = []

        def iterate(trainer: Any) -> None:
            cv2.setNumThreads(1)
            for _ in range(2):
                start = time.process_time()
                # the reference's trainer has its loader in a public attribute
                batches = trainer.train_loader if hasattr(trainer, "train_loader") else trainer._batches.epoch(0)
                count = sum(len(batch["img"] if isinstance(batch, dict) else batch) for batch in batches)
                seconds.append((time.process_time() - start) / count)
            raise _Enough

        run({"on_train_start": iterate}, epochs=100, workers=0, amp=False)
        return seconds[1]

    def memory() -> float:
        """Return the peak resident memory of the process after the first steps, GB."""
        steps: list[int] = []

        def count(_: Any) -> None:
            steps.append(1)
            if len(steps) == params["steps"]:
                raise _Enough

        run({"on_train_batch_end": count}, epochs=100, workers=0, amp=False)
        status = Path("/proc/self/status").read_text().splitlines()
        (line,) = (line for line in status if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9

    return {"train": train, "loader": loader, "memory": memory}


def bare_engine(params: dict[str, Any]) -> Callable[[], float]:
    """Return a timer of the engine alone, which gets prepared inputs one after the other."""
    from yolopose import YOLO
    from yolopose.config import PredictOptions, predict_settings
    from yolopose.data.images import letterbox_batch
    from yolopose.predict.batching import fit_image
    from yolopose.predict.sources import open_source

    options = PredictOptions(**params.get("options", {}))
    runtime = YOLO(params["model"])._engine(options)
    settings = predict_settings(options, runtime.metadata)
    images = [image.load() for image in islice(open_source(params["source"]).images, 100)]
    batches = [letterbox_batch([image.image], [fit_image(image, settings)]) for image in images]

    def once() -> float:
        start = time.perf_counter()
        for batch in batches:
            runtime.raw(batch)  # type: ignore[attr-defined]  # every engine has it
        return (time.perf_counter() - start) / len(batches)

    return once


def bare_network(params: dict[str, Any]) -> float:
    """Return seconds per image of the network alone, forward and backward, on one batch in memory."""
    import torch
    import yaml

    from yolopose.nn import build_network

    data = yaml.safe_load(Path(params["data"]).read_text())
    network = build_network("yolo11n-pose.yaml", nc=len(data["names"]), kpt_shape=data["kpt_shape"]).train()
    network = network.to(memory_format=torch.channels_last)
    side = params["imgsz"]
    count = params["batch"]
    images = torch.rand(count, 3, side, side).contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bool(params["options"])):
            output = network(images)
        (output.boxes.float().sum() + output.scores.float().sum() + output.kpts.float().sum()).backward()

    once()
    start = time.perf_counter()
    for _ in range(4):
        once()
    return (time.perf_counter() - start) / 4 / count


def limit_threads(params: dict[str, Any]) -> None:
    """Set the number of torch threads that the comparison asks for, after the package has set its own."""
    if "threads" in params:
        import torch

        torch.set_num_threads(params["threads"])


def timer(package: str, task: str, params: dict[str, Any]) -> Callable[[], float]:
    """Return the function that runs a task once."""
    if task == "bare_network":
        return lambda: bare_network(params)
    if task == "bare_engine":
        return bare_engine(params)
    yolo = importlib.import_module(package).YOLO
    run = {**prediction_tasks(yolo, params), **training_tasks(yolo, params)}[task]

    def limited() -> float:
        limit_threads(params)
        return run()

    return limited


def torch_threads() -> int | None:
    """Return the number of torch threads; None where torch is not imported."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def main() -> None:
    package, task = sys.argv[1:3]
    answers = sys.stdout
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # output of the package must not mix with the answers
    run = timer(package, task, json.loads(sys.argv[3]))
    for line in sys.stdin:
        reply = torch_threads() if line.strip() == "threads" else run()
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
