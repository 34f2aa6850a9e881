"""Sources named by text: a picture, a folder, a glob, a list file."""

from __future__ import annotations

import csv
import glob
import hashlib
import io
import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from yolopose.base.download import Wanted, compare_with_record, download
from yolopose.base.errors import NotFoundError, SourceError, UsageError, YoloposeError
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.data.images import IMAGE_SUFFIXES, is_image, read_image
from yolopose.predict.items import Entry, Item

VIDEO_SUFFIXES = frozenset(
    {".asf", ".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"}
)
LIST_SUFFIXES = frozenset({".txt", ".csv"})

# a URL, the number of a camera, a screen capture, a list of streams
_LIVE = re.compile(r"[a-z][a-z0-9+.-]+://|\d+$|screen( -?\d+)*$|.*\.streams$", re.IGNORECASE)
_PICTURE_LIMIT = 500_000_000  # bytes
_KNOWN_IMAGES = " ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))


def open_text(text: str) -> list[Entry]:
    """Finds the pictures that a text names.

    Args:
        text: an image file, a folder (its image files by name, not those of folders inside), a glob (`**` goes into
            folders), the http(s) address of a picture, or a .txt or .csv file with one of these on each line
            (.csv: in the first column).

    Raises:
        UsageError: it is empty.
        NotFoundError: nothing is there, or no image is among it.
        SourceError: it is a video, a stream or a camera, or a list file that cannot be read.
    """
    if Path(text).suffix.lower() in LIST_SUFFIXES and os.path.isfile(_expanded(text)):
        return _open_list(Path(_expanded(text)))
    return _open_path(text)


def live_source_error(what: str) -> SourceError:
    """The error for sources that are known but not read yet."""
    return SourceError(
        f"{what}: video files, cameras, streams and screen captures are not in this version. Give an image file, "
        "a folder, a glob, the address of a picture, a list of paths, arrays or PIL images; frames of a video can be "
        "given as arrays."
    )


def _expanded(text: str) -> str:
    return os.path.expanduser(text) if text.startswith("~") else text


def _open_path(text: str) -> list[Entry]:
    if not text.strip():
        raise UsageError("The source is an empty text: name an image file, a folder or a glob.")
    path = _expanded(text)
    if os.path.isdir(path):
        return _open_folder(Path(path))
    if os.path.isfile(path):
        if Path(path).suffix.lower() in VIDEO_SUFFIXES | {".streams"}:
            raise live_source_error(f"The source {text} is a video or a list of streams")
        return [_image_entry(path)]
    if _is_picture_address(text):
        return [Entry(_name_of(text), partial(_read_address, text))]
    if _LIVE.match(text):
        raise live_source_error(f"The source {text!r} is no file here")
    if glob.has_magic(path):
        return _open_glob(path)
    hint = " It is a path of Windows, and this machine has none of those." if _of_windows(text) else ""
    raise NotFoundError(f"The source {text} is not there. Check the path (current folder: {Path.cwd()}).{hint}")


def _of_windows(text: str) -> bool:
    return os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", text) is not None


def _image_entry(path: str) -> Entry:
    return Entry(path, partial(_read, path))


def _read(path: str) -> Item:
    return Item(path, read_image(path))


def _is_picture_address(text: str) -> bool:
    """Whether a text is the http(s) address of something that may be a picture: of no other known kind, no stream."""
    address = urlsplit(text.strip())
    suffix = Path(address.path).suffix.lower()
    return address.scheme.lower() in ("http", "https") and (not suffix or suffix in IMAGE_SUFFIXES)


def _name_of(url: str) -> str:
    """The file name in an address, unquoted and without what a file name cannot hold."""
    name = re.sub(r"[^\w.\- ]", "_", unquote(urlsplit(url).path.rsplit("/", 1)[-1]))
    return name.lstrip(".") or "picture"


def _read_address(url: str) -> Item:
    """Fetches a picture into the folder of downloads, once; an address with a query may change and is asked again."""
    key = hashlib.sha256(url.encode()).hexdigest()[:12]
    target = Path(load_settings().datasets_dir) / "downloads" / "pictures" / f"{key}-{_name_of(url)}"
    if target.exists() and not urlsplit(url).query:
        compare_with_record(target)
    else:
        download(Wanted(url=url.strip(), title=f"the picture {_name_of(url)}", limit=_PICTURE_LIMIT), target)
    return Item(_name_of(url), read_image(target))


def _open_folder(folder: Path) -> list[Entry]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SourceError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    files = [os.path.join(folder, name) for name in names]
    return _images_among(files, f"The folder {folder}")


def _open_glob(pattern: str) -> list[Entry]:
    files = sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise NotFoundError(f"No file matches {pattern} (current folder: {Path.cwd()}).")
    return _images_among(files, f"What {pattern} matches")


def _images_among(files: Sequence[str], where: str) -> list[Entry]:
    images = [file for file in files if is_image(Path(file)) and os.path.isfile(file)]
    videos = [file for file in files if Path(file).suffix.lower() in VIDEO_SUFFIXES and os.path.isfile(file)]
    if not images and videos:
        raise live_source_error(f"{where} holds {len(videos)} videos and no image")
    if not images:
        raise NotFoundError(f"{where} holds no image. Looked for files that end in: {_KNOWN_IMAGES}.")
    if videos:
        LOGGER.warning(f"{where} holds {len(videos)} videos, which are left out: they are not in this version.")
    return [_image_entry(file) for file in images]


def _open_list(path: Path) -> list[Entry]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"The list {path} is not UTF-8 text ({error.reason} at byte {error.start}).") from error
    except OSError as error:
        raise SourceError(f"The list {path} cannot be read: {error.strerror or error}.") from error
    read: Callable[[str], list[str]] = _first_cells if path.suffix.lower() == ".csv" else str.splitlines
    entries: list[Entry] = []
    for number, line in enumerate(read(text), start=1):
        if line.strip():
            entries += _open_line(line.strip(), path, number)
    if not entries:
        raise SourceError(f"The list {path} holds no path. Give one image file on each line.")
    return entries


def _first_cells(text: str) -> list[str]:
    """First column of a CSV text; a first row without any suffix is its header."""
    cells = [row[0] if row else "" for row in csv.reader(io.StringIO(text))]
    if cells and not Path(cells[0]).suffix:
        cells[0] = ""
    return cells


def _open_line(line: str, path: Path, number: int) -> list[Entry]:
    """A line of a list; `./…` is beside the list, other relative paths are too where the current folder has none."""
    beside = os.path.join(path.parent, line.removeprefix("./"))
    if line.startswith("./") or (not os.path.exists(_expanded(line)) and os.path.exists(beside)):
        line = beside
    try:
        return _open_path(line)
    except YoloposeError as error:
        raise type(error)(f"{path}, line {number}: {error}") from error
