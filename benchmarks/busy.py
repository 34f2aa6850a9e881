"""How much slower training and prediction become while another process computes on one core.

    python benchmarks/busy.py --model yolo11n-pose.pt --data mouse.yaml --image bus.jpg [--rounds 5] [--threads 0]

Prints images per second alone and beside a process that keeps `--competitors` cores busy, in turn, and the slowdown
beside the share of the cores that is lost: with one of n cores taken by a process of equal priority, the n threads of
the measured process still get (n − 1/2)/n of the time. The aim is a slowdown of at most that plus 20 %.
`--variants` compares environments, such as `GOMP_SPINCOUNT=0` or `OMP_NUM_THREADS=1`, each in processes of its own.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

_COMPETITOR = "while True: pass"


def competitors(count: int) -> list[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", _COMPETITOR]) for _ in range(count)]


class Worker:
    """A process that runs a task for each line it receives and answers with images per second."""

    def __init__(self, task: str, args: Any, variant: str) -> None:
        environment = {**os.environ, **dict(pair.split("=", 1) for pair in variant.split() if "=" in pair)}
        command = [sys.executable, __file__, "--worker", task, *_paths(args)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            stderr=subprocess.DEVNULL,
        )

    def __call__(self) -> float:
        assert self._process.stdin
        assert self._process.stdout
        print("run", file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("RATE"):
                return float(line.split()[1])
        raise SystemExit(f"{self._process.args} ended without an answer")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _paths(args: Any) -> list[str]:
    return ["--model", args.model, "--data", args.data, "--image", args.image, "--imgsz", str(args.imgsz)]


def work(args: Any) -> None:
    """Answer requests: one prediction of an image, a folder of 8 copies, or an epoch of training."""
    from yolopose import YOLO

    model = YOLO(args.model)
    images = [args.image] * (8 if args.worker == "folder" else 1)
    for _ in sys.stdin:
        if args.worker == "train":
            rate = _train_rate(YOLO(args.model), args)
        else:
            start = time.perf_counter()
            model(images, imgsz=args.imgsz, verbose=False)
            rate = len(images) / (time.perf_counter() - start)
        print("RATE", rate, flush=True)


def _train_rate(model: Any, args: Any) -> float:
    marks: list[float] = []
    for event in ("on_train_epoch_start", "on_train_epoch_end"):
        model.add_callback(event, lambda _: marks.append(time.perf_counter()))
    with tempfile.TemporaryDirectory() as folder:
        model.train(
            data=args.data, epochs=1, imgsz=args.imgsz, batch=8, fraction=0.4, val=False, plots=False, save=False,
            verbose=False, project=folder, amp=False,
        )  # fmt: skip
    return len(model.trainer.data.train) / (marks[1] - marks[0])


def measure(task: str, args: Any, variant: str) -> dict[str, list[float]]:
    """Return the rates alone and beside competitors, measured in turn."""
    rates: dict[str, list[float]] = {"alone": [], "busy": []}
    worker = Worker(task, args, variant)
    try:
        worker()  # warm-up
        for _ in range(args.rounds):
            rates["alone"].append(worker())
            others = competitors(args.competitors)
            try:
                time.sleep(0.2)
                rates["busy"].append(worker())
            finally:
                for other in others:
                    other.kill()
                    other.wait()
    finally:
        worker.close()
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolo11n-pose.pt")
    parser.add_argument("--data", default="")
    parser.add_argument("--image", default="")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--competitors", type=int, default=1)
    parser.add_argument("--tasks", default="image,folder,train")
    parser.add_argument("--variants", nargs="*", default=["default"], help="environments, such as OMP_NUM_THREADS=1")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    args: Any = parser.parse_args()
    if args.worker:
        work(args)
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lost = args.competitors / 2 / cores
    print(f"{cores} cores, {args.competitors} of them busy: {lost:.0%} of the time is lost to fair sharing\n")
    print("| task | environment | images/s alone | busy | share kept | aim |\n|---|---|---|---|---|---|")
    for task in args.tasks.split(","):
        if not (args.data if task == "train" else args.image):
            continue
        for variant in args.variants:
            rates = {name: statistics.median(values) for name, values in measure(task, args, variant).items()}
            kept = rates["busy"] / rates["alone"]
            print(
                f"| {task} | {variant} | {rates['alone']:.2f} | {rates['busy']:.2f} | {kept:.0%} | "
                f"{(1 - lost) / 1.2:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
