"""Weights and exported networks as engines; one file for each format, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from yolopose.base.errors import NotFoundError
from yolopose.formats.registry import (
    Format,
    format_for_path,
    formats,
    get_format,
    require_engine,
    require_packages,
    suffixes,
)
from yolopose.runtime import Runtime

__all__ = [
    "Format",
    "get_format",
    "format_for_path",
    "formats",
    "require_engine",
    "require_packages",
    "open_runtime",
    "suffixes",
]


def open_runtime(path: str | Path, *, device: object = None, half: bool = False) -> Runtime:
    """Open a file with the engine that runs it.

    Args:
        path: the file; its suffix tells the format.
        device: `cpu`, `0` (the first GPU), …; the best there is when None.
        half: compute in float16 where the device can.

    Raises:
        UsageError: the suffix is of no format known here, or the device is not here.
        NotFoundError: there is no such file.
        WeightsError: the file is damaged or holds no pose network.
        DependencyError: the engine's library is not installed.
    """
    row, path = format_for_path(path), Path(path)
    if row.exportable and not path.exists():
        kind = "folder" if row.folder else "file"
        raise NotFoundError(f"There is no {row.title} {kind} {path}. Check the path (current folder: {Path.cwd()}).")
    require_engine(row, path)
    return import_module(f"yolopose.formats.{row.module}").load(path, device, half)
