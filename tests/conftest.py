"""Fixtures of all tests: the shared folder, isolated settings, a local web server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from docs_setup import SHARED
from servers import Server, serving


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of fixtures, real data and weights; the test is skipped without it."""
    if not (SHARED / "fixtures").is_dir():
        pytest.skip(f"the shared folder is not at {SHARED} (set YOLOPOSE_SHARED)")
    return SHARED


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate the test from the settings of the user."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("YOLOPOSE_CONFIG_DIR", str(home / "config"))
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(home / "datasets"))
    monkeypatch.setenv("YOLOPOSE_WEIGHTS_DIR", str(home / "weights"))
    monkeypatch.setenv("YOLOPOSE_OFFLINE", "1")  # downloads come from the fixture `server`
    monkeypatch.setattr("yolopose.base.log._warned", set())  # each test may see a warning that another one has seen
    for name in ("YOLO_DEBUG", "YOLOPOSE_RUNS_DIR", "YOLOPOSE_ASSETS_URL", "YOLOPOSE_TOOLCHAINS_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Local web server, the only host that a test may download from."""
    with serving() as running:
        monkeypatch.setenv("YOLOPOSE_OFFLINE", "0")
        monkeypatch.setenv("YOLOPOSE_ASSETS_URL", running.address)
        yield running
