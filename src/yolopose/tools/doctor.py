"""`yolo checks`: installed packages and known conflicts between them. Imports none of the packages it reports on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from yolopose.base.errors import YoloposeError
from yolopose.base.memory import total_memory
from yolopose.base.opencv import INSTALL as INSTALL_OPENCV
from yolopose.base.opencv import VARIANTS as OPENCV_VARIANTS
from yolopose.base.settings import settings_table

_REQUIRED = ("numpy", "opencv-python", "pyyaml", "rich", "filelock", "platformdirs", "onnxruntime")
_OPTIONAL = ("torch", "safetensors", "matplotlib", "pillow", "openvino", "onnx", "onnxscript", "onnxslim")
_OTHER_YOLO = "ultralytics"  # also installs a command `yolo`
# packages that install files into the same folder, so that the later one breaks the earlier one
_CONFLICTING = (
    OPENCV_VARIANTS,
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
)


def environment_report() -> str:
    """Return the report as text: machine, packages, conflicts, folders."""
    memory = total_memory()
    lines = [
        f"yolopose     {_version('yolopose')}",
        f"Python       {platform.python_version()} ({sys.executable})",
        f"system       {platform.platform()}, {os.cpu_count()} CPUs, "
        f"{f'{memory / 2**30:.0f} GiB memory' if memory else 'memory unknown'}",
        f"disk here    {_disk()}",
        "",
    ]
    for name in _REQUIRED:
        variants = [f"{variant:<26} {_version(variant)}" for variant in _installed_variants(name)]
        install = INSTALL_OPENCV if name == OPENCV_VARIANTS[0] else f"pip install {name}"
        lines += variants or [f"{name:<26} MISSING: {install}"]
    lines += [f"{name:<26} {_version(name) or f'not installed (pip install {name})'}" for name in _OPTIONAL]
    lines += [f"{'command yolo':<26} {_describe_command()}"]
    return "\n".join([*lines, "", *(find_conflicts() or ["No conflicts between packages."]), "", *_folders()])


def find_conflicts() -> list[str]:
    """Return a line for each group of installed packages that overwrite each other's files."""
    conflicts: list[str] = []
    for group in _CONFLICTING:
        installed = _installed_variants(group[0])
        if len(installed) > 1:
            conflicts.append(
                f"CONFLICT: {' and '.join(installed)} write the same files. Uninstall all of them, then install one: "
                f"pip uninstall {' '.join(installed)}; pip install {installed[-1]}"
            )
    return [*conflicts, *_command_conflict()]


def yolo_on_path() -> tuple[str, str]:
    """Return the path of the command `yolo` and the package that it imports; "" for what is unknown."""
    path = shutil.which("yolo") or ""
    try:
        text = Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError):  # an executable on Windows
        text = ""
    package = re.search(r"^\s*(?:from|import) (?!sys\b|re\b|os\b)(\w+)", text, re.MULTILINE)
    return path, package[1] if package else ""


def _describe_command() -> str:
    path, package = yolo_on_path()
    if not path:
        return "not on PATH: activate the environment, or call python -m yolopose"
    other = "" if Path(path).parent == Path(sys.executable).parent else ", which belongs to another Python"
    return f"{path}, of {package or 'an unknown package'}{other}"


def _command_conflict() -> list[str]:
    """Return a line if the other package with a command `yolo` is installed, or its command is first on PATH."""
    path, package = yolo_on_path()
    is_ours = package in ("yolopose", "")
    if is_ours and not _version(_OTHER_YOLO):
        return []
    if is_ours:
        return [
            f"NOTE: {_OTHER_YOLO} {_version(_OTHER_YOLO)} is also installed; the command `yolo` belongs to the package "
            "installed last (now: yolopose). The command `yolopose` always belongs to yolopose."
        ]
    return [
        f"CONFLICT: the command `yolo` on PATH ({path}) belongs to {package}, not to yolopose. Use the command "
        "`yolopose`, or uninstall the other package and install yolopose again."
    ]


def _installed_variants(name: str) -> list[str]:
    """Return the installed packages that provide `name`: itself, or one with the same files."""
    group = next((group for group in _CONFLICTING if name in group), (name,))
    return [member for member in group if _version(member)]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _folders() -> list[str]:
    try:
        return [f"{key:<26} {value}" for key, value in settings_table().items()]
    except YoloposeError as error:  # the report must work where something is broken
        return [f"SETTINGS: {error}"]


def _disk() -> str:
    try:
        return f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free"
    except OSError:  # the current folder was removed
        return "unknown"
