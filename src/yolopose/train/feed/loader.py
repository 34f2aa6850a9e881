"""Training batches: which images go together in an epoch, made by worker processes or threads."""

from __future__ import annotations

import math
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from yolopose.base.errors import DataError, YoloposeError
from yolopose.config import TrainOptions, limit_workers
from yolopose.data import Annotations, ImageLabels
from yolopose.geometry import xyxy_to_cxcywh
from yolopose.schema import PoseSpec
from yolopose.train.feed.batch import DeferredBatch, TrainBatch
from yolopose.train.feed.deferred import defer_images
from yolopose.train.feed.image_cache import open_images
from yolopose.train.feed.labels import join
from yolopose.train.feed.sampling import BatchSpec, SampleBuilder

Size = tuple[int, int]
_AHEAD = 2  # batches being made by threads while one is in use
_POOL_BATCHES = 8  # mosaics draw from the images of that many batches before theirs…
_POOL_MOST = 1000  # …but from no more images than these


class _Batches(Dataset[Any]):
    """Request → batch. A fault is returned, since a raised one would arrive wrapped in a worker's traceback."""

    def __init__(self, sampler: SampleBuilder, sketched: bool) -> None:
        self.builder = sampler
        self._make = make_deferred if sketched else make_batch

    def __getitem__(self, request: BatchSpec) -> TrainBatch | DeferredBatch | YoloposeError:
        try:
            return self._make(self.builder, request)
        except YoloposeError as error:
            return error


class TrainBatches:
    """The training batches of every epoch; see `train_batches`."""

    def __init__(
        self,
        table: Annotations,
        spec: PoseSpec,
        options: TrainOptions,
        *,
        imgsz: int,
        batch: int,
        stride: int = 32,
        workers: int | None = None,
        pin_memory: bool = False,
        share: tuple[int, int] = (0, 1),
        render_on: torch.device | None = None,
    ) -> None:
        images = open_images(table, imgsz, options.cache)
        self.builder = SampleBuilder(table, spec, options, images, imgsz=imgsz, seed=options.seed)
        self._options = options
        self._batch = batch
        self._share = share
        self._pin, self._render_on = pin_memory, render_on
        self._groups = _rect_groups(table, imgsz, batch, stride) if options.rect else None
        self._shape = (imgsz, imgsz)
        self._count = len(table)
        chosen = options.workers if workers is None else workers
        self._workers = min(limit_workers(chosen), len(self))
        self._loader: DataLoader[Any] | None = None
        self._now: list[BatchSpec] = []

    def __len__(self) -> int:
        """Batches in an epoch; the last may be smaller."""
        return math.ceil(self._count / self._batch)

    def epoch(self, epoch: int, *, mosaic: bool | None = None, first: int = 0) -> Iterator[TrainBatch]:
        """Go through the batches of an epoch.

        Args:
            epoch: its number from 0; the order and every sample follow from the seed and it, so a resumed run sees what
                an uninterrupted one would.
            mosaic: whether mosaic, mixup and cutmix are on; off in the last `close_mosaic` epochs when left out.
            first: the batch to begin with, from 0; those before it are not made.

        Raises:
            DataError: an image cannot be read any more (the text names it), or a worker process has died.
        """
        if mosaic is None:
            mosaic = epoch < self._options.epochs - self._options.close_mosaic
        shares = [_shared(request, *self._share) for request in self.batch_specs(epoch, mosaic)[first:]]
        requests = [request for request in shares if len(request.index)]
        made = self._by_processes(requests) if self._workers else self._by_threads(requests)
        batches = made if self._render_on is None else self._painted(made, self._render_on)
        return batches if len(requests) == len(shares) else self._filled(batches, shares)

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        self._loader = None

    @contextmanager
    def reraise_worker_errors(self) -> Generator[None, None, None]:
        """Name the reason where a worker process dies; torch says it in the middle of whatever is done just then.

        Raises:
            DataError: a worker process has died.
        """
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, YoloposeError) or "DataLoader worker" not in str(error):
                raise
            self._loader = None
            raise DataError(
                "A process that makes training batches has ended unexpectedly "
                f"({str(error).splitlines()[0].rstrip('.')}). Most often the memory was full: try fewer `workers` "
                f"(now {self._workers}) or a smaller batch."
            ) from error

    def batch_specs(self, epoch: int, mosaic: bool) -> list[BatchSpec]:
        """Return what each batch of an epoch is made of."""
        rng = np.random.default_rng((self._options.seed, epoch))
        if self._groups is not None:
            return [
                BatchSpec(epoch, self._groups[at][0], self._groups[at][0], self._groups[at][1], False)
                for at in rng.permutation(len(self._groups))
            ]
        order = rng.permutation(self._count)
        before = min(_POOL_BATCHES * self._batch, _POOL_MOST)
        requests: list[BatchSpec] = []
        for start in range(0, self._count, self._batch):
            index = order[start : start + self._batch]
            size = min(before + len(index), self._count)
            end = start + len(index)
            pool = order[np.arange(end - size, end) % self._count]  # the first batches draw from the order's end
            requests.append(BatchSpec(epoch, index, pool, self._shape, mosaic))
        return requests

    def _filled(self, made: Iterator[TrainBatch], shares: list[BatchSpec]) -> Iterator[TrainBatch]:
        """Put batches of no image where this process has none to make."""
        points = self.builder.table.keypoints.shape[1:]
        none = torch.zeros(0, dtype=torch.int64)
        for request in shares:
            if len(request.index):
                yield next(made)
                continue
            yield TrainBatch(
                images=torch.zeros((0, 3, *request.shape), dtype=torch.uint8),
                batch_idx=none,
                classes=none,
                boxes=torch.zeros((0, 4)),
                keypoints=torch.zeros((0, *points)),
                index=none,
            )

    @staticmethod
    def _painted(made: Iterator[Any], device: torch.device) -> Iterator[TrainBatch]:
        for batch in made:
            yield batch.painted(device)

    def _by_threads(self, requests: list[BatchSpec]) -> Iterator[Any]:
        make = make_batch if self._render_on is None else make_deferred
        with ThreadPoolExecutor(limit_workers(None)) as pool:
            waiting: deque[Future[Any]] = deque()
            try:
                for request in requests:
                    waiting.append(pool.submit(make, self.builder, request))
                    if len(waiting) > _AHEAD:
                        yield self._pinned(waiting.popleft().result())
                while waiting:
                    yield self._pinned(waiting.popleft().result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _pinned(self, batch: Any) -> Any:
        return batch.pin_memory() if self._pin else batch

    def _by_processes(self, requests: list[BatchSpec]) -> Iterator[Any]:
        self._now[:] = requests
        if self._loader is None:
            self._loader = DataLoader(
                _Batches(self.builder, self._render_on is not None),
                batch_size=None,
                sampler=self._now,  # type: ignore[arg-type]  # any iterable of what the data set understands
                num_workers=self._workers,
                collate_fn=_as_is,
                pin_memory=self._pin,
                worker_init_fn=_start_worker,
                # forked workers share the label and pixel arrays without a copy
                multiprocessing_context=multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn"),
                generator=torch.Generator(),  # the global one is left to the loop
                persistent_workers=True,
            )
        batches = iter(self._loader)
        while True:
            with self.reraise_worker_errors():
                made = next(batches, None)
            if made is None:
                return
            if isinstance(made, YoloposeError):
                # ended here, not whenever the traceback that holds this frame is collected: that may take seconds
                del batches
                self.close()
                raise made
            yield made


def train_batches(
    table: Annotations,
    spec: PoseSpec,
    options: TrainOptions,
    *,
    imgsz: int,
    batch: int,
    stride: int = 32,
    workers: int | None = None,
    pin_memory: bool = False,
    share: tuple[int, int] = (0, 1),
    render_on: torch.device | None = None,
) -> TrainBatches:
    """Make the training batches of a run; go through those of epoch e with `.epoch(e)`.

    Args:
        table: the labels.
        spec: classes and keypoints of the data set.
        options: augmentation ranges, `seed`, `cache`, `rect`, `workers`, `epochs`, `close_mosaic`.
        imgsz: side of the square input, pixels; with `rect` the longer side.
        batch: images in a batch; the last batch of an epoch may be smaller.
        stride: largest stride of the network; the sides of `rect` batches are multiples of it.
        workers: processes that make batches, no more than there are processors; 0 makes them by threads in this
            process. `options.workers` when left out. The batches are the same for any number.
        pin_memory: give batches in page-locked memory, for fast copies to a GPU.
        share: (number, count) of the process, where several share each batch: it gets its part of the images, each
            made as it would be for one process. Parts of a small last batch may differ by one, and be empty.
        render_on: the device that paints the images; workers only decode and cut out what is seen. Left out, workers
            do it all. Both give the same samples but for rounding.

    Raises:
        DataError: an image cannot be read while the cache is filled.
    """
    return TrainBatches(
        table, spec, options, imgsz=imgsz, batch=batch, stride=stride, workers=workers, pin_memory=pin_memory,
        share=share, render_on=render_on,
    )  # fmt: skip


def _shared(request: BatchSpec, number: int, count: int) -> BatchSpec:
    """The part of a request that one of several processes makes."""
    return request if count == 1 else replace(request, index=np.array_split(request.index, count)[number])


def make_batch(sampler: SampleBuilder, request: BatchSpec) -> TrainBatch:
    """Make the batch of a request in this thread.

    Raises:
        DataError: an image cannot be read any more; the text names it.
    """
    height, width = request.shape
    # pixel by pixel, as OpenCV and convolutions want them
    images = np.empty((len(request.index), height, width, 3), dtype=np.uint8)
    found: list[ImageLabels] = []
    for place, index in zip(images, request.index, strict=True):
        image, labels = sampler.make(request, int(index))
        cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGR2RGB, dst=place)
        found.append(labels)
    return _labeled(torch.from_numpy(images).permute(0, 3, 1, 2), found, request)


def make_deferred(sampler: SampleBuilder, request: BatchSpec) -> DeferredBatch:
    """Make the batch of a request in this thread, but for its pixels.

    Raises:
        DataError: an image cannot be read any more; the text names it.
    """
    recipes = [sampler.sample_params(request, int(index)) for index in request.index]
    none = torch.empty((len(recipes), 3, 0, 0), dtype=torch.uint8)
    labels = _labeled(none, [recipe.labels for recipe in recipes], request)
    return DeferredBatch(defer_images(sampler, recipes), labels)


def _labeled(images: torch.Tensor, found: list[ImageLabels], request: BatchSpec) -> TrainBatch:
    """Images with the objects of each, in shares of the input."""
    every = join(found)
    size = np.array(request.shape[::-1], dtype=np.float32)
    return TrainBatch(
        images=images,
        batch_idx=torch.from_numpy(np.repeat(np.arange(len(found)), [len(labels.classes) for labels in found])),
        classes=torch.from_numpy(every.classes.astype(np.int64)),
        boxes=torch.from_numpy((xyxy_to_cxcywh(every.boxes) / np.tile(size, 2)).astype(np.float32)),
        keypoints=torch.from_numpy((every.keypoints / np.append(size, np.float32(1))).astype(np.float32)),
        index=torch.from_numpy(np.array(request.index, dtype=np.int64)),
    )


def _rect_groups(table: Annotations, imgsz: int, batch: int, stride: int) -> list[tuple[npt.NDArray[np.int64], Size]]:
    """Images of alike shape together, and for each group the smallest input that holds them."""
    ratios = table.shapes[:, 0] / table.shapes[:, 1]
    order = np.argsort(ratios, kind="stable")
    groups = [order[start : start + batch] for start in range(0, len(order), batch)]
    return [(group, _rect_shape(ratios[group], imgsz, stride)) for group in groups]


def _rect_shape(ratios: npt.NDArray[np.float64], imgsz: int, stride: int) -> Size:
    low, high = float(ratios.min()), float(ratios.max())
    height, width = min(high, 1.0), min(1 / low, 1.0)
    return math.ceil(height * imgsz / stride) * stride, math.ceil(width * imgsz / stride) * stride


def _as_is(value: Any) -> Any:
    return value


def _start_worker(_: int) -> None:
    """One thread a worker; Ctrl-C is for the main process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
