from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from formats_samples import (
    assert_agrees,
    assert_threads_agree,
    modules_after_prediction,
    random_batch,
    require_installed,
)

from yolopose import YOLO
from yolopose.base.errors import WeightsError
from yolopose.formats import open_runtime

require_installed("torch", "onnx", "onnxscript", "MNN")

NEAR = 0.05  # its exponentials are quick ones


@pytest.fixture(scope="module")
def file(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plain") / "s.mnn"
    shutil.move(small.export(format="mnn", imgsz=[64, 96], verbose=False), target)
    return target


def test_output_equals_that_of_torch(file: Path, small: YOLO) -> None:
    runtime = open_runtime(file, device="cpu")
    assert (runtime.metadata.imgsz, runtime.metadata.batch, runtime.metadata.dynamic) == ((64, 96), 1, False)
    assert_agrees(runtime, small, [random_batch(3, 64, 96)], NEAR)


@pytest.mark.parametrize("options", [{"batch": 4}, {"dynamic": True}])
def test_batches_and_sizes(options: dict, small: YOLO) -> None:
    runtime = open_runtime(small.export(format="mnn", imgsz=[64, 96], verbose=False, **options))
    batches = [random_batch(6, 64, 96)] + [random_batch(3, 40, 136), random_batch(1, 64, 64)] * ("dynamic" in options)
    assert_agrees(runtime, small, batches, NEAR)


def test_threads(file: Path) -> None:
    assert_threads_agree(file)


def test_half_stores_16_bits(file: Path, small: YOLO) -> None:
    half = Path(small.export(format="mnn", imgsz=[64, 96], half=True, verbose=False))
    assert half.stat().st_size < 0.7 * file.stat().st_size
    assert_agrees(open_runtime(half), small, [random_batch(1, 64, 96)], 0.5)


def test_prediction_does_not_import_torch(file: Path) -> None:
    assert not {"torch", "onnx"} & set(modules_after_prediction(file))


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_damaged_files(content: bytes | None, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.mnn"
    path.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_runtime(path)
