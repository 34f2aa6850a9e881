"""Files of image vectors, and the search of the nearest images: what `yolo embed` writes and lists."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import DataError, NotFoundError, SourceError, UsageError
from yolopose.base.files import atomic_path
from yolopose.base.log import LOGGER
from yolopose.base.progress import progress
from yolopose.config import CheckedOptions, EmbedOptions, run_location
from yolopose.config.settings import resolve_imgsz
from yolopose.data.nearest import nearest_rows, unit_vectors
from yolopose.predict.embedding import Embedding, embed_images, embed_options, select_layers
from yolopose.runtime import Runtime

FILE_NAME = "embeddings.npz"

_FORMAT = "yolopose embeddings 1"
_NO_FRAME = -1


@dataclass(frozen=True, slots=True)
class Origin:
    """How the vectors of an index were computed; a query must be computed in the same way.

    Attributes:
        model: name or path of the network.
        digest: SHA-256 of its file; empty if unknown.
        layers: indices of the layers.
        imgsz: input size (height, width), pixels.
    """

    model: str = ""
    digest: str = ""
    layers: tuple[int, ...] = ()
    imgsz: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Neighbor:
    """An image of an index near a query.

    Attributes:
        path: path of the image or video.
        frame: number of the frame in its video, from 1; None for an image.
        similarity: cosine similarity, -1…1.
    """

    path: str
    frame: int | None
    similarity: float


class EmbeddingIndex:
    """Vectors of images, their file, and the search of the nearest ones.

    Args:
        paths: path of each image.
        vectors: (N, D) float32.
        frames: (N,) number of the frame in its video, from 1; -1 for an image. All images by default.
        origin: how the vectors were computed.

    Attributes:
        paths, vectors, frames, origin: as given.

    Examples:
        >>> import numpy as np
        >>> from yolopose.predict.embedding_index import EmbeddingIndex
        >>> index = EmbeddingIndex(["a.jpg", "b.jpg"], np.eye(2, dtype=np.float32))
        >>> [neighbor.path for neighbor in index.search(np.array([0.2, 1.0]), count=1)]
        ['b.jpg']
    """

    def __init__(
        self,
        paths: Sequence[str],
        vectors: npt.NDArray[np.floating[Any]],
        frames: npt.NDArray[np.integer[Any]] | None = None,
        origin: Origin = Origin(),
    ) -> None:
        self.paths = list(paths)
        self.vectors = np.asarray(vectors, dtype=np.float32)
        self.frames = np.full(len(self.paths), _NO_FRAME) if frames is None else np.asarray(frames, dtype=np.int64)
        self.origin = origin
        if self.vectors.ndim != 2 or not len(self.paths) == len(self.vectors) == len(self.frames):
            raise UsageError(
                f"An index needs one vector and frame for each path: got {len(self.paths)} paths, vectors of shape "
                f"{self.vectors.shape} and {len(self.frames)} frames."
            )
        self._units = unit_vectors(self.vectors)

    def __len__(self) -> int:
        return len(self.paths)

    @classmethod
    def from_embeddings(cls, items: Iterable[Embedding], origin: Origin = Origin()) -> EmbeddingIndex:
        """Make an index of embeddings, without the images that could not be read."""
        rows = [item for item in items if item.error is None]
        vectors = np.stack([item.vector for item in rows]) if rows else np.zeros((0, 0), np.float32)
        frames = np.array([item.frame.number if item.frame else _NO_FRAME for item in rows], dtype=np.int64)
        return cls([_absolute(item.path) for item in rows], vectors, frames, origin)

    def search(self, query: Any, count: int = 5) -> list[Neighbor]:
        """Return the most similar images, best first.

        Args:
            query: (D,) vector, array or tensor.
            count: number of images; all if there are fewer.

        Raises:
            UsageError: the vector has another length than those of the index, or is not finite.
        """
        values = query.detach().cpu().numpy() if hasattr(query, "detach") else np.asarray(query, dtype=np.float32)
        if values.shape != self.vectors.shape[1:] or not np.isfinite(values).all():
            raise UsageError(
                f"The query is a vector of shape {values.shape}; this index needs {self.vectors.shape[1]} finite "
                f"values, as {self.origin.model or 'its network'} computes with layers={list(self.origin.layers)}."
            )
        indices, similarities = nearest_rows(unit_vectors(values[None]), self._units, count)
        return [
            Neighbor(self.paths[index], None if self.frames[index] < 0 else int(self.frames[index]), float(similarity))
            for index, similarity in zip(indices[0].tolist(), similarities[0], strict=True)
        ]

    def save(self, file: str | Path) -> Path:
        """Write a NumPy file (.npz) with the arrays `paths`, `frames`, `vectors` and the text `origin` (JSON).

        Raises:
            UsageError: the name has another suffix.
            OutputError: it cannot be written.
        """
        path = Path(file)
        if path.suffix.lower() != ".npz":
            raise UsageError(f"{path}: embeddings are written as a NumPy file; give a name that ends with .npz.")
        origin = json.dumps({"format": _FORMAT, **asdict(self.origin)})
        paths = np.array(self.paths, dtype=np.str_) if self.paths else np.zeros(0, "<U1")
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, paths=paths, frames=self.frames, vectors=self.vectors, origin=np.array(origin))
        return path

    @classmethod
    def load(cls, file: str | Path) -> EmbeddingIndex:
        """Read a file of `save`; nothing is unpickled.

        Raises:
            NotFoundError: the file does not exist.
            DataError: it is damaged, or not such a file.
        """
        path = Path(file)
        if not path.is_file():
            raise NotFoundError(f"{path} does not exist: write it with `yolo embed source=images/ output={path.name}`.")
        try:
            with np.load(path, allow_pickle=False) as arrays:
                origin = json.loads(str(arrays["origin"]))
                if origin.pop("format") != _FORMAT:
                    raise ValueError("it has another format")
                origin = Origin(
                    str(origin["model"]), str(origin["digest"]), tuple(origin["layers"]), tuple(origin["imgsz"])
                )
                return cls(arrays["paths"].tolist(), arrays["vectors"], arrays["frames"], origin)
        except (ValueError, KeyError, TypeError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{path} is not a file of embeddings, or is damaged ({error}): write it again with `yolo embed`."
            ) from error


def complete_for_index(given: CheckedOptions) -> CheckedOptions:
    """Add layers and input size of the vectors in `index`, unless they are given."""
    if given.get("index") is None:
        return given
    origin = EmbeddingIndex.load(given["index"]).origin
    return CheckedOptions(given.mode, {"layers": list(origin.layers), "imgsz": list(origin.imgsz), **given})


def embed_files(runtime: Runtime, source: Any, options: EmbedOptions, *, model: str, digest: str) -> list[Embedding]:
    """Compute the vectors of a source; write them to `output`, or list what is nearest to them in `index`.

    Args:
        runtime: the engine, which runs a network in torch.
        source: see `yolopose.predict.sources.open_source`.
        options: options of `embed`.
        model: name of the network.
        digest: SHA-256 of its file; empty if unknown.

    Returns:
        One embedding per image.

    Raises:
        UsageError: the engine runs an exported file, a layer does not exist, or the vectors of `index` are of another
            network or other layers.
        SourceError: no image can be read.
        OutputError: the file cannot be written.
    """
    index = None if options.index is None else EmbeddingIndex.load(options.index)
    resolved = embed_options(options)
    imgsz = resolve_imgsz(resolved.imgsz, runtime.metadata)
    origin = Origin(_absolute(model), digest, select_layers(runtime, options.layers), imgsz)
    if index is not None:
        _check_origin(index.origin, origin, str(options.index))
    items = embed_images(runtime, source, resolved, options.layers)
    embeddings = list(progress(items, "Embedding", enabled=options.verbose))
    readable = [item for item in embeddings if item.error is None]
    if not readable:
        raise SourceError(f"None of the {len(embeddings)} images of source={source} can be read.")
    if index is not None:
        for item in readable:
            _log_nearest(item, index.search(item.vector, options.nearest))
    if index is None or options.output is not None:
        file = Path(options.output) if options.output else run_location(options, "embed").create() / FILE_NAME
        EmbeddingIndex.from_embeddings(readable, origin).save(file)
        LOGGER.info(f"Wrote {file}: {len(readable)} vectors of {len(readable[0].vector)} values.")
    return embeddings


def _absolute(path: str) -> str:
    """Return the absolute path of an existing file; other names, such as those of arrays and URLs, are unchanged."""
    return str(Path(path).absolute()) if Path(path).exists() else path


def _check_origin(of_index: Origin, own: Origin, file: str) -> None:
    """Check that the vectors of an index and of the queries can be compared."""
    differs = own.digest != of_index.digest if own.digest and of_index.digest else own.model != of_index.model
    if differs or own.layers != of_index.layers:
        raise UsageError(
            f"{file} holds vectors of {of_index.model} with layers={list(of_index.layers)}, and the queries would be "
            f"those of {own.model} with layers={list(own.layers)}{' (other weights)' if differs else ''}: they cannot "
            "be compared. Omit model= and layers=, or write the vectors again."
        )


def _log_nearest(item: Embedding, neighbors: Sequence[Neighbor]) -> None:
    frame = f" (frame {item.frame.number})" if item.frame else ""
    lines = [
        f"  {neighbor.similarity:.4f}  {neighbor.path}{f' (frame {neighbor.frame})' if neighbor.frame else ''}"
        for neighbor in neighbors
    ]
    LOGGER.info("\n".join([f"Nearest to {item.path}{frame}:", *lines]))
