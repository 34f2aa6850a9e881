from __future__ import annotations

import os
import pickle
from pathlib import Path, PurePosixPath

import pytest

from yolopose.base.errors import DataError
from yolopose.data.paths import PathList, label_path, label_path_texts, portable_key, relative_name, resolve_under

UNSAFE = [
    ("", "is empty"),
    (".", "is empty"),
    ("./", "is empty"),
    ("/etc/passwd", "is an absolute path"),
    ("//server/share/a.jpg", "is an absolute path"),
    ("\\\\server\\share\\a.jpg", "is an absolute path"),
    ("\\a.jpg", "is an absolute path"),
    ("C:\\a.jpg", "is an absolute path"),
    ("c:a.jpg", "is an absolute path"),
    ("../a.jpg", "leaves its folder"),
    ("a/../../b.jpg", "leaves its folder"),
    ("a/..", "leaves its folder"),
    ("a\\..\\..\\b.jpg", "leaves its folder"),
    ("a\0.jpg", "control characters"),
    ("a\x1b[2J.jpg", "control characters"),
    ("a\n.jpg", "control characters"),
    ("\ud800.jpg", "control characters"),
    ("con.jpg", "reserved device name"),
    ("x/NUL", "reserved device name"),
    ("Lpt1.tar.gz/a.jpg", "reserved device name"),
    ("a" * 252 + ".jpg", "too long"),
    ("写" * 84 + ".jpg", "too long"),  # 252 bytes and the suffix
    ("a/" * 600 + "a.jpg", "too long"),
]


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("data/images/val/a.jpg", "data/labels/val/a.txt"),
        ("images/x/images/val/sub/a.b.png", "images/x/labels/val/sub/a.b.txt"),
        ("valid/images/a.JPG", "valid/labels/a.txt"),
        ("plain/my_images/a.jpg", "plain/my_images/a.txt"),
    ],
)
def test_label_path(image: str, label: str) -> None:
    assert label_path(Path(image)) == Path(label)


@pytest.mark.parametrize(("name", "reason"), UNSAFE)
def test_unsafe_names_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        relative_name(name)
    assert str(caught.value).isprintable()  # no escape codes reach a terminal
    with pytest.raises(DataError, match=reason):
        resolve_under(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "a.jpg"),
        ("./a//b.jpg", "a/b.jpg"),
        ("camera1\\0001.jpg", "camera1/0001.jpg"),
        ("a..b/...jpg", "a..b/...jpg"),
        ("ünïcode 写真.jpg", "ünïcode 写真.jpg"),
        ("console.jpg", "console.jpg"),
        ("~/a.jpg", "~/a.jpg"),
        ("$HOME/`id`.jpg", "$HOME/`id`.jpg"),
    ],
)
def test_safe_names(tmp_path: Path, name: str, expected: str) -> None:
    assert relative_name(name) == PurePosixPath(expected)
    assert resolve_under(tmp_path, name) == tmp_path / expected


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need rights on Windows")
def test_symbolic_links_cannot_leave_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    (root / "folder").symlink_to(tmp_path / "private")
    (root / "file.jpg").symlink_to(tmp_path / "private/a.jpg")
    (root / "loop").symlink_to("loop")
    (root / "inner").symlink_to("real")
    (tmp_path / "alias").symlink_to(root)
    for name in ("folder/a.jpg", "folder", "file.jpg"):
        with pytest.raises(DataError, match="symbolic link"):
            resolve_under(root, name)
    for allowed in (root, tmp_path / "alias"):  # the folder itself is the user's choice
        assert resolve_under(allowed, "inner/a.jpg") == allowed / "inner/a.jpg"


def test_a_neighbor_with_the_same_prefix_is_outside(tmp_path: Path) -> None:
    (tmp_path / "set-private").mkdir()
    (tmp_path / "set").mkdir()
    (tmp_path / "set/link").symlink_to(tmp_path / "set-private")
    with pytest.raises(DataError, match="symbolic link"):
        resolve_under(tmp_path / "set", "link/a.jpg")


@pytest.mark.parametrize(("first", "second"), [("A/b.JPG", "a/B.jpg"), ("caf\u00e9.jpg", "cafe\u0301.jpg")])
def test_portable_key_ignores_case_and_composition(first: str, second: str) -> None:
    assert portable_key(PurePosixPath(first)) == portable_key(PurePosixPath(second))
    assert portable_key(PurePosixPath("a.jpg")) != portable_key(PurePosixPath("b.jpg"))


@pytest.mark.parametrize(
    "image",
    [
        "/data/images/train/a.jpg", "images/a.jpg", "a.jpg", "/a.jpg", "/data/images/images/b.c.png", "/images/x.JPG",
        "/data/my images/a.jpg", "/images/set/images.old/a.jpg", "/data/imgs/a..jpg", "./images/é.jpeg",
    ],
)  # fmt: skip
def test_label_path_texts_equal_label_path(image: str) -> None:
    path = Path(image)
    others = [Path("/other/images/b.jpg"), path, path]
    for paths in ([path, *others], [path], [path, path.with_name("b"), path.with_name(".c.png")], []):
        assert label_path_texts([str(item) for item in paths]) == [str(label_path(item)) for item in paths]


def test_list_of_paths() -> None:
    files = [Path("/a/b.jpg"), Path("c.png"), Path("/d")]
    paths = PathList.of(files)
    assert (len(paths), paths[1], paths[-1]) == (3, files[1], files[2])
    assert paths == files
    assert list(paths[1:]) == files[1:]
    assert paths != files[:2]
    assert paths != 3
    assert files[2] in paths
    assert pickle.loads(pickle.dumps(paths)) == paths
    assert PathList.of(paths) is paths
    assert repr(paths) == "PathList(['/a/b.jpg', 'c.png', '/d'])"
