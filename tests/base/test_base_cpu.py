from __future__ import annotations

from pathlib import Path

import pytest

from yolopose.base import cpu


@pytest.mark.parametrize(
    ("allowed", "siblings", "limits", "expected"),
    [
        ({0, 1, 2, 3}, {}, {}, 4),
        ({0, 1, 2, 3}, {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, {}, 2),
        ({1}, {0: "0", 1: "1"}, {}, 1),
        ({0, 1, 2, 3}, {}, {"cpu.max": "150000 100000"}, 2),
        ({0, 1, 2, 3}, {}, {"cpu.max": "max 100000"}, 4),
        ({0, 1, 2, 3}, {}, {"cpu.max": "800000 100000"}, 4),
        ({0, 1, 2, 3}, {}, {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({0, 1, 2, 3}, {}, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
    ],
)
def test_counts_the_cores_of_this_process(
    allowed: set[int],
    siblings: dict[int, str],
    limits: dict[str, str],
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {f"topology/cpu{number}/topology/thread_siblings_list": text for number, text in siblings.items()}
    for name, text in {**files, **{f"cgroup/{name}": text for name, text in limits.items()}}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    monkeypatch.setattr(cpu, "_TOPOLOGY", tmp_path / "topology")
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(cpu.os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr(cpu.os, "cpu_count", lambda: 4)
    assert cpu._allowed_cores.__wrapped__() == expected
    monkeypatch.setattr(cpu, "physical_cores", lambda: expected)
    assert cpu.has_all_cores() == (allowed == {0, 1, 2, 3} and expected == (4 if not siblings else 2))


@pytest.mark.parametrize(("wish", "expected"), [("1", 1), ("2,1", 2), ("", 3), ("many", 3), ("0", 1), ("9", 3)])
def test_omp_num_threads_limits_the_cores(wish: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_allowed_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", wish)
    assert cpu.physical_cores() == expected


@pytest.mark.parametrize(("flags", "has"), [("avx2 amx_bf16", True), ("avx512_bf16", True), ("avx2 f16c", False)])
def test_cpu_supports_bf16(flags: str, has: bool, tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(f"model name: x\nflags : fpu {flags}\n")
    assert cpu.cpu_supports_bf16(file) is has
    assert cpu.cpu_supports_bf16(tmp_path / "none") is False


def test_cpu_name_has_family_and_model(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    lines = (
        "processor : 0\ncpu family : 25\nmodel : 1\nmodel name : Fast 9\n\nprocessor : 1\ncpu family : 25\nmodel : 2\n"
    )
    file.write_text(lines)
    assert cpu.cpu_name(file) == "Fast 9 25 1"
    assert cpu.cpu_name(tmp_path / "none")
