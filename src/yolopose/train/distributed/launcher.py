"""Start and stop the processes of a training, or join those that a launcher such as torchrun has started.

torch's own launchers (`torch.distributed.run`, `multiprocessing.spawn`) run every rank in a child process. Here rank 0
is the process that called `train`, so that callbacks, errors, Ctrl-C and the trained network are where they are with
one device.
"""

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

DEVICE_VARIABLE = "YOLOPOSE_RANK_DEVICE"
"""Environment variable with the device of a process that was started here."""

_NO_TIMEOUT = timedelta(days=100)  # the heartbeat ends collectives that wait for a lost process
_STORE_TIMEOUT = timedelta(minutes=30)  # until rank 0 opens the store, where the launcher does not
_START_TIMEOUT = 300.0  # seconds until a process has loaded torch and registered
_EXIT_TIMEOUT = 60.0  # seconds until a process has ended by itself after a training
_FAILURE_EXIT_TIMEOUT = 5.0  # the same after an error
_POLL_INTERVAL = 0.1
_LOCALHOST = "127.0.0.1"
_LOOPBACK_INTERFACES = {"linux": "lo", "darwin": "lo0"}
_DEVICE_KEY = "device"  # store key of the device type; it is set when the workers may join
# As in multiprocessing, modules are found where this process finds them; its main script does not run again.
_WORKER_CODE = (
    "import sys; sys.path[:] = {paths!r}; from yolopose.train.distributed.worker import main; sys.exit(main())"
)

_run_numbers = itertools.count()  # under a launcher all trainings of a script share one store
_stores: dict[tuple[str, int], TCPStore] = {}  # stores that rank 0 serves, for the lifetime of the process


class Launcher:
    """The processes of one training: started by `launch`, ended when the `with` block ends.

    With `device=0,1` this process is rank 0 and starts the others; under torchrun all of them exist already. A training
    on one device needs neither.

    Attributes:
        group: the process group; a single process until `launch` or `join`.
    """

    def __init__(self) -> None:
        self.group = ProcessGroup()
        self._env = read_launch_env()
        self._run_number = next(_run_numbers) if self._env else 0
        self._server: TCPStore | None = None
        self._devices: DeviceAssignment | None = None
        self._heartbeat: Heartbeat | None = None
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._threads = torch.get_num_threads()
        self._pid = os.getpid()
        self._previous_sigterm: Any = None

    def __enter__(self) -> Launcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._heartbeat is None:
            if error is not None and self._env and self._env.rank == 0:  # the others wait in `join`
                self._connect(self._env).compare_set(FAULT, "", self._describe(error))
        elif error is None or (isinstance(error, KeyboardInterrupt) and not self.group.is_main):
            self._heartbeat.report_finished()
        elif isinstance(error, RankLost):
            self._heartbeat.close()
        else:
            self._heartbeat.report_failure(self._describe(error))
        graceful = error is None or isinstance(error, KeyboardInterrupt)
        self._end_children(_EXIT_TIMEOUT if graceful else _FAILURE_EXIT_TIMEOUT)
        if self.group.size > 1:
            with suppress(RuntimeError):
                dist.destroy_process_group()
            torch.set_num_threads(self._threads)
        if self._previous_sigterm is not None:
            signal.signal(signal.SIGTERM, self._previous_sigterm)
        self.group = ProcessGroup()
        self._heartbeat = None
        self._server = None

    def assign(self, device: object) -> DeviceAssignment:
        """Select the devices without starting anything.

        Args:
            device: as users write it.

        Raises:
            UsageError: a device is not available.
        """
        self._devices = assign_devices(device)
        return self._devices

    def launch(self) -> ProcessGroup:
        """Form the process group, after `assign`; rank 0 calls it, the others `join`.

        Raises:
            TrainError: a process could not be started.
        """
        devices = self._devices
        if devices is None or devices.size == 1:
            return self.group
        env = self._env
        if env is None:
            self._server = TCPStore(_LOCALHOST, 0, is_master=True, wait_for_workers=False, timeout=_NO_TIMEOUT)
            env = LaunchEnv(0, devices.size, 0, devices.size, _LOCALHOST, self._server.port, served=True)
        store = self._connect(env)
        for rank, device in enumerate(devices.others, 1):
            self._children[rank] = _start_worker(env, rank, str(device))
        store.set(_DEVICE_KEY, devices.device.type)
        return self._init_group(env, devices.device)

    def join(self) -> torch.device:
        """Join the process group from a worker; waits until rank 0 launches a training.

        Returns:
            The device of this process.

        Raises:
            RankLost: rank 0 has failed before.
        """
        env = self._env
        if env is None:
            raise TrainError("This process was started neither by a training nor by a launcher such as torchrun.")
        store = self._connect(env)
        while not store.check([_DEVICE_KEY]):
            if store.check([FAULT]):
                raise RankLost(store.get(FAULT).decode())
            time.sleep(_POLL_INTERVAL)
        kind = store.get(_DEVICE_KEY).decode()
        default = f"cuda:{env.local_rank}" if kind == "cuda" else kind
        device = torch.device(os.environ.get(DEVICE_VARIABLE) or default)
        self._init_group(env, device)
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise TrainError(f"{device} is not on this machine: torch sees {torch.cuda.device_count()} CUDA GPUs.")
        return device

    def _init_group(self, env: LaunchEnv, device: torch.device) -> ProcessGroup:
        """Register this process, wait for the others and initialize torch's process group."""
        is_running = {rank: lambda child=child: child.poll() is None for rank, child in self._children.items()}
        self._heartbeat = Heartbeat(self._connect(env), env.rank, env.size, is_running)
        store = self._connect(env)
        if self._env and threading.current_thread() is threading.main_thread():
            self._previous_sigterm = signal.signal(signal.SIGTERM, self._on_sigterm)
        self._wait_for_all(store, env)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        else:
            _share_cpus(env.local_size)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" and dist.is_nccl_available() else "gloo"
        with _loopback_interface(env.local_size == env.size):
            dist.init_process_group(
                backend, store=PrefixStore("group", store), rank=env.rank, world_size=env.size, timeout=_NO_TIMEOUT
            )
        self.group = ProcessGroup(env.rank, env.size, env.local_size, self._heartbeat)
        return self.group

    def _wait_for_all(self, store: Store, env: LaunchEnv) -> None:
        """Wait until all processes have registered.

        Raises:
            TrainError: a process that was started here has not.
        """
        deadline = time.monotonic() + _START_TIMEOUT
        for rank in range(env.size):
            child = self._children.get(rank)
            while not store.check([f"process/{rank}"]):
                if self._heartbeat:
                    self._heartbeat.check()
                if child and (child.poll() is not None or time.monotonic() > deadline):
                    outcome = (
                        "did not start in time" if child.poll() is None else f"ended with status {child.returncode}"
                    )
                    raise TrainError(
                        f"The training process of rank {rank} {outcome} before the training began; its own messages, "
                        "if any, are above. Train with one device, or start the processes with torchrun."
                    )
                time.sleep(_POLL_INTERVAL)

    def _end_children(self, timeout: float) -> None:
        """Wait for the processes that were started here and kill those that do not end in time."""
        deadline = time.monotonic() + timeout
        for child in self._children.values():
            try:
                child.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children.clear()

    def _on_sigterm(self, number: int, frame: object) -> None:
        """Report the failed rank: a launcher terminates all processes when one has failed."""
        if os.getpid() != self._pid:  # a forked worker inherits this handler
            os._exit(1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self._heartbeat is None:
            raise RankLost("The launcher ended this training.")
        raise self._heartbeat.explain("the launcher terminated all processes.", _FAILURE_EXIT_TIMEOUT)

    def _describe(self, error: BaseException) -> str:
        message = str(error) if isinstance(error, YoloposeError) else f"{type(error).__name__}: {error}"
        if self.group.is_main:
            return message
        return f"{message} (Reported by rank {self.group.rank} of {self.group.size}, on {socket.gethostname()}.)"

    def _connect(self, env: LaunchEnv) -> Store:
        """Open a new connection to the store of this training."""
        key = (env.address, env.port)
        if env.rank == 0 and not env.served and key not in _stores:
            _stores[key] = TCPStore(*key, is_master=True, wait_for_workers=False, timeout=_NO_TIMEOUT)
        store = TCPStore(*key, is_master=False, wait_for_workers=False, timeout=_STORE_TIMEOUT)
        restart = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun may restart all processes
        return PrefixStore(f"yolopose/{restart}/{self._run_number}", store)


def _start_worker(env: LaunchEnv, rank: int, device: str) -> subprocess.Popen[bytes]:
    """Start the process of a rank on this machine; it calls `Launcher.join`."""
    variables = {
        "RANK": rank,
        "WORLD_SIZE": env.size,
        "LOCAL_RANK": rank,
        "LOCAL_WORLD_SIZE": env.local_size,
        "MASTER_ADDR": env.address,
        "MASTER_PORT": env.port,
        "TORCHELASTIC_USE_AGENT_STORE": True,  # the store exists already
        DEVICE_VARIABLE: device,
    }
    environment = {**os.environ, **{key: str(value) for key, value in variables.items()}}
    command = [sys.executable, "-c", _WORKER_CODE.format(paths=sys.path)]
    with _sigint_blocked():
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)  # noqa: S603


@contextmanager
def _sigint_blocked() -> Generator[None, None, None]:
    """Block Ctrl-C in processes that are started inside the block: rank 0 handles it and informs them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextmanager
def _loopback_interface(single_machine: bool) -> Generator[None, None, None]:
    """Let gloo use the loopback interface, so that it works without a resolvable host name and is not reachable."""
    name = _LOOPBACK_INTERFACES.get(sys.platform)
    key = "GLOO_SOCKET_IFNAME"
    if not single_machine or name is None or key in os.environ:
        yield
        return
    os.environ[key] = name
    try:
        yield
    finally:
        del os.environ[key]


def _share_cpus(processes: int) -> None:
    """Give this process its share of the CPUs, unless the user has set the threads."""
    # torchrun sets 1 where the user sets nothing
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(available_cpus() // processes, 1))
