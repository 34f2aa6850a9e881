"""Which kind of file stands at a path, told by its first bytes and never by its name."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from yolopose.base.errors import NotFoundError, UnsafeFileError, WeightsError

_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the number that torch before 1.6 put in front
_GIT_LFS = b"version https://git-lfs"
_HEAD = 512


def sniff(path: Path) -> str:
    """Return `"zip"` or `"safetensors"`.

    Raises:
        NotFoundError: there is no such file.
        UnsafeFileError: it is a bare pickle.
        WeightsError: it is anything else; the text says what it looks like.
    """
    size = _size(path)
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(b"PK\3\4"):
        return "zip"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    if head[:1] == b"\x80" and head[1:2] <= b"\x05" and not head.startswith(_OLD_TORCH):
        raise UnsafeFileError(
            f"{path} is a bare pickle, which is a program and no weights file. It was refused, and nothing in it was "
            "run. Weights files are zip archives: save it again with torch 1.6 or newer (`torch.save`)."
        )
    raise WeightsError(f"{path} is no weights file: {_looks_like(head, size)}")


def _size(path: Path) -> int:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"There is no weights file {path}. Check the path (current folder: {Path.cwd()})."
        ) from error
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long, a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"The weights file {path} cannot be opened: {reason}.") from error
    if stat.S_ISDIR(found.st_mode):
        raise WeightsError(f"{path} is a folder, no weights file. Name the .pt or .safetensors file inside it.")
    if not stat.S_ISREG(found.st_mode):
        raise WeightsError(f"{path} is a device, socket or pipe, no weights file.")
    return found.st_size


def _looks_like(head: bytes, size: int) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if size == 0:
        return "it is empty (0 bytes). The download or copy failed; get it again."
    if head.startswith(_OLD_TORCH) or head[257:262] == b"ustar":
        return (
            "torch before 1.6 wrote it. Load it with the program that wrote it, and save it again with a newer torch."
        )
    if head.startswith(_GIT_LFS):
        return "it is a pointer of git-lfs, and the weights were not fetched. Run `git lfs pull` in its repository."
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "it is a web page; the download failed and an error page was saved in its place. Download it again."
    if head.startswith(b"\x1f\x8b"):
        return "it is a gzip archive. Unpack it first."
    if _is_text(head):
        return "it is text. Weights are .pt or .safetensors files; a model YAML ends in .yaml."
    return (
        f"its first bytes ({head[:4].hex(' ')}) belong to no format known here. Weights are .pt or .safetensors files."
    )


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # a sign cut at the end of the head is no fault
            return False
        text = head[: error.start].decode("utf-8")
    return all(sign.isprintable() or sign in "\t\r\n" for sign in text)
