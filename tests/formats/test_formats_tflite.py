from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from formats_samples import (
    assert_agrees,
    assert_threads_agree,
    modules_after_prediction,
    random_batch,
    require_installed,
)

from yolopose import YOLO
from yolopose.base.errors import UsageError, WeightsError
from yolopose.formats import open_runtime

require_installed("torch", "litert_torch", "ai_edge_litert", "ai_edge_quantizer")
pytestmark = pytest.mark.slow  # its converter takes some seconds to be imported


@pytest.fixture(scope="module")
def file(small: YOLO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("plain") / "s.tflite"
    shutil.move(small.export(format="litert", imgsz=[64, 96], batch=2, verbose=False), target)
    return target


def test_output_equals_that_of_torch(file: Path, small: YOLO) -> None:
    runtime = open_runtime(file, device="cpu")
    assert (runtime.metadata.imgsz, runtime.metadata.batch, runtime.metadata.dynamic) == ((64, 96), 2, False)
    assert_agrees(runtime, small, [random_batch(3, 64, 96)])


def test_threads(file: Path) -> None:
    assert_threads_agree(file)


def test_half_stores_16_bits(file: Path, small: YOLO) -> None:
    half = Path(small.export(format="tflite", imgsz=[64, 96], half=True, verbose=False))
    assert half.stat().st_size < 0.75 * file.stat().st_size
    assert_agrees(open_runtime(half), small, [random_batch(1, 64, 96)], 0.5)


def test_metadata_is_appended_to_the_graph(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        record = json.loads(archive.read("metadata.json"))
    assert (record["task"], record["stride"], record["kpt_shape"], record["batch"]) == ("pose", 8, [5, 2], 2)


def test_prediction_does_not_import_torch(file: Path) -> None:
    assert not {"torch", "litert_torch"} & set(modules_after_prediction(file))


def test_refuses_dynamic(small: YOLO) -> None:
    with pytest.raises(UsageError, match=r"dynamic=True is not supported by TFLite"):
        small.export(format="tflite", dynamic=True)


@pytest.mark.parametrize("content", [b"", b"not a graph" * 10, None])
def test_damaged_files(content: bytes | None, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "d.tflite"
    path.write_bytes(file.read_bytes()[:500] if content is None else content)
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_runtime(path)


def test_refuses_a_graph_without_metadata(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    path = tmp_path / "n.tflite"
    path.write_bytes(content[: content.rindex(b"PK\x03\x04")])
    with pytest.raises(WeightsError, match="metadata is missing"):
        open_runtime(path)
    assert np.frombuffer(path.read_bytes()[4:8], dtype="S4")[0] == b"TFL3"
