"""`open_source`: choose the reader for each kind of source."""

from __future__ import annotations

import operator
import os
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from typing import Any

import numpy as np

from yolopose.base.errors import UsageError
from yolopose.predict.sources.arrays import (
    from_array,
    from_bytes,
    from_file_object,
    from_pillow,
    from_tensor,
    is_file_object,
    is_pillow,
    is_tensor,
)
from yolopose.predict.sources.base import Decoding, ImageRef, LiveFeed, ScreenRegion, Source, SourcePart, Video
from yolopose.predict.sources.live import open_feeds
from yolopose.predict.sources.paths import camera_feed, open_text
from yolopose.predict.sources.screen import open_screen
from yolopose.predict.sources.video import read_frames

_KINDS = (
    "Pass an image or video file, a folder, a glob pattern, a URL, a .txt, .csv or .streams list, a camera number, "
    "`screen`, a numpy array (height, width, 3) in BGR, a PIL image, bytes of an image file, a torch tensor "
    "(B, 3, height, width) in RGB 0…1, or a list of these."
)


def open_source(
    source: Any,
    stride: int = 32,
    *,
    vid_stride: int = 1,
    buffer: bool = False,
    reduce_to: int | None = None,
    channels: int = 3,
) -> Source:
    """Find the images of a source; they are loaded later, one after the other.

    Args:
        source: image or video file, folder, glob pattern, URL, list file, camera number, `screen`, numpy array, PIL
            image, bytes of an image file or a file object with such bytes, torch tensor, `ImageRef`, `Video`, or a
            list or tuple of these, whose order is kept. Unnamed images are called `image0.jpg`, `image1.jpg`, … by
            position.
        stride: height and width of a tensor must be multiples of it.
        vid_stride: predict every n-th frame of videos, cameras and streams.
        buffer: queue all frames of cameras and streams instead of the newest only.
        reduce_to: decode JPEG files at 1/2, 1/4 or 1/8 of their size if the longer side keeps at least so many pixels;
            `LoadedImage.full_size` is then the original size. None decodes at full size.
        channels: channels of the network; with 4, the fourth channel of images is kept.

    Raises:
        UsageError: unknown kind of source, an empty list, a tensor of the wrong shape, or live feeds and files mixed.
        NotFoundError: a file, folder or glob match does not exist, or contains neither images nor videos.
        SourceError: a URL or list that cannot be read, or a tensor with NaN.
        DependencyError: screen capture without the package for it.
    """
    if source is None:
        raise UsageError(f"Prediction needs a source. {_KINDS}")
    sources: Sequence[Any] = source if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise UsageError(f"The list of sources is empty. {_KINDS}")
    parts: list[SourcePart] = []
    decoding = Decoding(reduce_to, alpha=channels == 4)
    for item in sources:
        parts += _open_item(item, len(parts), stride, channels, decoding)
    return _open_live(parts, vid_stride, buffer) or _open_finite(parts, vid_stride)


def _open_item(source: Any, position: int, stride: int, channels: int, decoding: Decoding) -> Sequence[SourcePart]:
    name = f"image{position}.jpg"
    if isinstance(source, (str, os.PathLike)):
        return open_text(os.fsdecode(source), decoding)
    if isinstance(source, np.ndarray):
        return [from_array(source, name, channels)]
    if is_tensor(source):
        return from_tensor(source, position, stride, channels)
    if is_pillow(source):
        # PIL keeps the name of the file that it opened; the results are saved under it.
        return [from_pillow(source, str(getattr(source, "filename", "") or name), channels)]
    if isinstance(source, (bytes, bytearray, memoryview)):
        return [from_bytes(bytes(source), name, channels)]
    if is_file_object(source):
        return [from_file_object(source, name, channels)]
    if isinstance(source, (ImageRef, Video)):
        return [source]
    if not isinstance(source, (bool, np.bool_)):
        with suppress(TypeError):
            return [camera_feed(operator.index(source))]
    raise UsageError(f"A source of type {type(source).__name__} is not supported. {_KINDS}")


def _open_live(parts: Sequence[SourcePart], vid_stride: int, buffer: bool) -> Source | None:
    """Open cameras, streams or a screen; return None without any."""
    feeds = [part for part in parts if isinstance(part, LiveFeed)]
    screens = [part for part in parts if isinstance(part, ScreenRegion)]
    if not feeds and not screens:
        return None
    if len(feeds) < len(parts) and len(parts) > 1:
        raise UsageError(
            "Cameras and streams never end, so they can only be combined with other cameras and streams, and a screen "
            "with nothing else. Predict images and videos in another call."
        )
    return open_feeds(feeds, vid_stride, buffer) if feeds else open_screen(screens[0])


def _open_finite(parts: Sequence[SourcePart], vid_stride: int) -> Source:
    finite = [part for part in parts if isinstance(part, (ImageRef, Video))]
    images = [part for part in finite if isinstance(part, ImageRef)]
    if len(images) == len(finite):
        return Source(images, len(images))
    stopped: list[bool] = []
    frames = _iterate(finite, vid_stride, stopped)
    return Source(frames, None, close=lambda: _stop(frames, stopped))


def _iterate(
    parts: Sequence[ImageRef | Video], vid_stride: int, stopped: list[bool]
) -> Generator[ImageRef, None, None]:
    """Yield images and frames of videos in order; one video is open at a time."""
    video_index = 0
    for part in parts:
        if isinstance(part, ImageRef):
            yield part
            continue
        with closing(read_frames(part, video_index, vid_stride, is_only=len(parts) == 1)) as frames:
            for frame in frames:
                yield frame
                if stopped:
                    return
        video_index += 1


def _stop(frames: Generator[ImageRef, None, None], stopped: list[bool]) -> None:
    stopped.append(True)
    with suppress(ValueError):  # the generator is running in another thread; it returns after the current frame
        frames.close()
