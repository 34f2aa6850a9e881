"""Work that is given to a toolchain: a process of its Python, with files, JSON and plain numbers in between."""

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

from yolopose.base.errors import DependencyError, ExportError, WeightsError, YoloposeError
from yolopose.base.files import make_folder, output_error
from yolopose.toolchains.environments import log_file

_INSIDE = Path(__file__).resolve().parent / "inside"
_HIDDEN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV")  # what is ours would be found instead of its own


def run_in_env(python: Path, module: str, action: str, values: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Let a function of `inside/` run in another Python.

    Args:
        python: of the toolchain.
        module: file of `inside/`, without suffix.
        action: its function, which takes a mapping and returns one, both fit for JSON.
        values: what it is given.
        what: begin of the sentence of an error: `The network cannot be written as …`.

    Returns:
        What the function returned.

    Raises:
        ExportError: it failed; the text has the last line that it wrote, and names the file with all of them.
    """
    log = log_file(f"{module}-{action}")
    with tempfile.TemporaryDirectory() as workshop:
        job, answer = Path(workshop) / "job.json", Path(workshop) / "answer.json"
        job.write_text(json.dumps(values), encoding="utf-8")
        with _opened(log) as lines:
            done = subprocess.run(  # noqa: S603  # our own file, by a Python that the user has chosen
                [*_command(python, module, action), str(job), str(answer)],
                stdin=subprocess.DEVNULL, stdout=lines, stderr=lines, cwd=workshop, env=environment(), check=False,
            )  # fmt: skip
        if done.returncode or not answer.is_file():
            raise ExportError(f"{what}: {last_line(log, done.returncode)} All that was said: {log}.")
        return json.loads(answer.read_text(encoding="utf-8"))


class Worker:
    """A process that computes batches until it is closed, by whatever library its Python has.

    It is spoken to through its standard input and output: a header (length in four bytes, then JSON with the shapes)
    and the numbers, float32, little-endian.

    Args:
        command: program and arguments; the path of a JSON file with `values` is added to them.
        values: what it is told at the start.
        name: of its log.
        path: the file that it runs, for error texts.
        error: type to raise where it does not start.

    Attributes:
        info: what it says of the file at the start.
    """

    def __init__(
        self,
        command: Sequence[str],
        values: Mapping[str, Any],
        name: str,
        path: Path,
        error: type[YoloposeError] = WeightsError,
    ) -> None:
        self._path, self._log, self._alone, self._error = path, log_file(name), threading.Lock(), error
        self._workshop = tempfile.TemporaryDirectory()
        job = Path(self._workshop.name) / "job.json"
        job.write_text(json.dumps(values), encoding="utf-8")
        with _opened(self._log) as lines:
            self._process = subprocess.Popen(  # noqa: S603  # our own file, by a program that the user has chosen
                [*command, str(job)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=lines, cwd=self._workshop.name, env=environment(),
            )  # fmt: skip
        self.info = self._answer()[0]

    @classmethod
    def of_python(
        cls,
        python: Path,
        module: str,
        values: Mapping[str, Any],
        path: Path,
        action: str = "serve",
        error: type[YoloposeError] = WeightsError,
    ) -> Worker:
        """Start a function of `inside/` that gives what to say at the start, and what computes; see `run_in_env`."""
        return cls(_command(python, module, action), values, f"{module}-{action}", path, error)

    @classmethod
    def of_node(cls, packages: Path, path: Path) -> Worker:
        """Start Node.js with a graph of TensorFlow.js.

        Args:
            packages: its folder `node_modules`.
            path: folder of the graph.

        Raises:
            DependencyError: there is no Node.js.
        """
        node = shutil.which("node")
        if node is None:
            raise DependencyError(f"{path} needs Node.js, and there is no node on PATH: install it first.")
        values = {"path": str(path.resolve()), "packages": str(packages)}
        return cls([node, str(_INSIDE / "on_node.cjs")], values, "on_node-serve", path)

    def run(self, batch: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
        """Return the outputs for a batch, in the order that the process names them in.

        Raises:
            WeightsError: the process has ended.
        """
        with self._alone:
            given: IO[bytes] = self._process.stdin  # type: ignore[assignment]  # it is a pipe
            with suppress(OSError):  # it has ended, which reading finds as well
                given.write(_header({"shapes": [list(batch.shape)]}))
                given.write(np.ascontiguousarray(batch, dtype="<f4").data)
                given.flush()
            return self._answer()[1]

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what could not be written any more
                    pipe.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._workshop.cleanup()

    def _answer(self) -> tuple[dict[str, Any], list[npt.NDArray[np.float32]]]:
        about = json.loads(self._read(struct.unpack("<I", self._read(4))[0]))
        outputs: list[npt.NDArray[np.float32]] = []
        for shape in about.get("shapes", ()):
            content = self._read(4 * int(np.prod(shape)))
            outputs.append(np.frombuffer(content, dtype="<f4").reshape(shape))
        return about, outputs

    def _read(self, count: int) -> bytes:
        pipe: IO[bytes] = self._process.stdout  # type: ignore[assignment]  # it is a pipe
        content = pipe.read(count)
        if len(content) < count:
            self.close()
            said, log = last_line(self._log, self._process.returncode), f"All that was said: {self._log}."
            if self._error is ExportError:
                raise ExportError(f"The network cannot be written as {self._path.suffix[1:].upper()}: {said} {log}")
            raise self._error(
                f"{self._path} cannot be run: {said} The file may be cut off or damaged (export or copy it again). "
                f"{log}"
            )
        return content


def environment() -> dict[str, str]:
    """Return the environment of a process of another Python: ours, without what points to packages of ours."""
    kept = {key: value for key, value in os.environ.items() if key not in _HIDDEN}
    return {**kept, "PYTHONNOUSERSITE": "1", "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}


def last_line(log: Path, status: int | None) -> str:
    """Return what a process that failed said last, as a sentence."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    if not lines or (status is not None and status < 0):  # a signal: the system has ended it
        return f"its process ended with status {status} (out of memory, perhaps)."
    return lines[-1][:300].rstrip(".") + "."


def _command(python: Path, module: str, action: str) -> list[str]:
    return [str(python), str(_INSIDE / "begin.py"), module, action]


def _header(values: Mapping[str, Any]) -> bytes:
    text = json.dumps(values).encode()
    return struct.pack("<I", len(text)) + text


def _opened(log: Path) -> IO[bytes]:
    make_folder(log.parent)
    try:
        return log.open("wb")
    except OSError as error:
        raise output_error(log, error) from error
