"""Jobs on other storages and engines: S3 (a server of moto on this machine), Ray, real networks without torch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from job_worlds import make_images, make_model, make_video, parquet_files, run

from docs_setup import MODEL
from yolopose.base.errors import DependencyError, UsageError
from yolopose.jobs import job_status, read_rows
from yolopose.jobs.ray_pool import _connect as connect
from yolopose.jobs.storage import RemoteStorage, open_storage

pytest.importorskip("pyarrow")
pytest.importorskip("fsspec")
ROOT = Path(__file__).parents[2]


# -- any fsspec storage ------------------------------------------------------------------------------------------------


def test_memory_storage_has_complete_files_and_whole_lines() -> None:
    storage = open_storage("memory://job-storage")
    assert isinstance(storage, RemoteStorage)
    assert storage.read("a/b.json") is None
    storage.write("a/b.json", b"12")
    storage.append("a/log.jsonl", "one")
    storage.append("a/log.jsonl", "two")
    open_storage("memory://job-storage").append("a/log.jsonl", "three")
    assert storage.read("a/log.jsonl") == b"one\ntwo\nthree\n"
    with suppress(ZeroDivisionError), storage.new_file("a/c.parquet") as file:
        file.write(b"half")
        raise ZeroDivisionError
    with storage.new_file("a/d.parquet") as file:
        file.write(b"whole")
    assert dict(storage.sizes("a")) == {"b.json": 2, "log.jsonl": 14, "d.parquet": 5}
    storage.remove("a/b.json")
    storage.remove("a/b.json")
    assert storage.read("a/b.json") is None
    assert storage.open("a/d.parquet").read() == b"whole"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(DependencyError, match="pip install gcsfs"):
        open_storage("gs://bucket/job")


# -- S3 ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A bucket of a local S3 server, as fsspec file system."""
    pytest.importorskip("moto")
    s3fs = pytest.importorskip("s3fs")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    patch = pytest.MonkeyPatch()
    try:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",  # of the local server
            "AWS_ENDPOINT_URL": url,
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end, "the S3 server did not start"
                time.sleep(0.2)
        fs = s3fs.S3FileSystem(skip_instance_cache=True)
        fs.mkdir("bucket")
        yield fs
    finally:
        patch.undo()
        server.kill()
        server.wait()


@pytest.mark.slow
def test_s3_source_and_output_equal_local_ones(tmp_path: Path, s3: Any) -> None:
    files = make_images(tmp_path / "images", 5)
    make_video(tmp_path / "images/z.avi", 3)
    files[1].write_bytes(b"damaged")
    s3.put(str(tmp_path / "images") + "/", "bucket/images", recursive=True)
    model = make_model(tmp_path)
    result = run("s3://bucket/images", "s3://bucket/out", model=model, shard=2)
    assert (result.entries, result.shards, result.rows, result.errors) == (6, 4, 8, 1)
    rows = list(read_rows("s3://bucket/out"))
    assert [row["path"] for row in rows[:5]] == [f"s3://bucket/images/{file.name}" for file in files]
    assert [row["frame"] for row in rows[5:]] == [1, 2, 3]
    run(tmp_path / "images", tmp_path / "out", model=model, shard=2)
    for row, local in zip(rows, read_rows(tmp_path / "out"), strict=True):
        for name in ("boxes", "keypoints", "scores"):
            assert (row[name] is None) == (local[name] is None)
            assert row[name] is None or (row[name] == local[name]).all()

    s3.rm_file("bucket/out/rows/part-00000001.parquet")
    (record,) = s3.ls("bucket/out/manifest", detail=False)
    s3.pipe_file(record, s3.cat_file(record).splitlines()[0] + b"\n")
    s3.invalidate_cache()
    assert run(None, "s3://bucket/out").computed == 1
    assert job_status("s3://bucket/out").finished == 4


@pytest.mark.slow
def test_s3_list_with_a_missing_object(tmp_path: Path, s3: Any) -> None:
    (file,) = make_images(tmp_path / "images", 1)
    s3.put_file(str(file), "bucket/some/a.png")
    s3.pipe_file("bucket/some/list.txt", b"a.png\nmissing.png\ns3://nowhere/b.png\n")
    result = run("s3://bucket/some/list.txt", tmp_path / "out", model=make_model(tmp_path))
    assert (result.rows, result.errors) == (3, 2)
    errors = [row["error"] for row in read_rows(tmp_path / "out")]
    assert errors[0] is None
    assert errors[1] == "The image s3://bucket/…/missing.png does not exist."


# -- Ray ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Ray, patient enough for a busy machine, and with as few processes as possible."""
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", "300")
    monkeypatch.setenv("RAY_enable_worker_prestart", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # cores of a cluster that a job starts
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # actors import `job_worlds`
    return pytest.importorskip("ray")


@pytest.mark.slow
def test_ray_equals_local(tmp_path: Path, ray: Any) -> None:
    files = make_images(tmp_path / "images", 10)
    files[3].write_bytes(b"damaged")
    files[7].rename(files[7].with_name("image0007-kill.png"))
    model = make_model(tmp_path)
    result = run(tmp_path / "images", tmp_path / "ray", model=model, shard=4, engine="ray", threads=1)
    assert (result.rows, result.errors) == (10, 2)
    run(tmp_path / "images", tmp_path / "local", model=model, shard=4)
    assert parquet_files(tmp_path / "ray") == parquet_files(tmp_path / "local")
    with pytest.raises(UsageError, match=r"whole Ray cluster has \d+ CPUs"):
        run(tmp_path / "images", tmp_path / "large", model=model, engine="ray", threads=64)


@pytest.mark.slow
def test_a_job_joins_an_existing_cluster(tmp_path: Path, ray: Any) -> None:
    make_images(tmp_path / "images", 4)
    values = {"source": str(tmp_path / "images"), "model": str(make_model(tmp_path)), "shard": 2, "engine": "ray"}
    connect(ray, None)
    try:
        run(output=tmp_path / "inside", threads=1, **values)  # the program has joined a cluster already
        assert ray.is_initialized()
        values |= {"output": str(tmp_path / "outside"), "address": ray.get_runtime_context().gcs_address, "threads": 1}
        code = f"import sys; sys.path[:] = {sys.path!r}; from job_worlds import run; run(**{values!r})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
    finally:
        ray.shutdown()
    assert parquet_files(tmp_path / "inside") == parquet_files(tmp_path / "outside")
    assert len(parquet_files(tmp_path / "inside")) == 2


# -- kills, and a real network -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights as ONNX."""
    pytest.importorskip("onnx")
    from yolopose import YOLO

    folder = tmp_path_factory.mktemp("network")
    (folder / "small-pose.yaml").write_text(MODEL)
    YOLO(folder / "small-pose.yaml").save(folder / "random.pt")
    return Path(YOLO(folder / "random.pt").export(format="onnx", imgsz=64, dynamic=True))


@pytest.mark.slow
def test_rows_survive_kills_of_workers_and_driver(tmp_path: Path, network: Path) -> None:
    script = ROOT / "benchmarks/jobs_kills.py"
    command = [sys.executable, str(script), "--model", str(network), "--images", "120", "--kills", "4", "--shard", "10"]
    done = subprocess.run(
        [*command, "--conf", "1e-7", "--folder", str(tmp_path / "world")], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["images"], figures["files"]) == (120, 12)
    assert figures["detections"] > 0
    # a job that ends early leaves no time for the last kills
    assert 1 <= figures.get("worker", 0) + figures.get("driver", 0) <= 4


@pytest.mark.slow
def test_onnx_needs_no_torch(tmp_path: Path, network: Path) -> None:
    make_images(tmp_path / "images", 3)
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not installed')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nfrom yolopose.cli import main\n"
        f"sys.exit(main(['batch', 'model={network}', 'source={tmp_path}/images', 'output={tmp_path}/out', 'imgsz=64']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "3 rows" in done.stdout
    assert [row["error"] for row in read_rows(tmp_path / "out")] == [None] * 3
