"""Sources given as text: files, folders, glob patterns, list files, camera numbers, URLs, screens."""

from __future__ import annotations

import csv
import glob
import io
import mimetypes
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.request import url2pathname

from yolopose.base.errors import NotFoundError, SourceError, UsageError, YoloposeError
from yolopose.base.files import read_regular
from yolopose.data.images import IMAGE_SUFFIXES, is_image, read_image, read_reduced
from yolopose.predict.sources.base import VIDEO_SUFFIXES, Decoding, ImageRef, LiveFeed, LoadedImage, SourcePart, Video
from yolopose.predict.sources.screen import parse_screen
from yolopose.predict.sources.urls import is_url, open_url
from yolopose.predict.sources.video import open_camera

_MAX_LIST_BYTES = 256 << 20
_LIST_SUFFIXES = frozenset({".csv", ".streams", ".txt"})
PATH_HEADERS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "video", "source"
)  # fmt: skip
"""Headers of the column of a table that holds the paths, by priority."""
_SUPPORTED = (
    f"images ({' '.join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))}) and "
    f"videos ({' '.join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))})"
)


def open_text(text: str, decoding: Decoding) -> list[SourcePart]:
    """Open what a text names.

    Args:
        text: an image or video file, a folder (its images and videos by name, without subfolders), a glob pattern
            (`**` includes subfolders), a URL, a camera number, `screen …`, or a .txt, .csv or .streams file with one
            of these per line.
        decoding: how image files are decoded.

    Raises:
        UsageError: the text is empty.
        NotFoundError: nothing exists there, or it contains neither images nor videos.
        SourceError: a list file that cannot be read, or an unsupported URL.
    """
    path = _local_path(text)
    if Path(path).suffix.lower() in _LIST_SUFFIXES and os.path.isfile(path):
        return _open_list(Path(path), decoding)
    return _open_path(text, decoding)


def camera_feed(number: int) -> LiveFeed:
    """Return the feed of a camera.

    Raises:
        UsageError: the number is negative.
    """
    if number < 0:
        raise UsageError(f"Camera numbers start at 0, got {number}.")
    return LiveFeed(f"camera{number}", f"The camera {number}", lambda _: open_camera(number))


def _local_path(text: str) -> str:
    """Expand `~` and convert `file://` URLs."""
    if text[:7].lower() == "file://":
        return url2pathname(text[7:])
    return os.path.expanduser(text) if text.startswith("~") else text


def _open_path(text: str, decoding: Decoding) -> list[SourcePart]:
    if not text.strip():
        raise UsageError("The source is an empty text: name an image file, a video, a folder or a glob pattern.")
    path = _local_path(text)
    if os.path.isdir(path):
        return _open_folder(Path(path), decoding)
    if os.path.isfile(path):
        return [_open_file(path, decoding)]
    if is_url(path):
        return [open_url(path, alpha=decoding.alpha)]
    if re.fullmatch(r"\d{1,4}", text.strip()):
        return [camera_feed(int(text))]
    if (screen := parse_screen(text)) is not None:
        return [screen]
    if glob.has_magic(path):
        return _open_glob(path, decoding)
    windows = os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", text) is not None
    hint = " It is a Windows path, which this system cannot open." if windows else ""
    raise NotFoundError(f"The source {text} does not exist. Check the path (current folder: {Path.cwd()}).{hint}")


def _open_file(path: str, decoding: Decoding) -> SourcePart:
    suffix = Path(path).suffix.lower()
    if suffix in _LIST_SUFFIXES:
        raise SourceError(f"The source {path} is a list file: pass it directly, not in another list or folder.")
    mime_type = mimetypes.guess_type(path)[0] or ""
    if suffix in VIDEO_SUFFIXES or (mime_type.startswith("video/") and suffix not in IMAGE_SUFFIXES):
        return Video(path, partial(Path, path))
    return ImageRef(path, partial(_load, path, decoding))


def _load(path: str, decoding: Decoding) -> LoadedImage:
    if decoding.reduce_to is None:
        return LoadedImage(path, read_image(path, alpha=decoding.alpha))
    image, full_size = read_reduced(path, decoding.reduce_to, alpha=decoding.alpha)
    return LoadedImage(path, image, full_size=full_size)


def _open_folder(folder: Path, decoding: Decoding) -> list[SourcePart]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SourceError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    files = [os.path.join(folder, name) for name in names]
    return _open_supported(files, f"The folder {folder} contains", decoding)


def _open_glob(pattern: str, decoding: Decoding) -> list[SourcePart]:
    files = sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise NotFoundError(f"No file matches {pattern} (current folder: {Path.cwd()}).")
    return _open_supported(files, f"The pattern {pattern} matches", decoding)


def _open_supported(files: Sequence[str], where: str, decoding: Decoding) -> list[SourcePart]:
    parts = [_open_file(file, decoding) for file in files if _is_supported(Path(file)) and os.path.isfile(file)]
    if not parts:
        raise NotFoundError(f"{where} neither images nor videos. Supported are {_SUPPORTED}.")
    return parts


def _is_supported(path: Path) -> bool:
    return is_image(path) or (path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."))


def _open_list(path: Path, decoding: Decoding) -> list[SourcePart]:
    """Open the lines of a list file; relative paths that the current folder lacks are relative to the list.

    Args:
        path: .txt and .streams (lines that begin with # are comments), or .csv (the column with the header `path`,
            `file`, `image`, …, or else the first).
        decoding: see `open_text`.

    Raises:
        SourceError: the list cannot be read, or is empty.
        YoloposeError: as `open_text`, with list and line.
    """
    try:
        text = read_regular(path, _MAX_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"The list {path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except OSError as error:
        raise SourceError(f"The list {path} cannot be read: {error.strerror or error}.") from error
    lines = _csv_column(text) if path.suffix.lower() == ".csv" else _text_lines(text)
    parts: list[SourcePart] = []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            parts += _open_path(_beside(line, path.parent), decoding)
        except YoloposeError as error:
            raise type(error)(f"{path}, line {number}: {error}") from error
    if not parts:
        item = "URL or camera number" if path.suffix.lower() == ".streams" else "image file"
        raise SourceError(f"The list {path} is empty. Write one {item} per line.")
    return parts


def _text_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return ["" if line.startswith("#") and not os.path.exists(line) else line for line in lines]


def _csv_column(text: str) -> list[str]:
    """Return the column of paths; a first row with a known header, or without a path, is the header."""
    rows = [[field.strip() for field in row] for row in csv.reader(io.StringIO(text))]
    names = [field.lower() for field in rows[0]] if rows else []
    known = [names.index(header) for header in PATH_HEADERS if header in names]
    column = known[0] if known else 0
    fields = [row[column] if len(row) > column else "" for row in rows]
    if fields and (known or not _may_be_source(fields[0])):
        fields[0] = ""
    return fields


def _may_be_source(field: str) -> bool:
    return bool(Path(field).suffix) or is_url(field) or field.isdigit() or os.path.exists(field)


def _beside(line: str, folder: Path) -> str:
    beside = os.path.join(folder, line.removeprefix("./"))
    if line.startswith("./") or (not os.path.exists(os.path.expanduser(line)) and os.path.exists(beside)):
        return beside
    return line
