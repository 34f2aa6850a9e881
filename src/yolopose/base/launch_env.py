"""What a launcher such as torchrun tells a process of its place among several."""

from __future__ import annotations

import os
from dataclasses import dataclass

_KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class LaunchEnv:
    """The place of this process.

    Attributes:
        rank: its number among all processes, from 0; number 0 leads.
        size: how many there are.
        local_rank: its number among those of this machine.
        local_size: how many of them are on this machine.
        address: where they meet.
        port: likewise.
        served: the launcher keeps the meeting place; else rank 0 does.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    served: bool


def read_launch_env() -> LaunchEnv | None:
    """Read the place of this process from the environment; None where it is the only one."""
    try:
        rank, size, local_rank, local_size, port = (int(os.environ[key]) for key in _KEYS)
        address = os.environ["MASTER_ADDR"]
    except (KeyError, ValueError):
        return None
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return LaunchEnv(rank, size, local_rank, local_size, address, port, served) if size > 1 else None


def is_worker_rank() -> bool:
    """Whether this process is one of several and not the one that leads, and so has nothing to say."""
    found = read_launch_env()
    return found is not None and found.rank > 0
