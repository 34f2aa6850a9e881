"""Decoded images by index: from their files with a small memory of the last ones, from memory, or from disk."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections import OrderedDict
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
from yolopose.data import Annotations, read_image
from yolopose.data.batches import loaded_size
from yolopose.data.label_scan import cache_path

Image = npt.NDArray[np.uint8]
RECENT_BYTES = 192 * 2**20  # of decoded images that each process keeps
_VERSION = 1
_DIGEST = 32  # bytes of a SHA-256
_GIB = 2**30


class Images(Protocol):
    """Decoded images."""

    def __getitem__(self, index: int) -> Image:
        """Return (h, w, 3) uint8 BGR, not to be written to; h : w as on file, the size may be smaller."""
        ...


def decode(table: Annotations, index: int) -> Image:
    """Read an image of the table.

    Raises:
        DataError: it cannot be read any more, or has another size than its labels were read for.
    """
    path = table.files[index]
    try:
        image = read_image(path)
    except (NotFoundError, SourceError) as error:
        raise DataError(f"{error} It could be read when its labels were.") from error
    if image.shape[:2] != tuple(table.shapes[index]):
        raise DataError(f"The image {path} has changed since its labels were read; start again.")
    return image


class FileImages:
    """Images decoded when asked for; the last ones are kept, since mosaics use each several times.

    Args:
        table: the images.
        limit: bytes of decoded images to keep.
    """

    def __init__(self, table: Annotations, limit: int = RECENT_BYTES) -> None:
        self._table = table
        self._limit = limit
        self._reset()

    def _reset(self) -> None:
        self._recent: OrderedDict[int, Image] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[Annotations, int]:
        return self._table, self._limit

    def __setstate__(self, state: tuple[Annotations, int]) -> None:
        self._table, self._limit = state
        self._reset()

    def __getitem__(self, index: int) -> Image:
        with self._lock:
            image = self._recent.get(index)
            if image is not None:
                self._recent.move_to_end(index)
                return image
        image = decode(self._table, index)
        with self._lock:
            if index not in self._recent:
                self._recent[index] = image
                self._bytes += image.nbytes
            while self._bytes > self._limit:
                self._bytes -= self._recent.popitem(last=False)[1].nbytes
        return image


class FlatImages:
    """All images decoded, one behind the other in one flat array, their longer side at most `imgsz`.

    Args:
        sizes: (n, 2) height, width of each.
        pixels: (bytes,) uint8, or the .npy file that holds a digest and then them; a file is mapped by each process,
            so all share one copy.
    """

    def __init__(self, sizes: npt.NDArray[np.int64], pixels: Image | Path) -> None:
        self._sizes = sizes
        self._offsets = _offsets(sizes)
        self._source = pixels
        self._pixels: Image | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pixels": None}

    def __getitem__(self, index: int) -> Image:
        pixels = self._pixels
        if pixels is None:
            source = self._source
            pixels = np.load(source, mmap_mode="r")[_DIGEST:] if isinstance(source, Path) else source
            self._pixels = pixels
        start, end = (int(at) for at in self._offsets[index : index + 2])
        return pixels[start:end].reshape(*self._sizes[index], 3)


def open_images(table: Annotations, imgsz: int, cache: bool | str) -> Images:
    """Choose where decoded images come from, and fills the cache.

    Args:
        table: the images.
        imgsz: longer side of cached images, pixels; smaller ones keep their size.
        cache: False; True or "ram" for memory; "disk" for one file in the labels folder. A cache for which there is no
            room, or no right to write, is left out with a warning.

    Raises:
        DataError: an image cannot be read.
    """
    if not cache:
        return FileImages(table)
    sizes = np.array([_small(tuple(shape), imgsz) for shape in table.shapes.tolist()], dtype=np.int64)
    need = int(_offsets(sizes)[-1])
    if cache == "disk":
        return _on_disk(table, sizes, imgsz, need) or FileImages(table)
    free = available_memory()
    if free is not None and need > 0.8 * free:
        LOGGER.warning(
            f"cache=ram needs {need / _GIB:.1f} GiB, but only {free / _GIB:.1f} GiB of memory are free: images are "
            "read from their files. cache=disk needs no memory."
        )
        return FileImages(table)
    pixels = np.empty(need, dtype=np.uint8)
    _fill(pixels, table, sizes)
    LOGGER.info(f"cache: {len(table)} images, {need / _GIB:.2f} GiB in memory")
    return FlatImages(sizes, pixels)


def _on_disk(table: Annotations, sizes: npt.NDArray[np.int64], imgsz: int, need: int) -> FlatImages | None:
    """The cache file, written whole or not at all, or None where there is no room for it."""
    path = cache_path(table.files[0], "train").with_name(f"train.pixels{imgsz}.yolopose.npy")
    digest = _digest(table, imgsz)
    if not _fits(path, digest, need):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
            if need > 0.9 * free:
                LOGGER.warning(
                    f"cache=disk needs {need / _GIB:.1f} GiB in {path.parent}, where {free / _GIB:.1f} GiB are free: "
                    "images are read from their files."
                )
                return None
            with atomic_path(path) as temporary:
                stored = np.lib.format.open_memmap(temporary, "w+", np.uint8, (_DIGEST + need,))
                stored[:_DIGEST] = digest
                _fill(stored[_DIGEST:], table, sizes)
                stored.flush()
        except OSError as error:
            LOGGER.warning(f"cache=disk is not used; images are read from their files. {error}")
            return None
    LOGGER.info(f"cache: {len(table)} images, {need / _GIB:.2f} GiB in {path}")
    return FlatImages(sizes, path)


def _fits(path: Path, digest: Image, need: int) -> bool:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or damaged: it is made anew
        return False
    return stored.shape == (_DIGEST + need,) and bool((stored[:_DIGEST] == digest).all())


def _digest(table: Annotations, imgsz: int) -> Image:
    """(32,) uint8 that changes with any of the files."""
    digest = hashlib.sha256(f"{_VERSION} {imgsz}".encode())
    for path in table.files:
        digest.update(f"{path.name}\0{_stamp(path)}\n".encode("utf-8", "surrogateescape"))
    digest.update(table.shapes.tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint8)


def _stamp(path: Path) -> str:
    try:
        status = path.stat()
    except OSError:
        return "absent"  # decoding it will say so
    return f"{status.st_size} {status.st_mtime_ns}"


def _fill(pixels: Image, table: Annotations, sizes: npt.NDArray[np.int64]) -> None:
    """Decode all images into the flat array, with threads."""
    offsets = _offsets(sizes)

    def put(index: int) -> None:
        image: Any = decode(table, index)
        height, width = (int(side) for side in sizes[index])
        if image.shape[:2] != (height, width):
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        pixels[offsets[index] : offsets[index + 1]] = image.reshape(-1)

    with ThreadPoolExecutor(limit_workers(None)) as pool:
        for _ in progress(pool.map(put, range(len(table))), "decoding into the cache", len(table)):
            pass


def _offsets(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate(([0], np.cumsum(sizes.prod(axis=1) * 3)))


def _small(size: tuple[int, int], imgsz: int) -> tuple[int, int]:
    return size if max(size) <= imgsz else loaded_size(size, imgsz)
