"""List the inputs of a job one by one: folders, globs, lists, Parquet files, here or in a remote storage."""

from __future__ import annotations

import csv
import glob
import mimetypes
import os
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from yolopose.base.errors import NotFoundError, SourceError, UsageError
from yolopose.data.images import IMAGE_SUFFIXES, is_image_name
from yolopose.jobs.rows import require_pyarrow
from yolopose.jobs.storage import filesystem, is_url
from yolopose.predict.sources.base import VIDEO_SUFFIXES
from yolopose.predict.sources.paths import PATH_HEADERS

_LISTS = (".txt", ".csv", ".parquet")
_BATCH_ROWS = 10_000
_BYTES_NAMES = ("image", "bytes", "jpg", "jpeg", "png", "image_bytes", "content", "data")


@dataclass(frozen=True, slots=True)
class Entry:
    """One input of a job: an image or a video.

    Attributes:
        path: absolute path or URL; `FILE.parquet#ROW` for an image inside a Parquet file. The column `path` of its
            rows.
        is_video: whether it has frames.
        container: Parquet file that holds the bytes of the image, or None.
        row: row in the container, from 0; -1 without one.
    """

    path: str
    is_video: bool = False
    container: str | None = None
    row: int = -1


def list_entries(source: Any) -> Iterator[Entry]:
    """List the inputs of a source in a fixed order, without keeping them in memory.

    Args:
        source: folder (with its subfolders), glob pattern, image, video, .txt or .csv list, or Parquet file with paths
            or with the bytes of images; local or a URL that fsspec opens; or an iterable of these.

    Raises:
        UsageError: another kind of source.
        NotFoundError: it does not exist, or contains neither images nor videos.
        SourceError: a list that cannot be read, or a Parquet file without paths and images.
    """
    if isinstance(source, (str, os.PathLike)):
        text = os.fsdecode(cast("str", source))
        count = 0
        for entry in _list_text(text):
            count += 1
            yield entry
        if not count:
            raise NotFoundError(
                f"The source {text} contains neither images nor videos. Check the path (current folder: {Path.cwd()})."
            )
        return
    if isinstance(source, (bytes, dict)) or not isinstance(source, Iterable):
        raise UsageError(
            f"A job cannot read a source of type {type(source).__name__}: give a folder, glob pattern, image, video, "
            "list (.txt, .csv) or Parquet file, or a list of paths."
        )
    for item in cast("Iterable[Any]", source):
        if not isinstance(item, (str, os.PathLike)):
            raise UsageError(f"The items of a source are paths or URLs, but one is of type {type(item).__name__}.")
        yield from _list_text(os.fsdecode(cast("str", item)))


def _list_text(text: str) -> Iterator[Entry]:
    if not text.strip():
        raise UsageError("The source is an empty text: name a folder, glob pattern, image, video, list or URL.")
    if is_url(text):
        yield from _list_remote(text)
        return
    path = os.path.abspath(os.path.expanduser(text.removeprefix("file://")))
    if path.lower().endswith(_LISTS) and os.path.isfile(path):
        yield from _read_list(path)
    elif os.path.isdir(path):
        yield from _walk_local(path)
    elif os.path.isfile(path):
        yield _file_entry(path)
    elif glob.has_magic(path):
        for match in sorted(glob.iglob(path, recursive=True)):
            yield from _match_entries(match)
    else:
        raise NotFoundError(f"The source {text} does not exist. Check the path (current folder: {Path.cwd()}).")


def _walk_local(folder: str) -> Iterator[Entry]:
    """Yield the images and videos of a folder by name, each folder before its subfolders."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if _is_supported(name):
                yield _file_entry(os.path.join(parent, name))


def _list_remote(url: str) -> Iterator[Entry]:
    fs, path = filesystem(url)
    prefix = url[: url.index("://") + 3]
    try:
        if url.lower().endswith(_LISTS):
            yield from _read_list(url)
        elif url.lower().startswith(("http://", "https://")):  # a web server has no listing
            yield _file_entry(url)
        elif glob.has_magic(path):
            for match in sorted(fs.glob(path)):
                yield from _match_entries(prefix + match.lstrip("/"))
        elif fs.isfile(path):
            yield _file_entry(url)
        else:
            for parent, folders, names in fs.walk(path, detail=False, on_error="raise"):
                folders.sort()
                for name in sorted(names):
                    if _is_supported(name):
                        yield _file_entry(f"{prefix}{parent.strip('/')}/{name}")
                fs.invalidate_cache(parent)
    except FileNotFoundError as error:
        if isinstance(error, NotFoundError):
            raise
        raise NotFoundError(f"The source {url} does not exist.") from error
    except (SourceError, UsageError):
        raise
    except Exception as error:  # the packages of fsspec raise errors of any type
        raise SourceError(f"The source {url} cannot be listed: {error}") from error


def _match_entries(path: str) -> Iterator[Entry]:
    """Yield the entries of one match of a glob pattern."""
    if path.lower().endswith(".parquet"):
        yield from _read_list(path)
    elif _is_supported(path.rpartition("/")[2]):
        yield _file_entry(path)


def _is_supported(name: str) -> bool:
    return is_image_name(name) or (_suffix(name) in VIDEO_SUFFIXES and not name.startswith("."))


def _suffix(path: str) -> str:
    return PurePosixPath(path.partition("?")[0] if is_url(path) else path).suffix.lower()


def _file_entry(path: str) -> Entry:
    suffix = _suffix(path)
    is_video = suffix in VIDEO_SUFFIXES
    if not is_video and suffix not in IMAGE_SUFFIXES:
        is_video = (mimetypes.guess_type(path)[0] or "").startswith("video/")
    return Entry(path, is_video)


# -- lists -----------------------------------------------------------------------------------------------------------


def _read_list(path: str) -> Iterator[Entry]:
    """Yield the entries of a list file; a file that does not exist becomes a row with an error later.

    Raises:
        SourceError: the list cannot be read, or has no column of paths or images.
    """
    if path.lower().endswith(".parquet"):
        yield from _read_parquet(path)
        return
    folder = path[: path.rfind("/") + 1] if is_url(path) else os.path.dirname(path)
    try:
        with _open_text(path) as file:
            lines = _csv_fields(file) if path.lower().endswith(".csv") else _text_lines(file)
            for line in lines:
                yield _file_entry(_resolve(line, folder))
    except UnicodeDecodeError as error:
        raise SourceError(f"The list {path} is not UTF-8 text ({error.reason}).") from error
    except (csv.Error, OSError) as error:
        raise SourceError(f"The list {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


def _open_text(path: str) -> Any:
    if is_url(path):
        fs, inner = filesystem(path)
        return fs.open(inner, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _text_lines(file: Iterable[str]) -> Iterator[str]:
    for text in file:
        line = text.strip()
        if line and not line.startswith("#"):
            yield line


def _csv_fields(file: Iterable[str]) -> Iterator[str]:
    """Yield the column with a known header, or else the first; a first row without a path is a header."""
    column = 0
    for number, row in enumerate(csv.reader(file)):
        if number == 0:
            names = [field.strip().lower() for field in row]
            known = [names.index(header) for header in PATH_HEADERS if header in names]
            column = known[0] if known else 0
            if known or (row and not _suffix(row[0].strip()) and not is_url(row[0].strip())):
                continue
        field = row[column].strip() if len(row) > column else ""
        if field:
            yield field


def _resolve(line: str, folder: str) -> str:
    """Return an absolute path or URL; a relative path that the current folder lacks is relative to the list."""
    if is_url(line):
        return line
    if is_url(folder):
        return folder + line.removeprefix("./").lstrip("/")
    line = os.path.expanduser(line.removeprefix("file://"))
    if line.startswith("./") or not os.path.exists(line):
        return os.path.normpath(os.path.join(folder, line))
    return os.path.abspath(line)


# -- Parquet ---------------------------------------------------------------------------------------------------------


def _read_parquet(path: str) -> Iterator[Entry]:
    pyarrow = require_pyarrow()
    folder = path[: path.rfind("/") + 1] if is_url(path) else os.path.dirname(path)
    try:
        with closing(open_parquet(path)) as file:
            column = bytes_column(file.schema_arrow)
            if column is not None:
                for row in range(file.metadata.num_rows):
                    yield Entry(f"{path}#{row}", container=path, row=row)
                return
            column = _path_column(path, file.schema_arrow)
            for batch in file.iter_batches(_BATCH_ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    if value:
                        yield _file_entry(_resolve(value, folder))
    except (OSError, pyarrow.ArrowException) as error:
        raise SourceError(f"The Parquet file {path} cannot be read: {error}") from error


def open_parquet(path: str) -> Any:
    """Open a local or remote Parquet file as `pyarrow.parquet.ParquetFile`.

    Raises:
        OSError, pyarrow.ArrowException: it cannot be opened.
    """
    parquet = require_pyarrow().parquet
    if not is_url(path):
        return parquet.ParquetFile(path)
    fs, inner = filesystem(path)
    return parquet.ParquetFile(fs.open(inner, "rb"))


def bytes_column(schema: Any) -> str | None:
    """Return the column with the bytes of images: binary, or a struct with the field `bytes`; None without one."""
    types = require_pyarrow().types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            index = kind.get_field_index("bytes")
            return index >= 0 and holds_bytes(kind.field(index).type)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    columns = [field.name for field in schema if holds_bytes(field.type)]
    preferred = [name for name in _BYTES_NAMES if name in columns]
    return (preferred or columns or [None])[0]


def _path_column(path: str, schema: Any) -> str:
    types = require_pyarrow().types
    columns = [field.name for field in schema if types.is_string(field.type) or types.is_large_string(field.type)]
    known = [name for header in PATH_HEADERS for name in columns if name.lower() == header]
    if not known and len(columns) != 1:
        raise SourceError(
            f"The Parquet file {path} has neither a column of paths (named {', '.join(PATH_HEADERS[:6])}, …) nor one "
            f"with the bytes of images; its columns are {', '.join(schema.names)}."
        )
    return (known or columns)[0]
