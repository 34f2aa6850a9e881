"""The toolchains of `zoo/toolchains`: which exist, which are installed, and which Python has their libraries."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from yolopose import zoo
from yolopose.base.errors import DependencyError, UsageError, did_you_mean
from yolopose.base.settings import load_settings

NODE_PACKAGES = "node_modules"
INSTALL_RECORD = "toolchain.json"
PROGRAMS = "Scripts" if sys.platform == "win32" else "bin"
# variables that let another Python import packages of the current one, or make pip install elsewhere
_REMOVED_VARIABLES = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_CONSTRAINT",
)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Pinned libraries that write and run one family of formats.

    Attributes:
        name: value of `name=`.
        title: name for messages.
        formats: its purpose, as text.
        pythons: supported versions of Python, such as `3.11`.
        systems: supported systems, such as `linux-x86_64`; empty for all.
        megabytes: approximate size on the disk.
        packages: all packages, pinned, as pip takes them (`numpy==1.26.4`); nothing else is installed.
        decisive: the packages whose presence, in these versions, makes the current environment usable.
        imports: modules that must be importable after the installation.
        programs: programs that must be on PATH.
        npm: pinned packages for Node.js; a toolchain has these or those of Python.
        elsewhere: packages by the URL of an additional index, used if the user's own indexes do not have them.
    """

    name: str
    title: str
    formats: str
    megabytes: int
    decisive: tuple[str, ...]
    pythons: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    elsewhere: Mapping[str, list[str]] = field(default_factory=dict[str, list[str]])

    @property
    def pins(self) -> dict[str, str]:
        """Versions by package name."""
        packages = [*self.packages, *self.npm, *(name for names in self.elsewhere.values() for name in names)]
        return {name: pinned for name, _, pinned in (package.partition("==") for package in packages)}

    @property
    def identity(self) -> str:
        """Digest of the pins."""
        return hashlib.sha256(repr(sorted(self.pins.items())).encode()).hexdigest()[:16]


def toolchains() -> tuple[Toolchain, ...]:
    """Return all toolchains, sorted by name."""
    return tuple(_from_table(name, values) for name, values in zoo.toolchain_tables().items())


def get_toolchain(name: str) -> Toolchain:
    """Return the toolchain of a name.

    Raises:
        UsageError: there is none.
    """
    by_name = {toolchain.name: toolchain for toolchain in toolchains()}
    if name not in by_name:
        raise UsageError(f"Unknown toolchain {name!r}.{did_you_mean(name, by_name)} Available: {', '.join(by_name)}.")
    return by_name[name]


def _from_table(name: str, values: Mapping[str, Any]) -> Toolchain:
    row: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Toolchain(name, **row)


# -- installed ones -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstalledToolchain:
    """The record that `install` writes into the environment.

    Attributes:
        folder: the environment.
        identity: digest of the pins that were installed.
        megabytes: size.
        seconds: duration of the installation.
    """

    folder: str
    identity: str
    megabytes: int
    seconds: int

    @property
    def python(self) -> Path:
        """Its Python; for Node.js, the folder of its packages."""
        packages = Path(self.folder) / NODE_PACKAGES
        return packages if packages.is_dir() else python_in(Path(self.folder))


def toolchains_root() -> Path:
    """Return the folder of all environments: the setting `toolchains_dir`."""
    return Path(load_settings().toolchains_dir)


def log_file(name: str) -> Path:
    """Return the log of a task; the next task of this name overwrites it."""
    return toolchains_root() / "logs" / f"{name}.log"


def clean_environment() -> dict[str, str]:
    """Return the environment variables for a program of another Python."""
    return {key: value for key, value in os.environ.items() if key not in _REMOVED_VARIABLES}


def python_in(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / PROGRAMS / ("python.exe" if sys.platform == "win32" else "python")


def find_installed(toolchain: Toolchain) -> InstalledToolchain | None:
    """Return the record of a toolchain, or None if it is not installed or incomplete."""
    folder = toolchains_root() / toolchain.name
    try:
        record = InstalledToolchain(**json.loads((folder / INSTALL_RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # missing, or not written by `install`
        return None
    return record if record.python.exists() and _has_modules(toolchain, folder) else None


def _has_modules(toolchain: Toolchain, folder: Path) -> bool:
    """Return whether the modules of `imports` are still in the environment."""
    packages = [*folder.glob("lib/python*/site-packages"), folder / "Lib" / "site-packages"]
    modules = {module.partition(".")[0] for module in toolchain.imports}
    return all(any((place / name).is_dir() or any(place.glob(f"{name}.*")) for place in packages) for name in modules)


def matches_current_env(toolchain: Toolchain) -> bool:
    """Return whether the current environment has the decisive libraries of a toolchain in its versions."""
    if toolchain.npm:
        return False
    try:
        return all(version(name) == toolchain.pins[name] for name in toolchain.decisive)
    except PackageNotFoundError:
        return False


def find_python(toolchain: Toolchain) -> Path | None:
    """Return the Python that has the libraries: the current one, else that of the environment, else None."""
    if matches_current_env(toolchain):
        return Path(sys.executable)
    record = find_installed(toolchain)
    return record.python if record and record.identity == toolchain.identity else None


def require_toolchain(name: str, what: str) -> Path:
    """Return the Python that has the libraries of a toolchain; for Node.js, the folder of its packages.

    Args:
        name: name of the toolchain.
        what: subject of the error message, such as `x_saved_model`.

    Raises:
        DependencyError: it is not installed; the message has the command that installs it.
    """
    toolchain = get_toolchain(name)
    python = find_python(toolchain)
    if python is None:
        outdated = ", which is installed for another version of yolopose" if find_installed(toolchain) else ""
        raise DependencyError(
            f"{what} needs {toolchain.title} in an environment of its own: the toolchain {name}{outdated}. Install it "
            f"with: yolo toolchain install name={name} (about {toolchain.megabytes} MB in {toolchains_root()}; the "
            "current environment is not changed)."
        )
    return python


def toolchain_table() -> str:
    """Return the table that `yolo toolchain list` prints."""
    rows = [("toolchain", "for", "size", "state")]
    for toolchain in toolchains():
        record = find_installed(toolchain)
        size = f"{record.megabytes} MB" if record else f"about {toolchain.megabytes} MB"
        if record and record.identity != toolchain.identity:
            state = "installed with other versions: install it again"
        elif record:
            state = "installed"
        else:
            state = "not needed: the current environment has it" if matches_current_env(toolchain) else "-"
        rows.append((toolchain.name, toolchain.formats, size, state))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    return "\n".join([*lines, "", f"(in {toolchains_root()}; yolo toolchain install name=…, remove name=…)"])
