"""Base of the engines of exported graphs: batches of the graph's size, candidates, replicas; device and precision."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.base.errors import UsageError
from yolopose.base.log import warn_once
from yolopose.config import parse_devices
from yolopose.formats.metadata import check_output
from yolopose.results import HostArray
from yolopose.runtime import Batch, Candidates, Runtime, from_end2end, from_raw
from yolopose.schema import ModelMetadata


@dataclass(frozen=True, slots=True)
class Origin:
    """Arguments of `yolopose.formats.open_runtime`.

    Attributes:
        path: absolute path of the file.
        device: as given.
        half: as given.
    """

    path: Path
    device: object
    half: bool


def _reopen(origin: Origin) -> Runtime:
    from yolopose.formats import open_runtime

    return open_runtime(origin.path, device=origin.device, half=origin.half)


G = TypeVar("G", bound="GraphRuntime")


class GraphRuntime(ABC):
    """Engine of a graph whose whole output is copied to the host; implements `yolopose.runtime.Replicated`.

    A format implements `_run` and, if several callers can compute at once, `_replica`.

    Attributes:
        metadata: classes, keypoints, stride, supported input sizes and batches.
        device: `cpu`, `cuda:0`.
        origin: the arguments of `open_runtime`, by which the engine is opened again in another process.
        survives_fork: whether a process that was forked from this one can use the engine.
    """

    survives_fork: bool = False
    metadata: ModelMetadata
    device: str = "cpu"
    origin: Origin | None = None

    def __init__(self) -> None:
        self._replicas: dict[int, Sequence[Runtime]] = {}
        self._pid = os.getpid()

    def __reduce__(self) -> Any:
        """Pickle and copy the engine as its file, which is opened again."""
        if self.origin is None:
            raise TypeError(f"cannot pickle {type(self).__name__!r} object: it was not opened by open_runtime()")
        return _reopen, (self.origin,)

    def clone(self: G) -> G:
        """Return an engine that shares everything with this one; replicas then replace what they do not share."""
        clone = object.__new__(type(self))
        vars(clone).update(vars(self))
        return clone

    def replicas(self, count: int) -> Sequence[Runtime]:
        """Return engines for `count` threads, created once; see `yolopose.runtime.Replicated.replicas`.

        In a forked process, the threads of those that the parent has created do not exist: it uses the engine itself.
        """
        if self._pid != os.getpid():
            return [self]
        if count not in self._replicas:
            self._replicas[count] = self._make_replicas(count)
        return self._replicas[count]

    def infer(
        self,
        batch: Batch,
        *,
        conf: float,
        max_nms: int = 30_000,
        classes: Sequence[int] | None = None,
        multi_label: bool = False,
    ) -> Candidates:
        """Run the network and keep candidates above `conf`; see `yolopose.runtime.Runtime.infer`."""
        raw = self._outputs(batch)
        keypoints = self.metadata.spec.keypoints
        shape, states = keypoints.shape, keypoints.visibility
        uncertainty = self.metadata.uncertainty
        if self.metadata.end2end:
            return from_end2end(raw, shape, conf=conf, classes=classes, uncertainty=uncertainty, states=states)
        return from_raw(
            raw,
            shape,
            conf=conf,
            max_nms=max_nms,
            classes=classes,
            multi_label=multi_label,
            uncertainty=uncertainty,
            states=states,
        )

    def raw(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Run the network and return its whole output, float32.

        Args:
            batch: (B, C, H, W), uint8 0…255 or float32 0…1.
        """
        return self._outputs(batch)

    def to_array(self, array: npt.NDArray[Any]) -> HostArray:
        """Return a host array with the common methods of a tensor."""
        return HostArray(array)

    def _outputs(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Return the whole output, in several runs if the batch exceeds that of the file."""
        size = self.metadata.batch or len(batch)
        if len(batch) <= size:
            return self._run(batch, size)
        first = self._run(batch[:size], size)
        whole = np.empty((len(batch), *first.shape[1:]), dtype=first.dtype)
        whole[:size] = first  # copied before the next run, which may reuse the engine's memory
        for start in range(size, len(batch), size):
            whole[start : start + size] = self._run(batch[start : start + size], size)
        return whole

    @abstractmethod
    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        """Return the output for at most `size` images, uint8 0…255 or float32 0…1; a fixed batch is padded to `size`.

        The array may be memory of the engine that is valid until the thread's next call; such an engine also overrides
        `raw`.
        """

    def check_runs(self, path: Path) -> None:
        """Run the network on a black image, so that a damaged file is reported when it is opened.

        Raises:
            WeightsError: the output does not fit the classes and keypoints of the metadata.
        """
        metadata = self.metadata
        sides = (2 * metadata.stride, 2 * metadata.stride) if metadata.dynamic else metadata.imgsz
        output = self._run(np.zeros((1, metadata.spec.channels, *sides), dtype=np.uint8), metadata.batch or 1)
        check_output(path, metadata, output.shape if output.ndim == 3 else (*output.shape, 0, 0, 0))

    def _make_replicas(self, count: int) -> Sequence[Runtime]:
        threads = max(1, physical_cores() // count)
        replicas = [] if count < 2 else [replica for _ in range(count) if (replica := self._replica(threads))]
        return replicas or [self]

    def _replica(self, threads: int) -> Runtime | None:
        """Return an engine of the same file that computes on `threads` threads; None if the engine cannot."""
        del threads
        return None


class InputBuffer:
    """Reused memory for the input of a graph that takes 0…1; one buffer per thread."""

    def __init__(self) -> None:
        self._local = threading.local()

    def fill(self, batch: Batch, size: int, dtype: Any = np.float32) -> npt.NDArray[Any]:
        """Return a batch as input of the graph; valid until the thread's next call.

        Args:
            batch: (B, C, H, W), uint8 0…255 or float32 0…1.
            size: batch of the graph, at least B; missing images are black.
            dtype: input type of the graph.
        """
        if batch.dtype == dtype and len(batch) == size:
            return np.ascontiguousarray(batch)
        values = self._buffer((size, *batch.shape[1:]), dtype)
        scale = 255 if np.issubdtype(batch.dtype, np.integer) else 1
        # computed in float32 for any dtype; numpy converts block by block, without a copy of the whole
        np.divide(batch, np.float32(scale), out=values[: len(batch)], dtype=np.float32, casting="same_kind")
        values[len(batch) :] = 0
        return values

    def _buffer(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        values = getattr(self._local, "values", None)
        if values is None or values.shape != shape or values.dtype != dtype:
            values = self._local.values = np.empty(shape, dtype=dtype)
        return values


def single_device(device: object) -> str:
    """Return a device in lower case: `""` (the best available), `cpu`, `cuda:0`, `mps`.

    Args:
        device: `None`, `""`, `"cpu"`, `0`, `"0"`, `"cuda"`, `"cuda:0"`, `[0]`, `"mps"`, or a value that prints as one.

    Raises:
        UsageError: several devices are given.
    """
    names = parse_devices(device)  # type: ignore[arg-type]  # it also takes what prints as a device
    if len(names) > 1:
        raise UsageError(f"device={device!r} names {len(names)} devices, which only training supports: name one.")
    text = names[0] if names else ""
    return f"cuda:{text}" if text.isdigit() else text


def require_cpu(device: object, title: str) -> None:
    """Check that no other device than the CPU is requested.

    Raises:
        UsageError: another device is.
    """
    if single_device(device) not in ("", "cpu"):
        raise UsageError(f"device={device!r}: {title} files run on the CPU only; use device=cpu.")


def warn_half_is_fixed(half: bool, path: Path) -> None:
    """Warn once that `half=True` does not change the precision of an exported file."""
    if half:
        warn_once(f"half=True has no effect on {path.name}: export it with half=True for 16-bit inference.")
