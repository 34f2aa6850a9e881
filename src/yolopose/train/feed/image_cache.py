"""Decoded images by index: from files with a small cache of recent ones, from memory, or from a file on disk."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError, SourceError
from yolopose.base.files import atomic_path
from yolopose.base.log import LOGGER
from yolopose.base.memory import available_memory
from yolopose.base.progress import progress
from yolopose.config import limit_workers
from yolopose.data import Annotations
from yolopose.data.batches import loaded_size
from yolopose.data.images import DamagedImageError, read_channels, read_channels_reduced
from yolopose.data.label_scan import cache_path
from yolopose.train.feed.augment import Image, Size
from yolopose.train.feed.shared_images import SharedImages

RECENT_BYTES = 192 * 2**20  # of recently decoded images per process
_MAX_SHARED_BYTES = 2**30  # of those that worker processes share
_VERSION = 2
_DIGEST_SIZE = 32  # bytes of a SHA-256
_GIB = 2**30


class Images(Protocol):
    """Decoded images."""

    def __getitem__(self, index: int) -> Image:
        """Return (h, w, C) uint8, read-only, of the aspect ratio of the file; the size may be smaller.

        Color images are BGR.

        Raises:
            DamagedImageError: it does not decode.
            DataError: it cannot be read any more.
        """
        ...


def decode(table: Annotations, index: int, channels: int, min_side: int | None = None) -> Image:
    """Decode an image with the channels that the network reads.

    Args:
        table: the annotations.
        index: image.
        channels: channels that the network reads.
        min_side: least length of the longer side of a large JPEG that is decoded at a reduced scale, pixels; None: all
            are decoded at their full size.

    Raises:
        DamagedImageError: it does not decode.
        DataError: it cannot be read, or its size has changed since its labels were read.
    """
    path = table.files[index]
    try:
        if min_side is None:
            image = read_channels(path, channels)
            size = image.shape[:2]
        else:
            image, size = read_channels_reduced(path, channels, min_side)
    except DamagedImageError:
        raise
    except (NotFoundError, SourceError) as error:
        raise DataError(f"{error} It could be read when the training started.") from error
    if size != tuple(table.shapes[index]):
        raise DataError(f"The image {path} has changed since its labels were read; restart the training.")
    return image


class FileImages:
    """Images decoded on demand. Recent ones are cached, since mosaics use each image several times.

    Args:
        table: the annotations.
        channels: channels that the network reads.
        limit: bytes of decoded images to cache.
        workers: forked processes that will share the cache; 0 for threads of this process.
        min_side: see `decode`.
    """

    def __init__(
        self,
        table: Annotations,
        channels: int = 3,
        limit: int = RECENT_BYTES,
        workers: int = 0,
        *,
        min_side: int | None = None,
    ) -> None:
        self._table = table
        self._channels = channels
        self._limit = limit
        self._min_side = min_side
        self._shared = _share_images(len(table), _shared_bytes(limit, workers), channels) if workers > 1 else None
        self._reset()

    def _reset(self) -> None:
        self._recent: OrderedDict[int, Image] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[Annotations, int, int, int | None]:
        return self._table, self._channels, self._limit, self._min_side

    def __setstate__(self, state: tuple[Annotations, int, int, int | None]) -> None:
        self._table, self._channels, self._limit, self._min_side = state
        self._shared = None
        self._reset()

    def __getitem__(self, index: int) -> Image:
        if self._shared is None:
            return self._get_own(index)
        image = self._shared.get(index)
        if image is None:
            image = decode(self._table, index, self._channels, self._min_side)
            self._shared.put(index, image)
        return image

    def _get_own(self, index: int) -> Image:
        with self._lock:
            image = self._recent.get(index)
            if image is not None:
                self._recent.move_to_end(index)
                return image
        # not locked: other threads decode other images at the same time
        image = decode(self._table, index, self._channels, self._min_side)
        with self._lock:
            if index not in self._recent:
                self._recent[index] = image
                self._bytes += image.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._recent.popitem(last=False)[1].nbytes
        return image


class FlatImages:
    """All images decoded, behind each other in one flat array.

    Args:
        sizes: (n, 2) height, width of each.
        pixels: (bytes,) uint8: n flags that are 1 for images that do not decode, then the pixels; or the .npy file that
            holds a digest and then the same. The file is mapped into memory by each process, so all processes share one
            copy.
        files: their paths.
        channels: C, channels of the images.
    """

    def __init__(
        self, sizes: npt.NDArray[np.int64], pixels: Image | Path, files: Sequence[Path], channels: int = 3
    ) -> None:
        self._files = files
        self._sizes = sizes
        self._channels = channels
        self._offsets = _offsets(sizes, channels)
        self._source = pixels
        self._pixels: Image | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}

    def damaged(self) -> list[tuple[int, str]]:
        """Return (index, reason) of the images that do not decode."""
        flags = self._open()[: len(self._files)]
        return [(index, self._reason(index)) for index in np.flatnonzero(flags).tolist()]

    def _reason(self, index: int) -> str:
        return f"The image {self._files[index]} does not decode. Copy it again or remove it."

    def _open(self) -> Image:
        pixels = self._pixels
        if pixels is None:
            source = self._source
            pixels = np.load(source, mmap_mode="r")[_DIGEST_SIZE:] if isinstance(source, Path) else source
            self._pixels = pixels
        return pixels

    def __getitem__(self, index: int) -> Image:
        pixels = self._open()
        if pixels[index]:
            raise DamagedImageError(self._reason(index))
        start, end = self._offsets[index : index + 2].tolist()
        return pixels[start:end].reshape(*self._sizes[index], self._channels)


def _share_images(count: int, capacity: int, channels: int) -> SharedImages | None:
    """Return a cache that workers share; None where the system refuses the memory."""
    try:
        return SharedImages(count, capacity, channels)
    except (OSError, ValueError):  # a limit of address space or of semaphores
        return None


def _shared_bytes(limit: int, workers: int) -> int:
    """Return the size of a cache that workers share: what they would have together, but a part of the free memory."""
    available = available_memory()
    return max(limit, min(limit * workers, _MAX_SHARED_BYTES, (available or limit) // 8))


def open_images(
    table: Annotations,
    imgsz: int,
    cache: bool | str,
    channels: int = 3,
    workers: int = 0,
    *,
    min_side: int | None = None,
) -> Images:
    """Return the source of decoded images and fill its cache.

    Args:
        table: the annotations.
        imgsz: longer side of cached images, pixels; smaller images keep their size.
        cache: False; True or "ram" for memory; "disk" for one file in the labels folder. Without enough space or
            permission to write, a warning is logged and images are read from their files.
        channels: channels that the network reads: 1, 3 or 4.
        workers: forked processes that will read images; 0 for threads of this process.
        min_side: see `decode`; not used for cached images.

    Raises:
        DataError: an image cannot be read.
    """
    if not cache:
        return FileImages(table, channels, workers=workers, min_side=min_side)
    sizes = np.array([_cached_size(tuple(shape), imgsz) for shape in table.shapes.tolist()], dtype=np.int64)
    required = int(_offsets(sizes, channels)[-1])
    if cache == "disk":
        return _open_disk_cache(table, sizes, imgsz, channels) or FileImages(
            table, channels, workers=workers, min_side=min_side
        )
    available = available_memory()
    if available is not None and required > 0.8 * available:
        LOGGER.warning(
            f"cache=ram needs {required / _GIB:.1f} GiB, but only {available / _GIB:.1f} GiB of memory are available. "
            "Images are read from their files. cache=disk needs no memory."
        )
        return FileImages(table, channels, workers=workers, min_side=min_side)
    pixels = np.empty(required, dtype=np.uint8)
    _fill(pixels, table, sizes, channels)
    LOGGER.info(f"cache: {len(table)} images, {required / _GIB:.2f} GiB in memory")
    return FlatImages(sizes, pixels, table.files, channels)


def _open_disk_cache(table: Annotations, sizes: npt.NDArray[np.int64], imgsz: int, channels: int) -> FlatImages | None:
    """Return the images of the cache file, which is written first if necessary; None if that is not possible."""
    path = cache_path(table.files[0], "train").with_name(f"train.pixels{imgsz}.yolopose.npy")
    digest = _digest(table, imgsz, channels)
    required = int(_offsets(sizes, channels)[-1])
    if not _is_valid(path, digest, required):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            if required > 0.9 * free:
                LOGGER.warning(
                    f"cache=disk needs {required / _GIB:.1f} GiB in {path.parent}, where only {free / _GIB:.1f} GiB "
                    "are free. Images are read from their files."
                )
                return None
            with atomic_path(path) as temporary:
                stored = np.lib.format.open_memmap(temporary, "w+", np.uint8, (_DIGEST_SIZE + required,))
                stored[:_DIGEST_SIZE] = digest
                _fill(stored[_DIGEST_SIZE:], table, sizes, channels)
                stored.flush()
        except OSError as error:
            LOGGER.warning(f"cache=disk cannot be used, images are read from their files. {error}")
            return None
    LOGGER.info(f"cache: {len(table)} images, {required / _GIB:.2f} GiB in {path}")
    return FlatImages(sizes, path, table.files, channels)


def _is_valid(path: Path, digest: Image, required: int) -> bool:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # missing or damaged: it is written again
        return False
    return stored.shape == (_DIGEST_SIZE + required,) and bool((stored[:_DIGEST_SIZE] == digest).all())


def _digest(table: Annotations, imgsz: int, channels: int) -> Image:
    """Return (32,) uint8 that change with any of the files."""
    digest = hashlib.sha256(f"{_VERSION} {imgsz} {channels}".encode())
    for path in table.files:
        digest.update(f"{path.name}\0{_file_stamp(path)}\n".encode("utf-8", "surrogateescape"))
    digest.update(table.shapes.tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _file_stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"  # decoding it raises the error
    return f"{status.st_size} {status.st_mtime_ns}"


def _fill(pixels: Image, table: Annotations, sizes: npt.NDArray[np.int64], channels: int) -> None:
    """Decode all images into the flat array, with threads."""
    offsets = _offsets(sizes, channels)

    def store(index: int) -> None:
        try:
            image: Any = decode(table, index, channels)
        except DamagedImageError:
            pixels[index] = 1
            return
        pixels[index] = 0
        height, width = sizes[index].tolist()
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        pixels[offsets[index] : offsets[index + 1]] = image.reshape(-1)

    with ThreadPoolExecutor(limit_workers(None)) as pool:
        for _ in progress(pool.map(store, range(len(table))), "decoding into the cache", len(table)):
            pass


def _offsets(sizes: npt.NDArray[np.int64], channels: int) -> npt.NDArray[np.int64]:
    """Return where the pixels of each image start, and their end; the flags come first."""
    return len(sizes) + np.concatenate(([0], np.cumsum(sizes.prod(axis=1) * channels)))


def _cached_size(size: Size, imgsz: int) -> Size:
    return size if max(size) <= imgsz else loaded_size(size, imgsz)
