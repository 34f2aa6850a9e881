"""CPU of this machine: cores this process may use, name, and support of bfloat16."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_TOPOLOGY = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


def physical_cores() -> int:
    """Return the number of physical cores this process may use, at least 1.

    Hyper-threads share the arithmetic units of a core, so they count once. The CPU quota of a container limits the
    number, rounded up, and so does `OMP_NUM_THREADS`.
    """
    limit = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return min(_allowed_cores(), max(int(limit), 1)) if limit.isdigit() else _allowed_cores()


def available_cpus() -> int:
    """Return the number of logical CPUs this process may run on."""
    return len(_cpu_affinity())


def has_all_cores() -> bool:
    """Return whether this process may use every core of the machine."""
    return physical_cores() == len({_core_id(cpu) for cpu in range(os.cpu_count() or 1)})


@cache
def cpu_supports_bf16(file: Path = _CPUINFO) -> bool:
    """Return whether the CPU has bfloat16 instructions (AMX, AVX-512 BF16, Arm BF16); without them bfloat16 is slow.

    Only Linux reports them; the answer is False elsewhere.
    """
    try:
        flags = set(file.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(flags & {"amx_bf16", "avx512_bf16", "bf16"})


@cache
def cpu_name(file: Path = _CPUINFO) -> str:
    """Return the name of the CPU, with family and model where Linux reports them."""
    try:
        lines = [line.partition(":") for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        lines = []
    info = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    parts = [info[name] for name in ("model name", "cpu family", "model") if info.get(name)]
    return " ".join(parts) or platform.processor() or platform.machine()


def _cpu_affinity() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


@cache
def _allowed_cores() -> int:
    cores = {_core_id(cpu) for cpu in _cpu_affinity()}
    return max(1, min(len(cores), _cpu_quota() or len(cores)))


def _core_id(cpu: int) -> str:
    """Return the hyper-threads of the core of a logical CPU as the kernel lists them, or the CPU itself."""
    return _read(_TOPOLOGY / f"cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def _cpu_quota() -> int | None:
    """Return the CPU limit of the container, rounded up, or None where there is none."""
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if not quota:  # cgroup v1
        quota = _read(_CGROUP / "cpu/cpu.cfs_quota_us")
        period = _read(_CGROUP / "cpu/cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit() and int(period)):
        return None  # `max`, -1, or a system without cgroups
    return -(-int(quota) // int(period))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
