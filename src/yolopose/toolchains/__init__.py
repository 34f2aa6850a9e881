"""Private environments for converters that pin conflicting dependencies: installed, removed and used on request."""

from __future__ import annotations

from yolopose.toolchains.catalog import (
    InstalledToolchain,
    Toolchain,
    find_installed,
    find_python,
    get_toolchain,
    require_toolchain,
    toolchain_table,
    toolchains,
)
from yolopose.toolchains.installer import install, remove
from yolopose.toolchains.worker import Worker, run, run_in_env

__all__ = [
    "InstalledToolchain",
    "Toolchain",
    "Worker",
    "find_installed",
    "find_python",
    "get_toolchain",
    "install",
    "remove",
    "require_toolchain",
    "run",
    "run_in_env",
    "toolchain_table",
    "toolchains",
]
