"""What a process reads of its place among several."""

from __future__ import annotations

import pytest

from yolopose.base.launch_env import LaunchEnv, is_worker_rank, read_launch_env

TOLD = {
    "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "there",
    "MASTER_PORT": "29500", "TORCHELASTIC_USE_AGENT_STORE": "True",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "found", "following"),
    [
        ({}, LaunchEnv(3, 4, 1, 2, "there", 29500, True), True),
        ({"RANK": "0"}, LaunchEnv(0, 4, 1, 2, "there", 29500, True), False),
        ({"TORCHELASTIC_USE_AGENT_STORE": "False"}, LaunchEnv(3, 4, 1, 2, "there", 29500, False), True),
        ({"WORLD_SIZE": "1", "RANK": "0"}, None, False),
        ({"MASTER_ADDR": None}, None, False),  # as left over from something else
        ({"RANK": "first"}, None, False),
    ],
)
def test_reads_rank_and_rendezvous(monkeypatch, change, found, following):
    for key, value in {**TOLD, **change}.items():
        if value is None:
            monkeypatch.delenv(key, raising=False)
        else:
            monkeypatch.setenv(key, value)
    assert read_launch_env() == found
    assert is_worker_rank() is following
