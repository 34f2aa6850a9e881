from __future__ import annotations

from pathlib import Path

import pytest

from yolopose.base import cores


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
def test_cores_are_those_that_this_process_may_use(
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
    monkeypatch.setattr(cores, "_TOPOLOGY", tmp_path / "topology")
    monkeypatch.setattr(cores, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: allowed, raising=False)
    assert cores.physical_cores.__wrapped__() == expected
