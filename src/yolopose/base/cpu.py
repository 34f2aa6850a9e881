"""What the processor offers: how many cores this process may use, and whether they compute in 16 bits."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


def physical_cores() -> int:
    """Return the cores that this process may compute on, at least 1.

    Two threads of one core share its arithmetic units, so they count once; a container's share of processor time
    counts as so many cores, rounded up. `OMP_NUM_THREADS`, by which people tell all libraries at once, lowers it.
    """
    wish = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(_allowed_cores(), max(int(wish), 1)) if wish.isdigit() else _allowed_cores()


def available_cpus() -> int:
    """Return how many processors (threads of cores) this process may run on: those of the machine, or of its share."""
    return len(_allowed())


def has_all_cores() -> bool:
    """Whether nothing keeps this process from any core of the machine."""
    return physical_cores() == len({_siblings(number) for number in range(os.cpu_count() or 1)})


@cache
def cpu_supports_bf16(file: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bfloat16 numbers; without them they are slower than 32 bits.

    Known from what Linux says of the processor (AMX, AVX-512 BF16, Arm BF16); elsewhere the answer is no.
    """
    try:
        words = set(file.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(words & {"amx_bf16", "avx512_bf16", "bf16"})


@cache
def cpu_name(file: Path = Path("/proc/cpuinfo")) -> str:
    """Return what tells this processor from others: its name with family and model where Linux says them."""
    try:
        lines = [line.partition(":") for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        lines = []
    told = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    words = [told[name] for name in ("model name", "cpu family", "model") if told.get(name)]
    return " ".join(words) or platform.processor() or platform.machine()


def _allowed() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


@cache
def _allowed_cores() -> int:
    cores = {_siblings(number) for number in _allowed()}
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
