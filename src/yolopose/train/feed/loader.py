"""Training batches of every epoch, made by worker processes or threads."""

from __future__ import annotations

import math
import multiprocessing
import pickle
import signal
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from yolopose.base.errors import DataError, YoloposeError
from yolopose.base.log import LOGGER
from yolopose.base.prefetch import map_ordered
from yolopose.config import TrainOptions, limit_workers
from yolopose.data import Annotations
from yolopose.data.damaged import DamagedImages
from yolopose.schema import PoseSpec
from yolopose.train.feed.augment import Size
from yolopose.train.feed.batch import DeferredBatch, TrainBatch, empty_batch, make_batch, make_deferred_batch
from yolopose.train.feed.image_cache import FlatImages, open_images
from yolopose.train.feed.sampling import BatchSpec, SampleBuilder

_FORKS = sys.platform == "linux"  # worker processes share the memory of this one
_AHEAD = 2  # batches that threads make beyond the one in use
_POOL_BATCHES = 8  # mosaics draw from the images of as many batches before their own, which workers still hold decoded
_POOL_IMAGES = 1000  # limit of the same


class TrainBatches:
    """The training batches of a run; iterate over those of an epoch with `epoch`.

    Args:
        table: the annotations.
        spec: classes, keypoints and channels of the data set.
        options: ranges of augmentations, `seed`, `cache`, `rect`, `workers`, `epochs` and `close_mosaic`.
        imgsz: side of the square input, pixels; with `rect` the longer side.
        batch: images per batch; the last batch of an epoch may be smaller.
        stride: largest stride of the network; the sides of `rect` batches are multiples of it.
        workers: processes that make batches, at most one per CPU; 0 makes them in threads of this process. Default:
            `options.workers`. The batches do not depend on it.
        pin_memory: return batches in page-locked memory, for fast copies to a GPU.
        share: (rank, count) of this process if several share each batch. Each gets its part of the images, the same
            ones that a single process would make. Parts of a small last batch may differ by one image, or be empty.
        render_on: device that renders the images; workers then only decode and crop. By default workers render.
            Both result in the same samples except for rounding.

    Attributes:
        builder: builder of the samples.
        damaged: images that turned out not to decode.

    Raises:
        DataError: an image cannot be read, or too many do not decode, while the cache is filled.
    """

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
        limit = limit_workers(options.workers if workers is None else workers)
        self._workers = min(limit, math.ceil(len(table) / batch))
        images = open_images(
            table,
            imgsz,
            options.cache,
            spec.channels,
            self._workers if _FORKS else 0,
            min_side=min_decoded_side(options, imgsz) if options.fast_decode else None,
        )
        self.builder = SampleBuilder(table, spec, options, images, imgsz=imgsz, seed=options.seed)
        self.damaged = DamagedImages(options.data or "the data set", "train", len(table))
        if isinstance(images, FlatImages):
            self._add_damaged(images.damaged())
        self._options = options
        self._batch = batch
        self._share = share
        self._pin_memory = pin_memory
        self._render_on = None if self.builder.without_torch else render_on
        if render_on is not self._render_on:
            names = ", ".join(self.builder.without_torch)
            LOGGER.info(f"{names} has no torch code (PixelOperation.apply_torch): workers render the images.")
        self._groups = _rect_groups(table, imgsz, batch, stride) if options.rect else None
        self._shape = (imgsz, imgsz)
        self._count = len(table)
        if self._workers and not _FORKS and options.augmentations and not _can_pickle(options.augmentations):
            LOGGER.warning(
                "A transform of augmentations= cannot be sent to worker processes, because it is not defined in a "
                "module: samples are made in threads of this process."
            )
            self._workers = 0
        self._loader: DataLoader[Any] | None = None
        self._specs: list[BatchSpec] = []  # those of the epoch in progress

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return math.ceil(self._count / self._batch)

    def epoch(
        self, epoch: int, *, multi_image: bool | None = None, first: int = 0, count: int | None = None
    ) -> Iterator[TrainBatch]:
        """Yield the batches of an epoch.

        Args:
            epoch: epoch from 0. With the seed it determines the order and every sample, so a resumed run sees what an
                uninterrupted one does.
            multi_image: whether mosaic, mixup and cutmix are on. Default: off in the last `close_mosaic` epochs.
            first: batch to begin with, from 0; earlier ones are not made.
            count: number of batches; all of the epoch by default.

        Raises:
            DataError: an image cannot be read any more (the message names it), too many images do not decode, or a
                worker process has died.
        """
        if multi_image is None:
            multi_image = epoch < self._options.epochs - self._options.close_mosaic
        rank, size = self._share
        last = None if count is None else first + count
        specs = [_split_spec(spec, rank, size) for spec in self.batch_specs(epoch, multi_image)[first:last]]
        made = self._make([spec for spec in specs if len(spec.index)])
        for spec in specs:
            if not len(spec.index):
                yield empty_batch(spec, self.builder.table.keypoints.shape[1:], self.builder.channels)
                continue
            batch = next(made)
            self._add_damaged(batch.damaged)
            yield batch if isinstance(batch, TrainBatch) else batch.render(self._render_on or torch.device("cpu"))

    def _add_damaged(self, images: Iterable[tuple[int, str]]) -> None:
        for index, reason in images:
            self.damaged.add(self.builder.table.files[index], reason)

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        self._loader = None

    @contextmanager
    def reraise_worker_errors(self) -> Generator[None, None, None]:
        """Name the reason when a worker process dies; torch raises that wherever the main process happens to be.

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
                "A worker process that makes training batches has died "
                f"({str(error).splitlines()[0].rstrip('. ')}), most likely because the memory was full. "
                f"Use fewer `workers` (now {self._workers}) or a smaller batch."
            ) from error

    def batch_specs(self, epoch: int, multi_image: bool) -> list[BatchSpec]:
        """Return what each batch of an epoch consists of."""
        rng = np.random.default_rng((self._options.seed, epoch))
        if self._groups is not None:
            groups = [self._groups[number] for number in rng.permutation(len(self._groups))]
            return [BatchSpec(epoch, index, index, shape, False) for index, shape in groups]
        order = rng.permutation(self._count)
        before = min(_POOL_BATCHES * self._batch, _POOL_IMAGES)
        specs: list[BatchSpec] = []
        for start in range(0, self._count, self._batch):
            index = order[start : start + self._batch]
            end = start + len(index)
            size = min(before + len(index), self._count)
            pool = order[np.arange(end - size, end) % self._count]  # the first batches draw from the end of the order
            specs.append(BatchSpec(epoch, index, pool, self._shape, multi_image))
        return specs

    def _make(self, specs: list[BatchSpec]) -> Iterator[TrainBatch | DeferredBatch]:
        return self._make_in_processes(specs) if self._workers else self._make_in_threads(specs)

    def _make_in_threads(self, specs: list[BatchSpec]) -> Iterator[TrainBatch | DeferredBatch]:
        make = partial(make_batch if self._render_on is None else make_deferred_batch, self.builder)
        for batch in map_ordered(make, specs, threads=limit_workers(None), ahead=_AHEAD):
            yield batch.pin_memory() if self._pin_memory else batch

    def _make_in_processes(self, specs: list[BatchSpec]) -> Iterator[TrainBatch | DeferredBatch]:
        self._specs[:] = specs
        if self._loader is None:
            self._loader = DataLoader(
                _BatchDataset(self.builder, deferred=self._render_on is not None),
                batch_size=None,
                sampler=self._specs,  # type: ignore[arg-type]  # any iterable of what the data set accepts
                num_workers=self._workers,
                collate_fn=_identity,
                pin_memory=self._pin_memory,
                worker_init_fn=_start_worker,
                # forked workers share the arrays of labels and pixels without a copy
                multiprocessing_context=multiprocessing.get_context("fork" if _FORKS else "spawn"),
                generator=torch.Generator(),  # the default would draw from the global generator, which is the loop's
                persistent_workers=True,
            )
        batches = iter(self._loader)
        while True:
            with self.reraise_worker_errors():
                batch = next(batches, None)
            if batch is None:
                return
            if isinstance(batch, YoloposeError):
                # the traceback keeps this frame alive: without this the workers would live until it is collected
                del batches
                self.close()
                raise batch
            yield batch


class _BatchDataset(Dataset[Any]):
    """Batches by their spec. Errors are returned: torch would wrap raised ones in the traceback of the worker."""

    def __init__(self, builder: SampleBuilder, *, deferred: bool) -> None:
        self._make = partial(make_deferred_batch if deferred else make_batch, builder)

    def __getitem__(self, spec: BatchSpec) -> TrainBatch | DeferredBatch | YoloposeError:
        try:
            return self._make(spec)
        except YoloposeError as error:
            return error


def _split_spec(spec: BatchSpec, rank: int, count: int) -> BatchSpec:
    """Return the part of a batch that one of several processes makes."""
    return spec if count == 1 else replace(spec, index=np.array_split(spec.index, count)[rank])


def _rect_groups(table: Annotations, imgsz: int, batch: int, stride: int) -> list[tuple[npt.NDArray[np.int64], Size]]:
    """Group images of similar aspect ratio; return each group with the smallest input that fits all of it."""
    ratios = table.shapes[:, 0] / table.shapes[:, 1]
    order = np.argsort(ratios, kind="stable")
    groups = [order[start : start + batch] for start in range(0, len(order), batch)]
    return [(group, _rect_shape(ratios[group], imgsz, stride)) for group in groups]


def _rect_shape(ratios: npt.NDArray[np.float64], imgsz: int, stride: int) -> Size:
    height = min(float(ratios.max()), 1.0)
    width = min(1 / float(ratios.min()), 1.0)
    return math.ceil(height * imgsz / stride) * stride, math.ceil(width * imgsz / stride) * stride


def min_decoded_side(options: TrainOptions, imgsz: int) -> int:
    """Return the longer side of an image where it is enlarged most: an image with fewer pixels would be blurred.

    Args:
        options: ranges of the augmentations.
        imgsz: length that the longer side is scaled to before geometric operations, pixels.
    """
    return math.ceil(imgsz * (1 + options.scale))


def _can_pickle(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # any error of the objects of other libraries
        return False
    return True


def _identity(value: Any) -> Any:
    return value


def _start_worker(_: int) -> None:
    """Limit a worker to one thread and leave Ctrl-C to the main process, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)
