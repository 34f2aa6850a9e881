"""The zip archive of a torch file: its layout is checked member by member before any content is used."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from yolopose.base.errors import WeightsError
from yolopose.weights.errors import damaged_error, printable, unsafe_error
from yolopose.weights.values import TensorRef

MAX_MEMBERS = 200_000
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_ENCRYPTED = 0x1
_UTF8 = 0x800
# what Python's zip reader may raise on a broken directory
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError, EOFError, OSError)


@dataclass(frozen=True, slots=True)
class _Member:
    """Byte positions of the local header and the content, size, and CRC-32."""

    header: int
    start: int
    size: int
    crc: int


class Archive:
    """An open torch zip archive with a checked layout: stored uncompressed, no duplicates, no overlaps.

    Args:
        path: the file.

    Raises:
        WeightsError: the archive is damaged, or not a torch file.
        UnsafeFileError: its layout is malicious.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._file: io.BufferedReader = path.open("rb")
        try:
            self._members = self._read_members()
            self._check_byteorder()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def storage_sizes(self) -> dict[str, int]:
        """Return the size in bytes of each tensor storage, by key."""
        return {name[5:]: member.size for name, member in self._members.items() if re.fullmatch(r"data/[0-9]+", name)}

    def read(self, name: str) -> bytearray:
        """Return the content of a member, named without the root folder.

        Raises:
            WeightsError: it does not exist, or its checksum is wrong.
        """
        member = self._members.get(name)
        if member is None:
            raise damaged_error(self.path, f"it has no {name}")
        content = bytearray(member.size)
        self._file.seek(member.start)
        if self._file.readinto(content) != member.size or zlib.crc32(content) != member.crc:
            raise damaged_error(self.path, f"the checksum of {name} is wrong")
        return content

    def _read_members(self) -> dict[str, _Member]:
        infos, directory = self._read_directory()
        root = self._find_root([info.orig_filename for info in infos])
        members: dict[str, _Member] = {}
        for info in infos:
            name = self._member_name(info, root)
            if name in members:
                raise unsafe_error(self.path, f"two archive members of the name {printable(name)}")
            members[name] = self._check_member(info, directory)
        # members that share bytes let a small file expand to any size
        end = 0
        for member in sorted(members.values(), key=lambda member: member.header):
            if member.header < end:
                raise unsafe_error(self.path, "archive members that overlap (a zip bomb)")
            end = member.start + member.size
        return members

    def _read_directory(self) -> tuple[list[zipfile.ZipInfo], int]:
        """Return the entries of the central directory and its position in the file."""
        try:
            with zipfile.ZipFile(self._file) as opened:
                infos, directory = opened.infolist(), opened.start_dir
        except _ZIP_ERRORS as error:
            size = self._file.seek(0, 2)
            raise WeightsError(
                f"The weights file {self.path} is damaged or was downloaded only in part ({size} bytes; "
                f"{printable(error)}). Delete it and download or copy it again."
            ) from error
        if len(infos) > MAX_MEMBERS:
            raise unsafe_error(self.path, f"{len(infos)} archive members")
        return infos, directory

    def _find_root(self, names: list[str]) -> str:
        """Return the folder that holds data.pkl; torch names it after the file it wrote."""
        roots = [name[:-9] for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if any(name.endswith("/constants.pkl") for name in names):
            raise WeightsError(
                f"{self.path} is a TorchScript program, not a weights file. To predict with it, name it *.torchscript."
            )
        if not roots:
            raise WeightsError(
                f"{self.path} is a zip archive without a data.pkl, so it is not a weights file of torch. Unpack it."
            )
        if len(roots) > 1:
            raise unsafe_error(self.path, f"{len(roots)} descriptions of its content (data.pkl)")
        return roots[0]

    def _member_name(self, info: zipfile.ZipInfo, root: str) -> str:
        name = info.orig_filename
        parts = name.split("/")
        if parts[0] != root or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            raise unsafe_error(self.path, f"an archive member outside its folder ({printable(name)})")
        if re.search(r"[\x00-\x1f\\:]", name):
            raise unsafe_error(self.path, f"an archive member of the name {printable(name)}")
        return name[len(root) + 1 :]

    def _check_member(self, info: zipfile.ZipInfo, directory: int) -> _Member:
        name = printable(info.orig_filename)
        if info.flag_bits & _ENCRYPTED:
            raise unsafe_error(self.path, f"the encrypted archive member {name}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise unsafe_error(
                self.path, f"the compressed archive member {name} (torch never compresses; a zip bomb does)"
            )
        self._file.seek(max(info.header_offset, 0))
        header = self._file.read(_LOCAL_HEADER.size)
        # the offset is negative where the start of the file was cut off
        if info.header_offset < 0 or len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise damaged_error(self.path, f"its member {name} is not where its directory points")
        # the local header has its own copy of the name, and readers differ in which one they trust
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        local = self._file.read(name_length)
        if local.decode("utf-8" if info.flag_bits & _UTF8 else "cp437", "replace") != info.orig_filename:
            raise unsafe_error(self.path, f"the archive member {name} under two names")
        start = info.header_offset + _LOCAL_HEADER.size + name_length + extra_length
        if start + info.file_size > directory:
            raise damaged_error(self.path, f"its member {name} reaches outside the file")
        return _Member(info.header_offset, start, info.file_size, info.CRC)

    def _check_byteorder(self) -> None:
        order = bytes(self.read("byteorder")) if "byteorder" in self._members else b"little"
        if order == b"big":
            raise WeightsError(
                f"The weights file {self.path} is in big-endian byte order, which is not supported. Save it again on a "
                "little-endian computer (x86 or ARM)."
            )
        if order != b"little":
            raise damaged_error(self.path, f"its byte order is {printable(order)}")


class TensorReader:
    """Reads the tensors of an archive. Each storage is read once, on first use, and shared by its tensors.

    Args:
        archive: the open archive.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._storages: dict[tuple[str, bool], Tensor] = {}

    def read(self, ref: TensorRef, widen: bool) -> Tensor:
        """Return a tensor as a view of its storage.

        Args:
            ref: the tensor; its bounds were checked when the reference was made.
            widen: convert floats of other widths to float32.

        Raises:
            WeightsError: the checksum of the storage is wrong.
        """
        key = (ref.storage.key, widen)
        if key not in self._storages:
            self._storages[key] = self._read_storage(ref, widen)
        return self._storages[key].as_strided(ref.size, ref.stride, ref.offset)

    def _read_storage(self, ref: TensorRef, widen: bool) -> Tensor:
        content = self._archive.read(f"data/{ref.storage.key}")
        if widen and ref.storage.dtype == "float16":  # with numpy: waking torch's threads for each tensor is slower
            return torch.from_numpy(np.frombuffer(content, "<f2").astype(np.float32))
        dtype: torch.dtype = getattr(torch, ref.storage.dtype)
        flat = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
        return flat.float() if widen and flat.is_floating_point() else flat
