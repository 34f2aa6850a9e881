"""What the processor offers: how many cores this process may use, and whether they compute in 16 bits."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def usable_cores() -> int:
    """Returns how many cores the process may run on, fewer where a container or `OMP_NUM_THREADS` says so.

    It is read anew at each call, since all three can change. Nothing is set.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [allowed, *_container_limit(), *_wished()]
    return max(1, min(limits))


def _wished() -> list[int]:
    """What the user asks of every library that computes in threads."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return [int(text)] if text.isdigit() and int(text) else []


def _container_limit(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> list[int]:
    """Share of time that a container gives, rounded up to whole cores; empty where there is no limit."""
    try:
        quota, period = file.read_text(encoding="ascii").split()
        return [-(-int(quota) // int(period))]
    except (OSError, ValueError):  # no such file, or the word "max"
        return []


@cache
def computes_bf16(file: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bfloat16 numbers; without them they are slower than 32 bits.

    Known from what Linux says of the processor (AMX, AVX-512 BF16, Arm BF16); elsewhere the answer is no.
    """
    try:
        words = set(file.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return False
    return bool(words & {"amx_bf16", "avx512_bf16", "bf16"})
