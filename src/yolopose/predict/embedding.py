"""Vectors of images (embeddings): means of the feature maps of a network over all positions.

Images with similar content have vectors with a cosine similarity near 1. The network must run in torch; exported files
return only detections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER
from yolopose.config import EmbedOptions, PredictOptions, PredictSettings, predict_settings
from yolopose.data.images import letterbox_batch
from yolopose.data.nearest import unit_vectors
from yolopose.geometry import Letterbox
from yolopose.predict.batching import ImageWindow, window_size
from yolopose.predict.parallel import run_windows
from yolopose.predict.sources import open_source
from yolopose.predict.sources.base import LoadedImage
from yolopose.results import Frame
from yolopose.runtime import Batch, Runtime

Float32 = npt.NDArray[np.float32]

SIDE = 256
"""Side of the network input for comparisons of whole images (suggestions, duplicates), pixels."""


class EmbeddingRuntime(Runtime, Protocol):
    """An engine that returns means of feature maps."""

    def embed(self, batch: Batch, layers: Sequence[int]) -> Float32:
        """Return (B, D) means of the feature maps of these layers."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """The vector of an image.

    Attributes:
        path: file of the image, or a generated name (`image0.jpg`).
        vector: (D,) float32; NaN where the image could not be read.
        frame: its position in a video or stream, or None.
        error: why it could not be read, or None.
    """

    path: str
    vector: Float32
    frame: Frame | None = None
    error: str | None = None


def select_layers(runtime: Runtime, layers: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the layers whose maps are averaged.

    Args:
        runtime: the engine.
        layers: indices; None for the coarsest map that the head reads.

    Raises:
        UsageError: the engine runs an exported file, or the network does not have the layer.
    """
    network: Any = getattr(runtime, "network", None)
    if network is None or not hasattr(runtime, "embed"):
        raise UsageError(
            f"Embeddings need the network itself, but {runtime.metadata.name or 'this model'} is an exported file or "
            "runs in another engine, which return only detections: open the .pt or .safetensors, without runtime=."
        )
    return network.check_layers(layers)


def embed_images(
    runtime: Runtime, source: Any, options: PredictOptions, layers: int | Sequence[int] | None = None
) -> Iterator[Embedding]:
    """Compute the vectors of all images of a source.

    Options, layers and source are checked immediately; images are read as the vectors are requested. Among several
    images, one that cannot be read has a vector of NaN and `error`.

    Args:
        runtime: the engine, which runs a network in torch.
        source: see `yolopose.predict.sources.open_source`.
        options: `imgsz`, `batch`, `vid_stride`, `stream_buffer` and `fast_decode` are used.
        layers: indices of layers; see `select_layers`.

    Returns:
        One embedding per image, in source order. It does not depend on the other images.

    Raises:
        UsageError: an option that the network does not support, or an unknown kind of source.
        NotFoundError: a path does not exist.
        SourceError: the source, or its only image, cannot be read.
    """
    chosen = select_layers(runtime, layers)
    engine = cast(EmbeddingRuntime, runtime)
    settings = predict_settings(options, runtime.metadata)
    opened = open_source(
        source,
        settings.stride,
        vid_stride=settings.vid_stride,
        buffer=settings.stream_buffer,
        reduce_to=max(settings.imgsz) if settings.fast_decode else None,
        channels=runtime.metadata.spec.channels,
    )

    def work(replica: Runtime, images: list[LoadedImage]) -> list[Embedding]:
        return _embed_window(cast(EmbeddingRuntime, replica), images, settings, chosen)

    def run() -> Iterator[Embedding]:
        for window in run_windows(opened, engine, work, window_size(settings.batch)):
            for item in window:
                if item.error:
                    LOGGER.warning(f"{item.path}: {item.error}")
                yield item

    return run()


def _embed_window(
    runtime: EmbeddingRuntime, images: list[LoadedImage], settings: PredictSettings, layers: Sequence[int]
) -> list[Embedding]:
    vectors: dict[int, Float32] = {}
    for batch in ImageWindow(images, runtime.metadata.spec, settings).batches:
        rows = runtime.embed(batch.network_input(runtime.metadata.spec.channels), layers)
        vectors.update(zip(batch.positions, rows, strict=True))
    length = len(next(iter(vectors.values()))) if vectors else _vector_length(runtime, layers)
    unreadable = np.full(length, np.nan, dtype=np.float32)
    return [
        Embedding(image.path, vectors.get(position, unreadable), image.frame, image.error)
        for position, image in enumerate(images)
    ]


def _vector_length(runtime: EmbeddingRuntime, layers: Sequence[int]) -> int:
    side = runtime.metadata.stride
    return runtime.embed(np.zeros((1, runtime.metadata.spec.channels, side, side), np.uint8), layers).shape[1]


def image_embedder(runtime: Runtime) -> Callable[[npt.NDArray[np.uint8]], Float32]:
    """Return a function that computes the vector of an image in memory, of length 1.

    Args:
        runtime: the engine, which runs a network in torch.

    Raises:
        UsageError: it runs an exported file.
    """
    layers = select_layers(runtime, None)
    engine = cast(EmbeddingRuntime, runtime)

    def embed(image: npt.NDArray[np.uint8]) -> Float32:
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), (SIDE, SIDE))
        return unit_vectors(engine.embed(letterbox_batch([image], [letterbox], engine.metadata.spec.channels), layers))[
            0
        ]

    return embed


def embed_options(options: EmbedOptions) -> PredictOptions:
    """Return the options with which the images of `embed` are read and prepared."""
    return PredictOptions(
        device=options.device,
        imgsz=options.imgsz,
        verbose=options.verbose,
        batch=options.batch,
        half=options.half,
        vid_stride=options.vid_stride,
        stream_buffer=options.stream_buffer,
        fast_decode=options.fast_decode,
    )
