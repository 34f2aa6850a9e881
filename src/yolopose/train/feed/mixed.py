"""Batches of labeled images, each followed by images with pseudo labels."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from yolopose.data.damaged import DamagedImages
from yolopose.train.feed.batch import TrainBatch
from yolopose.train.feed.loader import TrainBatches


class MixedBatches:
    """The training batches of a run with pseudo labels; used as `TrainBatches`.

    An epoch has the batches of the labeled images. Each also has a fixed number of pseudo-labeled images, so that many
    of these do not outweigh the labeled ones; mosaics combine images of one kind. Which ones a batch has depends on
    seed and epoch only, as for labeled images.

    Args:
        labeled: batches of labeled images.
        pseudo: batches of images with pseudo labels, of the same input size.

    Attributes:
        damaged: labeled images that turned out not to decode.
    """

    def __init__(self, labeled: TrainBatches, pseudo: TrainBatches) -> None:
        self._labeled = labeled
        self._pseudo = pseudo
        self.damaged: DamagedImages = labeled.damaged

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._labeled)

    def epoch(self, epoch: int, *, multi_image: bool | None = None, first: int = 0) -> Iterator[TrainBatch]:
        """Yield the batches of an epoch; see `TrainBatches.epoch`."""
        labeled = self._labeled.epoch(epoch, multi_image=multi_image, first=first)
        offset = len(self._labeled.builder.table)
        for own, other in zip(labeled, self._pseudo_batches(epoch, multi_image, first), strict=True):
            yield join_batches(own, other, offset)

    def _pseudo_batches(self, epoch: int, multi_image: bool | None, first: int) -> Iterator[TrainBatch]:
        """Yield as many batches as an epoch has: a part of all pseudo-labeled images, or all of them several times."""
        size = len(self._pseudo)
        passes = -(-len(self) // size)
        position = first
        while position < len(self):
            number, start = divmod(position, size)
            count = min(size - start, len(self) - position)
            yield from self._pseudo.epoch(epoch * passes + number, multi_image=multi_image, first=start, count=count)
            position += count

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        self._labeled.close()
        self._pseudo.close()

    @contextmanager
    def reraise_worker_errors(self) -> Generator[None, None, None]:
        """Name the reason when a worker process dies; see `TrainBatches.reraise_worker_errors`."""
        with ExitStack() as stack:
            for batches in (self._labeled, self._pseudo):
                stack.enter_context(batches.reraise_worker_errors())
            yield


def join_batches(labeled: TrainBatch, pseudo: TrainBatch, offset: int) -> TrainBatch:
    """Return a batch of the images of both.

    Args:
        labeled: images with labels.
        pseudo: images with pseudo labels, which come last.
        offset: number of labeled images of the data set; the indices of pseudo-labeled ones continue from it.
    """

    def join(name: str) -> torch.Tensor:
        return torch.cat((getattr(labeled, name), getattr(pseudo, name)))

    return replace(
        labeled,
        images=join("images"),
        batch_idx=torch.cat((labeled.batch_idx, pseudo.batch_idx + len(labeled))),
        classes=join("classes"),
        boxes=join("boxes"),
        keypoints=join("keypoints"),
        index=torch.cat((labeled.index, pseudo.index + offset)),
        num_pseudo=len(pseudo),
    )
