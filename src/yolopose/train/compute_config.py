"""How a training computes: threads, number format, memory format, and who makes the samples.

A plan changes how long a step takes, and with the order of sums its last digits; so a run keeps the plan that it began
with. Without a measurement it follows from what the processor says of itself; `deterministic=False` measures what is
fastest here (`autotune.py`).
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

import torch

from yolopose.config import TrainOptions, limit_workers

FORMATS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Number formats of the forward pass, as `amp` spells them, and their names."""


@dataclass(frozen=True, slots=True)
class ComputeConfig:
    """How a training computes.

    Attributes:
        device: kind of device it is for: `cpu`, `cuda`, `mps`.
        threads: torch's threads.
        amp: number format of the forward pass: `fp32`, `bf16`, `fp16`.
        channels_last: whether maps lie in memory pixel by pixel, not channel by channel.
        workers: processes that make samples; 0 makes them by threads of this process.
        origin: words that say where it comes from.
    """

    device: str
    threads: int
    amp: str
    channels_last: bool
    workers: int
    origin: str = ""

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        order = "channels last" if self.channels_last else "channels first"
        makers = f"{self.workers} process{'' if self.workers == 1 else 'es'}" if self.workers else "threads"
        return f"{threads}, {FORMATS[self.amp]}, {order}, samples by {makers} ({self.origin})"

    def applied(self, options: TrainOptions) -> TrainOptions:
        """Return the options with what was open in them settled."""
        return replace(options, amp=self.amp, channels_last=self.channels_last, workers=self.workers)

    def among(self, workers: int) -> ComputeConfig:
        """Return it for one of several processes, each of which has been given its share of torch's threads.

        Args:
            workers: processes that may make samples for this one.
        """
        return replace(self, threads=torch.get_num_threads(), workers=min(self.workers, workers))

    def state_dict(self) -> dict[str, Any]:
        """Return it as plain values, for a checkpoint or a file."""
        return {name: value for name, value in asdict(self).items() if name != "origin"}

    @classmethod
    def from_state(cls, saved: object, origin: str) -> ComputeConfig | None:
        """Read `state_dict()` back; None where it is not one."""
        kinds = {one.name: one.type for one in fields(cls) if one.default is MISSING}
        if not isinstance(saved, Mapping) or set(saved) != set(kinds):
            return None
        if any(type(saved[name]).__name__ != kind for name, kind in kinds.items()):
            return None
        plan = cls(**saved, origin=origin)
        return plan if plan.threads >= 1 and plan.workers >= 0 and plan.amp in FORMATS else None

    @contextmanager
    def apply(self) -> Generator[None, None, None]:
        """Let torch compute on the plan's threads inside the block, and on the caller's behind it."""
        before = torch.get_num_threads()
        if before == self.threads:  # setting it anew would still make torch build its threads again
            yield
            return
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def default_config(options: TrainOptions, device: torch.device) -> ComputeConfig:
    """Return the plan that follows from options and processor, without any measurement."""
    return ComputeConfig(
        device=device.type,
        threads=torch.get_num_threads(),
        amp=_format(options.amp, device),
        channels_last=options.channels_last is not False,  # 20 % faster on CPUs, more on GPUs with tensor cores
        workers=most_workers(options),
        origin="fixed; deterministic=False measures what is fastest" if options.deterministic else "fixed",
    )


def resumed_config(saved: object, options: TrainOptions, device: torch.device) -> ComputeConfig:
    """Return the plan of a run that goes on: the one that it began with, but for who makes the samples.

    Args:
        saved: what its checkpoint holds; None in those of earlier versions.
        options: its options; another number of `workers` may have been given.
        device: where it goes on. A plan for another kind of device is of no use.
    """
    plan = ComputeConfig.from_state(saved, "as the run began")
    if plan is None or plan.device != device.type:
        return default_config(options, device)
    most = most_workers(options)
    return replace(plan, workers=most if workers_given(options) else min(plan.workers, most))


def workers_given(options: TrainOptions) -> bool:
    """Whether `workers` was given."""
    return options.workers is not None


def most_workers(options: TrainOptions) -> int:
    """Return the number of workers, at most one per CPU."""
    return limit_workers(options.workers)


def _format(amp: bool | str, device: torch.device) -> str:
    """The number format that `amp` means; True is 16 bits on CUDA GPUs, and elsewhere only what a measurement takes."""
    if isinstance(amp, str):
        return amp
    return "fp16" if amp and device.type == "cuda" else "fp32"
