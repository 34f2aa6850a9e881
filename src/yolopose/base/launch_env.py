"""Environment variables by which a launcher such as torchrun describes the processes of a distributed run."""

from __future__ import annotations

import os
from dataclasses import dataclass

_KEYS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")


@dataclass(frozen=True, slots=True)
class LaunchEnv:
    """Rank of this process and address of the rendezvous.

    Attributes:
        rank: rank among all processes; rank 0 is the main process.
        size: number of processes.
        local_rank: rank among the processes of this machine.
        local_size: number of processes on this machine.
        address: host of the rendezvous store.
        port: port of the rendezvous store.
        served: whether the launcher runs the store; otherwise rank 0 does.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    served: bool


def read_launch_env() -> LaunchEnv | None:
    """Read the environment variables of a launcher; None where this is the only process."""
    try:
        rank, size, local_rank, local_size, port = (int(os.environ[key]) for key in _KEYS)
        address = os.environ["MASTER_ADDR"]
    except (KeyError, ValueError):
        return None
    served = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return LaunchEnv(rank, size, local_rank, local_size, address, port, served) if size > 1 else None


def is_worker_rank() -> bool:
    """Return whether this process belongs to a distributed run and is not its main one, which logs and writes files."""
    env = read_launch_env()
    return env is not None and env.rank > 0
