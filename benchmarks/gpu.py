"""Training on a CUDA GPU: images per second of the bare network, of the training loop and of the samples alone.

    python benchmarks/gpu.py --data mouse.yaml [--model yolo11n-pose.yaml] [--imgsz 640] [--batch 16] [--epochs 3]
        [--formats fp32,bf16,fp16] [--reference PYTHON]

Prints one row per precision; the share is the rate of the whole loop relative to that of the bare network (forward and
backward on a batch in device memory). The last epoch is measured, without validation. Use a data set of at least some
thousand images, or `--cache ram`. `--reference` is the Python of an environment with the `ultralytics` package, whose
loop is then measured too (float32 and float16), each time in its own process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from typing import Any

import torch

from yolopose import YOLO
from yolopose.nn import build_network
from yolopose.train.precision import Precision


def bare(given: argparse.Namespace, amp: str, steps: int = 20) -> float:
    """Return images per second of the network alone."""
    device = torch.device("cuda", 0)
    network = build_network(given.model).to(device).train().to(memory_format=torch.channels_last)
    shape = (given.batch, 3, given.imgsz, given.imgsz)
    images = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    precision = Precision(amp, device)
    run = torch.compile(network.outputs) if given.compile else network.outputs

    def once() -> None:
        with precision.autocast():
            output = run(images)
        total = output.boxes.float().mean() + output.scores.float().mean() + output.kpts.float().mean()
        precision.backward(total)
        network.zero_grad()

    for _ in range(5):
        once()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        once()
    torch.cuda.synchronize()
    return steps * given.batch / (time.perf_counter() - start)


def whole(given: argparse.Namespace, amp: str) -> tuple[float, float, str, int]:
    """Return images per second of the last epoch and of the samples, the compute config, and images per epoch."""
    marks: list[float] = []

    def mark(_: Any) -> None:
        torch.cuda.synchronize()
        marks.append(time.perf_counter())

    model = YOLO(given.model)
    model.add_callback("on_train_epoch_start", mark)
    model.add_callback("on_train_epoch_end", mark)
    with tempfile.TemporaryDirectory() as folder:
        model.train(
            data=given.data, epochs=given.epochs, imgsz=given.imgsz, batch=given.batch, device=0, amp=amp, val=False,
            plots=False, save=False, verbose=False, deterministic=False, cache=given.cache, workers=given.workers,
            compile=given.compile, close_mosaic=0, project=folder,
        )  # fmt: skip
    trainer: Any = model.trainer
    imgs = len(trainer.data.train)
    mark(None)
    count = sum(len(batch) for batch in trainer._batches.epoch(0))
    mark(None)
    trainer._batches.close()
    return imgs / (marks[-3] - marks[-4]), count / (marks[-1] - marks[-2]), str(trainer.compute_config), imgs


_THEIRS = """
import json, sys, tempfile, time
import torch
from ultralytics import YOLO
options, marks = json.loads(sys.argv[1]), []
def mark(_):
    torch.cuda.synchronize()
    marks.append(time.perf_counter())
model = YOLO(options.pop("model"))
model.add_callback("on_train_epoch_start", mark)
model.add_callback("on_train_epoch_end", mark)
with tempfile.TemporaryDirectory() as folder:
    model.train(project=folder, **options)
print("SECONDS", marks[-1] - marks[-2])
"""


def theirs(given: argparse.Namespace, amp: str, imgs: int) -> str:
    """Return images per second of the reference's last epoch, or a dash where it does not have the format."""
    if amp == "bf16":
        return "–"
    options = {
        "model": given.model, "data": given.data, "epochs": given.epochs, "imgsz": given.imgsz, "batch": given.batch,
        "device": 0, "amp": amp == "fp16", "val": False, "plots": False, "save": False, "verbose": False,
        "cache": given.cache, "workers": given.workers, "close_mosaic": 0,
    }  # fmt: skip
    command = [given.reference, "-c", _THEIRS, json.dumps(options)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = (line for line in said.splitlines() if line.startswith("SECONDS"))
    return f"{imgs / float(line.split()[1]):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolo11n-pose.yaml")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--cache", default=False)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--formats", default="fp32,bf16,fp16")
    parser.add_argument("--reference", default="", help="Python with the reference package")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no CUDA GPU here, so there is nothing to measure.")
    print(f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}, {given.imgsz}, batch {given.batch}\n")
    more = "reference | " if given.reference else ""
    print(f"| format | bare network, images/s | training | share | samples alone | {more}plan |")
    print("|---|---|---|---|---|---|" + "---|" * bool(given.reference))
    for amp in given.formats.split(","):
        alone = bare(given, amp)
        training, samples, plan, images = whole(given, amp)
        beside = f"{theirs(given, amp, images)} | " if given.reference else ""
        share = f"{training / alone:.0%}"
        print(f"| {amp} | {alone:.0f} | {training:.0f} | {share} | {samples:.0f} | {beside}{plan} |", flush=True)


if __name__ == "__main__":
    main()
