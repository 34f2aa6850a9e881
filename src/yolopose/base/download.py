"""Download files over http(s): resumable, size-limited and moved into place only when complete and valid.

An unfinished download is `NAME.part` beside its target, and the next attempt resumes it. `NAME.sha256` records the
checksum and the source of a finished download.

This is built on urllib. httpx and pooch were evaluated: pooch neither resumes nor limits sizes, and with httpx only the
opener and the redirect handler of `base/http_client.py` would go, in exchange for seven packages.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import time
import urllib.error
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from yolopose.base.addresses import address_digest, address_name, recorded_address, show_address
from yolopose.base.archives import test_zip
from yolopose.base.errors import DataError, DownloadError
from yolopose.base.files import exclusive_access, make_folder, output_error, write_text
from yolopose.base.http_client import SlowServerError, open_address
from yolopose.base.log import LOGGER
from yolopose.base.names import safe_file_name
from yolopose.base.progress import ProgressCallback, download_bar
from yolopose.base.settings import load_settings
from yolopose.base.text import short_text

_TIMEOUT = 30  # seconds without a byte
_ATTEMPTS = 4
_CHUNK = 1 << 18
_DISK_RESERVE = 200 << 20  # bytes that stay free on the disk


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadSpec:
    """What to download, from where, and what is acceptable.

    Attributes:
        url: http or https address.
        title: what it is, for messages (`the weights yolo11n-pose.pt`).
        max_bytes: largest size accepted.
        license: license as stated by the publisher; may be empty.
        manual_hint: what to do with a copy that the user obtained in another way.
        source: address to record as the origin; `url` when empty. Differs from `url` where a mirror is used.
    """

    url: str
    title: str
    max_bytes: int
    license: str = ""
    manual_hint: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class DownloadRecord:
    """Contents of `NAME.sha256`: the checksum of a download, and its address (empty in older records)."""

    sha256: str
    source: str

    def is_of(self, address: str) -> bool:
        """Return whether the file was downloaded from an address; records of earlier versions hold it as it was."""
        return self.source in (address, recorded_address(address))


def download(spec: DownloadSpec, target: Path, check: Callable[[Path], None] | None = None) -> Path:
    """Download a file.

    When another process is downloading the same target, wait for it and use its file.

    Args:
        spec: address and limits.
        target: destination; an existing file is replaced only by a complete, valid download.
        check: called with the path of the complete file before it is moved; raises a `YoloposeError` to reject it.

    Returns:
        `target`.

    Raises:
        DownloadError: offline mode, an error of the server, an interrupted transfer, or an unacceptable file.
        OutputError: the file cannot be written.
    """
    if is_offline():
        raise DownloadError(
            f"Not available on this machine: {spec.title}. yolopose is in offline mode (setting or environment "
            f"variable YOLOPOSE_OFFLINE). {_manual_hint(spec)}"
        )
    _check_url(spec.url)
    make_folder(target.parent)
    with exclusive_access(target, f"another process is downloading {target.name}") as waited:
        record = read_record(target)
        if waited and target.exists() and record and record.is_of(spec.source or spec.url):
            verify_checksum(target)
            return target
        return _download(spec, target, check)


def _download(spec: DownloadSpec, target: Path, check: Callable[[Path], None] | None) -> Path:
    license_note = f" ({spec.license})" if spec.license else ""
    LOGGER.info(f"Downloading {spec.title}{license_note} from {show_address(spec.url)} to {target}.")
    part = target.with_name(f"{target.name}.part")
    try:
        part.touch()
        _fetch(spec, part)
        _check_content(spec, part)
        if check is not None:
            check(part)
        digest = sha256(part)
        # a crash after this line leaves an outdated file with a new record, which is reported, never an unrecorded file
        write_text(checksum_file(target), f"{digest}  {target.name}\n# {recorded_address(spec.source or spec.url)}\n")
        os.replace(part, target)
        _tag_file(part).unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, DownloadError):
            raise
        raise output_error(target, error) from error
    finally:
        _discard_unusable(part)
    LOGGER.info(f"Downloaded {target.name}: {target.stat().st_size / 1e6:.1f} MB, sha256 {digest}.")
    return target


def is_offline() -> bool:
    """Return whether the settings forbid network access."""
    return load_settings().offline.strip().lower() in ("1", "true", "yes", "on")


def url_digest(url: str) -> str:
    """Return 16 hexadecimal digits that identify a whole address; cached files are kept under it."""
    return address_digest(url)[:16]


def file_name_from_url(url: str, default: str) -> str:
    """Return the last part of an address as a safe file name; `default` where it has none, or it may be a secret.

    Several addresses can have one name: what is cached belongs to `url_digest`, never to the name.
    """
    name = address_name(url)
    if name:
        return safe_file_name(name, default)
    suffix = re.search(r"\.[A-Za-z][A-Za-z0-9]{0,9}$", url.partition("?")[0].partition("#")[0])
    return f"{default.partition('.')[0]}{suffix[0].lower()}" if suffix else default


def checksum_file(path: Path) -> Path:
    """Return the path of the checksum record of a downloaded file."""
    return path.with_name(f"{path.name}.sha256")


def read_record(path: Path) -> DownloadRecord | None:
    """Return the checksum record of a downloaded file; None where there is none, or it is unreadable."""
    try:
        first, *rest = checksum_file(path).read_text(encoding="utf-8").splitlines()
        digest = first.split()[0]
    except (OSError, UnicodeDecodeError, ValueError, IndexError):
        return None
    return DownloadRecord(digest, next((line[2:] for line in rest if line.startswith("# ")), ""))


def verify_checksum(path: Path) -> None:
    """Compare a file with the checksum recorded when it was downloaded, where there is one.

    Raises:
        DownloadError: the file has changed since.
    """
    record = read_record(path)
    if record is not None and sha256(path) != record.sha256:
        raise DownloadError(
            f"{path} has changed since it was downloaded: its SHA-256 differs from the one in {checksum_file(path)}. "
            "Remove both files to download it again, or remove only the record if you changed the file yourself."
        )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    return _hash_file(path, hashlib.sha256())


def git_blob_id(path: Path) -> str:
    """Return the id of a file as a git blob: SHA-1 of the header `blob SIZE` and a NUL byte, then the content."""
    header = f"blob {path.stat().st_size}\0".encode()
    return _hash_file(path, hashlib.sha1(header, usedforsecurity=False))


def _hash_file(path: Path, digest: Any) -> str:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# -- transfer --------------------------------------------------------------------------------------------------------


class _Interrupted(Exception):
    """The transfer ended early; another attempt may fetch the rest."""


def _fetch(spec: DownloadSpec, part: Path) -> None:
    """Fill `part`, resuming after interruptions."""
    for attempt in range(_ATTEMPTS):
        before = part.stat().st_size
        try:
            _request(spec, part)
            return
        except SlowServerError as error:
            raise DownloadError(
                f"Cannot download {spec.title} from {spec.url}: {error}. The part received so far is kept; run the "
                f"command again to resume. {_manual_hint(spec)}"
            ) from error
        except _Interrupted as error:
            if part.stat().st_size > before:
                LOGGER.warning(f"{spec.title}: {error}; resuming.")
            if attempt == _ATTEMPTS - 1:
                raise DownloadError(
                    f"Incomplete download of {spec.title} from {spec.url}: {error}. The part received so far is kept; "
                    f"run the command again to resume. {_manual_hint(spec)}"
                ) from error
            time.sleep(min(2**attempt, 8) * _delay_factor())


def _request(spec: DownloadSpec, part: Path) -> None:
    offset = part.stat().st_size
    tag = _read_tag(spec, part)
    headers = {"Accept-Encoding": "identity"}
    if offset and tag:
        headers |= {"Range": f"bytes={offset}-", "If-Range": tag}
    try:
        response = open_address(spec.url, _TIMEOUT, headers)
    except urllib.error.HTTPError as error:
        with error:
            _handle_http_error(spec, error, part)
        return
    except DownloadError:
        raise
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, SlowServerError):
            raise reason from error
        message = f"{show_address(spec.url)} cannot be reached ({short_text(str(reason))})"
        # without a network or a listening server another attempt is pointless
        if isinstance(reason, (socket.gaierror, ConnectionRefusedError)):
            raise DownloadError(f"Cannot download {spec.title}: {message}. {_manual_hint(spec)}") from error
        raise _Interrupted(message) from error
    with response:
        _save(spec, response, part, offset)


def _save(spec: DownloadSpec, response: Any, part: Path, offset: int) -> None:
    """Write the body of a response to `part`, from `offset` if the server honored the range."""
    if str(response.headers.get("Content-Type", "")).lower().startswith("text/html"):
        raise DownloadError(
            f"{spec.url} returned a web page instead of a file: the network may require a login, or the address has "
            f"changed. {_manual_hint(spec)}"
        )
    content_range = str(response.headers.get("Content-Range", ""))
    resumed = response.status == 206 and content_range.startswith(f"bytes {offset}-")
    start = offset if resumed else 0
    length = str(response.headers.get("Content-Length"))
    total = start + int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    _check_size(spec, total, start, part)
    _write_tag(spec, part, response.headers.get("ETag") or response.headers.get("Last-Modified"))
    with part.open("r+b") as file, download_bar(spec.title, total, start) as advance:
        file.seek(start)
        file.truncate()
        received = start + _copy(spec, response, file, start, advance)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and received != total:
        raise _Interrupted(f"the connection ended after {received} of {total} bytes")


def _copy(spec: DownloadSpec, response: Any, file: Any, start: int, advance: ProgressCallback) -> int:
    """Copy the body to the file; return the number of bytes copied."""
    count = 0
    while True:
        try:
            block = response.read1(_CHUNK)
        except SlowServerError:
            file.flush()
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a chunk of an impossible size
            file.flush()
            reason = error or type(error).__name__
            raise _Interrupted(f"the connection broke after {start + count} bytes ({reason})") from error
        if not block:
            return count
        file.write(block)
        count += len(block)
        advance(len(block))
        if start + count > spec.max_bytes:
            raise DownloadError(_too_large(spec, f"more than {spec.max_bytes / 1e6:.0f} MB"))


def _handle_http_error(spec: DownloadSpec, error: urllib.error.HTTPError, part: Path) -> None:
    if error.code == 416:  # `part` is at least as long as the file: complete, or of another file
        size = str(error.headers.get("Content-Range", "")).rpartition("/")[2]
        if size == str(part.stat().st_size):
            return
        part.write_bytes(b"")
        raise _Interrupted("the partial file belonged to another version of the file")
    if error.code in (408, 429) or error.code >= 500:
        raise _Interrupted(f"the server responded {error.code} {short_text(str(error.reason))}")
    if 300 <= error.code < 400:
        reason = short_text(" ".join(str(error.reason).split()))
        raise DownloadError(f"{spec.url} redirects endlessly or to an unusable address: {reason}. {_manual_hint(spec)}")
    reason = short_text(str(error.reason))
    meaning = "the file does not exist" if error.code == 404 else "access refused"
    raise DownloadError(f"{spec.url} responded {error.code} {reason}: {meaning}. {_manual_hint(spec)}")


# -- partial files ---------------------------------------------------------------------------------------------------


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _read_tag(spec: DownloadSpec, part: Path) -> str:
    """Return the validator (ETag or date) of the partial file; empty where it came from another address."""
    with suppress(OSError, ValueError, AttributeError, KeyError):
        tag = json.loads(_tag_file(part).read_text(encoding="utf-8"))
        if tag["url"] == recorded_address(spec.url):
            return str(tag["tag"])
    return ""


def _write_tag(spec: DownloadSpec, part: Path, tag: str | None) -> None:
    if tag and not tag.startswith("W/"):  # a weak tag does not promise equal bytes
        _tag_file(part).write_text(json.dumps({"tag": tag, "url": recorded_address(spec.url)}), encoding="utf-8")
    else:
        _tag_file(part).unlink(missing_ok=True)


def _discard_unusable(part: Path) -> None:
    """Remove a partial file that a later attempt cannot resume."""
    with suppress(OSError):
        if not part.exists() or not part.stat().st_size or not _tag_file(part).exists():
            part.unlink(missing_ok=True)
            _tag_file(part).unlink(missing_ok=True)


# -- checks ----------------------------------------------------------------------------------------------------------


def _check_url(url: str) -> None:
    try:
        address = urlsplit(url)
        is_valid = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:  # brackets that do not close
        is_valid = False
    if not is_valid:
        raise DownloadError(f"{show_address(url)!r} is not an http or https address; only these are downloaded.")


def _check_size(spec: DownloadSpec, total: int | None, offset: int, part: Path) -> None:
    if total is None:
        return
    if total > spec.max_bytes:
        raise DownloadError(_too_large(spec, f"{total / 1e6:.0f} MB"))
    free = shutil.disk_usage(part.parent).free
    if total - offset + _DISK_RESERVE > free:
        raise DownloadError(
            f"Not enough disk space for {spec.title}: it needs {(total - offset) / 1e6:.0f} MB, but the disk of "
            f"{part.parent} has {free / 1e6:.0f} MB free. Free some space, or choose another folder with "
            "`yolo settings`."
        )


def _check_content(spec: DownloadSpec, part: Path) -> None:
    """Reject empty files, web pages and damaged zip archives (weights and data sets are zip archives)."""
    if not part.stat().st_size:
        raise DownloadError(f"{spec.url} returned an empty file. {_manual_hint(spec)}")
    with part.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        part.unlink()
        raise DownloadError(f"{spec.url} returned a web page instead of a file. {_manual_hint(spec)}")
    if not start.startswith(b"pk"):
        return
    try:
        test_zip(part)
    except DataError as error:
        part.unlink()
        raise DownloadError(
            f"The download of {spec.title} from {spec.url} is damaged and was removed: {error} Try again."
        ) from error


def _too_large(spec: DownloadSpec, size: str) -> str:
    return (
        f"{spec.url} has {size}, more than the limit of {spec.max_bytes / 1e6:.0f} MB for {spec.title}; nothing was "
        "kept."
    )


def _manual_hint(spec: DownloadSpec) -> str:
    return f"Get it from {spec.url} and {spec.manual_hint}" if spec.manual_hint else ""


def _delay_factor() -> float:
    """Return the factor on delays between attempts; tests set it to 0."""
    return 1.0
