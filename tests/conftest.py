"""Fixtures that all tests share: where the shared folder is, and isolated settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from docs_setup import SHARED
from servers import Server, serving


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden numbers, real data and weights; the test is skipped where it is absent."""
    if not (SHARED / "fixtures").is_dir():
        pytest.skip(f"the shared folder is not at {SHARED} (set YOLOPOSE_SHARED)")
    return SHARED


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the settings of the person who runs it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("YOLOPOSE_CONFIG_DIR", str(home / "config"))
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(home / "datasets"))
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(home / "weights"))
    monkeypatch.setenv("YOLOPOSE_OFFLINE", "1")  # what a test fetches comes from the fixture `server`
    for name in ("YOLO_DEBUG", "YOLOPOSE_RUNS_DIR", "YOLOPOSE_ASSETS_URL", "YOLOPOSE_TOOLCHAINS_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server on this machine, the only place that a test may fetch from."""
    with serving() as running:
        monkeypatch.setenv("YOLOPOSE_OFFLINE", "0")
        monkeypatch.setenv("YOLOPOSE_ASSETS_URL", running.address)
        yield running
