"""A network file or folder: its identity, and its copy on machines that do not have it."""

from __future__ import annotations

import hashlib
import io
import tempfile
import zipfile
from pathlib import Path


def file_sha256(model: str | Path) -> str:
    """Return the SHA-256 of a network: of the file, or of the names and hashes of all files of a folder.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(model)
    if not path.is_dir():
        return _hash(path)
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_hash(file)}\n".encode())
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def has_network(model: str, sha256: str) -> bool:
    """Return whether this machine has a network with this hash at this path."""
    try:
        return file_sha256(model) == sha256
    except OSError:
        return False


def pack_network(model: str) -> bytes:
    """Return a network file, or the files of a network folder, as an uncompressed zip archive."""
    path = Path(model)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in _files(path) if path.is_dir() else [path]:
            archive.write(file, file.relative_to(path.parent).as_posix())
    return buffer.getvalue()


def unpack_network(network: bytes) -> str:
    """Write a packed network to a new temporary folder, and return its path; the folder stays."""
    folder = tempfile.mkdtemp(prefix="yolopose-network-")
    with zipfile.ZipFile(io.BytesIO(network)) as archive:
        archive.extractall(folder)  # written by `pack_network` of the process that started this one
        return str(Path(folder) / Path(archive.namelist()[0]).parts[0])
