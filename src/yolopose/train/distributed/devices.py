"""Device assignment: which devices a training uses, with one process for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from yolopose.base.errors import UsageError
from yolopose.base.launch_env import LaunchEnv, read_launch_env
from yolopose.config import parse_devices
from yolopose.formats.pytorch import pick_device


@dataclass(frozen=True, slots=True)
class DeviceAssignment:
    """Devices and processes of a training.

    Attributes:
        device: device of this process.
        others: devices of the processes that this one has to start.
        size: number of processes.
        local_size: number of processes on this machine.
    """

    device: torch.device
    others: tuple[torch.device, ...] = ()
    size: int = 1
    local_size: int = 1

    def global_batch(self, images: int) -> int:
        """Return the batch of all processes together where so many images fit the memory of one device."""
        sharing = self.local_size if self.device.type == "cpu" else 1
        return max(images // sharing, 1) * self.size

    def check_batch(self, batch: float) -> None:
        """Raise `UsageError` if the batch cannot be divided evenly among the processes."""
        if batch >= 1 and batch % self.size:
            nearest = max(round(batch / self.size), 1) * self.size
            raise UsageError(
                f"batch={batch:g} is the number of images of all {self.size} processes together and cannot be divided "
                f"evenly among them: use a multiple of {self.size}, such as batch={nearest}."
            )


def assign_devices(device: Any) -> DeviceAssignment:
    """Resolve `device` and the environment of a launcher.

    Args:
        device: as users write it: several devices mean one process each.

    Raises:
        UsageError: a device is not available, they differ in type, or they contradict the launcher.
    """
    env = read_launch_env()
    names = parse_devices(device)
    if env:
        return DeviceAssignment(_launched_device(env, names), size=env.size, local_size=env.local_size)
    if len(names) < 2:
        return DeviceAssignment(pick_device(device))
    text = ",".join(names)
    try:
        devices = [pick_device(name) for name in names]
    except UsageError as error:
        raise UsageError(f"device={text} trains with one process on each of {len(names)} devices. {error}") from error
    if len({item.type for item in devices}) > 1 or devices[0].type == "mps":
        raise UsageError(
            f"device={text}: the devices of one training must be of one type, GPUs (device=0,1) or processes on the "
            "CPU (device=cpu,cpu)."
        )
    if devices[0].type == "cuda" and len(set(devices)) < len(devices):
        raise UsageError(f"device={text} names a GPU twice: each process needs its own.")
    return DeviceAssignment(devices[0], tuple(devices[1:]), len(devices), len(devices))


def _launched_device(env: LaunchEnv, names: Sequence[str]) -> torch.device:
    """Return the device of a process that a launcher has started."""
    kind = names[0] if names else "cuda" if torch.cuda.is_available() else "cpu"
    if len(names) > 1 or kind not in ("cuda", "cpu"):
        raise UsageError(
            f"device={','.join(names)} contradicts the launcher (torchrun), which has started {env.size} processes and "
            "assigns each its own GPU. Omit `device` for GPUs, or set device=cpu for processes on the CPU; or start "
            "without the launcher, and device=0,1 starts the processes."
        )
    if kind == "cpu":
        return torch.device("cpu")
    if env.local_size > torch.cuda.device_count():
        raise UsageError(
            f"The launcher (torchrun) has started {env.local_size} processes on this machine, and torch sees "
            f"{torch.cuda.device_count()} CUDA GPUs: start at most that many (--nproc-per-node), or set device=cpu."
        )
    return torch.device("cuda", env.local_rank)
