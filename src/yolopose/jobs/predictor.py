"""Predict the inputs of a shard: images in batches, videos frame by frame; what fails becomes an error, not an end."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DownloadError, NotFoundError, SourceError, YoloposeError
from yolopose.data.image_header import MAX_IMAGE_BYTES
from yolopose.data.images import decode_image, decode_reduced, read_image, read_reduced
from yolopose.jobs.entries import Entry, bytes_column, open_parquet
from yolopose.jobs.storage import filesystem, is_url, read_remote
from yolopose.predict.sources.base import Decoding, ImageRef, LoadedImage, Video
from yolopose.results import Results

UNREADABLE = (SourceError, NotFoundError, DownloadError)
_TRACK_OPTIONS = ("tracker", "max_instances", "fps")
# Images predicted one by one after an unexpected error, to find the one that causes it; more than a window of batches.
_SINGLE_IMAGES = 64
_MAX_FAILURES = 10


class Predictor(Protocol):
    """Predicts the inputs of one shard after another.

    Attributes:
        classes: class names by index.
        keypoints: keypoint names by class; empty without names.
        kpt_shape: (K, D).
        device: where the network computes, for messages.
    """

    classes: dict[int, str]
    keypoints: dict[int, list[str]]
    kpt_shape: tuple[int, int]
    device: str

    def images(self, entries: Sequence[Entry]) -> Iterator[Results]:
        """Yield one result per image, in order; with one image, its error may be raised."""
        ...

    def video(self, entry: Entry) -> Iterator[Results]:
        """Yield one result per frame."""
        ...


class YoloPredictor:
    """Predicts with a network file.

    Args:
        model: path of the weights or exported file.
        options: options of `predict` and `track` by name, and `track`: whether videos are tracked.
        device: device of the network; None for the best one.

    Raises:
        YoloposeError: the network cannot be opened.
    """

    def __init__(self, model: str, options: Mapping[str, Any], device: str | None) -> None:
        self._track = bool(options.get("track"))
        tracking = {name: options[name] for name in _TRACK_OPTIONS if name in options}
        common = {name: value for name, value in options.items() if name not in (*_TRACK_OPTIONS, "track")}
        self._options: dict[str, Any] = {**common, "device": device, "verbose": False}
        self._track_options: dict[str, Any] = {**self._options, **tracking}
        self._yolo = self._open(model)
        spec = self._yolo.spec
        self.classes = dict(spec.names)
        self.keypoints = {index: list(names) for index, names in spec.keypoints.names.items()}
        self.kpt_shape = spec.keypoints.shape
        self.device = device or self._yolo.device
        imgsz = options.get("imgsz", self._yolo.overrides.get("imgsz", 640))
        self._decoding = Decoding(
            reduce_to=int(np.max(imgsz)) if options.get("fast_decode") and not self._yolo.is_foreign else None,
            alpha=spec.channels == 4,
        )

    def _open(self, model: str) -> Any:
        from yolopose.model import YOLO

        return YOLO(model)

    def images(self, entries: Sequence[Entry]) -> Iterator[Results]:
        """Yield one result per image, in order."""
        loaders = _loaders(entries, self._decoding)
        parts = [ImageRef(entry.path, load) for entry, load in zip(entries, loaders, strict=True)]
        return self._yolo.predict(parts, stream=True, **self._options)

    def video(self, entry: Entry) -> Iterator[Results]:
        """Yield one result per frame; a remote video is copied to this machine first."""
        with _local_video(entry.path) as path:
            part = [Video(entry.path, lambda: path)]
            if self._track:
                yield from self._yolo.track(part, stream=True, **self._track_options)
            else:
                yield from self._yolo.predict(part, stream=True, **self._options)


def predict_entries(predictor: Predictor, entries: Sequence[Entry]) -> Iterator[tuple[Entry, Results | str]]:
    """Yield (input, result or error) for each image or frame of a shard, in order.

    Raises:
        YoloposeError: an option, the network or a missing package is at fault, not an input.
        Exception: many images in a row fail with an unexpected error, so that probably no input is at fault.
    """
    if entries[0].is_video:
        yield from _predict_video(predictor, entries[0])
        return
    position = failures = 0
    while position < len(entries):
        try:
            for result in predictor.images(entries[position:]):
                yield entries[position], result
                position += 1
                failures = 0
            return
        except UNREADABLE as error:  # the only image of the call
            yield entries[position], str(error)
            position += 1
            continue
        except YoloposeError:
            raise
        except Exception:  # of a decoder or engine: predict one by one until the image that causes it is found
            end = min(position + _SINGLE_IMAGES, len(entries))
        while position < end:
            entry = entries[position]
            result = predict_singly(predictor, entry, raises=failures >= _MAX_FAILURES)
            position += 1
            yield entry, result
            if isinstance(result, str):
                failures += 1
                break


def predict_singly(predictor: Predictor, entry: Entry, raises: bool = False) -> Results | str:
    """Return the result of one image, or its error.

    Args:
        predictor: the predictor.
        entry: the image.
        raises: raise an unexpected error instead of returning it.

    Raises:
        YoloposeError: an option, the network or a missing package is at fault.
    """
    try:
        return next(iter(predictor.images([entry])))
    except UNREADABLE as error:
        return str(error)
    except YoloposeError:
        raise
    except Exception as error:  # one image must not end the job
        if raises:
            raise
        return f"{type(error).__name__}: {error}"


def _predict_video(predictor: Predictor, entry: Entry) -> Iterator[tuple[Entry, Results | str]]:
    try:
        for result in predictor.video(entry):
            yield entry, result
    except UNREADABLE as error:
        yield entry, str(error)
    except YoloposeError:
        raise
    except Exception as error:  # one video must not end the job
        yield entry, f"{type(error).__name__}: {error}"


# -- loading ---------------------------------------------------------------------------------------------------------


def _loaders(entries: Sequence[Entry], decoding: Decoding) -> list[Callable[[], LoadedImage]]:
    if entries[0].container is None:
        return [partial(_load, partial(_read_entry, entry.path, decoding), entry.path) for entry in entries]
    containers = _Containers()
    return [
        partial(_load, partial(_decode, partial(containers.read, entry), entry.path, decoding), entry.path)
        for entry in entries
    ]


def _load(read: Callable[[], tuple[npt.NDArray[np.uint8], tuple[int, int] | None]], path: str) -> LoadedImage:
    """Read an image; errors do not depend on the process that reads."""
    try:
        image, full_size = read()
    except NotFoundError as error:
        raise NotFoundError(f"The image {path} does not exist.") from error
    except YoloposeError:
        raise
    except Exception as error:  # of decoders and of the packages of fsspec
        raise SourceError(f"The image {path} cannot be read: {type(error).__name__}: {error}") from error
    return LoadedImage(path, image, full_size=full_size)


def _read_entry(path: str, decoding: Decoding) -> tuple[npt.NDArray[np.uint8], tuple[int, int] | None]:
    if is_url(path):
        return _decode(partial(read_remote, path), path, decoding)
    if decoding.reduce_to is None:
        return read_image(path, alpha=decoding.alpha), None
    return read_reduced(path, decoding.reduce_to, alpha=decoding.alpha)


def _decode(
    read: Callable[[], bytes], path: str, decoding: Decoding
) -> tuple[npt.NDArray[np.uint8], tuple[int, int] | None]:
    data = read()
    if len(data) > MAX_IMAGE_BYTES:
        raise SourceError(f"The image {path} has {len(data)} bytes, more than the {MAX_IMAGE_BYTES} that are decoded.")
    if decoding.reduce_to is None:
        return decode_image(data, path, alpha=decoding.alpha), None
    return decode_reduced(data, path, decoding.reduce_to, alpha=decoding.alpha)


class _Containers:
    """Reads images from Parquet files, one row group at a time; used by several threads."""

    def __init__(self) -> None:
        from threading import Lock

        self._lock = Lock()
        self._file: Any = None
        self._container = self._column = ""
        self._starts: list[int] = []
        self._group = -1
        self._values: Any = None

    def read(self, entry: Entry) -> bytes:
        """Return the bytes of an image.

        Raises:
            SourceError: the row is empty.
        """
        with self._lock:
            if entry.container != self._container:
                self._open(str(entry.container))
            group = next(index for index, (start, end) in enumerate(pairwise(self._starts)) if start <= entry.row < end)
            if group != self._group:
                self._values = self._file.read_row_group(group, columns=[self._column]).column(0)
                self._group = group
            value = self._values[entry.row - self._starts[group]].as_py()
        data = value.get("bytes") if isinstance(value, dict) else value
        if not data:
            raise SourceError(f"The row {entry.path} has no image.")
        return data

    def _open(self, container: str) -> None:
        self._file = open_parquet(container)
        self._container = container
        self._column = bytes_column(self._file.schema_arrow) or ""
        metadata = self._file.metadata
        counts = [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]
        self._starts = [0, *np.cumsum(counts).tolist()]
        self._group = -1


@contextmanager
def _local_video(path: str) -> Generator[Path, None, None]:
    """Yield the path of a video on this machine; a copy of a remote one is removed afterwards."""
    if not is_url(path):
        yield Path(path)
        return
    fs, inner = filesystem(path)
    with tempfile.TemporaryDirectory(prefix="yolopose-video-") as folder:
        copy = Path(folder) / f"video{Path(inner).suffix}"
        try:
            fs.get_file(inner, str(copy))
        except FileNotFoundError as error:
            raise NotFoundError(f"The video {path} does not exist.") from error
        except Exception as error:  # the packages of fsspec raise errors of any type
            raise SourceError(f"The video {path} cannot be read: {error}") from error
        yield copy
