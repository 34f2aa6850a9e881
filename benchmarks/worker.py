"""One side of a comparison: loads a package once, then does its task each time a line comes, and answers with seconds.

Run by side_by_side.py under each package's own Python. It imports nothing but the package that it is told to.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any


def tasks(YOLO: Any, given: dict[str, Any]) -> dict[str, Callable[[], float]]:
    """What can be timed, by name; each call gives seconds, or seconds a picture where it says so."""
    held: list[Any] = []

    def model() -> Any:
        if not held:
            held.append(YOLO(given["model"]))
        return held[0]

    def timed(work: Callable[[], object]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    def consume(source: str, **options: Any) -> None:
        for _ in model()(source, stream=True, verbose=False, **options):
            pass

    def train() -> float:
        """Seconds a picture of the second epoch, without validation."""
        marks: list[float] = []
        trained = YOLO(given["model"])
        trained.add_callback("on_train_epoch_start", lambda _: marks.append(time.perf_counter()))
        trained.add_callback("on_train_epoch_end", lambda _: marks.append(time.perf_counter()))
        with tempfile.TemporaryDirectory() as folder:
            trained.train(
                data=given["data"], epochs=2, imgsz=given["imgsz"], batch=given["batch"], val=False, plots=False,
                project=folder, verbose=False, save=False, amp=False,
            )  # fmt: skip
        return (marks[3] - marks[2]) / given["pictures"]

    return {
        "picture": lambda: timed(lambda: model()(given["source"], verbose=False)),
        "folder": lambda: timed(lambda: consume(given["source"])),
        "val": lambda: timed(
            lambda: model().val(
                data=given["data"], plots=False, verbose=False, imgsz=640, project=tempfile.gettempdir()
            )
        ),
        "train": train,
    }


def bare(given: dict[str, Any]) -> float:
    """Seconds a picture of the bare network, forward and backward, on one batch in memory."""
    import torch

    from yolopose.nn import build_network

    network = build_network("yolo11n-pose.yaml").train().to(memory_format=torch.channels_last)
    side, count = given["imgsz"], given["batch"]
    images = torch.rand(count, 3, side, side).contiguous(memory_format=torch.channels_last)

    def once() -> None:
        output = network(images)
        (output.boxes.sum() + output.scores.sum() + output.kpts.sum()).backward()

    once()
    start = time.perf_counter()
    for _ in range(4):
        once()
    return (time.perf_counter() - start) / 4 / count


def main() -> None:
    package, task, given = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115  # what the package says is no answer
    if task == "bare":
        work: Callable[[], float] = lambda: bare(given)  # noqa: E731
    else:
        work = tasks(importlib.import_module(package).YOLO, given)[task]
    for line in sys.stdin:
        if line.strip() == "about":
            import torch

            reply: object = {
                "version": importlib.import_module(package).__version__,
                "threads": torch.get_num_threads(),
            }
        else:
            reply = work()
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
