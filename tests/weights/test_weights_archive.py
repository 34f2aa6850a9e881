"""Damaged and malicious archives, and files that are not weights."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from weights_craft import STORAGES, View, archive, checkpoint, encode, good, module, network, program

from yolopose.base.errors import NotFoundError, UnsafeFileError, WeightsError
from yolopose.weights import read_checkpoint

PICKLED = program(encode(checkpoint()))


def zipped(*members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as opened:
        for name, data in members:
            opened.writestr(zipfile.ZipInfo(name), data, compression)
    return stream.getvalue()


def patched(content: bytes, member: str, local: dict[int, bytes], central: dict[int, bytes]) -> bytes:
    """Change header fields of a member, by offset in its local and its central header."""
    data = bytearray(content)
    name = f"archive/{member}".encode()
    for first, size, changes in ((data.find(name), 30, local), (data.rfind(name), 46, central)):
        for offset, value in changes.items():
            data[first - size + offset : first - size + offset + len(value)] = value
    return bytes(data)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


BIG = b"\0" * 5_000_000
MALICIOUS = {
    "deflate bomb": (archive(PICKLED, STORAGES | {"2": BIG}, compression=zipfile.ZIP_DEFLATED), "compressed"),
    "bzip2": (archive(PICKLED, STORAGES, compression=zipfile.ZIP_BZIP2), "compressed"),
    "declared size beyond stored": (patched(good(), "data/0", {}, {24: u32(10**9)}), "compressed"),
    "encrypted": (patched(good(), "data/0", {}, {8: b"\1\0"}), "encrypted"),
    "members overlap": (patched(good(), "data/0", {}, {20: u32(100), 24: u32(100)}), "overlap"),
    "member beyond the file": (patched(good(), "data/0", {}, {20: u32(10**6), 24: u32(10**6)}), "outside the file"),
    "member begins elsewhere": (patched(good(), "data/0", {}, {42: u32(7)}), "not where its directory points"),
    "two names": (patched(good(), "data/0", {30: b"archive/data/1"}, {}), "under two names"),
    "parent folder": (zipped(("archive/data.pkl", PICKLED), ("archive/../../x", b"")), "outside its folder"),
    "absolute path": (zipped(("archive/data.pkl", PICKLED), ("/etc/x", b"")), "outside its folder"),
    "second root": (zipped(("archive/data.pkl", PICKLED), ("other/data/0", b"")), "outside its folder"),
    "two pickles": (zipped(("a/data.pkl", PICKLED), ("b/data.pkl", PICKLED)), "2 descriptions"),
    "backslash": (zipped(("archive/data.pkl", PICKLED), ("archive/a\\b", b"")), "a\\\\b"),
}

DAMAGED = {
    "first half": (good()[: len(good()) // 2], "only in part"),
    "end cut off": (good()[:-10], "only in part"),
    "start cut off": (b"PK\3\4" + good()[200:], "damaged"),
    "flipped byte in a storage": (good().replace(struct.pack("<f", 11), struct.pack("<f", 12)), "checksum of data/0"),
    "flipped byte in the pickle": (good().replace(b"Sequential", b"Sequentiel", 1), "checksum of data.pkl"),
    "no pickle": (zipped(("archive/data/0", b"")), "without a data.pkl"),
    "images": (zipped(("images/1.jpg", b""), ("labels/1.txt", b"")), "without a data.pkl"),
    "big-endian": (archive(PICKLED, STORAGES, {"byteorder": b"big"}), "big-endian"),
    "unknown byte order": (archive(PICKLED, STORAGES, {"byteorder": b"pdp"}), "byte order is"),
    "no storage": (
        archive(PICKLED, {"1": STORAGES["1"]}),
        "should have 12 elements of float32 but is missing",
    ),
    "short storage": (archive(PICKLED, STORAGES | {"0": b"\0" * 47}), "but has 47 bytes"),
    "long storage": (archive(PICKLED, STORAGES | {"0": b"\0" * 49}), "but has 49 bytes"),
    "empty archive": (b"PK\5\6" + b"\0" * 18, "not a weights file"),
}

VIEWS = {
    "negative offset": (View("0", 12, (2,), (1,), -1), "negative or broken"),
    "offset beyond": (View("0", 12, (2,), (1,), 11), "outside its storage"),
    "offset beyond, no elements": (View("0", 12, (0,), (1,), 13), "outside its storage"),
    "negative side": (View("0", 12, (-1,), (1,)), "negative or broken"),
    "negative stride": (View("0", 12, (2,), (-1,), 5), "negative or broken"),
    "stride beyond": (View("0", 12, (2, 2), (11, 1)), "outside its storage"),
    "side beyond": (View("0", 12, (13,), (1,)), "outside its storage"),
    "huge side": (View("0", 12, (2**62, 2**62), (1, 1)), "outside its storage"),
    "huge stride": (View("0", 12, (2,), (2**70,)), "negative or broken"),
    "one element repeated": (View("0", 12, (1000, 1000), (0, 0)), "outside its storage"),
    "sides and strides differ": (View("0", 12, (2, 2), (1,)), "an invalid shape"),
    "nine sides": (View("0", 12, (1,) * 9, (1,) * 9), "an invalid shape"),
    "huge storage": (View("0", 2**60, (2,), (1,)), "should have 1152921504606846976 elements"),
    "negative storage": (View("0", -12, (2,), (1,)), "should have -12 elements"),
    "storage of two types": (View("0", 12, (2,), (1,), kind="IntStorage"), "both float32 and int32"),
    "storage out of the folder": (View("../version", 1, (1,), (1,)), "is missing"),
}


def read_error(content: bytes, kind: type[WeightsError] = WeightsError) -> str:
    path = Path("file.pt")
    path.write_bytes(content)
    with pytest.raises(kind) as caught:
        read_checkpoint(path)
    assert "file.pt" in str(caught.value)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("row", MALICIOUS)
def test_malicious_archive_is_refused(row: str) -> None:
    content, message = MALICIOUS[row]
    assert message in read_error(content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_duplicate_names_are_refused() -> None:
    content = zipped(("archive/data.pkl", PICKLED), ("archive/data/0", b"a"), ("archive/data/0", b"b"))
    assert "two archive members of the name data/0" in read_error(content, UnsafeFileError)


@pytest.mark.parametrize("row", DAMAGED)
def test_damaged_archive(row: str) -> None:
    content, message = DAMAGED[row]
    assert message in read_error(content)


@pytest.mark.parametrize("row", VIEWS)
def test_tensor_outside_its_storage(row: str) -> None:
    view, message = VIEWS[row]
    layer = module("Conv2d", _parameters={"first": View("0", 12, (1,), (1,)), "weight": view})
    bad = network(_modules={"model": layer})
    assert message in read_error(archive(program(encode(checkpoint(model=bad))), STORAGES))


def test_tensors_have_their_offset_and_stride_and_share_memory() -> None:
    Path("file.pt").write_bytes(good())
    state = read_checkpoint("file.pt").state
    weight, bias, count = (state[f"model.0.{name}"] for name in ("weight", "bias", "count"))
    assert weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert bias.tolist() == [6, 8]
    assert count.shape == ()
    assert count.item() == 3
    weight[0, 0] = 7
    assert weight.untyped_storage().data_ptr() == bias.untyped_storage().data_ptr()
    assert bias.tolist() == [6, 8]


OTHER = {
    "empty": (b"", "it is empty"),
    "page": (b"\n<!DOCTYPE html><html>Not found</html>", "web page"),
    "xml answer": (b'<?xml version="1.0"?><Error/>', "web page"),
    "text": ("scales: größer\n".encode() * 50, "it is text"),
    "json": (b'{"message": "Not Found"}', "it is text"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08\0" + b"\0" * 20, "gzip"),
    "image": (b"\xff\xd8\xff\xe0" + bytes(range(256)), "first bytes (ff d8 ff e0)"),
    "old torch": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "before 1.6"),
    "one byte": (b"P", "it is text"),
}


@pytest.mark.parametrize("row", OTHER)
def test_other_file_is_described(row: str) -> None:
    content, message = OTHER[row]
    assert message in read_error(content)


def test_tar_of_old_torch() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as opened:
        opened.addfile(tarfile.TarInfo("storages"))
    assert "before 1.6" in read_error(stream.getvalue())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_is_recognized() -> None:
    class Twice(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

    torch.jit.trace(Twice(), torch.zeros(1)).save("file.pt")
    assert "TorchScript" in read_error(Path("file.pt").read_bytes())


def test_paths_that_are_not_regular_files() -> None:
    Path("folder.pt").mkdir()
    os.symlink("loop.pt", "loop.pt")
    os.mkfifo("pipe.pt")
    cases = (
        ("folder.pt", "folder"),
        ("loop.pt", "cannot be opened"),
        ("pipe.pt", "pipe"),
        ("a\0b", "null"),
        ("", "folder"),
    )
    for path, message in cases:
        with pytest.raises(WeightsError, match=message):
            read_checkpoint(path)
    Path("text.pt").write_text("x")
    for path in ("missing.pt", "nowhere/x.pt", "text.pt/x.pt"):
        with pytest.raises(NotFoundError, match=f"The weights file {path} does not exist"):
            read_checkpoint(path)
