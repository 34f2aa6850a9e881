"""Run code in the Python of a toolchain: one function (`run_in_env`), an engine (`Worker`), a command (`run`).

Arguments are JSON files; arrays are float32 over pipes.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DependencyError, ExportError, UsageError, WeightsError, YoloposeError
from yolopose.base.files import make_folder, output_error
from yolopose.toolchains.catalog import clean_environment, log_file, require_toolchain

_SCRIPTS = Path(__file__).resolve().parent / "scripts"


def run_in_env(python: Path, module: str, function: str, values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Run a function of `scripts/` in another Python.

    Args:
        python: Python of the toolchain.
        module: file of `scripts/`, without suffix.
        function: a function that takes and returns a mapping that JSON can represent.
        values: its argument.
        what: start of the error message: `Converting the network to … failed`.

    Returns:
        The result of the function.

    Raises:
        ExportError: it failed; the message has the last line of its output and the path of the log.
    """
    log = log_file(f"{module}-{function}")
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        result = Path(folder) / "result.json"
        job.write_text(json.dumps(values), encoding="utf-8")
        with _open_log(log) as output:
            completed = subprocess.run(  # noqa: S603  # a file of this package, in a Python that the user has installed
                [*_command(python, module, function), str(job), str(result)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=folder,
                env=_environment(),
                check=False,
            )
        if completed.returncode or not result.is_file():
            raise ExportError(f"{what}: {_last_line(log, completed.returncode)} Full log: {log}.")
        return json.loads(result.read_text(encoding="utf-8"))


class Worker:
    """A process that computes batches until it is closed.

    Both directions of its pipes carry messages: the length of a header (4 bytes, little-endian), the header (JSON with
    the shapes of the arrays), and the arrays (float32, little-endian).

    Args:
        command: program and arguments; the path of a JSON file with `values` is appended.
        values: arguments of the process.
        log_name: name of its log.
        path: the file that it runs, for error messages.
        error: error type if it does not start.

    Attributes:
        info: the header of its first message, which describes the file.
    """

    def __init__(
        self,
        command: Sequence[str],
        values: Mapping[str, Any],
        log_name: str,
        path: Path,
        error: type[YoloposeError] = WeightsError,
    ) -> None:
        self._path = path
        self._log = log_file(log_name)
        self._lock = threading.Lock()
        self._error = error
        self._folder = tempfile.TemporaryDirectory()
        job = Path(self._folder.name) / "job.json"
        job.write_text(json.dumps(values), encoding="utf-8")
        with _open_log(self._log) as output:
            self._process = subprocess.Popen(  # noqa: S603  # a file of this package
                [*command, str(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=self._folder.name,
                env=_environment(),
            )
        self.info = self._receive()[0]

    @classmethod
    def start_python(
        cls,
        python: Path,
        module: str,
        values: Mapping[str, Any],
        path: Path,
        function: str = "serve",
        error: type[YoloposeError] = WeightsError,
    ) -> Worker:
        """Start a function of `scripts/` that returns `info` and a function from a batch to outputs."""
        return cls(_command(python, module, function), values, f"{module}-{function}", path, error)

    @classmethod
    def start_node(cls, packages: Path, path: Path) -> Worker:
        """Start Node.js with a graph of TensorFlow.js.

        Args:
            packages: folder `node_modules`.
            path: folder of the graph.

        Raises:
            DependencyError: Node.js is not on PATH.
        """
        node = shutil.which("node")
        if node is None:
            raise DependencyError(f"{path} needs Node.js, and node is not on PATH: install it first.")
        values = {"path": str(path.resolve()), "packages": str(packages)}
        return cls([node, str(_SCRIPTS / "tfjs_worker.cjs")], values, "tfjs_worker-serve", path)

    def run(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Return the outputs for a batch.

        Raises:
            WeightsError: the process has ended.
        """
        with self._lock:
            pipe: IO[bytes] = self._process.stdin  # type: ignore[assignment]  # it is a pipe
            with suppress(OSError):  # the process has ended, which reading reports
                header = json.dumps({"shapes": [list(batch.shape)]}).encode()
                pipe.write(struct.pack("<I", len(header)) + header)
                pipe.write(np.ascontiguousarray(batch, dtype="<f4").data)
                pipe.flush()
            return self._receive()[1]

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # unwritten data of a process that has ended
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _receive(self) -> tuple[dict[str, Any], list[npt.NDArray[np.float32]]]:
        header = json.loads(self._read(struct.unpack("<I", self._read(4))[0]))
        outputs: list[npt.NDArray[np.float32]] = []
        for shape in header.get("shapes", ()):
            content = self._read(4 * int(np.prod(shape)))
            outputs.append(np.frombuffer(content, dtype="<f4").reshape(shape))
        return header, outputs

    def _read(self, count: int) -> bytes:
        pipe: IO[bytes] = self._process.stdout  # type: ignore[assignment]  # it is a pipe
        content = pipe.read(count)
        if len(content) == count:
            return content
        self.close()
        reason = f"{_last_line(self._log, self._process.returncode)} Full log: {self._log}."
        if self._error is ExportError:
            raise ExportError(f"Converting the network to {self._path.suffix[1:].upper()} failed: {reason}")
        raise self._error(
            f"{self._path} cannot be run: the file may be truncated or damaged (export or copy it again). {reason}"
        )


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a command (`yolo`, `python`, `pip`, …) in the environment of a toolchain, with this yolopose.

    Returns:
        Its exit status.

    Raises:
        UsageError: the command is missing.
        DependencyError: the toolchain or the program is not installed.
    """
    python = require_toolchain(name, f"`yolo toolchain run name={name}`")
    if not arguments:
        raise UsageError(f"The command is missing: yolo toolchain run name={name} -- yolo val model=….")
    is_yolo = arguments[0] in ("yolo", "yolopose")
    command = [str(python), "-m", "yolopose"] if is_yolo else [arguments[0]]
    with tempfile.TemporaryDirectory() as folder:
        # a link to the package only: its parent folder may hold packages that the toolchain must not see
        os.symlink(Path(__file__).resolve().parents[1], Path(folder) / "yolopose", target_is_directory=True)
        search_path = os.pathsep.join((str(python.parent), os.environ.get("PATH", "")))
        program = shutil.which(command[0], path=search_path)
        if program is None:
            raise DependencyError(f"The program {command[0]!r} is neither in the toolchain {name} nor on PATH.")
        variables = {
            **clean_environment(),
            "PATH": search_path,
            "PYTHONPATH": folder,
            "VIRTUAL_ENV": str(python.parent.parent),
        }
        command = [program, *command[1:], *arguments[1:]]
        return subprocess.run(command, env=variables, check=False).returncode  # noqa: S603


def _command(python: Path, module: str, function: str) -> list[str]:
    return [str(python), str(_SCRIPTS / "worker_main.py"), module, function]


def _environment() -> dict[str, str]:
    return {**clean_environment(), "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def _last_line(log: Path, status: int | None) -> str:
    """Return the last output line of a failed process, as a sentence."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not lines or (status is not None and status < 0):  # negative: killed by a signal
        return f"its process ended with status {status} (out of memory, perhaps)."
    return lines[-1][:300].rstrip(".") + "."


def _open_log(log: Path) -> IO[bytes]:
    make_folder(log.parent)
    try:
        return log.open("wb")
    except OSError as error:
        raise output_error(log, error) from error
