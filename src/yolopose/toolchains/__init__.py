"""Private environments for converters whose libraries bear no others: made, removed and used on the user's word."""

from __future__ import annotations

from yolopose.toolchains.catalog import Toolchain, get_toolchain, toolchains
from yolopose.toolchains.environments import (
    Installed,
    install,
    installed,
    python_for,
    remove,
    report,
    require_toolchain,
    run,
)
from yolopose.toolchains.worker import Worker, run_in_env

__all__ = [
    "Installed",
    "Toolchain",
    "Worker",
    "run_in_env",
    "install",
    "installed",
    "require_toolchain",
    "python_for",
    "remove",
    "report",
    "run",
    "get_toolchain",
    "toolchains",
]
