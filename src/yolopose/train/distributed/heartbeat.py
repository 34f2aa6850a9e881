"""Heartbeat of the processes of a training: a thread in each checks the others every second.

torch's own launcher restarts or kills processes but does not report which one failed and why, and a process on the CPU
that waits in a collective for one that hangs waits until the group's timeout.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import NoReturn

import torch.distributed as dist
from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

from yolopose.base.errors import TrainError

INTERVAL = 1.0
"""Seconds between two checks."""
MAX_MISSED = 40
"""Checks without a new beat after which a process is lost; counting checks tolerates a machine that was suspended."""
FAULT = "fault"
"""Store key of the reason why the training ends."""
_GRACE = 10.0  # seconds in which a process may end by itself


class RankLost(TrainError):
    """Another process of the training has failed, has ended, or does not respond."""


class Heartbeat:
    """Publish the beats of this process in the shared store and watch those of the others.

    Rank 0 watches all processes, and all others watch rank 0.

    Args:
        store: this object's own connection to the store.
        rank: index of this process.
        size: number of processes.
        is_running: whether the process of a rank runs, for those that this process started.
    """

    def __init__(
        self, store: Store, rank: int, size: int, is_running: dict[int, Callable[[], bool]] | None = None
    ) -> None:
        self._store = store
        self._rank = rank
        self._size = size
        self._is_running = is_running or {}
        self._peers = [peer for peer in range(size) if peer != rank and 0 in (peer, rank)]
        self._last_beat: dict[int, bytes] = {}
        self._missed: dict[int, int] = dict.fromkeys(self._peers, 0)
        self._reason = ""
        self._fault = threading.Event()
        self._closed = threading.Event()
        self._waiting = False
        store.set(f"process/{rank}", f"{os.getpid()} {socket.gethostname()}")
        self._thread = threading.Thread(target=self._run, name="yolopose-heartbeat", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `RankLost` if another process has failed, has ended, or does not respond."""
        if self._fault.is_set():
            raise RankLost(self._reason)

    @contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Mark that this process waits for the others inside the block.

        Raises:
            RankLost: one of them is lost already.
        """
        self.check()
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def explain(self, error: object, timeout: float = MAX_MISSED * INTERVAL + _GRACE) -> RankLost:
        """Return the reason why a collective operation failed.

        Args:
            error: the error of the operation.
            timeout: seconds to wait until the reason is known.
        """
        self._fault.wait(timeout)
        return RankLost(self._reason or f"The connection between the processes of this training failed: {error}")

    def report_failure(self, message: str) -> None:
        """Tell the others that this process ends with an error, and stop the thread."""
        with suppress(RuntimeError):
            self._store.compare_set(FAULT, "", message)
        self.close()

    def report_finished(self) -> None:
        """Tell the others that this process has finished, and stop the thread."""
        with suppress(RuntimeError):
            self._store.set(f"finished/{self._rank}", "1")
        self.close()

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        self._thread.join(_GRACE)

    def _run(self) -> None:
        beat = 0
        while not self._closed.wait(INTERVAL):
            beat += 1
            try:
                reason = self._beat(beat)
            except RuntimeError:  # the connection to the store is closed
                reason = "The main process of this training (rank 0), or its launcher, has ended."
            if reason and not self._closed.is_set():
                self._reason = reason
                self._fault.set()
                with suppress(RuntimeError):
                    self._store.compare_set(FAULT, "", reason)
                self._await_exit()
                return

    def _beat(self, beat: int) -> str:
        """Publish a beat and check the others; return what is wrong, or an empty string."""
        self._store.set(f"beat/{self._rank}", str(beat))
        if self._store.check([FAULT]):
            return self._store.get(FAULT).decode()
        for peer in self._peers:
            if self._store.check([f"finished/{peer}"]) or not self._store.check([f"process/{peer}"]):
                continue
            if not self._is_alive(peer):
                if self._store.check([FAULT]):  # it reported its error in the meantime
                    return self._store.get(FAULT).decode()
                return (
                    f"{self._describe(peer)} ended unexpectedly: it was killed, or the memory was full. All others end "
                    "with it."
                )
            last_beat = self._store.get(f"beat/{peer}") if self._store.check([f"beat/{peer}"]) else b""
            self._missed[peer] = 0 if last_beat != self._last_beat.get(peer) else self._missed[peer] + 1
            self._last_beat[peer] = last_beat
            if self._missed[peer] >= MAX_MISSED:
                self._kill(peer)  # this unblocks the collectives that wait for it
                return (
                    f"{self._describe(peer)} has not responded for {MAX_MISSED * INTERVAL:.0f} seconds. All others end "
                    "with it."
                )
        return ""

    def _is_alive(self, peer: int) -> bool:
        """Return whether a process runs, as far as this machine can tell."""
        if peer in self._is_running:
            return self._is_running[peer]()
        pid, host = self._process(peer)
        if host != socket.gethostname() or os.name != "posix":
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def _kill(self, peer: int) -> None:
        pid, host = self._process(peer)
        if self._rank == 0 and host == socket.gethostname():
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _process(self, peer: int) -> tuple[int, str]:
        """Process id and host of a rank."""
        pid, _, host = self._store.get(f"process/{peer}").decode().partition(" ")
        return int(pid), host

    def _describe(self, peer: int) -> str:
        pid, host = self._process(peer)
        return f"Rank {peer} of the {self._size} processes of this training (process {pid} on {host})"

    def _await_exit(self) -> None:
        """Let this process end by itself; end it where it waits for a lost process."""
        if self._rank:
            if self._rank == 1 and not self._main_is_alive():  # rank 1 reports the error in place of rank 0
                self._print_reason()
            if not self._closed.wait(_GRACE):
                os._exit(1)
            return
        # Rank 0 may be validating or writing, and reports the error; only a blocked one is ended.
        while not self._closed.wait(_GRACE):
            if self._waiting:
                _abort_collectives()
                if not self._closed.wait(_GRACE) and self._waiting:
                    self._exit()

    def _main_is_alive(self) -> bool:
        try:
            return self._is_alive(0)
        except RuntimeError:  # the connection to the store is closed
            return False

    def _print_reason(self) -> None:
        print(f"error: {self._reason}", file=sys.stderr, flush=True)

    def _exit(self) -> NoReturn:
        self._print_reason()
        os._exit(1)


def _abort_collectives() -> None:
    """Abort pending GPU collectives; those of the CPU fail by themselves when a process ends."""
    group = dist.group.WORLD
    if group is not None:
        with suppress(RuntimeError, AttributeError, NotImplementedError):
            group.abort()
