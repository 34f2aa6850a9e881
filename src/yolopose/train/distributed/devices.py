"""Which devices a training uses, and by how many processes."""

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
    """The processes of a training.

    Attributes:
        device: that of this process.
        others: devices of the processes that this one has to start.
        size: number of processes.
        local: how many of them are on this machine.
    """

    device: torch.device
    others: tuple[torch.device, ...] = ()
    size: int = 1
    local: int = 1

    def whole_batch(self, fits: int) -> int:
        """Return the batch of all processes together where so many images fit one device."""
        shared = self.local if self.device.type == "cpu" else 1
        return max(fits // shared, 1) * self.size

    def check_batch(self, batch: float) -> None:
        """Check that each process can have equally many images.

        Raises:
            UsageError: the batch cannot be shared out evenly.
        """
        if batch >= 1 and batch % self.size:
            near = max(round(batch / self.size), 1) * self.size
            raise UsageError(
                f"batch={batch:g} is the number of images that {self.size} processes have together, and cannot be "
                f"shared out evenly among them: give a multiple of {self.size}, such as batch={near}."
            )


def assign_devices(device: Any) -> DeviceAssignment:
    """Read `device`, and what a launcher says of this process.

    Args:
        device: as users write it: several devices mean a process for each.

    Raises:
        UsageError: one of them cannot be had, they are not alike, or the launcher says otherwise.
    """
    found, names = read_launch_env(), parse_devices(device)
    if found:
        return DeviceAssignment(_launched(found, names, device), size=found.size, local=found.local_size)
    if len(names) < 2:
        return DeviceAssignment(pick_device(device))
    text = ",".join(names)
    try:
        devices = [pick_device(name) for name in names]
    except UsageError as error:
        raise UsageError(f"device={text} trains with a process for each of {len(names)} devices. {error}") from error
    if len({one.type for one in devices}) > 1 or devices[0].type == "mps":
        raise UsageError(
            f"device={text}: the devices of one training are of one kind, GPUs (device=0,1) or processes on the CPU "
            "(device=cpu,cpu)."
        )
    if devices[0].type == "cuda" and len(set(devices)) < len(devices):
        raise UsageError(f"device={text} names a GPU twice: each process needs one of its own.")
    return DeviceAssignment(devices[0], tuple(devices[1:]), len(devices), len(devices))


def _launched(found: LaunchEnv, names: Sequence[str], device: Any) -> torch.device:
    """The device of a process that was started beside others by a launcher."""
    kind = names[0] if names else "cuda" if torch.cuda.is_available() else "cpu"
    if len(names) > 1 or kind not in ("cuda", "cpu"):
        raise UsageError(
            f"device={','.join(names)} contradicts the launcher (torchrun), which has started {found.size} processes "
            "and gives each a GPU of its own. Leave `device` out for that, or give device=cpu for processes on the "
            "CPU; or start without the launcher, and device=0,1 starts the processes."
        )
    if kind == "cpu":
        return torch.device("cpu")
    if found.local_size > torch.cuda.device_count():
        raise UsageError(
            f"The launcher (torchrun) has started {found.local_size} processes on this machine, and torch sees "
            f"{torch.cuda.device_count()} CUDA GPUs: start no more than that (--nproc-per-node), or give device=cpu."
        )
    return torch.device("cuda", found.local_rank)
