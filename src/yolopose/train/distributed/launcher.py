"""How the processes of a training come together, and how they part: started here, or by a launcher such as torchrun."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # pyright: ignore[reportPrivateImportUsage]

from yolopose.base.cpu import available_cpus
from yolopose.base.errors import TrainError, YoloposeError
from yolopose.base.launch_env import LaunchEnv, read_launch_env
from yolopose.train.distributed.devices import DeviceAssignment, assign_devices
from yolopose.train.distributed.heartbeat import FAULT, Heartbeat, RankLost
from yolopose.train.distributed.process_group import ProcessGroup

_FOR_EVER = timedelta(days=100)  # the pulse ends what waits in vain, long before any such limit
_MEET = timedelta(minutes=30)  # in which rank 0 must have opened the store, where no launcher keeps it
_START = 300.0  # seconds in which a process must have loaded torch and be there
_PART = 60.0  # seconds that a process gets to end by itself
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}
_LOOK = 0.1  # seconds between two looks for what is waited for
_HERE = "127.0.0.1"
_DEVICE = "device"  # key of the store: the kind of device, once all are called
OWN = "YOLOPOSE_RANK_DEVICE"
"""Name in the environment of a process that was started here: its device."""
_numbers = itertools.count()  # trainings of one script under a launcher, which all have the same store
_servers: dict[tuple[str, int], TCPStore] = {}  # where rank 0 keeps the store; for as long as the process lives
_LEAVE = 5.0  # likewise where the training has failed
# as multiprocessing does it: modules are found where this process finds them; its main script is not run again
_CODE = "import sys; sys.path[:] = {paths!r}; from yolopose.train.distributed.worker import main; sys.exit(main())"


class Launcher:
    """The processes of one training, gathered inside a `with` block and dismissed at its end, whatever happens.

    One process alone needs nothing of it. With `device=0,1` this process leads and starts the others; under torchrun
    all are there already.

    Attributes:
        group: what they do together; one process alone until they are gathered.
    """

    def __init__(self) -> None:
        self.group = ProcessGroup()
        self._outside = read_launch_env()
        self._number = next(_numbers) if self._outside else 0
        self._server: TCPStore | None = None
        self._places: DeviceAssignment | None = None
        self._pulse: Heartbeat | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._threads = torch.get_num_threads()
        self._pid = os.getpid()
        self._before: Any = None  # what was done at SIGTERM before

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pulse is None:
            if error is not None and self._outside and self._outside.rank == 0:  # the others wait to be gathered
                self._meet(self._outside).compare_set(FAULT, "", self._words(error))
        elif error is None or (isinstance(error, KeyboardInterrupt) and not self.group.leads):
            self._pulse.end()
        elif isinstance(error, RankLost):
            self._pulse.close()
        else:
            self._pulse.fail(self._words(error))
        self._dismiss(_PART if error is None or isinstance(error, KeyboardInterrupt) else _LEAVE)
        if self.group.size > 1:
            with suppress(RuntimeError):
                dist.destroy_process_group()
            torch.set_num_threads(self._threads)
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        self.group, self._pulse, self._server = ProcessGroup(), None, None

    def plan(self, device: object) -> DeviceAssignment:
        """Settle which devices are used; nothing is started yet.

        Args:
            device: as users write it.

        Raises:
            UsageError: a device cannot be had.
        """
        self._places = assign_devices(device)
        return self._places

    def gather(self) -> ProcessGroup:
        """Bring the processes together, after `plan`; rank 0 calls it, the others `join`.

        Raises:
            TrainError: one of them could not be started.
        """
        found = self._places
        if found is None or found.size == 1:
            return self.group
        outside = self._outside
        if outside is None:
            self._server = TCPStore(_HERE, 0, is_master=True, wait_for_workers=False, timeout=_FOR_EVER)
            outside = LaunchEnv(0, found.size, 0, found.size, _HERE, self._server.port, served=True)
        store = self._meet(outside)
        for rank, device in enumerate(found.others, 1):
            self._children[rank] = _start(outside, rank, str(device))
        store.set(_DEVICE, found.device.type)
        return self._come_together(outside, found.device)

    def join(self) -> torch.device:
        """Join the others, from a process that does not lead; waits until it is called.

        Returns:
            The device of this process.

        Raises:
            RankLost: the one that leads has failed before.
        """
        outside = self._outside
        if outside is None:
            raise TrainError("This process was not started by one that trains, nor by a launcher such as torchrun.")
        store = self._meet(outside)
        while not store.check([_DEVICE]):
            if store.check([FAULT]):
                raise RankLost(store.get(FAULT).decode())
            time.sleep(_LOOK)
        kind = store.get(_DEVICE).decode()
        device = torch.device(os.environ.get(OWN) or (f"cuda:{outside.local_rank}" if kind == "cuda" else kind))
        self._come_together(outside, device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise TrainError(f"{device} is not on this machine: torch sees {torch.cuda.device_count()} CUDA GPUs.")
        return device

    def _come_together(self, outside: LaunchEnv, device: torch.device) -> ProcessGroup:
        """Wait until all are there."""
        runs = {rank: lambda child=child: child.poll() is None for rank, child in self._children.items()}
        self._pulse = heartbeat = Heartbeat(self._meet(outside), outside.rank, outside.size, runs)
        store = self._meet(outside)
        if self._outside and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._told_to_end)
        self._wait_for_all(store, outside)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        else:
            _share_cores(outside.local_size)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo"
        with _loopback(outside.local_size == outside.size):
            dist.init_process_group(
                backend,
                store=PrefixStore("group", store),
                rank=outside.rank,
                world_size=outside.size,
                timeout=_FOR_EVER,
            )
        self.group = ProcessGroup(outside.rank, outside.size, outside.local_size, heartbeat)
        return self.group

    def _wait_for_all(self, store: Store, outside: LaunchEnv) -> None:
        """Wait until each has said who it is.

        Raises:
            TrainError: a process that was started here has not come.
        """
        end = time.monotonic() + _START
        for rank in range(outside.size):
            child = self._children.get(rank)
            while not store.check([f"who/{rank}"]):
                if self._pulse:
                    self._pulse.check()
                if child and (child.poll() is not None or time.monotonic() > end):
                    how = f"ended with status {child.returncode}" if child.poll() is not None else "did not answer"
                    raise TrainError(
                        f"The training process of rank {rank} {how} before the training began; what it says stands "
                        "above, if anything. Train with one device, or start the processes with torchrun."
                    )
                time.sleep(_LOOK)

    def _dismiss(self, patience: float) -> None:
        """Wait for the processes that were started here, and ends those that do not end."""
        end = time.monotonic() + patience
        for child in self._children.values():
            try:
                child.wait(max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()

    def _told_to_end(self, number: int, frame: object) -> None:
        """A launcher ends all processes when one has ended: says which one."""
        if os.getpid() != self._pid:  # a worker, forked with this function
            os._exit(1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._pulse is None:
            raise RankLost("The launcher ended this training.")
        raise self._pulse.lost("the launcher told all of them to end.", _LEAVE)

    def _words(self, error: BaseException) -> str:
        text = str(error) if isinstance(error, YoloposeError) else f"{type(error).__name__}: {error}"
        if self.group.leads:
            return text
        return f"{text} (Said by rank {self.group.rank} of {self.group.size}, on {socket.gethostname()}.)"

    def _meet(self, outside: LaunchEnv) -> Store:
        """Connect to the store where the processes meet; each call makes a connection of its own."""
        key = (outside.address, outside.port)
        if outside.rank == 0 and not outside.served and key not in _servers:
            _servers[key] = TCPStore(*key, is_master=True, wait_for_workers=False, timeout=_FOR_EVER)
        store = TCPStore(*key, is_master=False, wait_for_workers=False, timeout=_MEET)
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun may start all of them again
        return PrefixStore(f"yolopose/{start}/{self._number}", store)


def _start(outside: LaunchEnv, rank: int, device: str) -> subprocess.Popen[bytes]:
    """Start the process of a rank on this machine, which `join`s."""
    place = {"RANK": rank, "WORLD_SIZE": outside.size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": outside.local_size}
    met = {"MASTER_ADDR": outside.address, "MASTER_PORT": outside.port, "TORCHELASTIC_USE_AGENT_STORE": True}
    environment = {**os.environ, **{key: str(value) for key, value in {**place, **met, OWN: device}.items()}}
    command = [sys.executable, "-c", _CODE.format(paths=sys.path)]
    with _without_ctrl_c():
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603


@contextmanager
def _without_ctrl_c() -> Generator[None, None, None]:
    """What is started inside the block is not told of Ctrl-C: rank 0 is, and tells the others."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _loopback(alone: bool) -> Generator[None, None, None]:
    """Process of one machine talk within it, whatever its name stands for, and nobody else can listen."""
    name, key = _LOOPBACK.get(sys.platform), "GLOO_SOCKET_IFNAME"
    if not alone or name is None or key in os.environ:
        yield
        return
    os.environ[key] = name
    try:
        yield
    finally:
        del os.environ[key]


def _share_cores(processes: int) -> None:
    """Return this process its share of the cores, unless the user chose."""
    # torchrun says 1 where the user says nothing
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(available_cpus() // processes, 1))
