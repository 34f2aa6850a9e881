"""onnxruntime-web, which computes in the page: found, checked byte by byte, and fetched only on the user's word."""

from __future__ import annotations

import base64
import hashlib
import json
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from yolopose import zoo
from yolopose.base.download import DownloadSpec, checksum_file, download
from yolopose.base.errors import DependencyError, DownloadError, NotFoundError, UsageError
from yolopose.base.files import atomic_folder, remove
from yolopose.base.settings import cache_dir

FETCH = "fetch"
"""What `web_runtime=` says to have it fetched."""
_LARGEST = 64 << 20  # bytes of a file, about twice the largest


def runtime_name() -> str:
    """Return name and version of the package."""
    table = zoo.web_runtime_table()
    return f"{table['package']} {table['version']}"


def runtime_files(wanted: str | None) -> dict[str, bytes]:
    """Return the files that the page needs, by their names in the package.

    Args:
        wanted: `fetch`: from the user's cache, filled from npm's registry where it has none; else the folder or .tgz of
            the package; None: from the cache.

    Raises:
        DependencyError: the cache has none; the text holds what gets it.
        DownloadError: it cannot be fetched.
        NotFoundError: there is no such folder or file.
        UsageError: it is another package or version there.
    """
    if wanted in (None, FETCH):
        found = _cached()
        if found is None and wanted is None:
            raise _missing()
        return found or _sound(fetch_runtime())
    place = Path(str(wanted))
    if not place.exists():
        raise NotFoundError(
            f"web_runtime={wanted} is not there. It takes {FETCH}, or the folder or .tgz of the npm package "
            f"{runtime_name()}, such as node_modules/onnxruntime-web (current folder: {Path.cwd()})."
        )
    return _sound(place)


def fetch_runtime() -> Path:
    """Fetch the package from npm's registry and keeps the files that the page needs in the user's cache.

    Returns:
        The folder of these files.

    Raises:
        DownloadError: it cannot be fetched, or is not what it should be.
        OutputError: the cache cannot be written.
    """
    table, folder = zoo.web_runtime_table(), _cache()
    archive = folder.with_name(f"{folder.name}.tgz")
    download(
        DownloadSpec(
            url=table["address"],
            title=runtime_name(),
            max_bytes=2 * table["megabytes"] * 1_000_000,
            license=table["license"],
            manual_hint="name the file with web_runtime=.",
        ),
        archive,
        _check_archive,
    )
    content = _sound(archive)
    with atomic_folder(folder) as temporary:
        for name, data in content.items():
            (temporary / name).write_bytes(data)
    remove(archive)
    remove(checksum_file(archive))
    return folder


def _cache() -> Path:
    return cache_dir() / runtime_name().replace(" ", "-")


def _cached() -> dict[str, bytes] | None:
    """What an earlier fetch has left; None where nothing is, or something else than what was fetched."""
    try:
        return _sound(_cache()) if _cache().is_dir() else None
    except UsageError:
        return None


def _missing() -> DependencyError:
    table = zoo.web_runtime_table()
    return DependencyError(
        f"format=web puts {runtime_name()} ({table['license']}) beside the page, and it is not on this machine. Add "
        f"web_runtime={FETCH} to the export: it fetches {table['megabytes']} MB from {table['address']}, once, and "
        f"keeps what it takes in {_cache()}. Or name a copy: npm install {runtime_name().replace(' ', '@')}, then "
        "web_runtime=node_modules/onnxruntime-web."
    )


def _check_archive(path: Path) -> None:
    kind, _, expected = str(zoo.web_runtime_table()["integrity"]).partition("-")
    found = base64.b64encode(hashlib.new(kind, path.read_bytes()).digest()).decode()
    if found != expected:
        raise DownloadError(
            f"What came for {runtime_name()} is not that package: its {kind} differs from the one that this version of "
            "yolopose knows. Nothing of it was kept. Try again, or another network."
        )


def _sound(place: Path) -> dict[str, bytes]:
    """The files of a folder or archive, each compared with its SHA-256.

    Raises:
        UsageError: one is missing or another.
    """
    wanted: dict[str, str] = zoo.web_runtime_table()["files"]
    found = _of_folder(place, wanted) if place.is_dir() else _of_archive(place, wanted)
    for name, digest in wanted.items():
        if hashlib.sha256(found.get(name, b"")).hexdigest() != digest:
            what = "differs from" if name in found else "is missing there, a file of"
            raise UsageError(
                f"{place} is not {runtime_name()}{_version_in(place)}: {name} {what} that version, which the page is "
                f"written for. Use npm install {runtime_name().replace(' ', '@')}, or web_runtime={FETCH}."
            )
    return found


def _of_folder(place: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """Of the package's folder, its `dist`, or a folder in which npm has installed it."""
    places = [place, place / "dist", place / "node_modules/onnxruntime-web/dist", place / "onnxruntime-web/dist"]
    home = next((one for one in places if all((one / name).is_file() for name in wanted)), place)
    return {name: (home / name).read_bytes() for name in wanted if (home / name).is_file()}


def _of_archive(place: Path, wanted: dict[str, str]) -> dict[str, bytes]:
    """Of an archive as npm keeps it; only the members with these names are looked at, and none is unpacked by name."""
    found: dict[str, bytes] = {}
    with suppress(tarfile.TarError, EOFError, OSError, ValueError), tarfile.open(place) as archive:
        for member in archive:
            name = member.name.removeprefix("package/dist/")
            if name in wanted and member.isfile() and member.size <= _LARGEST:
                content: Any = archive.extractfile(member)
                found[name] = content.read()
    return found


def _version_in(place: Path) -> str:
    """` but 1.20.0`, where a package's folder says so."""
    for file in (place / "package.json", place.parent / "package.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return f" but {json.loads(file.read_text(encoding='utf-8'))['version']}"
    return ""
