"""onnxruntime-web, the engine of the page: found locally or downloaded on request; each file is checked by SHA-256."""

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
"""Value of `web_runtime=` that requests the download."""
_MAX_BYTES = 64 << 20  # of a file, about twice the largest


def package_name() -> str:
    """Return name and version of the package."""
    table = zoo.web_runtime_table()
    return f"{table['package']} {table['version']}"


def runtime_files(source: str | None) -> dict[str, bytes]:
    """Return the files that the page needs, by their names in the package.

    Args:
        source: `fetch` for the user's cache, filled from the npm registry if it is empty; a folder or .tgz of the
            package; None for the cache only.

    Raises:
        DependencyError: the cache is empty; the message states how to fill it.
        DownloadError: the package cannot be downloaded.
        NotFoundError: the folder or file does not exist.
        UsageError: it is another package or version.
    """
    if source in (None, FETCH):
        cached = _read_cache()
        if cached is None and source is None:
            raise _missing_error()
        return cached or _read_verified(fetch_runtime())
    path = Path(str(source))
    if not path.exists():
        raise NotFoundError(
            f"web_runtime={source} does not exist. Use {FETCH}, or the folder or .tgz of the npm package "
            f"{package_name()}, such as node_modules/onnxruntime-web (current folder: {Path.cwd()})."
        )
    return _read_verified(path)


def fetch_runtime() -> Path:
    """Download the package from the npm registry and keep the files that the page needs in the user's cache.

    Returns:
        The folder of these files.

    Raises:
        DownloadError: the package cannot be downloaded, or its checksum is wrong.
        OutputError: the cache cannot be written.
    """
    table = zoo.web_runtime_table()
    folder = _cache_folder()
    archive = folder.with_name(f"{folder.name}.tgz")
    spec = DownloadSpec(
        url=table["address"],
        title=package_name(),
        max_bytes=2 * table["megabytes"] * 1_000_000,
        license=table["license"],
        manual_hint="name the file with web_runtime=.",
    )
    download(spec, archive, _check_archive)
    content = _read_verified(archive)
    with atomic_folder(folder) as temporary:
        for name, data in content.items():
            (temporary / name).write_bytes(data)
    remove(archive)
    remove(checksum_file(archive))
    return folder


def _cache_folder() -> Path:
    return cache_dir() / package_name().replace(" ", "-")


def _read_cache() -> dict[str, bytes] | None:
    """Return the files of an earlier download; None if they are missing or damaged."""
    try:
        return _read_verified(_cache_folder()) if _cache_folder().is_dir() else None
    except UsageError:
        return None


def _missing_error() -> DependencyError:
    table = zoo.web_runtime_table()
    return DependencyError(
        f"format=web puts {package_name()} ({table['license']}) beside the page, and it is not on this machine. Add "
        f"web_runtime={FETCH} to the export: it downloads {table['megabytes']} MB from {table['address']} once, and "
        f"caches the files that it needs in {_cache_folder()}. Or name a copy: npm install "
        f"{package_name().replace(' ', '@')}, then web_runtime=node_modules/onnxruntime-web."
    )


def _check_archive(path: Path) -> None:
    algorithm, _, expected = str(zoo.web_runtime_table()["integrity"]).partition("-")
    digest = base64.b64encode(hashlib.new(algorithm, path.read_bytes()).digest()).decode()
    if digest != expected:
        raise DownloadError(
            f"The downloaded {package_name()} is not that package: its {algorithm} differs from the value in this "
            "version of yolopose. It was removed. Try again, or from another network."
        )


def _read_verified(path: Path) -> dict[str, bytes]:
    """Return the needed files of a folder or archive, after comparing each with its SHA-256.

    Raises:
        UsageError: a file is missing or different.
    """
    checksums: dict[str, str] = zoo.web_runtime_table()["files"]
    content = _read_folder(path, checksums) if path.is_dir() else _read_archive(path, checksums)
    for name, checksum in checksums.items():
        if hashlib.sha256(content.get(name, b"")).hexdigest() != checksum:
            problem = f"{name} differs from" if name in content else f"{name} is missing, a file of"
            raise UsageError(
                f"{path} is not {package_name()}{_installed_version(path)}: {problem} that version, which the page "
                f"needs. Use npm install {package_name().replace(' ', '@')}, or web_runtime={FETCH}."
            )
    return content


def _read_folder(path: Path, names: dict[str, str]) -> dict[str, bytes]:
    """Read the package's folder, its `dist`, or a folder in which npm has installed it."""
    candidates = [path, path / "dist", path / "node_modules/onnxruntime-web/dist", path / "onnxruntime-web/dist"]
    folder = next((folder for folder in candidates if all((folder / name).is_file() for name in names)), path)
    return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}


def _read_archive(path: Path, names: dict[str, str]) -> dict[str, bytes]:
    """Read an archive of npm. Only members with the needed names are read, and nothing is unpacked to the disk."""
    content: dict[str, bytes] = {}
    with suppress(tarfile.TarError, EOFError, OSError, ValueError), tarfile.open(path) as archive:
        for member in archive:
            name = member.name.removeprefix("package/dist/")
            if name in names and member.isfile() and member.size <= _MAX_BYTES:
                reader: Any = archive.extractfile(member)
                content[name] = reader.read()
    return content


def _installed_version(path: Path) -> str:
    """Return ` but 1.20.0` if the folder of a package states its version, else an empty text."""
    for file in (path / "package.json", path.parent / "package.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return f" but {json.loads(file.read_text(encoding='utf-8'))['version']}"
    return ""
