"""Run hostile inputs, each in a forked process with limits, and report what each one gets.

A fork has everything imported, so that a case costs milliseconds. The fork's folder has two parts: `work` is the
current folder, and `outside` holds files of the user that no case may read, change or link.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from yolopose.base.errors import YoloposeError

MAX_SECONDS = 5.0  # of processor time
MAX_GROWTH = 1 << 30  # bytes of memory
MAX_TEXT = 20_000  # characters that a case may print
SECRET = "hunter2"  # noqa: S105  # what no output may contain
CANARY = "private text of the user"
_KILL_SECONDS = 60.0
_EXTRA_ADDRESS_SPACE = 6 << 30
_STEERING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        kind: number of the kind.
        name: what is hostile.
        verb: what reads it.
        run: gets the current folder; raises what the package raises, or returns a text or nothing.
        check: called in the parent with the folder after the run; returns a problem or an empty text.
    """

    kind: int
    name: str
    verb: str
    run: Callable[[Path], object]
    check: Callable[[Path], str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What a case got.

    Attributes:
        case: the case.
        result: `accepted`, or class and text of the error.
        seconds: processor time.
        growth: bytes of memory beyond those of the parent.
        problems: why the case fell; empty if it held.
    """

    case: Case
    result: str
    seconds: float
    growth: int
    problems: tuple[str, ...]


def run_cases(cases: Iterable[Case], folder: Path) -> Iterator[Outcome]:
    """Run the cases one after the other, each in an empty folder."""
    for number, case in enumerate(cases):
        root = folder / f"case{number}"
        yield run_case(case, root)
        _remove(root)


def run_case(case: Case, root: Path) -> Outcome:
    """Run one case in a fork."""
    work = root / "work"
    outside = root / "outside"
    work.mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.txt").write_text(CANARY)
    (outside / ".bashrc").write_text(CANARY)
    shutil.copyfile(_image_file(), outside / "photo.jpg")
    before = _listing(root, work)
    sys.stdout.flush()
    sys.stderr.flush()
    baseline = _resident()
    start = time.monotonic()
    child = os.fork()
    if not child:
        _run_in_fork(case, root, work)
    status, usage, timed_out = _wait(child, start)
    seconds = usage.ru_utime + usage.ru_stime
    growth = max(0, usage.ru_maxrss * 1024 - baseline)
    with suppress(OSError):
        growth = max(0, int((root / "peak").read_text()) - baseline)
    problems: list[str] = []
    result = f"ended with status {status}"
    with suppress(OSError, ValueError):
        result, is_ours, trace = json.loads((root / "result").read_text())
        if not is_ours:
            problems.append(f"foreign exception: {trace}")
    if timed_out:
        problems.append(f"did not end within {_KILL_SECONDS:.0f} s")
    elif status:
        problems.append(f"ended with status {status}")
    printed = (root / "printed").read_text(errors="replace") if (root / "printed").exists() else ""
    problems += _text_problems(printed + "\n" + result)
    if seconds > MAX_SECONDS:
        problems.append(f"{seconds:.1f} s of processor time")
    if growth > MAX_GROWTH:
        problems.append(f"{growth >> 20} MiB of memory")
    if _listing(root, work) != before:
        problems.append("files outside of the folder were changed")
    problems += _file_problems(work)
    if case.check is not None and (problem := case.check(work)):
        problems.append(problem)
    return Outcome(case, result, seconds, growth, tuple(problems))


def _run_in_fork(case: Case, root: Path, work: Path) -> None:
    """Run the case and leave its result in files; never returns."""
    try:
        os.setsid()
        handle = os.open(root / "printed", os.O_CREAT | os.O_WRONLY)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 0), "utf-8", "backslashreplace", write_through=True)
        sys.stderr = sys.stdout
        os.chdir(work)
        limit = _virtual() + _EXTRA_ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        is_ours = True
        trace = ""
        try:
            value = case.run(work)
            result = "accepted" if value is None else f"accepted: {str(value)[:100]!a}"
        except YoloposeError as error:
            result = f"{type(error).__name__}: {error}"
        except BaseException as error:  # foreign
            is_ours = isinstance(error, SystemExit)
            result = f"{type(error).__name__}: {str(error)[:300]}"
            trace = (
                f"{result} {[f'{f.filename[-30:]}:{f.lineno}' for f in traceback.extract_tb(error.__traceback__)[-5:]]}"
            )
        sys.stdout.flush()
        (root / "peak").write_text(str(_peak()))
        (root / "result").write_text(json.dumps([result, is_ours, trace]))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(77)


def _wait(child: int, start: float) -> tuple[int, resource.struct_rusage, bool]:
    pause = 0.001
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status), usage, False
        if time.monotonic() - start > _KILL_SECONDS:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return os.waitstatus_to_exitcode(status), usage, True
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def _text_problems(text: str) -> list[str]:
    problems: list[str] = []
    if SECRET in text:
        problems.append(f"the secret is printed: {text[max(0, text.find(SECRET) - 80) :][:200]!r}")
    if CANARY in text:
        problems.append("a private file is printed")
    steering = _STEERING.search(text)
    if steering:
        problems.append(
            f"control characters are printed: {text[max(0, steering.start() - 60) : steering.end() + 20]!r}"
        )
    if len(text) > MAX_TEXT:
        problems.append(f"{len(text)} characters are printed")
    if "Traceback (most recent call last)" in text or "YOLO_DEBUG" in text:
        problems.append(f"a traceback is printed: {text[-400:]!r}")
    return problems


def _file_problems(work: Path) -> list[str]:
    """Return problems of files that the case wrote into `work/out` and beside: secrets, private contents, names."""
    problems: list[str] = []
    for folder, _, names in os.walk(work):
        for name in names:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if SECRET in os.path.relpath(path, work):
                problems.append(f"the secret is in the file name {name!r}")
            if os.path.basename(folder) == "input" or "/input/" in f"{folder}/":
                continue
            if not stat.S_ISREG(status.st_mode) or status.st_size > 4 << 20:
                continue
            try:
                data = Path(path).read_bytes()
            except OSError:
                continue
            if SECRET.encode() in data:
                problems.append(f"the secret is in the file {name!r}")
            if CANARY.encode() in data:
                problems.append(f"a private file was copied to {name!r}")
    return problems


def _listing(root: Path, work: Path) -> dict[str, object]:
    """Return the content and number of links of all files that are not below `work`."""
    listing: dict[str, object] = {}
    for folder, folders, names in os.walk(root):
        if Path(folder) == work:
            folders.clear()
            continue
        for name in names:
            path = Path(folder, name)
            if name in ("printed", "result", "peak") and Path(folder) == root:
                continue
            status = path.lstat()
            listing[str(path)] = status.st_size, status.st_nlink, path.read_bytes() if path.is_file() else ""
    return listing


def _status_value(name: str) -> int:
    with open("/proc/self/status") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith(f"{name}:")), 0)


def _resident() -> int:
    return _status_value("VmRSS")


def _peak() -> int:
    return _status_value("VmHWM")


def _virtual() -> int:
    return _status_value("VmSize")


_IMAGE: list[Path] = []


def _image_file() -> Path:
    return _IMAGE[0]


def set_image(path: Path) -> None:
    """Set the image that lies outside of each case's folder."""
    _IMAGE[:] = [path]


def make_special(path: Path, kind: str) -> None:
    """Create what is not a regular file: `pipe`, `zero`, `full`, `folder`, `socket`, `sparse`, `loop`, `missing`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.is_file():
        path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind in ("zero", "full"):
        path.symlink_to(f"/dev/{kind}")
    elif kind == "folder":
        path.mkdir(exist_ok=True)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the names of sockets have at most 107 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
        os.chdir(here)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(3 << 30)
    elif kind == "loop":
        path.symlink_to(path.name)


def _remove(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
