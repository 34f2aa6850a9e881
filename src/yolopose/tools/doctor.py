"""`yolo checks`: what is installed here, and what is known to clash. Imports none of what it reports on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from yolopose.base.errors import YoloposeError
from yolopose.base.settings import settings_table

_NEEDED = ("numpy", "opencv-python-headless", "pyyaml", "rich", "onnxruntime")
_OPTIONAL = ("torch", "safetensors", "matplotlib", "pillow", "openvino", "onnx", "onnxscript", "onnxslim")
_RIVAL = "ultralytics"  # it installs a command `yolo` too
# packages that install files into the same folder, so that the later one breaks the earlier
_CLASHES = (
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
)


def report() -> str:
    """Return the report as text: machine, packages, clashes, folders."""
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
    lines += [f"{'command yolo':<26} {_command()}"]
    return "\n".join([*lines, "", *(clashes() or ["No clashes between packages."]), "", *_folders()])


def yolo_on_path() -> tuple[str, str]:
    """Return the command `yolo` that a shell would run, and the package that it calls; "" for what cannot be told."""
    place = shutil.which("yolo") or ""
    try:
        text = Path(place).read_text(encoding="utf-8") if place else ""
    except (OSError, UnicodeDecodeError):  # a program of Windows is no text
        text = ""
    called = re.search(r"^\s*(?:from|import) (?!sys\b|re\b|os\b)(\w+)", text, re.MULTILINE)
    return place, called[1] if called else ""


def _command() -> str:
    place, package = yolo_on_path()
    if not place:
        return "not on PATH: activate the environment, or call python -m yolopose"
    other = "" if Path(place).parent == Path(sys.executable).parent else ", which is not of this Python"
    return f"{place}, of {package or 'an unknown package'}{other}"


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
    """Return a line for each group of installed packages that overwrite each other's files."""
    found: list[str] = []
    for group in _CLASHES:
        there = _variants(group[0])
        if len(there) > 1:
            found.append(
                f"CLASH: {' and '.join(there)} write the same files. Uninstall all of them, then install one: "
                f"pip uninstall {' '.join(there)}; pip install {there[-1]}"
            )
    return [*found, *_rival()]


def _rival() -> list[str]:
    """A line when the other package that installs `yolo` is here, or when its `yolo` comes first."""
    place, package = yolo_on_path()
    ours = package in ("yolopose", "")
    if ours and not _version(_RIVAL):
        return []
    if ours:
        return [
            f"NOTE: {_RIVAL} {_version(_RIVAL)} is installed too, and whichever of the two was installed last has the "
            "command `yolo` (now: yolopose). The command `yolopose` is ours in any case."
        ]
    return [
        f"CLASH: the command `yolo` on PATH ({place}) belongs to {package}, not to yolopose. The command `yolopose` is "
        "ours in any case; or uninstall the other package and install yolopose once more"
    ]


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
