"""File formats of networks: one module per format that loads and exports it, imported on first use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from yolopose.base.errors import NotFoundError
from yolopose.formats.metadata import metadata_json, parse_metadata, read_metadata
from yolopose.formats.protocol import ExportJob, ExportReport, Format, FormatInfo
from yolopose.formats.registry import (
    describe_suffixes,
    find_format,
    format_for_path,
    formats,
    get_format,
    require_engine,
    require_packages,
)

if TYPE_CHECKING:
    from yolopose.runtime import Runtime

__all__ = [
    "ExportJob",
    "ExportReport",
    "Format",
    "FormatInfo",
    "describe_suffixes",
    "find_format",
    "format_for_path",
    "formats",
    "get_format",
    "metadata_json",
    "open_runtime",
    "parse_metadata",
    "read_metadata",
    "require_engine",
    "require_packages",
]


def open_runtime(path: str | Path, *, device: object = None, half: bool = False) -> Runtime:
    """Open a file with the engine that runs it.

    Args:
        path: the file; its suffix determines the format.
        device: `cpu`, `0` (the first GPU), …; the best available if None.
        half: compute in 16 bits where the device supports it.

    Raises:
        UsageError: the suffix is unknown, or the device is not available.
        NotFoundError: the file does not exist.
        WeightsError: the file is damaged or is not a pose network.
        DependencyError: the library of the engine is not installed.
    """
    fmt = format_for_path(path)
    path = Path(path)
    info = fmt.info
    if not info.weights and not path.exists():
        kind = "folder" if info.folder else "file"
        raise NotFoundError(
            f"The {info.title} {kind} {path} does not exist. Check the path (current folder: {Path.cwd()})."
        )
    require_engine(fmt, path)
    runtime = fmt.load(path, device, half)
    if hasattr(runtime, "origin"):
        from yolopose.formats.graph_runtime import Origin  # loaded by the format already

        runtime.origin = Origin(path.absolute(), device, half)  # type: ignore[attr-defined]
    return runtime
