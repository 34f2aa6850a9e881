"""Private environments, one for each toolchain: made beside and renamed, checked, listed, removed."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter

from yolopose.base.download import is_offline
from yolopose.base.errors import DependencyError, OutputError, UsageError
from yolopose.base.files import atomic_folder, make_folder, output_error, write_text
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.toolchains.catalog import Toolchain, get_toolchain, toolchains
from yolopose.toolchains.install_lock import install_lock

NODE_PACKAGES = "node_modules"
_NOTE = "toolchain.json"
# what would send pip elsewhere than into the environment that it is of
_MISLEADING = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_CONSTRAINT")
_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", *_MISLEADING)
_PROGRAMS = "Scripts" if sys.platform == "win32" else "bin"
_CHECK = """
import importlib, importlib.metadata, json, sys
pins, modules = json.loads(sys.argv[1])
found = {name: importlib.metadata.version(name) for name in pins}
wrong = [f"{name} {found[name]} instead of {pins[name]}" for name in pins if found[name] != pins[name]]
if wrong:
    sys.exit("installed otherwise than asked for: " + ", ".join(wrong))
for module in modules:
    importlib.import_module(module)
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """A toolchain that is there.

    Attributes:
        folder: its environment.
        identity: of the pins that it was made from.
        megabytes: what it takes.
        seconds: that making it took.
    """

    folder: str
    identity: str
    megabytes: int
    seconds: int

    @property
    def python(self) -> Path:
        """Its Python; for packages of Node.js, their folder."""
        packages = Path(self.folder) / NODE_PACKAGES
        return packages if packages.is_dir() else python_in(Path(self.folder))


def root() -> Path:
    """Return the folder that all of them are below: the setting `toolchains_dir`."""
    return Path(load_settings().toolchains_dir)


def log_file(name: str) -> Path:
    """Return where the log of some work is kept; the next work of this name writes over it."""
    return root() / "logs" / f"{name}.log"


def installed(row: Toolchain) -> Installed | None:
    """Return what is known of a toolchain that is there, or None."""
    try:
        found = Installed(**json.loads((root() / row.name / _NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or not as `install` leaves it
        return None
    return found if found.python.exists() and _whole(row) else None


def _whole(row: Toolchain) -> bool:
    """Whether the modules that are its point are still in its environment."""
    places = [*(root() / row.name).glob("lib/python*/site-packages"), root() / row.name / "Lib" / "site-packages"]
    tops = {module.partition(".")[0] for module in row.imports}
    return all(any((place / top).is_dir() or any(place.glob(f"{top}.*")) for place in places) for top in tops)


def python_in(folder: Path) -> Path:
    """Return the Python of an environment."""
    return folder / _PROGRAMS / ("python.exe" if sys.platform == "win32" else "python")


def fits_here(row: Toolchain) -> bool:
    """Whether the current environment has the decisive libraries of a toolchain, in its versions."""
    pins = row.pins
    if row.npm:
        return False
    try:
        return all(version(name) == pins[name] for name in row.decisive)
    except PackageNotFoundError:
        return False


def python_for(row: Toolchain) -> Path | None:
    """Return the Python that has the libraries: the current one, else that of the toolchain; None for neither."""
    if fits_here(row):
        return Path(sys.executable)
    found = installed(row)
    return found.python if found and found.identity == row.identity else None


def require_toolchain(name: str, what: str) -> Path:
    """Return the Python that has the libraries of a toolchain; for Node.js, the folder of its packages.

    Args:
        name: of the toolchain.
        what: begin of the sentence of an error, such as `x_saved_model`.

    Raises:
        DependencyError: there is none; the text holds the line that installs it.
    """
    row = get_toolchain(name)
    python = python_for(row)
    if python is None:
        older = ", which is installed for another version of yolopose" if installed(row) else ""
        raise DependencyError(
            f"{what} needs {row.title}, which lives in a room of its own: the toolchain {name}{older}. Install it "
            f"with: yolo toolchain install name={name} (about {row.megabytes} MB below {root()}; this environment "
            "stays as it is)."
        )
    return python


def install(name: str) -> Installed:
    """Make the environment of a toolchain: says how large it is, fetches every package pinned, and checks it.

    pip takes packages from where the user's own pip does. What cannot be finished leaves nothing. One that is there,
    whole and of these versions, is left as it is.

    Raises:
        UsageError: there is no such toolchain, it is not for this system or Python, or another is being installed.
        OutputError: the disk has no room, or cannot be written.
        DependencyError: packages cannot be had, or do not load.
    """
    row = get_toolchain(name)
    python = _base_python(row)
    there = installed(row)
    if there and there.identity == row.identity:
        LOGGER.info(f"Toolchain {name} is installed ({there.folder}). To fetch it anew, remove it first.")
        return there
    with install_lock(root()) as held:
        return _install(row, python, held)


def _install(row: Toolchain, python: Path, held: tuple[int, ...]) -> Installed:
    name = row.name
    target, log = root() / name, log_file(f"{name}-install")
    make_folder(log.parent)
    _need_room(row)
    LOGGER.info(
        f"Toolchain {name} ({row.title}): {len(row.pins)} packages, about {row.megabytes} MB on the disk, into "
        f"{target}. This environment stays as it is. It takes some minutes; what pip says goes to {log}."
    )
    start = perf_counter()
    with atomic_folder(target, sync=False) as folder:
        log.unlink(missing_ok=True)
        if row.npm:
            _fetch_npm(row, folder, log, held)
        else:
            _call([str(python), "-m", "venv", str(folder)], log, f"{name}: no environment can be made", held)
            _take_index(folder)
            _fetch(row, folder, log, held)
            check = [str(python_in(folder)), "-c", _CHECK, json.dumps([row.pins, row.imports])]
            _call(check, log, f"{name}: what was installed does not work", held)
            _resettle(folder, target)
        found = Installed(str(target), row.identity, _megabytes(folder), round(perf_counter() - start))
        write_text(folder / _NOTE, json.dumps(asdict(found), indent=1))
    LOGGER.info(
        f"Installed {name}: {found.megabytes} MB in {found.seconds} s; checked: all versions, and that it loads."
    )
    return found


def remove(name: str) -> None:
    """Remove the environment of a toolchain.

    Raises:
        UsageError: there is no such toolchain, it is not installed, or another is being installed.
        OutputError: rights are missing.
    """
    folder = root() / get_toolchain(name).name
    if not folder.exists():
        raise UsageError(f"The toolchain {name} is not installed (nothing at {folder}).")
    with install_lock(root()):
        aside = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=root()))
        try:
            os.rename(folder, aside / name)  # so that nobody meets half of it
            shutil.rmtree(aside)
        except OSError as error:
            raise output_error(folder, error) from error
    LOGGER.info(f"Removed the toolchain {name} ({folder}).")


def run(name: str, words: Sequence[str]) -> int:
    """Run a command with the programs of a toolchain first, and with this yolopose: `yolo`, `python`, `pip`, ….

    Returns:
        Its exit status.

    Raises:
        UsageError: there is no command.
        DependencyError: the toolchain is not installed, or there is no such program.
    """
    python = require_toolchain(name, f"`yolo toolchain run name={name}`")
    if not words:
        raise UsageError(f"What to run is missing: yolo toolchain run name={name} -- yolo val model=….")
    first = [str(python), "-m", "yolopose"] if words[0] in ("yolo", "yolopose") else [words[0]]
    with tempfile.TemporaryDirectory() as own:
        # the package alone: the folder that it is in may hold packages that are not the toolchain's
        os.symlink(Path(__file__).resolve().parents[1], Path(own) / "yolopose", target_is_directory=True)
        kept = {key: value for key, value in os.environ.items() if key not in _HIDDEN}
        path = os.pathsep.join((str(python.parent), os.environ.get("PATH", "")))
        environment = {**kept, "PATH": path, "PYTHONPATH": own, "VIRTUAL_ENV": str(python.parent.parent)}
        program = shutil.which(first[0], path=path)
        if program is None:
            raise DependencyError(f"There is no program {first[0]!r}, neither in the toolchain {name} nor on PATH.")
        return subprocess.run([program, *first[1:], *words[1:]], env=environment, check=False).returncode  # noqa: S603


def report() -> str:
    """Return the toolchains as text: what `yolo toolchain list` prints."""
    rows = [("toolchain", "for", "size", "state")]
    for row in toolchains():
        found = installed(row)
        size = f"{found.megabytes} MB" if found else f"about {row.megabytes} MB"
        if found and found.identity != row.identity:
            state = "installed, of other versions: install it again"
        elif found:
            state = "installed"
        else:
            state = "not needed: this environment fits" if fits_here(row) else "-"
        rows.append((row.name, row.formats, size, state))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    ]
    return "\n".join([*lines, "", f"(below {root()}; yolo toolchain install name=…, remove name=…)"])


def _base_python(row: Toolchain) -> Path:
    """A Python of a version that the toolchain is known to work with, on a system that it is for."""
    system = f"{sys.platform}-{platform.machine().lower().replace('amd64', 'x86_64')}"
    if row.systems and system not in row.systems:
        raise UsageError(f"The toolchain {row.name} is for {', '.join(row.systems)} alone; this system is {system}.")
    for program in row.programs:
        if shutil.which(program) is None:
            raise UsageError(f"The toolchain {row.name} needs {program}, which is not on PATH: install it first.")
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if own in row.pythons or not row.pythons:
        return Path(sys.executable)
    others = (shutil.which(f"python{version}") for version in row.pythons)
    found = next((path for path in others if path), None)
    if found is None:
        raise UsageError(
            f"The toolchain {row.name} is pinned for Python {' or '.join(row.pythons)}, and this is {own}. Put a "
            f"python{row.pythons[0]} on PATH; yolopose itself may stay where it is."
        )
    return Path(found)


def _need_room(row: Toolchain) -> None:
    free = shutil.disk_usage(make_folder(root())).free / 1e6
    if free < 1.3 * row.megabytes:  # pip unpacks one package at a time beside
        raise OutputError(
            f"The toolchain {row.name} takes about {row.megabytes} MB, and {root()} has {free:.0f} MB free. Free some "
            "space, or move the folder: yolo settings toolchains_dir=…."
        )


def _take_index(folder: Path) -> None:
    """Copy the pip configuration of our own environment: those of the user and the system count for all anyway."""
    name = "pip.ini" if sys.platform == "win32" else "pip.conf"
    if (Path(sys.prefix) / name).is_file():
        shutil.copyfile(Path(sys.prefix) / name, folder / name)


def _fetch(row: Toolchain, folder: Path, log: Path, held: tuple[int, ...]) -> None:
    pip = [str(python_in(folder)), "-m", "pip", "install", "--no-deps", "--no-input", "--disable-pip-version-check"]
    what = f"{row.name}: packages cannot be had"
    for index, packages in row.elsewhere.items():
        try:
            _call([*pip, *packages], log, what, held)
        except DependencyError:  # not where the user's own packages are from
            _call([*pip, "--extra-index-url", index, *packages], log, what, held)
    if row.packages:
        _call([*pip, *row.packages], log, what, held)


def _fetch_npm(row: Toolchain, folder: Path, log: Path, held: tuple[int, ...]) -> None:
    """Let npm fetch packages, none of whose own programs are run; and checks their versions."""
    npm = [str(shutil.which("npm")), "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
    offline = ["--offline"] if is_offline() else []
    _call(
        [*npm, *offline, *(package.replace("==", "@") for package in row.npm)],
        log,
        f"{row.name}: packages cannot be had",
        held,
    )
    for name, pinned in row.pins.items():
        about = json.loads((folder / NODE_PACKAGES / name / "package.json").read_text(encoding="utf-8"))
        if about["version"] != pinned:
            raise DependencyError(f"Toolchain {row.name}: {name} is {about['version']} instead of {pinned}.")


def _call(command: Sequence[str], log: Path, what: str, held: tuple[int, ...] = ()) -> None:
    """Run a command, its words added to a log; for `held` see `install_lock`.

    Raises:
        DependencyError: it fails.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _HIDDEN}
    if is_offline():
        environment["PIP_NO_INDEX"] = "1"
    with log.open("ab") as lines:
        done = subprocess.run(  # noqa: S603  # programs of the environment that the user wants
            command, stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, env={**environment, "PIP_USER": "0"},
            check=False, pass_fds=held if os.name != "nt" else (),
        )  # fmt: skip
    if done.returncode:
        said = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        faults = [line for line in said if line.startswith("ERROR")] or said or ["nothing"]
        raise DependencyError(
            f"Toolchain {what}: {faults[-1][:300].rstrip('.')}. Nothing is left of it. All that was said: {log}."
        )


def _resettle(folder: Path, target: Path) -> None:
    """Write the final place of an environment into its programs, which name their Python by its whole path."""
    old, new = os.fsencode(folder), os.fsencode(target)
    for path in (folder / _PROGRAMS).iterdir():
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            if old in content and (content.startswith(b"#!") or not re.search(rb"\0", content[:1024])):
                path.write_bytes(content.replace(old, new))


def _megabytes(folder: Path) -> int:
    return round(sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir()) / 1e6)
