"""How much memory this process may still have."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def available_memory() -> int | None:
    """Return bytes that can be had without swapping, a container's limit counted; None where the system is silent."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*found, *_left_in_container()]) if found else None


def _left_in_container() -> list[int]:
    left: list[int] = []
    for limit, used in _LIMITS:
        try:
            left.append(int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text()))
        except (OSError, ValueError):  # not there, or `max`
            continue
    return left
