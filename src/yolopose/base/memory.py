"""Memory of this process and this machine, in bytes."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def available_memory() -> int | None:
    """Return the memory available without swapping, within the container's limit; None where it is unknown."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return None
    available = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return min([*available, *_container_headroom()]) if available else None


def total_memory() -> int | None:
    """Return the memory of the machine; None where it is unknown."""
    with suppress(AttributeError, ValueError, OSError):  # not on Windows
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def process_memory() -> int | None:
    """Return the resident memory of this process; None where /proc does not exist."""
    with suppress(OSError, IndexError, ValueError):
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return None


def peak_process_memory() -> int | None:
    """Return the largest resident memory that this process had; None where it is unknown."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    unit = 1 if os.uname().sysname == "Darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _container_headroom() -> list[int]:
    headroom: list[int] = []
    for limit, used in _LIMITS:
        with suppress(OSError, ValueError):  # not there, or `max`
            headroom.append(int((_CGROUP / limit).read_text()) - int((_CGROUP / used).read_text()))
    return headroom
