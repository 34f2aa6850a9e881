from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from yolopose.base.errors import ExportError, WeightsError
from yolopose.toolchains import Worker, run_in_env
from yolopose.toolchains import worker as worker_module

WORKSHOP = """
import os, sys
def convert(job):
    print("said by a library")
    open(job["target"], "w").write(job["text"])
    return {"folder": os.getcwd()}
def fail(job):
    raise ValueError("unknown operator: Foo")
def end(job):
    os._exit(3)
def serve(job):
    os.write(1, b"noise of a library")
    def compute(batch):
        if batch.shape[0] == 9:
            raise MemoryError("too large")
        return [batch * job["factor"], batch.sum((1, 2, 3))]
    return {"record": "x"}, compute
"""


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of files for another Python, with one of this test; and a place for logs."""
    shutil.copyfile(worker_module._SCRIPTS / "worker_main.py", tmp_path / "worker_main.py")
    (tmp_path / "on_test.py").write_text(WORKSHOP, encoding="utf-8")
    monkeypatch.setattr(worker_module, "_SCRIPTS", tmp_path)
    monkeypatch.setenv("YOLOPOSE_TOOLCHAINS_DIR", str(tmp_path / "rooms"))


def do(action: str, **values: str) -> dict:
    return run_in_env(Path(sys.executable), "on_test", action, values, "It cannot be written")


def test_run_in_env(tmp_path: Path) -> None:
    found = do("convert", target=str(tmp_path / "t"), text="é")
    assert (tmp_path / "t").read_text() == "é"
    assert not Path(found["folder"]).exists()  # what libraries leave about goes with it
    assert "said by a library" in (tmp_path / "rooms/logs/on_test-convert.log").read_text()


def test_run_in_env_reports_failures(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match=r"It cannot be written: ValueError: unknown operator: Foo\. Full log"
    ) as caught:
        do("fail")
    log = tmp_path / "rooms/logs/on_test-fail.log"
    assert str(log) in str(caught.value)
    assert "Traceback" in log.read_text()
    with pytest.raises(ExportError, match="its process ended with status 3"):
        do("end")


def test_worker_computes_until_it_is_closed() -> None:
    worker = Worker.start_python(Path(sys.executable), "on_test", {"factor": 2.0}, Path("x.pb"))
    assert worker.info == {"record": "x"}
    for count in (1, 3):
        batch = np.arange(count * 24, dtype=np.float32).reshape(count, 2, 3, 4)
        doubled, summed = worker.run(batch)
        np.testing.assert_array_equal(doubled, batch * 2)
        np.testing.assert_array_equal(summed, batch.sum((1, 2, 3)))
    worker.close()
    assert worker._process.returncode == 0


@pytest.mark.parametrize("action", ["fail", "end", "serve"])
def test_worker_reports_its_end(action: str) -> None:
    with pytest.raises(WeightsError, match=r"x\.pb cannot be run: .*Full log: .*on_test-" + action):
        Worker.start_python(Path(sys.executable), "on_test", {"factor": 1}, Path("x.pb"), action).run(
            np.zeros((9, 1, 1, 1), np.float32)
        )


def test_deleted_engine_ends_its_process() -> None:
    from yolopose.formats.metadata import own_metadata
    from yolopose.formats.toolchain.worker_runtime import WorkerRuntime
    from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

    about = ModelMetadata(spec=PoseSpec(classes=("a",), keypoints=KeypointSchema(count=5, dims=2)))
    worker = Worker.start_python(Path(sys.executable), "on_test", {"factor": 1}, Path("x.pb"))
    runtime = WorkerRuntime(Path("x.pb"), worker, {"yolopose": own_metadata(about)})
    assert runtime.metadata == about
    del runtime
    gc.collect()
    assert worker._process.returncode == 0
