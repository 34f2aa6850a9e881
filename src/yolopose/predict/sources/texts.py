"""Sources named by text: an image, a video, a folder, a glob, a list file, a camera, an address, a screen."""

from __future__ import annotations

import glob
import mimetypes
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.request import url2pathname

from yolopose.base.errors import NotFoundError, SourceError, UsageError
from yolopose.data.images import IMAGE_SUFFIXES, is_image, read_image, read_reduced
from yolopose.predict.items import Entry, Item
from yolopose.predict.sources.addresses import is_url, open_address
from yolopose.predict.sources.captures import open_camera
from yolopose.predict.sources.lists import LIST_SUFFIXES, open_list
from yolopose.predict.sources.parts import VIDEO_SUFFIXES, Feed, Part, Video
from yolopose.predict.sources.screen import parse_screen

_KNOWN = (
    f"images ({' '.join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))}) and "
    f"videos ({' '.join(sorted(suffix[1:] for suffix in VIDEO_SUFFIXES))})"
)


def open_text(text: str, reduce_to: int | None = None) -> list[Part]:
    """Find what a text names.

    Args:
        text: an image or video file, a folder (its images and videos by name, not those of folders inside), a glob
            (`**` goes into folders), an address, the number of a camera, `screen …`, or a .txt, .csv or .streams file
            with one of these on each line.
        reduce_to: see `yolopose.data.images.read_reduced`.

    Raises:
        UsageError: it is empty.
        NotFoundError: nothing is there, or no image and no video is among it.
        SourceError: a list file that cannot be read, or an address of no known kind.
    """
    path = _local(text)
    if Path(path).suffix.lower() in LIST_SUFFIXES and os.path.isfile(path):
        return open_list(Path(path), partial(_open_path, reduce_to=reduce_to))
    return _open_path(text, reduce_to)


def camera(number: int) -> Feed:
    """The camera of a number.

    Raises:
        UsageError: it is negative.
    """
    if number < 0:
        raise UsageError(f"The source {number} is no camera: they are numbered from 0.")
    return Feed(f"camera{number}", f"The camera {number}", lambda _: open_camera(number))


def _local(text: str) -> str:
    """The path in a text: `~` and `file://` are understood."""
    if text[:7].lower() == "file://":
        return url2pathname(text[7:])
    return os.path.expanduser(text) if text.startswith("~") else text


def _open_path(text: str, reduce_to: int | None) -> list[Part]:
    if not text.strip():
        raise UsageError("The source is an empty text: name an image file, a video, a folder or a glob.")
    path = _local(text)
    if os.path.isdir(path):
        return _open_folder(Path(path), reduce_to)
    if os.path.isfile(path):
        return [_file(path, reduce_to)]
    if is_url(path):
        return [open_address(path)]
    if re.fullmatch(r"\d{1,4}", text.strip()):
        return [camera(int(text))]
    if (screen := parse_screen(text)) is not None:
        return [screen]
    if glob.has_magic(path):
        return _open_glob(path, reduce_to)
    hint = " It is a path of Windows, and this machine has none of those." if _of_windows(text) else ""
    raise NotFoundError(f"The source {text} is not there. Check the path (current folder: {Path.cwd()}).{hint}")


def _of_windows(text: str) -> bool:
    return os.name != "nt" and re.match(r"[A-Za-z]:[\\/]|\\\\", text) is not None


def _file(path: str, reduce_to: int | None) -> Part:
    suffix = Path(path).suffix.lower()
    if suffix in LIST_SUFFIXES:
        raise SourceError(f"The source {path} is a list: give it alone, not inside another list or folder.")
    kind = mimetypes.guess_type(path)[0] or ""
    if suffix in VIDEO_SUFFIXES or (kind.startswith("video/") and suffix not in IMAGE_SUFFIXES):
        return Video(path, partial(Path, path))
    return Entry(path, partial(_read, path, reduce_to))


def _read(path: str, reduce_to: int | None) -> Item:
    if reduce_to is None:
        return Item(path, read_image(path))
    image, full = read_reduced(path, reduce_to)
    return Item(path, image, full=full)


def _open_folder(folder: Path, reduce_to: int | None) -> list[Part]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise SourceError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    return _known_among([os.path.join(folder, name) for name in names], f"The folder {folder}", reduce_to)


def _open_glob(pattern: str, reduce_to: int | None) -> list[Part]:
    files = sorted(glob.glob(pattern, recursive=True))
    if not files:
        raise NotFoundError(f"No file matches {pattern} (current folder: {Path.cwd()}).")
    return _known_among(files, f"What {pattern} matches", reduce_to)


def _known_among(files: Sequence[str], where: str, reduce_to: int | None) -> list[Part]:
    known = [_file(file, reduce_to) for file in files if _is_known(Path(file)) and os.path.isfile(file)]
    if not known:
        raise NotFoundError(f"{where} holds no image and no video. Looked for {_KNOWN}.")
    return known


def _is_known(path: Path) -> bool:
    return is_image(path) or (path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."))
