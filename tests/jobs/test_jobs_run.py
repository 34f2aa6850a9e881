"""Jobs on this machine: rows, errors as rows, restart, tasks, options that must stay the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_worlds import make_images, make_model, make_video, parquet_files, run

from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.jobs import JobError, job_status, read_rows, run_job
from yolopose.jobs.local import LocalPool

pytest.importorskip("pyarrow")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path)


def test_each_image_is_one_row_in_order(tmp_path: Path, model: Path) -> None:
    files = make_images(tmp_path / "images", 7)
    result = run(tmp_path / "images", tmp_path / "out", model=model, shard=3)
    assert (result.entries, result.shards, result.finished, result.rows, result.errors) == (7, 3, 3, 7, 0)
    rows = list(read_rows(tmp_path / "out"))
    assert [row["path"] for row in rows] == [str(file) for file in files]
    for number, row in enumerate(rows):
        assert (row["height"], row["width"], row["error"], row["ids"], row["frame"]) == (
            40 + number,
            60,
            None,
            None,
            None,
        )
        assert row["boxes"].shape == (1, 4)
        assert row["boxes"][0] == pytest.approx([number, 10, number + 20, 30], abs=1)
        assert row["keypoints"].shape == (1, 2, 3)
        assert row["scores"].tolist() == [0.875]
        assert row["classes"].tolist() == [0]
        assert len(row["model"]) == 64


def test_inputs_that_fail_are_rows_with_an_error(tmp_path: Path, model: Path) -> None:
    files = make_images(tmp_path / "images", 8)
    files[1].write_bytes(files[1].read_bytes()[:60])
    files[2].write_bytes(b"")
    files[4].rename(files[4].with_name("image0004-boom.png"))  # the engine raises an unexpected error
    (tmp_path / "list.txt").write_text("\n".join([*map(str, sorted((tmp_path / "images").iterdir())), "missing.jpg"]))
    result = run(tmp_path / "list.txt", tmp_path / "out", model=model, batch=2)
    assert (result.rows, result.errors) == (9, 4)
    rows = list(read_rows(tmp_path / "out"))
    failed = {Path(row["path"]).name: row["error"] for row in rows if row["error"]}
    assert set(failed) == {"image0001.png", "image0002.png", "image0004-boom.png", "missing.jpg"}
    assert "0 bytes" in failed["image0002.png"]
    assert failed["image0004-boom.png"] == "RuntimeError: the engine failed"
    assert failed["missing.jpg"] == f"The image {tmp_path / 'missing.jpg'} does not exist."
    assert all(row["boxes"] is None and row["width"] is None for row in rows if row["error"])
    assert all(len(row["boxes"]) == 1 for row in rows if not row["error"])


@pytest.mark.slow
def test_an_image_that_kills_the_process_is_a_row_with_an_error(tmp_path: Path, model: Path) -> None:
    files = make_images(tmp_path / "images", 6)
    files[2].rename(files[2].with_name("image0002-kill.png"))
    result = run(tmp_path / "images", tmp_path / "out", model=model, shard=4)
    assert (result.rows, result.errors) == (6, 1)
    errors = {Path(row["path"]).name: row["error"] for row in read_rows(tmp_path / "out")}
    assert "died" in errors.pop("image0002-kill.png")
    assert set(errors.values()) == {None}
    assert not list((tmp_path / "out/suspects").iterdir())
    assert len(list((tmp_path / "out/rows").iterdir())) == 2  # without temporary files of processes that died


def test_a_finished_job_computes_nothing_and_a_damaged_file_is_computed_again(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "images", 6)
    run(tmp_path / "images", tmp_path / "out", model=model, shard=2)
    before = parquet_files(tmp_path / "out")
    model.rename(tmp_path / "moved.onnx")  # not needed any more
    assert run(None, tmp_path / "out").computed == 0
    (tmp_path / "moved.onnx").rename(model)

    rows = tmp_path / "out/rows"
    (rows / "part-00000000.parquet").unlink()
    data = before["part-00000001.parquet"]
    (rows / "part-00000001.parquet").write_bytes(data[:100] + b"x" + data[101:])  # the same size
    assert run(None, tmp_path / "out").computed == 1
    assert run(None, tmp_path / "out", verify=True).computed == 1
    assert parquet_files(tmp_path / "out") == before


def test_a_complete_file_without_a_record_is_not_computed_again(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "images", 6)
    run(tmp_path / "images", tmp_path / "out", model=model, shard=2)
    (file,) = (tmp_path / "out/manifest").iterdir()
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:1], lines[1][:30]]))  # killed while the second line was written
    result = run(None, tmp_path / "out")
    assert (result.computed, result.finished, result.rows) == (0, 3, 6)
    records = [json.loads(line) for file in sorted((tmp_path / "out/manifest").iterdir()) for line in lines]
    assert {record["shard"] for record in records} == {0, 1, 2}


def test_temporary_files_of_killed_processes_are_removed(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "images", 4)
    run(tmp_path / "images", tmp_path / "out", model=model, shard=2)
    rows = tmp_path / "out/rows"
    (rows / "part-00000001.parquet").rename(rows / ".part-00000001-abcd1234.parquet")
    (rows / ".part-00000000-abcd1234.parquet").touch()  # of a shard that was finished afterwards
    assert run(None, tmp_path / "out").computed == 1
    assert sorted(file.name for file in rows.iterdir()) == ["part-00000000.parquet", "part-00000001.parquet"]


def test_tasks_share_a_job_and_equal_one_process(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "images", 10)
    run(tmp_path / "images", tmp_path / "one", model=model, shard=2)
    counts = [
        run(tmp_path / "images", tmp_path / "out", model=model, shard=2, task=f"{index}/3").computed
        for index in range(3)
    ]
    assert counts == [2, 2, 1]
    assert parquet_files(tmp_path / "out") == parquet_files(tmp_path / "one")
    assert job_status(tmp_path / "out").finished == 5


def test_errors_are_retried_on_request(tmp_path: Path, model: Path) -> None:
    files = make_images(tmp_path / "images", 4)
    data = files[3].read_bytes()
    files[3].write_bytes(b"")
    assert run(tmp_path / "images", tmp_path / "out", model=model, shard=2).errors == 1
    files[3].write_bytes(data)
    assert run(None, tmp_path / "out").computed == 0
    result = run(None, tmp_path / "out", retry_errors=True)
    assert (result.computed, result.errors, result.rows) == (1, 0, 4)


def test_update_adds_new_inputs(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "images", 3)
    run(tmp_path / "images", tmp_path / "out", model=model, shard=2)
    make_images(tmp_path / "images", 6)
    assert run(tmp_path / "images", tmp_path / "out", model=model, shard=2).computed == 0
    result = run(tmp_path / "images", tmp_path / "out", model=model, shard=2, update=True)
    assert (result.entries, result.shards, result.computed, result.rows) == (6, 4, 2, 6)
    assert run(tmp_path / "images", tmp_path / "out", model=model, shard=2, update=True).computed == 0


def test_two_workers_equal_one(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "images", 12)
    run(tmp_path / "images", tmp_path / "one", model=model, shard=3, workers=1)
    run(tmp_path / "images", tmp_path / "two", model=model, shard=3, workers=2, threads=1)
    assert parquet_files(tmp_path / "one") == parquet_files(tmp_path / "two")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conf": 0.5}, r"conf=0.5 instead of 0.25"),
        ({"source": "other"}, "a job over"),
        ({"model": "other.onnx"}, "another network"),
        ({"task": "3/3"}, "INDEX/COUNT"),
        ({"output": None}, "output="),
        ({"gpus": 1}, "engine=ray"),
        ({"source": None, "update": True}, "give source="),
        ({"source": None, "iou": 0.5}, "iou=0.5 instead of None"),
        ({"model": "yolo11n-pose.yaml"}, "without weights"),
    ],
)
def test_a_job_continues_only_with_the_same_values(
    tmp_path: Path, model: Path, change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_images(tmp_path / "images", 2)
    make_images(tmp_path / "other", 1)
    (tmp_path / "other.onnx").write_bytes(b"another")
    values = {"source": "images", "output": "out", "model": model, "conf": 0.25}
    run(**values)
    before = parquet_files(tmp_path / "out")
    if "gpus" in change:
        (tmp_path / "out/rows/part-00000000.parquet").unlink()
    with pytest.raises(UsageError, match=message):
        run(**{**values, **change})
    assert "gpus" in change or parquet_files(tmp_path / "out") == before


def test_a_changed_network_is_not_used(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "images", 2)
    run(tmp_path / "images", tmp_path / "out", model=model, shard=1)
    (tmp_path / "out/rows/part-00000001.parquet").unlink()
    model.write_bytes(b"changed")
    with pytest.raises(UsageError, match="has changed"):
        run(None, tmp_path / "out")
    model.unlink()
    with pytest.raises(NotFoundError, match="Restore it"):
        run(None, tmp_path / "out")


def test_a_second_process_is_refused(tmp_path: Path, model: Path) -> None:
    from filelock import FileLock

    make_images(tmp_path / "images", 2)
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.task-0-of-1.lock"), pytest.raises(UsageError, match="Another process"):
        run(tmp_path / "images", tmp_path / "out", model=model)


def test_ctrl_c_ends_the_workers_and_the_job_continues(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "images", 6)
    pools: list[LocalPool] = []
    next_event = LocalPool.next_event

    def interrupted(pool: LocalPool, timeout: float) -> Any:
        pools.append(pool)
        event = next_event(pool, timeout)
        if event and event["event"] == "done" and event["shard"] == 1:
            raise KeyboardInterrupt
        return event

    with monkeypatch.context() as patch:
        patch.setattr(LocalPool, "next_event", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"1 of 3 shards are finished\. The same command"):
            run(tmp_path / "images", tmp_path / "out", model=model, shard=2)
    assert all(process.poll() is not None for process in pools[0]._processes.values())
    result = run(None, tmp_path / "out")  # the file of shard 1 was complete, but not recorded
    assert (result.computed, result.finished, result.rows) == (1, 3, 6)


def test_wrong_folders(tmp_path: Path, model: Path) -> None:
    with pytest.raises(UsageError, match="does not hold a job"):
        run(None, tmp_path / "out")
    with pytest.raises(NotFoundError, match=r"no job\.json"):
        job_status(tmp_path / "out")
    with pytest.raises(NotFoundError, match=r"no job\.json"):
        next(read_rows(tmp_path / "out"))
    (tmp_path / "out/job.json").write_text("{}")
    with pytest.raises(DataError, match="damaged"):
        run(tmp_path / "images", tmp_path / "out", model=model)


def test_a_network_that_cannot_be_opened_ends_the_job(tmp_path: Path) -> None:
    make_images(tmp_path / "images", 2)
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match="cannot be opened by onnxruntime"):  # a WeightsError of the worker
        run_job(tmp_path / "images", tmp_path / "out", model=tmp_path / "bad.onnx", verbose=False)


def test_workers_that_never_start_end_the_job(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(tmp_path / "images", 2)
    monkeypatch.setattr("yolopose.jobs.local._CODE", "import sys; sys.exit('broken worker {paths}'[:13])")
    with pytest.raises(JobError, match="broken worker"):
        run(tmp_path / "images", tmp_path / "out", model=model)


def test_videos_have_a_file_each_and_a_row_per_frame(tmp_path: Path, model: Path) -> None:
    make_images(tmp_path / "in", 2)
    make_video(tmp_path / "in/walk.avi", 6)
    result = run(tmp_path / "in", tmp_path / "out", model=model, track=True, vid_stride=2)
    assert (result.entries, result.shards) == (3, 2)
    rows = [row for row in read_rows(tmp_path / "out") if row["path"].endswith(".avi")]
    assert [row["frame"] for row in rows] == [1, 3, 5]
    assert all(row["ids"] is not None and len(row["ids"]) == len(row["boxes"]) for row in rows)
    assert np.all(np.diff([row["time"] for row in rows]) > 0)
