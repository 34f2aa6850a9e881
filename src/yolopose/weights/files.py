"""Read and write weights files. The kind is detected by content when reading and chosen by suffix when writing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from yolopose.base.errors import NotFoundError, UnsafeFileError, UsageError, WeightsError
from yolopose.base.files import atomic_path
from yolopose.weights.archive import Archive, TensorReader
from yolopose.weights.checkpoint import Checkpoint
from yolopose.weights.foreign import from_reference, from_state_dict
from yolopose.weights.native import from_native, is_native, read_safetensors, write_pt, write_safetensors
from yolopose.weights.pickle_reader import read_pickle
from yolopose.weights.values import StoredObject

_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # magic number that torch before 1.6 wrote first
_GIT_LFS = b"version https://git-lfs"
_HEAD_BYTES = 512


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a weights file of ours, a public checkpoint, a bare state_dict, or a .safetensors file.

    No code in the file is executed: pickles are read by an interpreter that supports only what weights need.

    Args:
        path: the file; its kind is detected by content, not by name.

    Raises:
        NotFoundError: the file does not exist.
        UnsafeFileError: the file asks for something that reading weights never needs.
        WeightsError: it is damaged, of a newer format, or not a weights file.
    """
    path = Path(path)
    if detect_format(path) == "safetensors":
        return read_safetensors(path)
    with Archive(path) as archive:
        content = read_pickle(bytes(archive.read("data.pkl")), archive.storage_sizes(), str(path))
        return _to_checkpoint(content, TensorReader(archive), str(path))


def write_checkpoint(path: str | Path, checkpoint: Checkpoint, half: bool = False) -> Path:
    """Write a weights file atomically.

    Args:
        path: its suffix chooses the kind: `.pt` (everything) or `.safetensors` (without `extra`).
        checkpoint: what to write.
        half: store the state's floats as float16, except tensors that would overflow.

    Returns:
        The path.

    Raises:
        UsageError: the suffix is another, or a value cannot be stored.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    writer = {".pt": write_pt, ".safetensors": write_safetensors}.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"Weights are written as .pt or .safetensors, not as {path.name!r}.")
    with atomic_path(path) as temporary:
        writer(temporary, checkpoint, half)
    return path


def detect_format(path: Path) -> str:
    """Return `"zip"` or `"safetensors"`, detected by the first bytes and never by the name.

    Raises:
        NotFoundError: the file does not exist.
        UnsafeFileError: it is a bare pickle.
        WeightsError: it is anything else; the message describes its content.
    """
    size = _file_size(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(b"PK\3\4"):
        return "zip"
    # safetensors: 8 bytes with the length of a JSON header, then the header
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05" and not head.startswith(_OLD_TORCH):
        raise UnsafeFileError(
            f"{path} is a bare pickle, which is a program and not a weights file. It was refused, and nothing in it "
            "was run. Weights files are zip archives: save it again with torch 1.6 or newer (`torch.save`)."
        )
    raise WeightsError(f"{path} is not a weights file: {_describe_content(head, size)}")


def _to_checkpoint(content: object, reader: TensorReader, path: str) -> Checkpoint:
    if isinstance(content, StoredObject):  # a module saved without a dict around it
        return from_reference({"model": content}, reader, path)
    if not isinstance(content, dict):
        raise WeightsError(f"The file {path} holds a {type(content).__name__}, neither a network nor a state_dict.")
    if is_native(content):
        return from_native(content, reader, path)
    if content.get("model") is not None or content.get("ema") is not None:
        return from_reference(content, reader, path)
    return from_state_dict(content, reader, path)


def _file_size(path: Path) -> int:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"The weights file {path} does not exist. Check the path (current folder: {Path.cwd()})."
        ) from error
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"The weights file {path} cannot be opened: {reason}.") from error
    if stat.S_ISDIR(status.st_mode):
        raise WeightsError(f"{path} is a folder, not a weights file. Name the .pt or .safetensors file inside it.")
    if not stat.S_ISREG(status.st_mode):
        raise WeightsError(f"{path} is a device, socket or pipe, not a weights file.")
    return status.st_size


def _describe_content(head: bytes, size: int) -> str:
    """Describe a file of another kind and how to get the right one."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        return "it is empty (0 bytes). The download or copy failed; get it again."
    if head.startswith(_OLD_TORCH) or head[257:262] == b"ustar":
        return "it was written by torch before 1.6. Load it where it was written, and save it with a newer torch."
    if head.startswith(_GIT_LFS):
        return "it is a git-lfs pointer, and the weights were not fetched. Run `git lfs pull` in its repository."
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "it is a web page; the download failed and an error page was saved in its place. Download it again."
    if head.startswith(b"\x1f\x8b"):
        return "it is a gzip archive. Unpack it first."
    if _is_text(head):
        return "it is text. Weights are .pt or .safetensors files; a model YAML ends in .yaml."
    return f"its first bytes ({head[:4].hex(' ')}) match no known format. Weights are .pt or .safetensors files."


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # later, it may be a character cut off at the end of the head
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\t\r\n" for character in text)
