"""What a training step costs the host beside the network: operations and milliseconds of the main thread, by part.

    python benchmarks/host_budget.py [--models yolo11n-pose.yaml,yolo26n-pose.yaml] [--batches 64,16] [--imgsz 640]
        [--steps 8] [--reference PYTHON]

The loop of a real training runs as it does on a GPU (values of the device are never waited for, the device renders the
images), with the network replaced by stored head outputs. On a GPU the host queues operations and the device computes
them, so the cost of the host is their number and the Python around them. Both are measured on the CPU with images of
1/20 of the side and a narrow network of as many tensors, so that kernels take almost no time: operations
(`TorchDispatchMode`; those that only make a view apart) and, in a second run, CPU time of the main thread
(`time.thread_time`, which other processes hardly change). Neither number depends on the size of images: a GPU of 80 GiB
renders 26 million pixels at once. Optimizer and EMA take less on a GPU, where one kernel updates all tensors.

`--reference` counts the operations of the reference package, seen from outside: those between its callbacks
`on_train_batch_start` and `on_train_batch_end`, less those of forward and backward of its network alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from yolopose.config import make_options
from yolopose.criterion import base as criterion_base
from yolopose.nn import build_network
from yolopose.nn.head import HeadOutput
from yolopose.nn.model_yaml import load_model_yaml
from yolopose.train import Trainer, ema, nan_guard, new_trainer, optimizer, precision, scalars, state
from yolopose.train.feed import batch as batch_module
from yolopose.train.feed import device_render, loader
from yolopose.train.record import EpochLine
from yolopose.train.run_folder import RunFolder
from yolopose.train.schedule import Schedule

DATA = """path: {folder}
train: images/train
val: images/val
figures: {{train: {images}, val: 2, size: 320, seed: 0}}
kpt_shape: [17, 3]
flip_idx: [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
names: [person]
"""
GPU_PIXELS = 80 * 2**30 // device_render._GPU_SHARE  # that a GPU of 80 GiB renders at once
SHRINK = 20  # of the sides of images
NARROW = 0.02  # width of the network
NETWORK = "(network, replaced)"
BACKWARD = "backward of the losses"
REST = "loop"
EPOCH = "once per epoch"

# owner, name, part; parts do not contain those that they call
PARTS: tuple[tuple[Any, str, str], ...] = (
    (loader.TrainBatches, "_make", "hand-over of the batch"),
    (batch_module.DeferredBatch, "render", "rendering"),
    (state.TrainState, "_preprocess", "bytes to 0…1"),
    (state.Targets, "from_normalized", "targets"),
    (criterion_base.Criterion, "_assign", "assigner"),
    (criterion_base.Criterion, "__call__", "losses"),
    (precision.Precision, "backward", BACKWARD),
    (precision.Precision, "step", "clipping, optimizer"),
    (optimizer.Optimizer, "zero_grad", "clipping, optimizer"),
    (state.TrainState, "_replace_nonfinite_norm_statistics", "norm statistics"),
    (ema.EMA, "update", "EMA"),
    (nan_guard.NanGuard, "record", "non-finite check, meter"),
    (nan_guard.NanGuard, "snapshot", EPOCH),
    (state.TrainState, "begin_epoch", EPOCH),
    (nan_guard.NanGuard, "check_weights", EPOCH),
    (scalars.LossMeter, "add", "non-finite check, meter"),
    (Schedule, "apply", "schedule"),
    (EpochLine, "update", "console"),
    (RunFolder, "draw_batch", "console"),
)


class Parts(TorchDispatchMode):
    """Operations and CPU seconds of the main thread by part, each without those that it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.views: Counter[str] = Counter()
        self.names: Counter[tuple[str, str]] = Counter()
        self._open = [REST]
        self._mark = time.thread_time()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        part = self._open[-1]
        (self.views if func.is_view else self.operations)[part] += 1
        self.names[part, func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))

    def enter(self, part: str) -> None:
        self._lap()
        self._open.append(part)

    def leave(self) -> None:
        self._lap()
        self._open.pop()

    def _lap(self) -> None:
        now = time.thread_time()
        self.seconds[self._open[-1]] += now - self._mark
        self._mark = now

    def wrap(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.enter(part)
            try:
                result = function(*args, **kwargs)
            finally:
                self.leave()
            return self._wrap_iterator(result, part) if hasattr(result, "__next__") else result

        return call

    def _wrap_iterator(self, items: Iterator[Any], part: str) -> Iterator[Any]:
        following = self.wrap(lambda: (next(items, None),), part)
        while (item := following()[0]) is not None:
            yield item

    @contextmanager
    def watching(self) -> Iterator[None]:
        originals = [(owner, name, owner.__dict__[name]) for owner, name, _ in PARTS]
        for owner, name, part in PARTS:
            original = owner.__dict__[name]
            wrapped = self.wrap(getattr(owner, name), part)
            setattr(owner, name, staticmethod(wrapped) if isinstance(original, classmethod) else wrapped)
        try:
            self._lap()
            yield
            self._lap()
        finally:
            for owner, name, original in originals:
                setattr(owner, name, original)


class StoredNetwork:
    """Takes the place of the network: returns the same outputs for every batch, and sets gradients before each step."""

    def __init__(self, trainer: Trainer, parts: Parts) -> None:
        self._state: Any = trainer._state
        self._parts = parts
        self._outputs: dict[Any, HeadOutput] = {}
        generator = torch.Generator().manual_seed(0)
        self._gradients = [
            torch.empty_like(p).uniform_(-1e-3, 1e-3, generator=generator) if p.requires_grad else None
            for p in trainer.model.parameters()
        ]

    def forward(self, images: torch.Tensor) -> HeadOutput:
        self._parts.enter(NETWORK)
        key = tuple(images.shape)
        if key not in self._outputs:
            with torch.no_grad():
                single = self._state.model.eval().outputs(images[:1])
                self._state.model.train()
            self._outputs[key] = _repeat(single, len(images))
        output = _leaves(self._outputs[key])
        self._parts.leave()
        return output

    def step(self, original: Callable[[int], Any]) -> Callable[[int], Any]:
        def step(i: int) -> Any:
            self._parts.enter(NETWORK)
            for parameter, gradient in zip(self._state.model.parameters(), self._gradients, strict=True):
                parameter.grad = gradient
            self._parts.leave()
            return original(i)

        return step


def _repeat(output: HeadOutput, count: int) -> HeadOutput:
    """Return outputs for `count` images that differ a little."""

    def repeat(value: torch.Tensor | None) -> torch.Tensor | None:
        return None if value is None else value.expand(count, -1, -1) + 0.01 * torch.rand(count, 1, 1)

    one2one = None if output.one2one is None else _repeat(output.one2one, count)
    values: Any = [repeat(value) for value in (output.boxes, output.scores, output.kpts)]
    return HeadOutput(*values, output.shapes, repeat(output.sigmas), one2one)


def _leaves(output: HeadOutput) -> HeadOutput:
    def leaf(value: torch.Tensor | None) -> torch.Tensor | None:
        return None if value is None else value.detach().requires_grad_()

    one2one = None if output.one2one is None else _leaves(output.one2one)
    values: Any = [leaf(value) for value in (output.boxes, output.scores, output.kpts)]
    return HeadOutput(*values, output.shapes, leaf(output.sigmas), one2one)


def make_trainer(folder: Path, model: str, batch: int, imgsz: int, steps: int) -> Trainer:
    data = folder / f"figures-{batch * steps}.yaml"
    data.write_text(DATA.format(folder=data.stem, images=batch * steps))
    yaml = dict(load_model_yaml(model).values)
    yaml["scales"] = {"n": [yaml["scales"]["n"][0], NARROW, 1024]}
    options = make_options(
        "train",
        {
            "data": str(data), "imgsz": imgsz, "batch": batch, "nbs": batch, "epochs": 100, "workers": 1,
            "plots": False, "save": False, "val": False, "device": "cpu", "project": str(folder / "runs"),
            "recipe": "reference", "close_mosaic": 0, "optimizer": "AdamW", "lr0": 1e-6, "verbose": True,
        },
    )  # fmt: skip
    return new_trainer(options, build_network(yaml).yaml, None)


@contextmanager
def asynchronous(pixels: float) -> Iterator[None]:
    """Treat the CPU as a device that is not waited for; `pixels` scales the pixels that are rendered at once."""
    saved = state.is_async, scalars.is_async, device_render._PIXELS
    state.is_async = scalars.is_async = lambda _: True
    device_render._PIXELS = int(GPU_PIXELS * pixels)
    try:
        yield
    finally:
        state.is_async, scalars.is_async, device_render._PIXELS = saved


def run(folder: Path, model: str, batch: int, imgsz: int, steps: int, *, count: bool) -> Parts:
    """Run an epoch of `steps` batches after a first one; count operations or measure seconds."""
    side = max(imgsz // SHRINK // 32, 1) * 32
    with asynchronous((side / imgsz) ** 2), ExitStack() as stack:
        trainer = make_trainer(folder, model, batch, side, steps)
        trainer._batches._render_on = torch.device("cpu")
        parts = Parts()
        stored = StoredNetwork(trainer, parts)
        trainer._state._forward = stored.forward
        trainer._state.step = stored.step(trainer._state.step)
        stack.enter_context(trainer.compute_config.apply())
        trainer._train_epoch()
        trainer.epoch = 1
        parts.seconds.clear()
        stack.enter_context(parts.watching())
        stack.enter_context(parts if count else nullcontext())
        trainer._train_epoch()
        trainer._batches.close()
    return parts


def table(model: str, batch: int, imgsz: int, steps: int, counted: Parts, timed: Parts) -> None:
    print(f"\n{model}, batch {batch}, {imgsz}, per step\n")
    print("| part | operations | views | ms of the main thread |\n|---|---|---|---|")
    names = [*dict.fromkeys(part for *_, part in PARTS), REST]
    total = [0.0, 0.0, 0.0]
    for part in names:
        row = (counted.operations[part] / steps, counted.views[part] / steps, 1000 * timed.seconds[part] / steps)
        if any(row) and part != EPOCH:
            print(f"| {part} | {row[0]:.1f} | {row[1]:.1f} | {row[2]:.2f} |")
        if part != EPOCH:
            total = [a + b for a, b in zip(total, row, strict=True)]
    print(f"| together | {total[0]:.0f} | {total[1]:.0f} | {total[2]:.2f} |")
    epoch = counted.operations[EPOCH], counted.views[EPOCH], 1000 * timed.seconds[EPOCH]
    print(f"| once per epoch | {epoch[0]:.0f} | {epoch[1]:.0f} | {epoch[2]:.1f} |", flush=True)


_REFERENCE = """
import json, sys, tempfile
from collections import Counter
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from ultralytics import YOLO
options = json.loads(sys.argv[1])
class Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.kernels = self.views = 0
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.is_view: self.views += 1
        else: self.kernels += 1
        return func(*args, **(kwargs or {}))
class Enough(Exception): pass
modes, rows = [], []
def start(trainer):
    modes.append(Count()); modes[-1].__enter__()
def end(trainer):
    mode = modes.pop(); mode.__exit__(None, None, None)
    rows.append((mode.kernels, mode.views))
    if len(rows) == 3:
        network = trainer.model.train()
        with Count() as bare:
            outputs = network(torch.rand(2, 3, options["imgsz"], options["imgsz"]))
            def floats(value):
                if isinstance(value, torch.Tensor): return [value] if value.requires_grad else []
                if isinstance(value, dict): value = list(value.values())
                return [t for item in value for t in floats(item)] if isinstance(value, (list, tuple)) else []
            leaves = floats(outputs)
            before = (bare.kernels, bare.views)
            torch.autograd.backward(leaves, [torch.ones_like(t) for t in leaves])
        print("RESULT", json.dumps([rows[-1], [bare.kernels - len(leaves), bare.views]]))
        raise Enough
model = YOLO(options.pop("model"))
model.add_callback("on_train_batch_start", start)
model.add_callback("on_train_batch_end", end)
with tempfile.TemporaryDirectory() as folder:
    try: model.train(project=folder, **options)
    except Enough: pass
"""


def reference_operations(python: str, folder: Path, model: str, imgsz: int) -> str:
    """Return operations and views of a step of the reference, without its network; the batch does not matter."""
    data = folder / "reference.yaml"
    figures = next(folder.glob("figures-*/"))
    data.write_text(
        DATA.format(folder=figures, images=1).replace("figures: {train: 1, val: 2, size: 320, seed: 0}\n", "")
    )
    options = {
        "model": model, "data": str(data), "imgsz": imgsz, "batch": 2, "nbs": 2, "epochs": 2, "device": "cpu",
        "workers": 0, "amp": False, "val": False, "plots": False, "save": False, "optimizer": "AdamW",
        "warmup_epochs": 0,
    }  # fmt: skip
    command = [python, "-c", _REFERENCE, json.dumps(options)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (line,) = (line for line in output.splitlines() if line.startswith("RESULT"))
    (kernels, views), (bare_kernels, bare_views) = json.loads(line.removeprefix("RESULT"))
    return f"{kernels - bare_kernels} operations, {views - bare_views} views"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="yolo11n-pose.yaml,yolo26n-pose.yaml")
    parser.add_argument("--batches", default="64,16")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--reference", default="", help="Python with the reference package")
    parser.add_argument("--names", type=int, default=0, help="list this many of the most frequent operations")
    args: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for model in args.models.split(","):
            for batch in map(int, args.batches.split(",")):
                counted = run(folder, model, batch, args.imgsz, 2, count=True)
                timed = run(folder, model, batch, args.imgsz, args.steps, count=False)
                counted = _per_step(counted, 2, args.steps)
                table(model, batch, args.imgsz, args.steps, counted, timed)
                for (part, name), number in counted.names.most_common(args.names):
                    print(f"    {number / 2:6.1f} {part}: {name}")
            if args.reference:
                print(f"\nreference: {reference_operations(args.reference, folder, model, 64)}", flush=True)


def _per_step(counted: Parts, steps: int, target: int) -> Parts:
    """Scale the counts of some steps to another number of steps."""
    for values in (counted.operations, counted.views):
        for part in values.keys() - {EPOCH}:
            values[part] = values[part] * target / steps  # type: ignore[assignment]
    return counted


if __name__ == "__main__":
    main()
