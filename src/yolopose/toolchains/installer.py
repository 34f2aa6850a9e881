"""Install and remove the environments of toolchains, one at a time, completely or not at all."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import IO

from yolopose.base.download import is_offline
from yolopose.base.errors import DependencyError, OutputError, UsageError
from yolopose.base.files import atomic_folder, make_folder, output_error, write_text
from yolopose.base.log import LOGGER
from yolopose.toolchains.catalog import (
    INSTALL_RECORD,
    NODE_PACKAGES,
    PROGRAMS,
    InstalledToolchain,
    Toolchain,
    clean_environment,
    find_installed,
    get_toolchain,
    log_file,
    python_in,
    toolchains_root,
)

_CHECK = """
import importlib, importlib.metadata, json, sys
pins, modules = json.loads(sys.argv[1])
versions = {name: importlib.metadata.version(name) for name in pins}
wrong = [f"{name} {versions[name]} instead of {pins[name]}" for name in pins if versions[name] != pins[name]]
if wrong:
    sys.exit("installed versions differ: " + ", ".join(wrong))
for module in modules:
    importlib.import_module(module)
"""


def install(name: str) -> InstalledToolchain:
    """Create the environment of a toolchain: log its size, install every package pinned, and check the result.

    pip uses the indexes of the user's own pip. A failed installation leaves nothing. A complete environment of these
    versions is kept.

    Raises:
        UsageError: the toolchain is unknown, does not support this system or Python, or another is being installed.
        OutputError: the disk is full or cannot be written.
        DependencyError: packages cannot be installed or imported.
    """
    toolchain = get_toolchain(name)
    python = _find_base_python(toolchain)
    record = find_installed(toolchain)
    if record and record.identity == toolchain.identity:
        LOGGER.info(f"Toolchain {name} is installed ({record.folder}). To install it again, remove it first.")
        return record
    with install_lock(toolchains_root()) as lock_files:
        return _install(toolchain, python, lock_files)


def _install(toolchain: Toolchain, python: Path, lock_files: tuple[int, ...]) -> InstalledToolchain:
    name = toolchain.name
    target = toolchains_root() / name
    log = log_file(f"{name}-install")
    make_folder(log.parent)
    _check_disk_space(toolchain)
    LOGGER.info(
        f"Toolchain {name} ({toolchain.title}): installing {len(toolchain.pins)} packages, about {toolchain.megabytes} "
        f"MB, into {target}. The current environment is not changed. This takes some minutes; pip's output is in {log}."
    )
    start = perf_counter()
    with atomic_folder(target, sync=False) as folder:
        log.unlink(missing_ok=True)
        if toolchain.npm:
            _install_npm(toolchain, folder, log, lock_files)
        else:
            _call([str(python), "-m", "venv", str(folder)], log, f"{name}: cannot create the environment", lock_files)
            _copy_pip_config(folder)
            _install_packages(toolchain, folder, log, lock_files)
            check = [str(python_in(folder)), "-c", _CHECK, json.dumps([toolchain.pins, toolchain.imports])]
            _call(check, log, f"{name}: the installed packages do not work", lock_files)
            _relocate_programs(folder, target)
        size = round(sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6)
        record = InstalledToolchain(str(target), toolchain.identity, size, round(perf_counter() - start))
        write_text(folder / INSTALL_RECORD, json.dumps(asdict(record), indent=1))
    LOGGER.info(f"Installed {name}: {size} MB in {record.seconds} s; versions and imports were checked.")
    return record


def remove(name: str) -> None:
    """Remove the environment of a toolchain.

    Raises:
        UsageError: the toolchain is unknown or not installed, or another is being installed.
        OutputError: the folder cannot be removed.
    """
    folder = toolchains_root() / get_toolchain(name).name
    if not folder.exists():
        raise UsageError(f"The toolchain {name} is not installed ({folder} does not exist).")
    with install_lock(toolchains_root()):
        aside = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=toolchains_root()))
        try:
            os.rename(folder, aside / name)  # renamed first, so that nobody uses a half-removed environment
            shutil.rmtree(aside)
        except OSError as error:
            raise output_error(folder, error) from error
    LOGGER.info(f"Removed the toolchain {name} ({folder}).")


# -- steps of the installation ------------------------------------------------------------------------------------


def _find_base_python(toolchain: Toolchain) -> Path:
    """Return a Python of a supported version.

    Raises:
        UsageError: the system is not supported, or the Python version or the program was not found.
    """
    system = f"{sys.platform}-{platform.machine().lower().replace('amd64', 'x86_64')}"
    if toolchain.systems and system not in toolchain.systems:
        raise UsageError(
            f"The toolchain {toolchain.name} supports {', '.join(toolchain.systems)} only; this system is {system}."
        )
    for program in toolchain.programs:
        if shutil.which(program) is None:
            raise UsageError(f"The toolchain {toolchain.name} needs {program}, which is not on PATH: install it first.")
    current = f"{sys.version_info.major}.{sys.version_info.minor}"
    if current in toolchain.pythons or not toolchain.pythons:
        return Path(sys.executable)
    python = next((path for version in toolchain.pythons if (path := shutil.which(f"python{version}"))), None)
    if python is None:
        raise UsageError(
            f"The toolchain {toolchain.name} is pinned for Python {' or '.join(toolchain.pythons)}, and this is "
            f"{current}. Put a python{toolchain.pythons[0]} on PATH; yolopose can stay in its environment."
        )
    return Path(python)


def _check_disk_space(toolchain: Toolchain) -> None:
    root = toolchains_root()
    free = shutil.disk_usage(make_folder(root)).free / 1e6
    if free < 1.3 * toolchain.megabytes:  # pip also needs room to unpack one package
        raise OutputError(
            f"The toolchain {toolchain.name} needs about {toolchain.megabytes} MB, and {root} has {free:.0f} MB free. "
            "Free some space, or move the folder: yolo settings toolchains_dir=…."
        )


def _copy_pip_config(folder: Path) -> None:
    """Copy the pip configuration of the current environment; those of user and system apply anyway."""
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    if (Path(sys.prefix) / name).is_file():
        shutil.copyfile(Path(sys.prefix) / name, folder / name)


def _install_packages(toolchain: Toolchain, folder: Path, log: Path, lock_files: tuple[int, ...]) -> None:
    pip = [str(python_in(folder)), "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check"]
    what = f"{toolchain.name}: cannot install packages"
    for index, packages in toolchain.elsewhere.items():
        try:
            _call([*pip, *packages], log, what, lock_files)
        except DependencyError:  # the user's own indexes do not have them
            _call([*pip, "--extra-index-url", index, *packages], log, what, lock_files)
    if toolchain.packages:
        _call([*pip, *toolchain.packages], log, what, lock_files)


def _install_npm(toolchain: Toolchain, folder: Path, log: Path, lock_files: tuple[int, ...]) -> None:
    """Install packages of npm without running their install scripts, and check their versions."""
    npm = [str(shutil.which("npm")), "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    offline = ["--offline"] if is_offline() else []
    packages = [package.replace("==", "@") for package in toolchain.npm]
    _call([*npm, *offline, *packages], log, f"{toolchain.name}: cannot install packages", lock_files)
    for name, pinned in toolchain.pins.items():
        manifest = json.loads((folder / NODE_PACKAGES / name / "package.json").read_text(encoding="utf-8"))
        if manifest["version"] != pinned:
            raise DependencyError(f"Toolchain {toolchain.name}: {name} is {manifest['version']} instead of {pinned}.")


def _call(command: Sequence[str], log: Path, what: str, lock_files: tuple[int, ...] = ()) -> None:
    """Run a command and append its output to a log; for `lock_files` see `install_lock`.

    Raises:
        DependencyError: it fails.
    """
    variables = {**clean_environment(), "PIP_USER": "0"}
    if is_offline():
        variables["PIP_NO_INDEX"] = "1"
    with log.open("ab") as output:
        done = subprocess.run(  # noqa: S603  # programs of the environment that the user installs
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            check=False,
            pass_fds=lock_files if os.name != "nt" else (),
        )
    if done.returncode:
        text = log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no output"]
        raise DependencyError(
            f"Toolchain {what}: {errors[-1][:300].rstrip('.')}. The environment was removed. Full log: {log}."
        )


def _relocate_programs(folder: Path, target: Path) -> None:
    """Replace the path of an environment in its scripts, whose first line has the full path of their Python."""
    old = os.fsencode(folder)
    new = os.fsencode(target)
    for path in (folder / PROGRAMS).iterdir():
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if old in content and (content.startswith(b"#!") or not re.search(rb"\0", content[:1024])):
                path.write_bytes(content.replace(old, new))


# -- lock ---------------------------------------------------------------------------------------------------------


@contextmanager
def install_lock(root: Path) -> Generator[tuple[int, ...], None, None]:
    """Lock the folder of toolchains, and remove what killed installations left in it.

    SIGTERM ends the block as Ctrl-C does. Programs that inherit the yielded files keep the folder locked while they
    run, even if this process is killed before them.

    Args:
        root: the folder.

    Yields:
        File descriptors that called programs must inherit.

    Raises:
        UsageError: another process holds the lock.
        OutputError: the folder cannot be written.
    """
    path = make_folder(root / "logs") / "install.lock"
    try:
        file = path.open("a")
    except OSError as error:
        raise output_error(path, error) from error
    with file, _exit_on_sigterm():
        if not _try_lock(file):
            raise UsageError(
                f"Another toolchain is being installed or removed in {root}, or a program of a killed installation "
                "still runs: wait until it ends, and run the command again."
            )
        for unfinished in root.glob(".*.part"):
            shutil.rmtree(unfinished, ignore_errors=True)
        yield (file.fileno(),)


def _try_lock(file: IO[str]) -> bool:
    """Lock a file until all its copies are closed; return whether that succeeded."""
    if os.name == "nt":
        return True  # files are not inherited there; a folder in use cannot be removed anyway
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@contextmanager
def _exit_on_sigterm() -> Generator[None, None, None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can set signal handlers
        return

    def exit_process(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, exit_process)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
