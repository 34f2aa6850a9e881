"""Heartbeat: processes that fail, end or hang are detected and reported."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest
import torch.distributed as dist

from yolopose.train.distributed import ProcessGroup, RankLost, heartbeat
from yolopose.train.distributed.heartbeat import Heartbeat


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    monkeypatch.setattr(heartbeat, "MAX_MISSED", 10)


@pytest.fixture
def server() -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def connect(server: dist.TCPStore) -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", server.port, is_master=False)


def lost(one: Heartbeat, within: float = 5) -> str:
    """Return the reason that a process receives."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            ProcessGroup(0, 2, 2, one).check()
        except RankLost as error:
            return str(error)
        time.sleep(0.01)
    raise AssertionError("no process was reported")


def test_responding_processes_are_not_reported(quick, server):
    first, second = Heartbeat(connect(server), 0, 2), Heartbeat(connect(server), 1, 2)
    time.sleep(0.6)
    first.check()
    second.check()
    second.report_finished()
    time.sleep(0.4)  # it has finished and sends no more beats
    first.check()
    first.report_finished()


def test_an_error_reaches_the_other_process(quick, server):
    first, second = Heartbeat(connect(server), 0, 2), Heartbeat(connect(server), 1, 2)
    second.report_failure("The image has gone.")
    assert lost(first) == "The image has gone."
    first.close()


def test_reports_a_process_that_ended(quick, server):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    store = connect(server)
    first = Heartbeat(connect(server), 0, 2)
    store.set("process/1", f"{gone.pid} {os.uname().nodename}")
    assert f"Rank 1 of the 2 processes of this training (process {gone.pid} on " in lost(first)
    assert store.get("fault").decode().endswith("All others end with it.")
    first.close()


def test_kills_and_reports_a_process_that_hangs(quick, server):
    hangs = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    store = connect(server)
    store.set("process/1", f"{hangs.pid} {os.uname().nodename}")
    first = Heartbeat(connect(server), 0, 2)
    assert "has not responded for" in lost(first)
    assert hangs.wait(5) != 0
    first.close()


def test_a_failed_collective_reports_the_reason(quick, server):
    first, second = Heartbeat(connect(server), 0, 2), Heartbeat(connect(server), 1, 2)
    threading.Timer(0.2, second.report_failure, ["The disk is full."]).start()

    def broken() -> None:
        raise RuntimeError("Connection closed by peer")

    with pytest.raises(RankLost, match="The disk is full"):
        ProcessGroup(0, 2, 2, first)._run(broken)
    first.close()
