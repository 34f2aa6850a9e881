"""Sources of jobs: folders, globs, lists, Parquet files with paths or images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from job_worlds import make_images, make_model, run

from yolopose.base.errors import NotFoundError, SourceError, UsageError
from yolopose.jobs import read_rows
from yolopose.jobs.entries import list_entries
from yolopose.jobs.plan import _divide

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(source: Any, root: Path) -> list[str]:
    return [os.path.relpath(entry.path, root) for entry in list_entries(source)]


def test_folders_include_subfolders_in_a_fixed_order(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.png", "z/c.jpg", "d/e.mp4", "d/notes.txt", ".hidden/f.jpg", "._a.jpg", "rows.parquet")
    assert names(tmp_path, tmp_path) == ["a.png", "b.jpg", "d/e.mp4", "z/c.jpg"]
    assert [entry.is_video for entry in list_entries(str(tmp_path))] == [False, False, True, False]
    assert names(f"{tmp_path}/**/*.jpg", tmp_path) == ["b.jpg", "z/c.jpg"]
    assert names([tmp_path / "z", tmp_path / "a.png"], tmp_path) == ["z/c.jpg", "a.png"]
    assert names(f"file://{tmp_path}/a.png", tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.txt", "# images\n\n{root}/a.jpg\nsub/b.jpg\n./c.mp4\ns3://bucket/d.jpg\n"),
        ("list.csv", "id,path\n1,{root}/a.jpg\n2,sub/b.jpg\n3,c.mp4\n4,s3://bucket/d.jpg\n"),
        ("first.csv", "{root}/a.jpg,x\nsub/b.jpg,y\nc.mp4,z\ns3://bucket/d.jpg,\n"),
        ("utf8.txt", "\ufeff{root}/a.jpg\r\nsub/b.jpg\r\nc.mp4\r\ns3://bucket/d.jpg"),
    ],
)
def test_lists(tmp_path: Path, name: str, text: str) -> None:
    touch(tmp_path, "a.jpg", "sub/b.jpg", "c.mp4")
    (tmp_path / name).write_text(text.format(root=tmp_path), encoding="utf-8")
    entries = list(list_entries(tmp_path / name))
    expected = [f"{tmp_path}/a.jpg", f"{tmp_path}/sub/b.jpg", f"{tmp_path}/c.mp4", "s3://bucket/d.jpg"]
    assert [entry.path for entry in entries] == expected
    assert [entry.is_video for entry in entries] == [False, False, True, False]


@pytest.mark.parametrize("column", ["path", "image_path", "anything"])
def test_parquet_with_paths(tmp_path: Path, column: str) -> None:
    touch(tmp_path, "a.jpg")
    pq.write_table(pa.table({column: ["a.jpg", None, "gs://bucket/b.mp4"], "n": [1, 2, 3]}), tmp_path / "t.parquet")
    entries = list(list_entries(tmp_path / "t.parquet"))
    assert [(entry.path, entry.is_video) for entry in entries] == [
        (f"{tmp_path}/a.jpg", False),
        ("gs://bucket/b.mp4", True),
    ]


@pytest.mark.parametrize("kind", ["binary", "struct"])
def test_parquet_with_images(tmp_path: Path, kind: str) -> None:
    data = [file.read_bytes() for file in make_images(tmp_path / "images", 5)]
    data[3] = b"damaged"
    values: list[Any] = [*data, None]
    if kind == "struct":  # as data sets of Hugging Face
        values = [{"bytes": value, "path": "x.png"} for value in values]
    table = pa.table({"label": range(6), "image": values})
    pq.write_table(table, tmp_path / "images.parquet", row_group_size=2)
    result = run(f"{tmp_path}/*.parquet", tmp_path / "out", model=make_model(tmp_path), shard=4)
    assert (result.rows, result.errors) == (6, 2)
    rows = list(read_rows(tmp_path / "out"))
    assert [row["path"] for row in rows] == [f"{tmp_path}/images.parquet#{number}" for number in range(6)]
    assert [row["error"] is None for row in rows] == [True, True, True, False, True, False]
    assert [row["height"] for row in rows if row["error"] is None] == [40, 41, 42, 44]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("missing/", NotFoundError, "does not exist"),
        ("empty", NotFoundError, "neither images nor videos"),
        ("*.jpg", NotFoundError, "neither images nor videos"),
        ("", UsageError, "empty text"),
        (3, UsageError, "type int"),
        ([3], UsageError, "type int"),
        ("bad.txt", SourceError, "not UTF-8"),
        ("bad.parquet", SourceError, "cannot be read"),
        ("numbers.parquet", SourceError, "neither a column of paths"),
        ("nothing://bucket/a", SourceError, "cannot be opened"),
    ],
)
def test_bad_sources(
    tmp_path: Path, source: Any, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "bad.parquet").write_bytes(b"no")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "numbers.parquet")
    with pytest.raises(error, match=message):
        list(list_entries(source))


def test_names_that_are_not_utf8_are_predicted(tmp_path: Path) -> None:
    (file,) = make_images(tmp_path / "images", 1)
    try:
        os.rename(file, os.fsencode(tmp_path / "images") + b"/\xe9t\xe9.png")
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    result = run(tmp_path / "images", tmp_path / "out", model=make_model(tmp_path))
    assert (result.rows, result.errors) == (1, 0)
    assert next(read_rows(tmp_path / "out"))["path"].endswith("/\\udce9t\\udce9.png")


def test_each_video_is_a_shard(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.mp4", "e.mp4", "f.jpg")
    shards = [[Path(entry.path).name for entry in shard] for shard in _divide(list_entries(tmp_path), 2)]
    assert shards == [["a.jpg", "b.jpg"], ["c.jpg"], ["d.mp4"], ["e.mp4"], ["f.jpg"]]
