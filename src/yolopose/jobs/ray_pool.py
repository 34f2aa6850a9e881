"""engine=ray: actors of a Ray cluster, each with one network; Ray moves shard numbers and records, never images."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import DependencyError, UsageError, YoloposeError
from yolopose.base.log import LOGGER, quiet_libraries
from yolopose.jobs.network_file import has_network, pack_network, unpack_network
from yolopose.jobs.worker import ShardWorker, WorkerConfig

_CORES_PER_ACTOR = 4


def require_ray() -> Any:
    """Import Ray.

    Raises:
        DependencyError: it is not installed.
    """
    try:
        return import_module("ray")
    except ImportError as error:
        raise DependencyError(
            'engine=ray needs Ray, which is not installed. Install with: pip install "yolopose[ray]"'
        ) from error


class Actor:
    """Computes shards in a process of the cluster.

    Args:
        config: a `WorkerConfig` as dictionary.
        network: the network as `pack_network` returns it, for machines on which its path does not exist.
        sha256: its hash.
    """

    def __init__(self, config: dict[str, Any], network: bytes, sha256: str) -> None:
        self._worker: ShardWorker | None = None
        self._error: dict[str, Any] | None = None
        try:
            settings = WorkerConfig(**config)
            if not has_network(settings.model, sha256):
                settings = replace(settings, model=unpack_network(network))
            self._worker = ShardWorker(settings)
        except Exception as error:  # an exception in the constructor of an actor would lose its type
            known = isinstance(error, YoloposeError)
            text = str(error) if known else f"{type(error).__name__}: {error}"
            self._error = {"event": "broken", "kind": type(error).__name__ if known else "", "message": text}

    def start(self) -> dict[str, Any]:
        """Return whether the network could be opened."""
        if self._worker is None:
            return self._error or {}
        return {"event": "ready", "device": self._worker.device, "pid": os.getpid()}

    def compute(self, shard: int, careful: bool) -> dict[str, Any]:
        """Compute a shard; see `ShardWorker.compute`."""
        assert self._worker is not None  # noqa: S101  # only workers that are ready get shards
        return self._worker.compute(shard, careful)


class RayPool:
    """Actors of a Ray cluster.

    Args:
        config: of all actors.
        sha256: hash of the network.
        workers: number of actors; None for as many as the cluster has room for.
        threads: CPU cores of each actor; None for 4, or all of a smaller machine.
        gpus: GPUs of each actor; None for 1 if the cluster has any and the device is not the CPU.
        address: address of the cluster; None starts one on this machine.

    Raises:
        DependencyError: Ray is not installed.
        UsageError: the cluster cannot be joined, or lacks what an actor needs.
    """

    def __init__(
        self,
        config: WorkerConfig,
        sha256: str,
        workers: int | None,
        threads: int | None,
        gpus: float | None,
        address: str | None,
    ) -> None:
        self._ray = require_ray()
        self._owns = not self._ray.is_initialized()
        if self._owns:
            _connect(self._ray, address)
        resources: dict[str, float] = self._ray.cluster_resources()
        cpus = int(resources.get("CPU", 0))
        if gpus is None:
            gpus = 1.0 if resources.get("GPU") and config.device != "cpu" else 0.0
        self._threads = threads or max(1, min(_CORES_PER_ACTOR, cpus))
        by_gpu = int(resources.get("GPU", 0) / gpus) if gpus else cpus
        capacity = min(cpus // self._threads, by_gpu)
        if capacity < 1 and workers is None:
            self.close()
            raise UsageError(
                f"An actor needs {self._threads} CPUs and {gpus:g} GPUs, but the whole Ray cluster has {cpus} CPUs and "
                f"{resources.get('GPU', 0):g} GPUs. Change threads=, gpus= or the cluster."
            )
        self.size = workers or capacity
        if self.size > capacity:
            LOGGER.warning(f"The Ray cluster has room for {capacity} of {self.size} actors now; the others wait.")
        self._arguments = (asdict(config), self._ray.put(pack_network(config.model)), sha256)
        self._class = self._ray.remote(num_cpus=self._threads, num_gpus=gpus, max_restarts=0)(Actor)
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, int] = {}

    def start(self, worker: int) -> None:
        """Start the actor of a worker; it waits in Ray until the cluster has room."""
        actor = self._class.remote(*self._arguments)
        self._actors[worker] = actor
        self._pending[actor.start.remote()] = worker

    def submit(self, worker: int, shard: int, careful: bool) -> None:
        """Let an actor compute a shard."""
        self._pending[self._actors[worker].compute.remote(shard, careful)] = worker

    def next_event(self, timeout: float) -> dict[str, Any] | None:
        """Return the next event; None if there is none within the timeout, in seconds."""
        ready: Sequence[Any] = self._ray.wait(list(self._pending), num_returns=1, timeout=timeout)[0]
        if not ready:
            return None
        worker = self._pending.pop(ready[0])
        try:
            return {"worker": worker, **self._ray.get(ready[0])}
        except self._ray.exceptions.RayError as error:  # the actor, its machine or its memory is lost
            with suppress(Exception):
                self._ray.kill(self._actors[worker])
            return {"worker": worker, "event": "died", "message": f"{type(error).__name__}: {error}"}

    def close(self) -> None:
        """End all actors, and the cluster if it was started here."""
        for actor in getattr(self, "_actors", {}).values():
            with suppress(Exception):
                self._ray.kill(actor)
        if self._owns:
            self._ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address is None:
        # without an address, RAY_ADDRESS would be joined, or the last cluster that this machine has started
        options |= {"address": "local", "include_dashboard": False, "num_cpus": physical_cores()}
    else:
        options["address"] = address
    try:
        _init(ray, options, attempts=3 if address is None else 1)
    except Exception as error:  # Ray raises errors of any type
        if address is None:
            raise UsageError(f"A Ray cluster cannot be started on this machine: {error}") from error
        raise UsageError(f"The Ray cluster {address} cannot be joined: {error}") from error


def _init(ray: Any, options: dict[str, Any], attempts: int) -> None:
    """Call `ray.init`; Ray waits for the start of its processes for 30 seconds, too short on a busy machine."""
    for attempt in range(1, attempts + 1):
        try:
            with quiet_libraries():
                ray.init(**options)
            return
        except Exception as error:  # it has no type of its own
            if "timed out during startup" not in str(error) or attempt == attempts:
                raise
            ray.shutdown()
