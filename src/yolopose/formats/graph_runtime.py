"""What the engines of exported graphs have in common: batches as the graph takes them, candidates, replicas."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.cpu import physical_cores
from yolopose.formats.metadata import check_output
from yolopose.results import HostArray
from yolopose.runtime import Batch, Candidates, Runtime, from_end2end, from_raw
from yolopose.schema import ModelMetadata


class GraphRuntime(ABC):
    """Implements `yolopose.runtime.Replicated` for a graph whose whole output comes to the host; a format adds `_run`.

    Attributes:
        metadata: classes, keypoints, stride, the input sizes and batches that go.
        device: `cpu`, `cuda:0`.
    """

    metadata: ModelMetadata
    device: str = "cpu"

    def __init__(self) -> None:
        self._replicas: dict[int, Sequence[Runtime]] = {}

    def replicas(self, count: int) -> Sequence[Runtime]:
        """Return engines for `count` threads, made once; see `yolopose.runtime.Replicated.replicas`."""
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
        """Run the network and keeps what scores above `conf`; see `yolopose.runtime.Runtime.infer`."""
        raw, shape, uncertainty = self._outputs(batch), self.metadata.spec.keypoints.shape, self.metadata.uncertainty
        if self.metadata.end2end:
            return from_end2end(raw, shape, conf=conf, classes=classes, uncertainty=uncertainty)
        return from_raw(
            raw,
            shape,
            conf=conf,
            max_nms=max_nms,
            classes=classes,
            multi_label=multi_label,
            uncertainty=uncertainty,
        )

    def raw(self, batch: Batch) -> npt.NDArray[np.float32]:
        """Run the network and returns its whole output, float32.

        Args:
            batch: (B, 3, H, W) RGB, uint8 0…255 or float32 0…1.
        """
        return self._outputs(batch)

    def to_array(self, array: npt.NDArray[Any]) -> HostArray:
        """Return a host array with a tensor's everyday methods."""
        return HostArray(array)

    def _outputs(self, batch: Batch) -> npt.NDArray[np.float32]:
        """The whole output, in as many steps as a file of a fixed batch takes."""
        size = self.metadata.batch or len(batch)
        if len(batch) <= size:
            return self._run(batch, size)
        first = self._run(batch[:size], size)
        whole = np.empty((len(batch), *first.shape[1:]), dtype=first.dtype)
        whole[:size] = first  # copied at once: the next step may go where this one lies
        for start in range(size, len(batch), size):
            whole[start : start + size] = self._run(batch[start : start + size], size)
        return whole

    @abstractmethod
    def _run(self, batch: Batch, size: int) -> npt.NDArray[np.float32]:
        """The output for at most `size` images; a graph of a fixed batch computes `size`, some of them black.

        It may lie in the engine's own memory and is good until the thread's next call; an engine for which that is so
        overrides `raw` as well.
        """

    def _try_out(self, path: Path) -> None:
        """Run the network on nothing, so that what is wrong with a file is said when it is opened.

        Raises:
            WeightsError: the output is not that of the classes and keypoints that the record names.
        """
        about = self.metadata
        sides = (2 * about.stride, 2 * about.stride) if about.dynamic else about.imgsz
        output = self._run(np.zeros((1, 3, *sides), dtype=np.uint8), about.batch or 1)
        check_output(path, about, output.shape if output.ndim == 3 else (*output.shape, 0, 0, 0))

    def _make_replicas(self, count: int) -> Sequence[Runtime]:
        threads = max(1, physical_cores() // count)
        found = [] if count < 2 else [replica for _ in range(count) if (replica := self._replica(threads))]
        return found or [self]

    def _replica(self, threads: int) -> Runtime | None:
        """An engine of the same file that computes on so many threads; None where the format has but one for all."""
        del threads
        return None


class InputMemory:
    """Memory for the input of a graph that takes 0…1, kept from call to call; each thread has its own."""

    def __init__(self) -> None:
        self._kept = threading.local()

    def filled(self, batch: Batch, size: int, dtype: Any = np.float32) -> npt.NDArray[Any]:
        """Return a batch as the graph takes it; good until the thread's next call.

        Args:
            batch: (B, 3, H, W), uint8 0…255 or float32 0…1.
            size: images that the graph takes, at least B; those that are not there are black.
            dtype: of the graph's input.
        """
        if batch.dtype == dtype and len(batch) == size:
            return np.ascontiguousarray(batch)
        values = self._values((size, *batch.shape[1:]), dtype)
        scale = 255 if np.issubdtype(batch.dtype, np.integer) else 1
        # computed in float32 whatever is stored; numpy converts block by block, without a copy of the whole
        np.divide(batch, np.float32(scale), out=values[: len(batch)], dtype=np.float32, casting="same_kind")
        values[len(batch) :] = 0
        return values

    def _values(self, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        found = getattr(self._kept, "values", None)
        if found is None or found.shape != shape or found.dtype != dtype:
            found = self._kept.values = np.empty(shape, dtype=dtype)
        return found
