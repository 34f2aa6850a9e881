"""Whether all processes of a training are there: a thread in each looks every second, so that none waits for ever."""

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

EVERY = 1.0
"""Seconds between two looks."""
STILL = 40
"""Looks without a sign of life after which a process is lost. Looks, not seconds: a machine that slept loses none."""
_GRACE = 10.0  # seconds that a process gets to end by itself
FAULT = "fault"
"""Key of the store: why all end."""


class RankLost(TrainError):
    """Another process of the training has failed, has ended, or does not answer."""


class Heartbeat:
    """Signs of life of the processes, kept in the store where they meet.

    Args:
        store: the store; this object's own connection to it.
        rank: number of this process.
        size: how many there are.
        runs: tells whether the process of a rank runs, for those that this one started.
    """

    def __init__(self, store: Store, rank: int, size: int, runs: dict[int, Callable[[], bool]] | None = None) -> None:
        self._store, self._rank, self._size, self._runs = store, rank, size, runs or {}
        self._peers = [peer for peer in range(size) if peer != rank and 0 in (peer, rank)]  # all by 0, and 0 by all
        self._last: dict[int, bytes] = {}
        self._still: dict[int, int] = dict.fromkeys(self._peers, 0)
        self._who: dict[int, tuple[str, int]] = {}
        self._reason, self._found, self._over = "", threading.Event(), threading.Event()
        self._waits = False
        store.set(f"who/{rank}", f"{os.getpid()} {socket.gethostname()}")
        self._thread = threading.Thread(target=self._run, name="yolopose-pulse", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Look whether all are still there.

        Raises:
            RankLost: another process has failed, has ended, or does not answer.
        """
        if self._found.is_set():
            raise RankLost(self._reason)

    @contextmanager
    def waiting(self) -> Generator[None, None, None]:
        """Mark that this process waits for the others inside the block.

        Raises:
            RankLost: one of them is lost already.
        """
        self.check()
        self._waits = True
        try:
            yield
        finally:
            self._waits = False

    def lost(self, error: object, patience: float = STILL * EVERY + _GRACE) -> RankLost:
        """Return what became of the others when doing something together failed.

        Args:
            error: what was seen of it.
            patience: seconds to wait for the reason.
        """
        self._found.wait(patience)
        return RankLost(self._reason or f"The connection among the processes of this training broke: {error}")

    def fail(self, text: str) -> None:
        """Return the others that this process ends with an error."""
        with suppress(RuntimeError):
            self._store.compare_set(FAULT, "", text)
        self.close()

    def end(self) -> None:
        """Return the others that this process ends because its work is done."""
        with suppress(RuntimeError):
            self._store.set(f"end/{self._rank}", "1")
        self.close()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join(_GRACE)

    def _run(self) -> None:
        beats = 0
        while not self._over.wait(EVERY):
            beats += 1
            try:
                reason = self._look(beats)
            except RuntimeError:  # of a connection
                reason = "The process that leads this training (rank 0), or what started it, has gone."
            if reason and not self._over.is_set():
                self._reason = reason
                self._found.set()
                with suppress(RuntimeError):
                    self._store.compare_set(FAULT, "", reason)
                self._see_to_the_end()
                return

    def _look(self, beats: int) -> str:
        """Return a sign of life and looks for those of others; returns what is wrong."""
        self._store.set(f"beat/{self._rank}", str(beats))
        if self._store.check([FAULT]):
            return self._store.get(FAULT).decode()
        for peer in self._peers:
            if self._store.check([f"end/{peer}"]) or not self._store.check([f"who/{peer}"]):
                continue
            if not self._is_there(peer):
                if self._store.check([FAULT]):  # it said why, just now
                    return self._store.get(FAULT).decode()
                return (
                    f"{self._named(peer)} has ended unexpectedly: it was killed, or the memory was full. "
                    "All others end with it."
                )
            beat = self._store.get(f"beat/{peer}") if self._store.check([f"beat/{peer}"]) else b""
            self._still[peer] = 0 if beat != self._last.get(peer) else self._still[peer] + 1
            self._last[peer] = beat
            if self._still[peer] >= STILL:
                self._kill(peer)  # what waits for it wakes up
                return f"{self._named(peer)} has not answered for {STILL * EVERY:.0f} seconds. All others end with it."
        return ""

    def _is_there(self, peer: int) -> bool:
        """Whether a process runs, as far as can be told from this machine."""
        if peer in self._runs:
            return self._runs[peer]()
        pid, host = self._whereabouts(peer)
        if host != socket.gethostname() or os.name != "posix":
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def _leader_is_there(self) -> bool:
        try:
            return self._is_there(0)
        except RuntimeError:  # of a connection
            return False

    def _kill(self, peer: int) -> None:
        pid, host = self._whereabouts(peer)
        if self._rank == 0 and host == socket.gethostname():
            with suppress(OSError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))

    def _whereabouts(self, peer: int) -> tuple[int, str]:
        pid, _, host = self._store.get(f"who/{peer}").decode().partition(" ")
        return int(pid), host

    def _named(self, peer: int) -> str:
        pid, host = self._whereabouts(peer)
        return f"Rank {peer} of the {self._size} processes of this training (process {pid} on {host})"

    def _see_to_the_end(self) -> None:
        """Let this process end by itself; where it cannot, as it waits for what never comes, ends it."""
        if self._rank:
            if self._rank == 1 and not self._leader_is_there():  # the next one has the last word then
                print(f"error: {self._reason}", file=sys.stderr, flush=True)
            self._over.wait(_GRACE)
            if not self._over.is_set():
                os._exit(1)
        while not self._over.wait(_GRACE):  # rank 0 may be measuring or writing, and has the last word
            if self._waits:
                _wake()
                if not self._over.wait(_GRACE) and self._waits:
                    self._give_up()

    def _give_up(self) -> NoReturn:
        print(f"error: {self._reason}", file=sys.stderr, flush=True)
        os._exit(1)


def _wake() -> None:
    """End what waits for others on a GPU; on the CPU the end of a process is noticed without it."""
    group = dist.group.WORLD
    if group is not None:
        with suppress(RuntimeError, AttributeError, NotImplementedError):
            group.abort()
