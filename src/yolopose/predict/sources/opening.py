"""From what a user gives as `source` to a sequence of images."""

from __future__ import annotations

import operator
import os
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np

from yolopose.base.errors import UsageError
from yolopose.predict.items import Entry, Source
from yolopose.predict.sources.arrays import (
    array_entry,
    bytes_entry,
    is_file,
    is_pillow,
    is_tensor,
    pillow_entry,
    read_file,
    tensor_entries,
)
from yolopose.predict.sources.live import live_source
from yolopose.predict.sources.parts import Feed, Part, Screen, Video
from yolopose.predict.sources.screen import screen_source
from yolopose.predict.sources.texts import camera, open_text
from yolopose.predict.sources.videos import video_entries

_KINDS = (
    "Give an image or video file, a folder, a glob, an address, a .txt, .csv or .streams list, the number of a camera, "
    "`screen`, a numpy array (height, width, 3) in BGR, a PIL image, bytes of an image file, a torch tensor "
    "(B, 3, height, width) in RGB 0…1, or a list of these."
)


def open_source(
    source: Any, stride: int = 32, *, vid_stride: int = 1, buffer: bool = False, reduce_to: int | None = None
) -> Source:
    """Find the images of a source; they are read later, one after the other.

    Args:
        source: image or video file, folder, glob, address, list file, number of a camera, `screen`, numpy array, PIL
            image, bytes of an image file or a file object that gives them, torch tensor, or a list or tuple of these,
            whose order is kept. What has no name is called `image0.jpg`, `image1.jpg`, … by its place.
        stride: sides of a tensor must be multiples of it.
        vid_stride: of a video, camera or stream every so many frames one is given.
        buffer: give all frames of cameras and streams, of which some wait, instead of the newest.
        reduce_to: JPEG files may be decoded at 1/2, 1/4 or 1/8 of their size, as long as their longer side keeps so
            many pixels; `Item.full` tells the true size. None decodes them whole.

    Raises:
        UsageError: none of these, nothing in it, a tensor of the wrong shape, or live images among others.
        NotFoundError: a file, folder or match is not there, or no image and no video is among it.
        SourceError: an address or list that is not read, or a tensor with NaN.
        DependencyError: screen capture without the package for it.
    """
    if source is None:
        raise UsageError(f"Prediction needs a source. {_KINDS}")
    several: Sequence[Any] = source if isinstance(source, (list, tuple)) else [source]
    if not several:
        raise UsageError(f"The list of sources is empty. {_KINDS}")
    parts: list[Part] = []
    for one in several:
        parts += _open_one(one, len(parts), stride, reduce_to)
    return _live(parts, vid_stride, buffer) or _ending(parts, vid_stride)


def _open_one(source: Any, place: int, stride: int, reduce_to: int | None) -> Sequence[Part]:
    name = f"image{place}.jpg"
    if isinstance(source, (str, os.PathLike)):
        return open_text(os.fsdecode(source), reduce_to)
    if isinstance(source, np.ndarray):
        return [array_entry(source, name)]
    if is_tensor(source):
        return tensor_entries(source, place, stride)
    if is_pillow(source):
        # an image opened from a file knows its name, and its results are saved under it
        return [pillow_entry(source, str(getattr(source, "filename", "") or name))]
    if isinstance(source, (bytes, bytearray, memoryview)):
        return [bytes_entry(bytes(source), name)]
    if is_file(source):
        return [read_file(source, name)]
    if not isinstance(source, (bool, np.bool_)):
        with suppress(TypeError):
            return [camera(operator.index(source))]
    raise UsageError(f"A source of type {type(source).__name__} is not understood. {_KINDS}")


def _live(parts: Sequence[Part], vid_stride: int, buffer: bool) -> Source | None:
    """The source of cameras, streams or a screen; None when there are none."""
    feeds = [part for part in parts if isinstance(part, Feed)]
    screens = [part for part in parts if isinstance(part, Screen)]
    if not feeds and not screens:
        return None
    if len(feeds) < len(parts) and len(parts) > 1:
        raise UsageError(
            "Cameras and streams never end, so they go together with other cameras and streams alone, and a screen "
            "with nothing: predict images and videos in another call."
        )
    return live_source(feeds, vid_stride, buffer) if feeds else screen_source(screens[0])


def _ending(parts: Sequence[Part], vid_stride: int) -> Source:
    ending = [part for part in parts if isinstance(part, (Entry, Video))]
    entries = [part for part in ending if isinstance(part, Entry)]
    if len(entries) == len(ending):
        return Source(entries, len(entries))
    stopped: list[bool] = []
    frames = _frames(ending, vid_stride, stopped)
    return Source(frames, None, close=lambda: _close(frames, stopped))


def _frames(parts: Sequence[Entry | Video], vid_stride: int, stopped: list[bool]) -> Generator[Entry, None, None]:
    """Images, and frames of videos, in order; one video is open at a time."""
    index = 0
    for part in parts:
        if isinstance(part, Entry):
            yield part
            continue
        with closing(video_entries(part, index, vid_stride, alone=len(parts) == 1)) as entries:
            for entry in entries:
                yield entry
                if stopped:
                    return
        index += 1


def _close(frames: Generator[Entry, None, None], stopped: list[bool]) -> None:
    stopped.append(True)
    with suppress(ValueError):  # it is being asked for a frame right now, and ends after that one
        frames.close()
