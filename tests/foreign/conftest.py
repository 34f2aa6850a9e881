"""Oracles of other packages, and MediaPipe's published networks; obtained with the package managers, if reachable."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

_RTMLIB = "rtmlib==0.0.16"


@pytest.fixture(scope="session")
def rtmlib(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The package rtmlib, installed without its dependencies, which would replace this environment's OpenCV."""
    folder = tmp_path_factory.mktemp("rtmlib")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), _RTMLIB]
    if subprocess.run(command, capture_output=True, check=False, timeout=300).returncode:
        pytest.skip("rtmlib cannot be installed: the package index is not reachable")
    pytest.importorskip("tqdm", reason="rtmlib needs tqdm")
    sys.path.insert(0, str(folder))
    try:
        import rtmlib as package
    finally:
        sys.path.remove(str(folder))
    return package


@pytest.fixture(scope="session")
def mediapipe_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of MediaPipe's pose and hand networks, from its npm packages."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("mediapipe")
    for package in ("@mediapipe/pose@0.5.1675469404", "@mediapipe/hands@0.4.1675469240"):
        command = [npm, "pack", package, "--silent", "--pack-destination", str(folder)]
        if subprocess.run(command, capture_output=True, check=False, timeout=300).returncode:
            pytest.skip("MediaPipe's packages cannot be obtained: the npm registry is not reachable")
    for archive in folder.glob("*.tgz"):
        with tarfile.open(archive) as opened:
            for member in opened:
                if member.name.endswith((".tflite", "packed_assets.data")):
                    target = folder / Path(member.name).name
                    target.write_bytes(opened.extractfile(member).read())  # type: ignore[union-attr]
    return folder
