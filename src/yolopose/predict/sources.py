"""From what a user gives as `source` to a sequence of pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from yolopose.base.errors import UsageError
from yolopose.predict.arrays import array_entry, bytes_entry, is_pillow, is_tensor, pillow_entry, tensor_entries
from yolopose.predict.items import Entry, Source
from yolopose.predict.paths import live_source_error, open_text

_KINDS = (
    "Give an image file, a folder, a glob, the http(s) address of a picture, a .txt or .csv list, a numpy array "
    "(height, width, 3) in BGR, a PIL image, a torch tensor (B, 3, height, width) in RGB 0…1, or a list of these."
)


def open_source(source: Any, stride: int = 32) -> Source:
    """Finds the pictures of a source; they are read later, one after the other.

    Args:
        source: path, folder, glob, address of a picture, list file, numpy array, PIL image, bytes of an image file,
            torch tensor, or a list or tuple of these, whose order is kept. What has no name is called `image0.jpg`,
            `image1.jpg`, … by its place.
        stride: sides of a tensor must be multiples of it.

    Raises:
        UsageError: none of these, or nothing in it, or a tensor of the wrong shape.
        NotFoundError: a file, folder or match is not there, or no image is among it.
        SourceError: a video or stream, which this version does not read, or a tensor with NaN.
    """
    if source is None:
        raise UsageError(f"Prediction needs a source. {_KINDS}")
    several: Sequence[Any] = source if isinstance(source, (list, tuple)) else [source]
    if not several:
        raise UsageError(f"The list of sources is empty. {_KINDS}")
    entries: list[Entry] = []
    for one in several:
        entries += _open_one(one, len(entries), stride)
    return Source(entries, len(entries))


def _open_one(source: Any, place: int, stride: int) -> list[Entry]:
    name = f"image{place}.jpg"
    if isinstance(source, (str, os.PathLike)):
        return open_text(str(source))
    if isinstance(source, np.ndarray):
        return [array_entry(source, name)]
    if is_tensor(source):
        return tensor_entries(source, place, stride)
    if is_pillow(source):
        # a picture opened from a file knows its name, and its results are saved under it
        return [pillow_entry(source, str(getattr(source, "filename", "") or name))]
    if isinstance(source, (bytes, bytearray)):
        return [bytes_entry(bytes(source), name)]
    if isinstance(source, int) and not isinstance(source, bool):
        raise live_source_error(f"The source {source} is the number of a camera")
    raise UsageError(f"A source of type {type(source).__name__} is not understood. {_KINDS}")
