"""The zip archive of a torch file, checked member by member before anything in it is used."""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from yolopose.base.errors import WeightsError
from yolopose.weights.errors import damaged, refused, shown

MAX_MEMBERS = 200_000
_LOCAL = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field
_ENCRYPTED = 0x1
_UTF8 = 0x800
# what Python's zip reader may raise on a broken directory
_BROKEN = (zipfile.BadZipFile, NotImplementedError, struct.error, ValueError, OverflowError, EOFError, OSError)


@dataclass(frozen=True, slots=True)
class _Member:
    header: int
    start: int
    size: int
    crc: int


class Archive:
    """An open torch zip archive whose layout was checked: nothing is compressed, doubled, overlapping or out of place.

    Args:
        path: the file.

    Raises:
        WeightsError: the archive is damaged, or no torch file.
        UnsafeFileError: its layout is a trap.
    """

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._file: io.BufferedReader = path.open("rb")
        try:
            self._members = self._checked()
            self._check_byteorder()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each tensor storage, by its key."""
        return {name[5:]: member.size for name, member in self._members.items() if re.fullmatch(r"data/[0-9]+", name)}

    def read(self, name: str) -> bytearray:
        """Return the bytes of a member, named without the root folder.

        Raises:
            WeightsError: it is not there, or its check sum is wrong.
        """
        member = self._members.get(name)
        if member is None:
            raise damaged(self.path, f"it has no {name}")
        content = bytearray(member.size)
        self._file.seek(member.start)
        if self._file.readinto(content) != member.size or zlib.crc32(content) != member.crc:
            raise damaged(self.path, f"the check sum of {name} is wrong")
        return content

    def _checked(self) -> dict[str, _Member]:
        infos, directory = self._directory()
        root = self._root([info.orig_filename for info in infos])
        members: dict[str, _Member] = {}
        for info in infos:
            name = self._name(info, root)
            if name in members:
                raise refused(self.path, f"two archive members of the name {shown(name)}")
            members[name] = self._member(info, directory)
        end = 0
        for member in sorted(members.values(), key=lambda member: member.header):
            if member.header < end:
                raise refused(self.path, "archive members that overlap (a zip bomb)")
            end = member.start + member.size
        return members

    def _directory(self) -> tuple[list[zipfile.ZipInfo], int]:
        try:
            with zipfile.ZipFile(self._file) as opened:
                infos, directory = opened.infolist(), opened.start_dir
        except _BROKEN as error:
            size = self._file.seek(0, 2)
            raise WeightsError(
                f"The weights file {self.path} is damaged or was downloaded only in part ({size} bytes; "
                f"{shown(error)}). Delete it and download or copy it again."
            ) from error
        if len(infos) > MAX_MEMBERS:
            raise refused(self.path, f"{len(infos)} archive members")
        return infos, directory

    def _root(self, names: list[str]) -> str:
        roots = [name[:-9] for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if any(name.endswith("/constants.pkl") for name in names):
            raise WeightsError(
                f"{self.path} is a TorchScript program, no weights file. To predict with it, name it *.torchscript."
            )
        if not roots:
            raise WeightsError(
                f"{self.path} is a zip archive without a data.pkl, so no weights file of torch. Unpack it."
            )
        if len(roots) > 1:
            raise refused(self.path, f"{len(roots)} descriptions of its content (data.pkl)")
        return roots[0]

    def _name(self, info: zipfile.ZipInfo, root: str) -> str:
        name = info.orig_filename
        parts = name.split("/")
        if parts[0] != root or len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
            raise refused(self.path, f"an archive member outside its folder ({shown(name)})")
        if re.search(r"[\x00-\x1f\\:]", name):
            raise refused(self.path, f"an archive member of the name {shown(name)}")
        return name[len(root) + 1 :]

    def _member(self, info: zipfile.ZipInfo, directory: int) -> _Member:
        name = shown(info.orig_filename)
        if info.flag_bits & _ENCRYPTED:
            raise refused(self.path, f"the encrypted archive member {name}")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise refused(self.path, f"the compressed archive member {name} (torch never compresses; a zip bomb does)")
        self._file.seek(max(info.header_offset, 0))
        header = self._file.read(_LOCAL.size)
        # the offset is below 0 where the start of the file was cut off
        if info.header_offset < 0 or len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
            raise damaged(self.path, f"its member {name} is not where its directory says")
        _, name_length, extra_length = _LOCAL.unpack(header)
        local = self._file.read(name_length)
        if local.decode("utf-8" if info.flag_bits & _UTF8 else "cp437", "replace") != info.orig_filename:
            raise refused(self.path, f"the archive member {name} under two names")
        start = info.header_offset + _LOCAL.size + name_length + extra_length
        if start + info.file_size > directory:
            raise damaged(self.path, f"its member {name} reaches outside the file")
        return _Member(info.header_offset, start, info.file_size, info.CRC)

    def _check_byteorder(self) -> None:
        order = bytes(self.read("byteorder")) if "byteorder" in self._members else b"little"
        if order == b"big":
            raise WeightsError(
                f"The weights file {self.path} holds big-endian numbers. Save it again on a usual computer."
            )
        if order != b"little":
            raise damaged(self.path, f"its byte order is {shown(order)}")
