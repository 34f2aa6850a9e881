"""engine=local: worker processes of this machine, each with its share of the CPU cores or a GPU of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from queue import Empty, Queue
from typing import Any, Protocol

from yolopose.base.cpu import physical_cores
from yolopose.jobs.worker import WorkerConfig

_CORES_PER_WORKER = 4
_EXIT_TIMEOUT = 5.0
_CODE = "import sys; sys.path[:] = {paths!r}; from yolopose.jobs.worker import main; main()"


class WorkerPool(Protocol):
    """Workers that compute one shard each at a time.

    `next_event` returns what happens, as dictionaries with the keys `worker` and `event`:
    `ready` (`device`), `done` (`shard`, `record`), `failed` (`shard`, `kind`, `message`), `broken` (`kind`, `message`:
    the worker could not start), or `died` (`message`).
    """

    @property
    def size(self) -> int:
        """Number of workers."""
        ...

    def start(self, worker: int) -> None:
        """Start a worker, or start it again."""
        ...

    def submit(self, worker: int, shard: int, careful: bool) -> None:
        """Let an idle worker compute a shard; see `ShardWorker.compute`."""
        ...

    def next_event(self, timeout: float) -> dict[str, Any] | None:
        """Return the next event; None if there is none within the timeout, in seconds."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


class LocalPool:
    """Processes of this machine.

    Args:
        configs: one for each worker.
        threads: CPU cores of each worker.
    """

    def __init__(self, configs: Sequence[WorkerConfig], threads: int) -> None:
        self._configs = configs
        self._threads = threads
        self._events: Queue[dict[str, Any]] = Queue()
        self._processes: dict[int, subprocess.Popen[str]] = {}

    @property
    def size(self) -> int:
        """Number of workers."""
        return len(self._configs)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [process.pid for process in self._processes.values()]

    def start(self, worker: int) -> None:
        """Start the process of a worker."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(self._threads)}
        # the last words of a process that dies are read from a file: a pipe could fill up and block it
        log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed by `_read`
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _CODE.format(paths=sys.path)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        )
        self._processes[worker] = process
        self._send(worker, asdict(self._configs[worker]))
        threading.Thread(target=self._read, args=(worker, process, log), daemon=True).start()

    def submit(self, worker: int, shard: int, careful: bool) -> None:
        """Let a worker compute a shard."""
        self._send(worker, {"shard": shard, "careful": careful})

    def _send(self, worker: int, message: dict[str, Any]) -> None:
        file = self._processes[worker].stdin
        assert file is not None  # noqa: S101  # it is a pipe
        with suppress(OSError):  # the process has died, which `_read` reports
            file.write(json.dumps(message) + "\n")
            file.flush()

    def _read(self, worker: int, process: subprocess.Popen[str], log: Any) -> None:
        """Queue the messages of a process until it ends."""
        broken = False
        for line in process.stdout or ():
            with suppress(ValueError):  # a line that was cut off
                message = json.loads(line)
                broken = broken or message.get("event") == "broken"
                self._events.put({"worker": worker, **message})
        status = process.wait()
        log.seek(0)
        ending = log.read()[-2000:].strip()
        log.close()
        if not broken:
            reason = f"signal {-status}" if status < 0 else f"exit status {status}"
            self._events.put({"worker": worker, "event": "died", "message": f"{reason}{ending and ': ' + ending}"})

    def next_event(self, timeout: float) -> dict[str, Any] | None:
        """Return the next event; None if there is none within the timeout, in seconds."""
        try:
            return self._events.get(timeout=timeout)
        except Empty:
            return None

    def close(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(_EXIT_TIMEOUT)
            if process.stdin is not None:
                with suppress(OSError):
                    process.stdin.close()


def divide_cores(workers: int | None, threads: int | None) -> tuple[int, int]:
    """Return the number of workers of this machine's CPU, and the cores of each.

    Args:
        workers: requested number; by default one for each 4 cores, at least one.
        threads: requested cores of each; by default all cores are divided.
    """
    cores = physical_cores()
    if workers is None:
        workers = max(1, cores // (threads or _CORES_PER_WORKER))
    return workers, threads or max(1, cores // workers)
