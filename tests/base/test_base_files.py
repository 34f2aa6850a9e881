from __future__ import annotations

import errno
import os
import stat
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from yolopose.base.errors import OutputError
from yolopose.base.files import (
    atomic_folder,
    atomic_path,
    exclusive_access,
    make_folder,
    make_run_folder,
    read_regular,
    remove_unfinished,
    write_bytes,
    write_text,
)


def failing(code: int) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission denied")],
)
def test_failed_write_keeps_only_the_old_file(
    step: str, code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    monkeypatch.setattr(os, step, failing(code))
    with pytest.raises(OutputError, match=message) as error:
        write_text(target, "new")
    assert str(target) in str(error.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_error_in_the_block_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def half_way() -> None:
        with atomic_path(target) as path:
            path.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_written_file_has_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.bin"
    write_bytes(target, b"\x00\xff")
    assert target.read_bytes() == b"\x00\xff"
    plain = tmp_path / "plain"
    plain.touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_refuses_a_file_as_parent_folder(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(OutputError, match="is a file, not a folder"):
        make_folder(tmp_path / "a" / "b")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        make_folder(tmp_path / "a")


def test_run_folders_are_numbered(tmp_path: Path) -> None:
    names = [make_run_folder(tmp_path, "val").name for _ in range(3)]
    assert names == ["val", "val2", "val3"]
    assert make_run_folder(tmp_path, "val", exist_ok=True).name == "val"


def make_some(parent: Path) -> list[str]:
    return [make_run_folder(parent, "train").name for _ in range(8)]


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_concurrent_runs_get_different_folders(kind: str, tmp_path: Path) -> None:
    spawn = get_context("spawn")  # a fork of a process with threads may hang
    with ThreadPoolExecutor(4) if kind == "threads" else ProcessPoolExecutor(3, mp_context=spawn) as pool:
        names = [name for some in pool.map(make_some, [tmp_path] * 4) for name in some]
    assert sorted(names) == sorted({"train", *(f"train{number}" for number in range(2, 33))})


def test_removes_only_temporary_files(tmp_path: Path) -> None:
    for name in ("last.pt", ".hidden", ".my-notes.txt", ".env-file"):
        (tmp_path / name).touch()
    before = set(tmp_path.iterdir())
    block = atomic_path(tmp_path / "last.pt")
    block.__enter__()
    deep = atomic_path(tmp_path / "no_suffix")
    deep.__enter__()
    assert len(set(tmp_path.iterdir()) - before) == 2
    remove_unfinished(tmp_path)
    assert set(tmp_path.iterdir()) == before
    remove_unfinished(tmp_path / "nowhere")


@pytest.mark.parametrize("there", [False, True])
def test_atomic_folder_replaces_the_folder(there: bool, tmp_path: Path) -> None:
    target = tmp_path / "made/x_model"
    if there:
        write_text(target / "stale.txt", "old")
    with atomic_folder(target) as temporary:
        assert temporary.name == target.name
        (temporary / "a.txt").write_text("new")
        assert [path.name for path in target.glob("*")] == ["stale.txt"] * there
    assert [path.name for path in target.iterdir()] == ["a.txt"]
    assert list(target.parent.iterdir()) == [target]
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "made").stat().st_mode)


@pytest.mark.parametrize("step", ["fsync", "rename", "block"])
def test_failed_folder_keeps_the_old_one(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x_model"
    write_text(target / "old.txt", "old")
    honest, calls = os.rename, []

    def second_fails(*names: Any) -> None:
        calls.append(names)
        return failing(errno.EROFS)() if len(calls) == 2 else honest(*names)

    if step != "block":
        monkeypatch.setattr(os, step, second_fails if step == "rename" else failing(errno.ENOSPC))

    def written() -> None:
        with atomic_folder(target) as temporary:
            (temporary / "a.txt").write_text("new")
            if step == "block":
                raise KeyError

    with pytest.raises(KeyError if step == "block" else OutputError):
        written()
    assert [path.name for path in target.iterdir()] == ["old.txt"]
    assert list(tmp_path.iterdir()) == [target]


def test_refuses_a_file_at_the_target_folder(tmp_path: Path) -> None:
    (tmp_path / "x_model").write_text("mine")
    with pytest.raises(OutputError, match="x_model"), atomic_folder(tmp_path / "x_model"):
        pass
    assert (tmp_path / "x_model").read_text() == "mine"


def test_exclusive_access_waits_for_the_holder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "a.bin"
    order: list[str] = []
    held = threading.Event()

    def hold() -> None:
        with exclusive_access(target, "first") as waited:
            held.set()
            time.sleep(0.1)
            order.append(f"first {waited}")

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    with exclusive_access(target, "another process downloads a.bin") as waited:
        order.append(f"second {waited}")
    holder.join()
    assert order == ["first False", "second True"]
    assert "Waiting: another process downloads a.bin." in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="Windows does not have these files")
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "full", "missing", "large", "nul"])
def test_reads_only_regular_files(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind in ("device", "full"):
        path.symlink_to("/dev/zero" if kind == "device" else "/dev/full")
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # sparse
    elif kind == "nul":
        path = tmp_path / "a\0b"
    with pytest.raises(OSError) as error:  # noqa: PT011  # the callers test the errno
        read_regular(path, 1000)
    words = {"pipe": "a pipe", "folder": "a folder", "device": "a device", "full": "a device", "large": "bytes"}
    assert words.get(kind, "") in (error.value.strerror or "")


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001])
def test_limit_of_a_regular_file_is_exact(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * size)
    if size > 1000:
        with pytest.raises(OSError, match="more than the 1000"):
            read_regular(path, 1000)
    else:
        assert read_regular(path, 1000) == b"x" * size
