"""How a training run computes: threads, precision, memory format, and the processes that make samples.

They change the time of a step and, through the order of sums, its last digits, so a run keeps those that it began with.
The default follows from options and processor; `autotune.py` measures alternatives.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, get_type_hints

import torch

from yolopose.config import TrainSettings, limit_workers

DTYPE_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Values of `amp` and the names of their types."""


@dataclass(frozen=True, slots=True)
class ComputeConfig:
    """Compute configuration of a run.

    Attributes:
        device: type of the device they are for: `cpu`, `cuda`, `mps`.
        threads: torch's intra-op threads.
        amp: precision of the forward pass: `fp32`, `bf16`, `fp16`.
        channels_last: memory format of the activations.
        workers: processes that make samples; 0 makes them in threads of this process.
        origin: how it was chosen, for the log.
    """

    device: str
    threads: int
    amp: str
    channels_last: bool
    workers: int
    origin: str = ""

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        layout = "channels last" if self.channels_last else "channels first"
        makers = f"{self.workers} process{'' if self.workers == 1 else 'es'}" if self.workers else "threads"
        return f"{threads}, {DTYPE_NAMES[self.amp]}, {layout}, samples by {makers} ({self.origin})"

    def resolve(self, settings: TrainSettings) -> TrainSettings:
        """Return the settings of a run with these values."""
        return replace(settings, amp=self.amp, channels_last=self.channels_last, workers=self.workers)

    def for_rank(self, max_workers: int) -> ComputeConfig:
        """Return the configuration of one of several processes, whose share of torch's threads is set already.

        Args:
            max_workers: processes that may make samples for this one.
        """
        return replace(self, threads=torch.get_num_threads(), workers=min(self.workers, max_workers))

    def state_dict(self) -> dict[str, Any]:
        """Return plain values, for checkpoints and the autotune cache."""
        return {name: value for name, value in asdict(self).items() if name != "origin"}

    @classmethod
    def from_state(cls, saved: object, origin: str) -> ComputeConfig | None:
        """Read `state_dict()` back; None for anything else."""
        types = {name: kind for name, kind in get_type_hints(cls).items() if name != "origin"}
        if not isinstance(saved, Mapping) or set(saved) != set(types):
            return None
        if any(type(saved[name]) is not kind for name, kind in types.items()):
            return None
        config = cls(**saved, origin=origin)
        return config if config.threads >= 1 and config.workers >= 0 and config.amp in DTYPE_NAMES else None

    @contextmanager
    def apply(self) -> Generator[None, None, None]:
        """Set torch's threads inside the block and restore the caller's afterwards."""
        previous = torch.get_num_threads()
        if previous == self.threads:  # setting the same number would still rebuild torch's thread pool
            yield
            return
        torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            torch.set_num_threads(previous)


def default_config(settings: TrainSettings, device: torch.device) -> ComputeConfig:
    """Return the configuration that follows from options and processor, without any measurement."""
    return ComputeConfig(
        device=device.type,
        threads=torch.get_num_threads(),
        amp=_precision(settings.amp, device),
        channels_last=settings.channels_last is not False,  # 20 % faster on CPUs, more on GPUs with tensor cores
        workers=limit_workers(settings.workers),
        origin="default",
    )


def resumed_config(
    saved: object, settings: TrainSettings, device: torch.device, *, new_workers: bool = False
) -> ComputeConfig:
    """Return the configuration of a resumed run: the one that it began with, except for `workers`.

    Args:
        saved: what its checkpoint holds; None in those of earlier versions.
        settings: its settings.
        device: where it continues; a configuration for another type of device is replaced by the default.
        new_workers: whether `workers` was given for the rest of the run.
    """
    config = ComputeConfig.from_state(saved, "as when the run began")
    if config is None or config.device != device.type:
        return default_config(settings, device)
    limit = limit_workers(settings.workers)
    return replace(config, workers=limit if new_workers else min(config.workers, limit))


def _precision(amp: bool | str, device: torch.device) -> str:
    """Resolve `amp`; True means float16 on CUDA GPUs and float32 elsewhere."""
    if isinstance(amp, str):
        return amp
    return "fp16" if amp and device.type == "cuda" else "fp32"
