"""Recently decoded images in memory that all workers share.

A mosaic draws three more images from those of the last batches, which other workers have decoded. With a memory of its
own, each of n workers would decode most of them again.

The memory is a ring of bytes: an image is written behind the newest one, over the oldest ones. Positions count bytes
since the start and never repeat, so whether an image is still complete follows from its position and that of the end.
Nothing is written over a place that a process is still writing: the new image is not kept instead.
"""

from __future__ import annotations

import mmap
import multiprocessing
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.train.feed.augment import Image

_ABSENT = -1
_WRITERS = 256  # processes that write at the same time


class SharedImages:
    """A ring of decoded images; forked processes share it. It is used before and after a fork, and never pickled.

    Args:
        count: number of images of the data set.
        capacity: bytes of the ring.
        channels: of each image.
    """

    def __init__(self, count: int, capacity: int, channels: int = 3) -> None:
        self._channels = channels
        self.capacity = capacity
        # anonymous shared mappings: pages are allocated when they are first written
        self._pixels = np.frombuffer(mmap.mmap(-1, capacity), dtype=np.uint8)
        entries: npt.NDArray[np.int64] = np.frombuffer(mmap.mmap(-1, max(count, 1) * 4 * 8), dtype=np.int64)
        self._entries = entries.reshape(-1, 4)  # position, height, width and check of each image
        self._end: npt.NDArray[np.int64] = np.frombuffer(mmap.mmap(-1, 8), dtype=np.int64)
        # position of the image that each writer is copying
        self._writing: npt.NDArray[np.int64] = np.frombuffer(mmap.mmap(-1, _WRITERS * 8), dtype=np.int64)
        self._lock = multiprocessing.get_context("fork").Lock()
        self._entries[:, 0] = _ABSENT
        self._writing[:] = _ABSENT

    def get(self, index: int) -> Image | None:
        """Return a copy of an image; None if it has never been put or was overwritten."""
        position, height, width, check = self._entries[index].tolist()
        # another process may be writing the entry: its values belong together only if the check does
        if position == _ABSENT or check != position ^ height ^ width or not self._is_complete(position):
            return None
        start = position % self.capacity
        image = self._pixels[start : start + height * width * self._channels].reshape(height, width, -1).copy()
        return image if self._is_complete(position) else None

    def put(self, index: int, image: Image) -> None:
        """Keep an image, unless it takes a large part of the ring."""
        size = image.nbytes
        if size > self.capacity // 8:
            return
        with self._lock:
            end = int(self._end[0])
            if end % self.capacity + size > self.capacity:  # images are not split
                end += self.capacity - end % self.capacity
            positions = self._writing[self._writing != _ABSENT]
            if len(positions) == _WRITERS or (len(positions) and end + size - self.capacity > positions.min()):
                return
            writer = int(np.flatnonzero(self._writing == _ABSENT)[0])
            self._writing[writer] = end
            self._end[0] = end + size  # from now on, images that lie here count as overwritten
        start = end % self.capacity
        self._pixels[start : start + size] = image.reshape(-1)
        self._entries[index] = (end, *image.shape[:2], end ^ image.shape[0] ^ image.shape[1])
        with self._lock:
            self._writing[writer] = _ABSENT

    def _is_complete(self, position: int) -> bool:
        with self._lock:
            end: Any = self._end[0]
        return bool(position >= end - self.capacity)
