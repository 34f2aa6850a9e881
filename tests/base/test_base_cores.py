from __future__ import annotations

import os
from pathlib import Path

import pytest

from yolopose.base import cores


@pytest.mark.parametrize(("wish", "limit"), [("1", 1), ("1,2", 1), ("", None), ("many", None), ("0", 1)])
def test_the_wish_of_the_user_holds(wish: str, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "_container_limit", list)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert cores.usable_cores() == (limit or 3)


@pytest.mark.parametrize(
    ("text", "limit"), [("200000 100000\n", [2]), ("150000 100000", [2]), ("max 100000", []), ("", []), (None, [])]
)
def test_container_limits(text: str | None, limit: list[int], tmp_path: Path) -> None:
    file = tmp_path / "cpu.max"
    if text is not None:
        file.write_text(text)
    assert cores._container_limit(file) == limit


@pytest.mark.parametrize(("flags", "has"), [("avx2 amx_bf16", True), ("avx512_bf16", True), ("avx2 f16c", False)])
def test_16_bit_instructions(flags: str, has: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"model name: x\nflags : fpu {flags}\n")
    assert cores.computes_bf16(file) is has
    assert cores.computes_bf16(tmp_path / "none") is False
