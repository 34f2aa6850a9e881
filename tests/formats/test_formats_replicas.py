from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pytest
from formats_samples import require_openvino

from yolopose import YOLO
from yolopose.formats import open_runtime
from yolopose.runtime import get_replicas

pytest.importorskip("torch")
for package in ("onnx", "onnxscript"):
    pytest.importorskip(package)
require_openvino()


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def exported(request: pytest.FixtureRequest, small: YOLO) -> tuple[str, str]:
    options = {"opset": 17} if request.param == "onnx" else {}  # the quicker of torch's two converters
    return request.param, small.export(format=request.param, imgsz=64, dynamic=True, verbose=False, **options)


@pytest.mark.parametrize(("count", "cores", "threads"), [(2, 4, 2), (3, 2, 1)])
def test_replicas_compute_in_parallel_what_the_engine_does(
    count: int, cores: int, threads: int, exported: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, path = exported
    monkeypatch.setattr(import_module(f"yolopose.formats.{name}"), "physical_cores", lambda: cores)
    runtime = open_runtime(path, device="cpu")
    replicas = get_replicas(runtime, count)
    assert len(replicas) == count
    for replica in replicas:
        if name == "onnx":
            assert replica._session.get_session_options().intra_op_num_threads == threads
        else:
            settings = replica._network._settings
            assert (settings["NUM_STREAMS"], settings["INFERENCE_NUM_THREADS"]) == (count, threads * count)
    rng = np.random.default_rng(0)
    batches = [[rng.integers(0, 256, (2, 3, 64, 32 * (1 + at)), dtype=np.uint8)] * 8 for at in range(count)]
    expected = [runtime.raw(batch[0]) for batch in batches]
    with ThreadPoolExecutor(count) as pool:
        found = list(pool.map(lambda replica, batch: [replica.raw(one) for one in batch], replicas, batches))
    for given, one in zip(found, expected, strict=True):
        for raw in given:
            np.testing.assert_allclose(raw, one, atol=1e-3, rtol=1e-4)
    np.testing.assert_allclose(runtime.raw(batches[0][0]), expected[0], atol=1e-4)


def test_one_replica_is_the_engine_itself(exported: tuple[str, str]) -> None:
    runtime = open_runtime(exported[1], device="cpu")
    assert get_replicas(runtime, 1) == [runtime]


def test_engine_is_thread_safe(exported: tuple[str, str]) -> None:
    runtime = open_runtime(exported[1], device="cpu")
    batches = [np.full((1, 3, 64, 64), value, dtype=np.uint8) for value in (0, 80, 160, 255)]
    expected = [runtime.raw(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            for found, one in zip(pool.map(runtime.raw, batches), expected, strict=True):
                np.testing.assert_allclose(found, one, atol=1e-4)
