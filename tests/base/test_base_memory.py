"""How much memory is free, as systems say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolopose.base import memory


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 2_048_000),
        ({"memory.max": "1000000", "memory.current": "400000"}, 600_000),
        ({"memory.max": "max", "memory.current": "400000"}, 2_048_000),
        ({"memory/memory.limit_in_bytes": "9" * 18, "memory/memory.usage_in_bytes": "5"}, 2_048_000),
        ({"memory/memory.limit_in_bytes": "700", "memory/memory.usage_in_bytes": "500"}, 200),
    ],
)
def test_available_memory_is_limited_by_the_container(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemFree: 100 kB\nMemAvailable:   2000 kB\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.available_memory() == expected


def test_available_memory_may_be_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "nowhere")
    assert memory.available_memory() is None
