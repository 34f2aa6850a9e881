"""What is said about a path that leads nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolopose.base.suggestions import list_yaml_files, suggest_path


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("mouse.yml", "data=mouse.yaml"),
        ("other.yaml", "data=other.yml"),
        ("mouse", "data=mouse.yaml"),
        ("Mouse.yaml", "data=mouse.yaml"),
        ("muose.yaml", "data=mouse.yaml"),
        ("sub/b.pth", "data=sub/b.pt"),
        ("mouse.pt", ""),
        ("nothing/like/it.yaml", ""),
        ("entirely-different.yaml", ""),
        ("C:\\data\\mouse.yaml", "Windows path"),
        ("sub\\b.pt", "use data=sub/b.pt"),
    ],
)
def test_suggests_similar_paths(asked: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("mouse.yaml", "other.yml", "sub/b.pt", "unlike.txt"):
        (tmp_path / name).touch()
    hint = suggest_path(asked, "data")
    assert meant in hint
    assert bool(hint) == bool(meant)
    assert not hint or hint.startswith(" ")


def test_lists_yaml_files_of_a_folder(tmp_path: Path) -> None:
    assert list_yaml_files(tmp_path) == "it contains none"
    for name in ("a.yaml", "b.yml"):
        (tmp_path / name).touch()
    assert list_yaml_files(tmp_path) == f"it contains {tmp_path}/a.yaml and {tmp_path}/b.yml"
