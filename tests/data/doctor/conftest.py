"""The clean set and the spoiled one, drawn once per session."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from planted import Faults, plant, write_clean

from yolopose.data.dataset import load_dataset
from yolopose.data.doctor import Report, examine


@pytest.fixture(scope="session")
def clean_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clean(tmp_path_factory.mktemp("doctor") / "clean")


@pytest.fixture(scope="session")
def spoiled(clean_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Faults]:
    root = tmp_path_factory.mktemp("doctor") / "spoiled"
    shutil.copytree(clean_yaml.parent, root)
    return root / "data.yaml", plant(root)


@pytest.fixture(scope="session")
def clean_report(clean_yaml: Path) -> Report:
    return examine(load_dataset(clean_yaml))


@pytest.fixture(scope="session")
def spoiled_report(spoiled: tuple[Path, Faults]) -> Report:
    return examine(load_dataset(spoiled[0]))
