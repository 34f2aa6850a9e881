from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from yolopose.base.archives import unzip
from yolopose.base.errors import DataError, OutputError

LIMIT = 1_000_000


def archive_of(path: Path, names: dict[str, bytes], kind: int = stat.S_IFREG, compression: int = 8) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in names.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o644) << 16
            info.compress_type = compression
            archive.writestr(info, data)
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["set/images/a.jpg", "set/labels/a.txt"], ["images/a.jpg", "labels/a.txt"]),
        (["images/a.jpg", "labels/a.txt"], ["images/a.jpg", "labels/a.txt"]),
        (["set\\images\\a.jpg"], ["images/a.jpg"]),
        (["./set/images/ü a.jpg"], ["images/ü a.jpg"]),
        (["only.txt"], ["only.txt"]),
    ],
)
def test_unpacks(names: list[str], expected: list[str], tmp_path: Path) -> None:
    folder = unzip(archive_of(tmp_path / "a.zip", dict.fromkeys(names, b"x")), tmp_path / "out/set", LIMIT)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == [name.replace("images/a.jpg", "images/a.jpg") for name in expected] or folder.name == "set"
    assert len(found) == len(expected)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["set"]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x", "C:\\x", "c:x", "a\\..\\..\\x"])
def test_refuses_paths_outside_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is outside the folder"):
        unzip(archive_of(tmp_path / "a.zip", {"good": b"x", name: b"x"}), tmp_path / "out", LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_refuses_links_and_devices(kind: int, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a link or a device"):
        unzip(archive_of(tmp_path / "a.zip", {"x": b"/etc"}, kind), tmp_path / "out", LIMIT)


def test_refuses_too_large_archives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="more than the"):
        unzip(archive_of(tmp_path / "a.zip", {"x": bytes(LIMIT), "y": b"1"}), tmp_path / "out", LIMIT)


def test_refuses_decompression_bombs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would grow"):
        unzip(archive_of(tmp_path / "a.zip", {"x": bytes(60 << 20)}), tmp_path / "out", 1 << 30)


def test_refuses_wrong_sizes(tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.zip", {"x": bytes(900_000)})
    data = bytearray(path.read_bytes())
    place = data.rfind(b"PK\x01\x02")  # the entry of the directory at the end
    data[place + 24 : place + 28] = struct.pack("<I", 10)
    path.write_bytes(data)
    with pytest.raises(DataError):
        unzip(path, tmp_path / "out", LIMIT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_refuses_damaged_archives(content: bytes | None, tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.zip", {"x": bytes(range(256)) * 100}, compression=0)
    path.write_bytes(path.read_bytes().replace(b"\x10\x11", b"\x11\x10", 1) if content is None else content)
    with pytest.raises(DataError, match="not a valid zip archive"):
        unzip(path, tmp_path / "out", LIMIT)
    assert not (tmp_path / "out").exists()


def test_keeps_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="already exists"):
        unzip(archive_of(tmp_path / "a.zip", {"x": b"x"}), tmp_path / "out", LIMIT)
