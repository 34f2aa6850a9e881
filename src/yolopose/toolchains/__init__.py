"""Private environments for converters whose libraries bear no others: made, removed and used on the user's word."""

from __future__ import annotations

from yolopose.toolchains.table import Toolchain, toolchain_named, toolchains
from yolopose.toolchains.venvs import (
    Installed,
    install,
    installed,
    need_toolchain,
    python_for,
    remove,
    report,
    run,
)
from yolopose.toolchains.work import Worker, errand

__all__ = [
    "Installed",
    "Toolchain",
    "Worker",
    "errand",
    "install",
    "installed",
    "need_toolchain",
    "python_for",
    "remove",
    "report",
    "run",
    "toolchain_named",
    "toolchains",
]
