"""Files from the network: whole or not there, resumed where they were cut, and never from a place not asked for.

A file in the making stands beside its target as `NAME.part`; the next attempt goes on from its end. When it is whole
it is checked, renamed, and its SHA-256 is written to `NAME.sha256`, with which later reads compare it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yolopose._version import __version__
from yolopose.base.errors import DownloadError
from yolopose.base.files import make_folder, output_error, write_text
from yolopose.base.log import LOGGER
from yolopose.base.progress import Bar, download_bar
from yolopose.base.settings import load_settings

_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 4
_CHUNK = 1 << 18
_SPARE = 200 << 20  # bytes that a disk should have left


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSpec:
    """What is asked for.

    Attributes:
        url: http or https address.
        title: what it is, in words for the user (`the weights yolo11n-pose.pt`).
        limit: most bytes accepted.
        license: license that it stands under, as the publisher says; may be empty.
        by_hand: words on what to do with a copy that was fetched in another way.
    """

    url: str
    title: str
    limit: int
    license: str = ""
    by_hand: str = ""


def download(wanted: DownloadSpec, target: Path, check: Callable[[Path], None] | None = None) -> Path:
    """Fetch a file.

    Args:
        wanted: what, and from where.
        target: where it shall stand; an older file there is replaced only by a whole new one.
        check: looks at the whole file before it is put in place, and raises a `YoloposeError` that refuses it.

    Returns:
        `target`.

    Raises:
        DownloadError: offline, no such file there, cut off, of another length, no file of this kind, too large.
        OutputError: it cannot be written.
    """
    if is_offline():
        raise DownloadError(
            f"Not on this machine: {wanted.title}. yolopose is set to stay offline (setting or environment variable "
            f"YOLOPOSE_OFFLINE). {_elsewhere(wanted)}"
        )
    _check_address(wanted.url)
    make_folder(target.parent)
    terms = f" ({wanted.license})" if wanted.license else ""
    LOGGER.info(f"Fetching {wanted.title}{terms} from {wanted.url} to {target}.")
    part = _claimed(target)
    try:
        _fetch(wanted, part)
        _check_kind(wanted, part)
        if check is not None:
            check(part)
        digest = sha256(part)
        os.replace(part, target)
        write_text(checksum_file(target), f"{digest}  {target.name}\n")
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise output_error(target, error) from error
    finally:
        _unclaim(part, target)
    LOGGER.info(f"Fetched {target.name}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}.")
    return target


def is_offline() -> bool:
    """Whether the settings forbid the network."""
    return load_settings().offline.strip().lower() in ("1", "true", "yes", "on")


def checksum_file(path: Path) -> Path:
    """Return where the SHA-256 of a fetched file is recorded."""
    return path.with_name(f"{path.name}.sha256")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        found = hashlib.sha256()
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def git_blob_id(path: Path) -> str:
    """Return the id that git gives to the content of a file: SHA-1 over a head with its size, and the content."""
    found = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def verify_checksum(path: Path) -> None:
    """Compare a file with the SHA-256 of its first good download, where that was recorded.

    Raises:
        DownloadError: the file has changed since.
    """
    record = checksum_file(path)
    try:
        expected = record.read_text(encoding="utf-8").split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return
    if sha256(path) != expected:
        raise DownloadError(
            f"{path} is not what was downloaded: its SHA-256 differs from the one in {record}. Remove both to fetch "
            "it again, or remove the record alone if you changed the file yourself."
        )


# -- one attempt after the other ------------------------------------------------------------------------------------


def _fetch(wanted: DownloadSpec, part: Path) -> None:
    """Fill `part`, going on where an attempt was cut off."""
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size
        try:
            _attempt(wanted, part)
            return
        except _Cut as cut:
            if part.stat().st_size > before:
                LOGGER.warning(f"{wanted.title}: {cut}; going on from there.")
            if attempt == _ATTEMPTS - 1:
                raise DownloadError(
                    f"Could not be fetched whole: {wanted.title}, from {wanted.url}: {cut}. What is there is kept: run "
                    f"it again, and it goes on from there. {_elsewhere(wanted)}"
                ) from cut
            time.sleep(min(2**attempt, 8) * _pause())


class _Cut(Exception):
    """The connection ended early; another attempt may bring the rest."""


def _attempt(wanted: DownloadSpec, part: Path) -> None:
    have, tag = part.stat().st_size, _tag_of(part)
    headers = {"User-Agent": f"yolopose/{__version__}", "Accept-Encoding": "identity"}
    if have and tag:
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    request = urllib.request.Request(wanted.url, headers=headers)  # noqa: S310  # the scheme has been checked
    try:
        answer = _OPENER.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            _refused(wanted, error, part)
        return
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        words = f"{urlsplit(wanted.url).netloc} cannot be reached ({reason})"
        if isinstance(reason, (socket.gaierror, ConnectionRefusedError)):  # no network, or no such server: no use
            raise DownloadError(f"Cannot fetch {wanted.title}: {words}. {_elsewhere(wanted)}") from error
        raise _Cut(words) from error
    with answer:
        _save(wanted, answer, part, have)


def _save(wanted: DownloadSpec, answer: Any, part: Path, have: int) -> None:
    if str(answer.headers.get("Content-Type", "")).lower().startswith("text/html"):
        raise DownloadError(
            f"{wanted.url} gave a web page instead of a file: perhaps the network asks for a login first, or the "
            f"address has changed. {_elsewhere(wanted)}"
        )
    resumed = answer.status == 206 and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
    start = have if resumed else 0
    length = _whole(answer.headers.get("Content-Length"))
    total = None if length is None else start + length
    _check_size(wanted, total, start, part)
    _note_tag(part, answer.headers.get("ETag") or answer.headers.get("Last-Modified"))
    done = start
    with part.open("r+b") as file, download_bar(wanted.title, total, start) as bar:
        file.seek(start)
        file.truncate()
        done += _copy(wanted, answer, file, start, bar)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done != total:
        raise _Cut(f"the connection ended after {done} of {total} bytes")


def _copy(wanted: DownloadSpec, answer: Any, file: Any, start: int, bar: Bar) -> int:
    """Copy what comes; returns how many bytes. A connection that breaks ends it."""
    done = 0
    while True:
        try:
            block = answer.read1(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            file.flush()
            raise _Cut(f"the connection broke after {start + done} bytes ({error or type(error).__name__})") from error
        if not block:
            return done
        file.write(block)
        done += len(block)
        bar(len(block))
        if start + done > wanted.limit:
            raise DownloadError(_too_large(wanted, f"more than {wanted.limit / 1e6:.0f} MB"))


def _refused(wanted: DownloadSpec, error: urllib.error.HTTPError, part: Path) -> None:
    """Deal with an answer that is no file."""
    if error.code == 416:  # the part is as long as the file, or longer: it was whole, or of another file
        size = str(error.headers.get("Content-Range", "")).rpartition("/")[2]
        if size == str(part.stat().st_size):
            return
        part.write_bytes(b"")
        raise _Cut("what was there did not belong to this file")
    if error.code in (408, 429) or error.code >= 500:
        raise _Cut(f"the server answers {error.code} {error.reason}")
    if 300 <= error.code < 400:
        raise DownloadError(f"{wanted.url} sends from one address to the next without end or to no usable one: "
                            f"{' '.join(str(error.reason).split())}. {_elsewhere(wanted)}")  # fmt: skip
    why = "there is nothing of this name" if error.code == 404 else "it is refused"
    raise DownloadError(f"{wanted.url} answers {error.code} {error.reason}: {why}. {_elsewhere(wanted)}")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) alone, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise DownloadError(
                f"{req.full_url} sends to {newurl}, which is not followed: only https, or http to http."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER = urllib.request.build_opener(_SafeRedirects)


# -- the file in the making -----------------------------------------------------------------------------------------


def _claimed(target: Path) -> Path:
    """Take over what an earlier attempt left; a name of our own keeps two processes out of each other's file."""
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    left = target.with_name(f"{target.name}.part")
    try:
        with suppress(FileNotFoundError):
            os.replace(left, part)
            with suppress(FileNotFoundError):
                os.replace(_tag_file(left), _tag_file(part))
        part.touch()
    except OSError as error:
        raise output_error(target, error) from error
    return part


def _unclaim(part: Path, target: Path) -> None:
    """Leave an unfinished file to the next attempt."""
    left = target.with_name(f"{target.name}.part")
    with suppress(OSError):
        if part.exists() and part.stat().st_size and _tag_of(part):
            os.replace(part, left)
            os.replace(_tag_file(part), _tag_file(left))
    for rest in (part, _tag_file(part)):
        with suppress(OSError):
            rest.unlink()


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _tag_of(part: Path) -> str:
    """What tells whether the rest on the server belongs to the part here."""
    with suppress(OSError, ValueError, AttributeError):
        return str(json.loads(_tag_file(part).read_text(encoding="utf-8"))["tag"])
    return ""


def _note_tag(part: Path, tag: str | None) -> None:
    if tag and not tag.startswith("W/"):  # a weak tag does not promise equal bytes
        _tag_file(part).write_text(json.dumps({"tag": tag}), encoding="utf-8")
    else:
        _tag_file(part).unlink(missing_ok=True)


# -- checks ---------------------------------------------------------------------------------------------------------


def _check_address(url: str) -> None:
    address = urlsplit(url)
    if address.scheme not in ("http", "https") or not address.netloc:
        raise DownloadError(f"{url!r} is no http or https address; only these are fetched.")


def _check_size(wanted: DownloadSpec, total: int | None, have: int, part: Path) -> None:
    if total is None:
        return
    if total > wanted.limit:
        raise DownloadError(_too_large(wanted, f"{total / 1e6:.0f} MB"))
    free = shutil.disk_usage(part.parent).free
    if total - have + _SPARE > free:
        raise DownloadError(
            f"No room for {wanted.title}: it needs {(total - have) / 1e6:.0f} MB, but the disk of {part.parent} has "
            f"{free / 1e6:.0f} MB free. Free some space, or set another folder with `yolo settings`."
        )


def _check_kind(wanted: DownloadSpec, part: Path) -> None:
    """A file that is a zip archive, as weights and data sets are, must be a sound one."""
    if not part.stat().st_size:
        raise DownloadError(f"{wanted.url} gave an empty file. {_elsewhere(wanted)}")
    with part.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        part.unlink()
        raise DownloadError(f"{wanted.url} gave a web page instead of a file. {_elsewhere(wanted)}")
    if not start.startswith(b"pk"):
        return
    try:
        with zipfile.ZipFile(part) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        bad = str(error)
    if bad:
        part.unlink()
        raise DownloadError(
            f"What came for {wanted.title} is damaged, from {wanted.url} ({bad}); it was removed. Run it again."
        )


def _too_large(wanted: DownloadSpec, size: str) -> str:
    return (
        f"{wanted.url} would give {size}, more than the {wanted.limit / 1e6:.0f} MB that {wanted.title} may have; "
        "nothing was kept."
    )


def _elsewhere(wanted: DownloadSpec) -> str:
    return f"It is to be had at {wanted.url}; {wanted.by_hand}" if wanted.by_hand else ""


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _pause() -> float:
    """Factor on the pauses between attempts; tests set it to 0."""
    return 1.0
