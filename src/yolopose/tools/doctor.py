"""`yolo checks`: what is installed here, and what is known to clash. Imports none of what it reports on."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

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
        f"disk here    {shutil.disk_usage('.').free / 2**30:.0f} GiB free",
        "",
    ]
    lines += [f"{name:<26} {_version(name) or 'MISSING: pip install ' + name}" for name in _NEEDED]
    lines += [f"{name:<26} {_version(name) or 'not installed (pip install .[torch])'}" for name in _OPTIONAL]
    lines.append("")
    lines += clashes() or ["No clashes between packages."]
    lines.append("")
    lines += [f"{key:<26} {value}" for key, value in settings_table().items()]
    return "\n".join(lines)


def clashes() -> list[str]:
    """Returns a line for each group of installed packages that overwrite each other's files."""
    found: list[str] = []
    for group in _CLASHES:
        there = [name for name in group if _version(name)]
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


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
    except (AttributeError, ValueError, OSError):  # not every system tells
        return "memory unknown"
