"""Shared helpers of the format tests: batches, and checks that hold for every format."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from yolopose import YOLO
from yolopose.formats import open_runtime
from yolopose.runtime import Runtime, get_replicas


def random_batch(count: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def assert_agrees(runtime: Runtime, model: YOLO, batches: Iterable[np.ndarray], near: float = 1e-3) -> None:
    """Compare raw output and candidates of an engine with torch, for uint8 and float32 batches."""
    from yolopose.formats.pytorch import TorchRuntime

    assert runtime.metadata.spec == model.spec
    torch = TorchRuntime(model.model, "cpu")
    for batch in batches:
        for given in (batch, batch.astype(np.float32) / 255):
            found = runtime.raw(given)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, torch.raw(given), atol=near, rtol=1e-4)
        found, expected = (engine.infer(batch, conf=0.0) for engine in (runtime, torch))
        np.testing.assert_array_equal(found.batch_idx, expected.batch_idx)
        np.testing.assert_allclose(found.scores, expected.scores, atol=near / 100)


def assert_threads_agree(path: Path, count: int = 3) -> None:
    """Compare replicas, and threads that share the engine, with a single caller."""
    runtime = open_runtime(path, device="cpu")
    height, width = runtime.metadata.imgsz
    batches = [np.full((1, 3, height, width), shade, dtype=np.uint8) for shade in (0, 80, 160, 255)]
    expected = [runtime.raw(batch).copy() for batch in batches]
    replicas = get_replicas(runtime, count)
    assert len(replicas) in (1, count)
    for engines in (replicas, [runtime] * count):
        with ThreadPoolExecutor(len(engines)) as pool:
            for found in pool.map(lambda engine: [engine.raw(batch).copy() for batch in batches * 3], engines):
                for one, other in zip(found, expected * 3, strict=True):
                    np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-4)
    assert get_replicas(runtime, 1) == [runtime]


def modules_after_prediction(path: Path) -> list[str]:
    """Return the top-level modules that are loaded after a prediction in a new process."""
    code = (
        "import sys, numpy, yolopose\n"
        f"yolopose.YOLO({str(path)!r})(numpy.zeros((50, 60, 3), numpy.uint8), verbose=False)\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.splitlines()[-1].split()


def require_installed(*packages: str) -> None:
    """Skip a module where packages are not installed; `importorskip` would import them, which costs seconds."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed", allow_module_level=True)


def require_openvino() -> None:
    """Skip a module where OpenVINO is not installed; `importorskip` would import it, and it would report that."""
    require_installed("openvino")
