"""Compare two ways to run a job on Ray: actors with a shard manifest (`engine=ray`), and Ray Data with checkpoints.

    python benchmarks/jobs_ray.py [--entries 1000000] [--ways core,data] [--stop 0.5] [--folder FOLDER]

Both ways read the same Parquet file of made paths and write rows with two made detections each, so that only the
distribution of the work is measured. Each way is killed (SIGKILL of the driver) when the share `--stop` of the rows is
written, and started again. Printed: seconds of both runs, seconds until the second one has written its first new row,
largest memory (PSS of the driver and of all processes that it started), and whether each path has exactly one row.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from yolopose.jobs.entries import Entry
from yolopose.jobs.rows import RowBuffer, ShardInfo
from yolopose.results import Results
from yolopose.schema import KeypointSchema

POINTS = 17
SHARD = 1000


def made_result() -> Results:
    """Return a result with two detections."""
    random = np.random.default_rng(0)
    boxes = np.array([[10, 20, 110, 220, 0.9, 0], [50, 20, 150, 220, 0.8, 0]], np.float32)
    points = random.uniform(0, 200, (2, POINTS, 3)).astype(np.float32)
    return Results(
        lambda: np.zeros((480, 640, 3), np.uint8), "", {0: "person"}, boxes=boxes, keypoints=points,
        schema=KeypointSchema.coco_person(), orig_shape=(480, 640),
    )  # fmt: skip


class MadePredictor:
    """Returns the same detections for every path, without reading it."""

    classes = {0: "person"}  # noqa: RUF012
    keypoints = {}  # noqa: RUF012
    kpt_shape = (POINTS, 3)
    device = "none"

    def __init__(self, *_: Any) -> None:
        self._result = made_result()

    def images(self, entries: Sequence[Entry]) -> Iterator[Results]:
        for _ in entries:
            yield self._result


class MadeRows:
    """The same as a function of Ray Data."""

    def __init__(self) -> None:
        self._result = made_result()
        self._info = ShardInfo(
            job="", shard=0, inputs="", model="", model_sha256="0" * 64, classes={}, keypoints={}, kpt_shape=(POINTS, 3)
        )

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = RowBuffer(self._info)
        for path in batch.column("path").to_pylist():
            rows.add(path, self._result)
        return rows.take_table().replace_schema_metadata(None)


def run_core(paths: Path, output: Path) -> None:
    from yolopose.config import check_options
    from yolopose.jobs import run_checked

    model = paths.with_name("made.onnx")
    model.write_bytes(b"made")
    options = {"source": str(paths), "output": str(output), "model": str(model), "engine": "ray", "threads": 1}
    run_checked(check_options("batch", {**options, "shard": SHARD}), "jobs_ray:MadePredictor")


def run_data(paths: Path, output: Path) -> None:
    import ray
    from ray.data import ActorPoolStrategy
    from ray.data.checkpoint import CheckpointConfig

    # slots, not cores: the read and write tasks need one beside the actor
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    checkpoint = CheckpointConfig(id_column="path", checkpoint_path=str(output / "checkpoint"))
    ray.data.DataContext.get_current().checkpoint_config = checkpoint
    rows = ray.data.read_parquet(str(paths)).map_batches(
        MadeRows, batch_size=SHARD, batch_format="pyarrow", compute=ActorPoolStrategy(size=1)
    )
    rows.write_parquet(str(output / "rows"))


def descendants(pid: int) -> list[int]:
    """Return the processes below a process."""
    pids: list[int] = []
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pids += [int(child), *descendants(int(child))]
    return pids


def pss(pid: int) -> int:
    """Return the memory of a process in bytes; shared memory counts in proportion."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])
    return 0


def count_rows(folder: Path, known: dict[Path, int]) -> int:
    """Return the number of rows of complete files."""
    for file in folder.rglob("*.parquet") if folder.is_dir() else ():
        if file not in known and not file.name.startswith("."):
            with suppress(OSError, pa.ArrowException):
                known[file] = pq.read_metadata(file).num_rows
    return sum(known.values())


def watch(way: str, paths: Path, output: Path, stop_at: int | None) -> dict[str, float]:
    """Run one way in a process of its own, and measure it; kill it when so many rows are written."""
    command = [sys.executable, __file__, "--run", way, "--paths", str(paths), "--folder", str(output)]
    known: dict[Path, int] = {}
    before = count_rows(output / "rows", known)
    start = time.monotonic()
    figures: dict[str, float] = {"driver_mb": 0, "all_mb": 0}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None:
        time.sleep(1)
        own = pss(process.pid)
        everything = own + sum(map(pss, descendants(process.pid)))
        figures["driver_mb"] = max(figures["driver_mb"], round(own / 1e6))
        figures["all_mb"] = max(figures["all_mb"], round(everything / 1e6))
        rows = count_rows(output / "rows", known)
        if rows > before and "first_row_s" not in figures:
            figures["first_row_s"] = round(time.monotonic() - start, 1)
        if stop_at is not None and rows >= stop_at:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    figures["seconds"] = round(time.monotonic() - start, 1)
    figures["status"] = process.returncode
    time.sleep(3)  # the other processes notice the death of the driver
    return figures


def check(output: Path, entries: int) -> dict[str, Any]:
    files = [file for file in (output / "rows").rglob("*.parquet") if not file.name.startswith(".")]
    paths = pa.concat_tables([pq.read_table(file, columns=["path"]) for file in files]).column("path")
    size = sum(file.stat().st_size for file in files)
    unique = len(paths.unique())
    return {
        "files": len(files),
        "mb": round(size / 1e6, 1),
        "rows": len(paths),
        "exactly_once": len(paths) == unique == entries,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=1_000_000)
    parser.add_argument("--ways", default="core,data")
    parser.add_argument("--stop", type=float, default=0.5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--paths", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        sys.path.insert(0, str(Path(__file__).parent))
        {"core": run_core, "data": run_data}[options.run](options.paths, options.folder)
        return
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="jobs-ray-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "paths.parquet"
    names = [f"s3://bucket/images/{number // 10_000:04d}/{number:09d}.jpg" for number in range(options.entries)]
    pq.write_table(pa.table({"path": names}), paths, row_group_size=10_000)
    del names
    for way in options.ways.split(","):
        output = folder / way
        output.mkdir()
        first = watch(way, paths, output, int(options.stop * options.entries) if options.stop else None)
        print(json.dumps({"way": way, "run": 1, **first}), flush=True)
        if options.stop:
            print(json.dumps({"way": way, "run": 2, **watch(way, paths, output, None)}), flush=True)
        print(json.dumps({"way": way, **check(output, options.entries)}), flush=True)


if __name__ == "__main__":
    main()
