"""How many processors this process may use, by the machine, its affinity and the limits of its container."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


@cache
def physical_cores() -> int:
    """Returns the cores that this process may compute on, at least 1.

    Two threads of one core share its arithmetic units, so they count once; a container's share of processor time
    counts as so many cores, rounded up.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(number) for number in allowed}
    return max(1, min(len(cores), _quota() or len(cores)))


def _siblings(number: int) -> str:
    """The processors that share a core with one, as the system writes them; itself where that is not told."""
    return _text(_TOPOLOGY / f"cpu{number}/topology/thread_siblings_list") or str(number)


def _quota() -> int | None:
    """The container's limit in whole processors, None where there is none."""
    share, _, period = _text(_CGROUP / "cpu.max").partition(" ")
    if not share:
        share = _text(_CGROUP / "cpu/cpu.cfs_quota_us")
        period = _text(_CGROUP / "cpu/cpu.cfs_period_us")
    if not (share.isdigit() and period.isdigit() and int(period)):
        return None  # `max`, -1, or a system without such limits
    return -(-int(share) // int(period))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
