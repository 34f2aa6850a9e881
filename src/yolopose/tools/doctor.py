"""`yolo checks`: what is installed here, and what is known to clash. Imports none of what it reports on."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from yolopose.base.errors import YoloposeError
from yolopose.base.settings import settings_table

_NEEDED = ("numpy", "opencv-python-headless", "pyyaml", "rich", "onnxruntime")
_OPTIONAL = ("torch", "safetensors", "matplotlib", "pillow")
# packages that install files into the same folder, so that the later one breaks the earlier
_CLASHES = (
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
)


def report() -> str:
    """Returns the report as text: machine, packages, clashes, folders."""
    lines = [
        f"yolopose     {_version('yolopose')}",
        f"Python       {platform.python_version()} ({sys.executable})",
        f"system       {platform.platform()}, {os.cpu_count()} processors, {_memory()}",
        f"disk here    {_disk()}",
        "",
    ]
    for name in _NEEDED:
        there = _variants(name)
        lines += [f"{found:<26} {_version(found)}" for found in there] or [f"{name:<26} MISSING: pip install {name}"]
    lines += [f"{name:<26} {_version(name) or f'not installed (pip install {name})'}" for name in _OPTIONAL]
    return "\n".join([*lines, "", *(clashes() or ["No clashes between packages."]), "", *_folders()])


def _variants(name: str) -> list[str]:
    """The installed packages that serve as `name`: itself or one that brings the same files."""
    group = next((group for group in _CLASHES if name in group), (name,))
    return [member for member in group if _version(member)]


def _folders() -> list[str]:
    try:
        return [f"{key:<26} {value}" for key, value in settings_table().items()]
    except YoloposeError as error:  # the report is wanted most where something is broken
        return [f"SETTINGS: {error}"]


def clashes() -> list[str]:
    """Returns a line for each group of installed packages that overwrite each other's files."""
    found: list[str] = []
    for group in _CLASHES:
        there = _variants(group[0])
        if len(there) > 1:
            found.append(
                f"CLASH: {' and '.join(there)} write the same files. Uninstall all of them, then install one: "
                f"pip uninstall {' '.join(there)}; pip install {there[-1]}"
            )
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _disk() -> str:
    try:
        return f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free"
    except OSError:  # the current folder is gone
        return "unknown"


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
    except (AttributeError, ValueError, OSError):  # not every system tells
        return "memory unknown"
