from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from formats_samples import assert_agrees, assert_threads_agree, batch_of, modules_of_a_prediction, need_there

from yolopose import YOLO
from yolopose.base.errors import WeightsError
from yolopose.formats import open_runtime

need_there("torch", "onnx", "onnxscript", "MNN")

NEAR = 0.05  # its exponentials are quick ones


@pytest.fixture(scope="module")
def file(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plain") / "s.mnn"
    shutil.move(small.export(format="mnn", imgsz=[64, 96], verbose=False), target)
    return target


def test_computes_what_torch_does(file: Path, small: YOLO) -> None:
    runtime = open_runtime(file, device="cpu")
    assert (runtime.metadata.imgsz, runtime.metadata.batch, runtime.metadata.dynamic) == ((64, 96), 1, False)
    assert_agrees(runtime, small, [batch_of(3, 64, 96)], NEAR)


@pytest.mark.parametrize("options", [{"batch": 4}, {"dynamic": True}])
def test_batches_and_sizes(options: dict, small: YOLO) -> None:
    runtime = open_runtime(small.export(format="mnn", imgsz=[64, 96], verbose=False, **options))
    batches = [batch_of(6, 64, 96)] + [batch_of(3, 40, 136), batch_of(1, 64, 64)] * ("dynamic" in options)
    assert_agrees(runtime, small, batches, NEAR)


def test_threads(file: Path) -> None:
    assert_threads_agree(file)


def test_half_stores_16_bits(file: Path, small: YOLO) -> None:
    half = Path(small.export(format="mnn", imgsz=[64, 96], half=True, verbose=False))
    assert half.stat().st_size < 0.7 * file.stat().st_size
    assert_agrees(open_runtime(half), small, [batch_of(1, 64, 96)], 0.5)


def test_predicting_loads_no_torch(file: Path) -> None:
    assert not {"torch", "onnx"} & set(modules_of_a_prediction(file))


@pytest.mark.parametrize("content", [b"", b"not a graph", None])
def test_damaged_files(content: bytes | None, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.mnn"
    path.write_bytes(file.read_bytes()[:5000] if content is None else content)
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_runtime(path)
