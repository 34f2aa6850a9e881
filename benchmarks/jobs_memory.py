"""Measure what a job costs beside its predictions: the scan of a finished job, and memory over many inputs.

    python benchmarks/jobs_memory.py scan [--entries 1000000] [--shard 1000] [--folder FOLDER]
    python benchmarks/jobs_memory.py run [--entries 100000] [--model MODEL.onnx --imgsz 32] [--folder FOLDER]

`scan` writes the folder of a finished job (plan, manifest, a file per shard), and starts the same job again in a new
process, which finds nothing to do: seconds, CPU seconds and largest memory of that process. `run` computes a job over
images of 32 pixels, with a network or, without `--model`, with made detections, and prints the memory of driver and
worker (PSS) at each tenth.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from jobs_ray import descendants, pss

OPENER = "jobs_ray:MadePredictor"


def made_entries(count: int) -> Iterator[object]:
    from yolopose.jobs.entries import Entry

    for number in range(count):
        yield Entry(f"s3://bucket/images/{number // 10_000:04d}/{number:09d}.jpg")


def write_finished(folder: Path, entries: int, shard: int) -> None:
    """Write the folder of a finished job; its files of rows hold one byte."""
    from yolopose.jobs.manifest import Manifest, Record, shard_name
    from yolopose.jobs.plan import Job, add_inputs
    from yolopose.jobs.storage import LocalStorage

    model = folder / "made.onnx"
    model.write_bytes(b"made")
    storage = LocalStorage(folder / "job")
    digest = hashlib.sha256(b"made").hexdigest()
    job = Job(source="made", model=str(model), model_sha256=digest, options={}, shard=shard)
    job = add_inputs(storage, job, made_entries(entries))
    rows = folder / "job/rows"
    rows.mkdir()
    lines = []
    for number in range(job.shards):
        (folder / "job" / shard_name(number)).write_bytes(b"x")
        lines.append(json.dumps(asdict(Record(number, min(shard, entries), 0, 1, digest))) + "\n")
    manifest = folder / "job/manifest"
    manifest.mkdir()
    per_file = storage.records_per_file
    for number, start in enumerate(range(0, len(lines), per_file)):
        (manifest / f"{number:06d}-task-0-of-1.jsonl").write_text("".join(lines[start : start + per_file]))
    assert sum(1 for _ in Manifest(storage, "").read()) == job.shards


def scan(folder: Path, entries: int, shard: int) -> None:
    start = time.monotonic()
    write_finished(folder, entries, shard)
    print(f"wrote the job in {time.monotonic() - start:.1f} s", flush=True)
    start = time.monotonic()
    command = [sys.executable, "-m", "yolopose", "batch", f"output={folder / 'job'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - start
    assert status == 0
    assert "0 shards computed" in output, output
    cpu = usage.ru_utime + usage.ru_stime
    figures = {"entries": entries, "shards": -(-entries // shard), "seconds": round(seconds, 2), "cpu_s": round(cpu, 2)}
    print(json.dumps({**figures, "peak_mb": round(usage.ru_maxrss / 1024)}))


def run(folder: Path, entries: int, model: str | None, imgsz: int) -> None:
    from yolopose.jobs import job_status

    options = {"output": str(folder / "job"), "shard": 500, "workers": 1, "threads": 1, "imgsz": imgsz, "conf": 0.05}
    if model is None:
        (folder / "made.onnx").write_bytes(b"made")
        names = folder / "list.txt"
        names.write_text("".join(f"s3://bucket/{number:09d}.jpg\n" for number in range(entries)))
        options |= {"model": str(folder / "made.onnx"), "source": str(names)}
    else:
        image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "image.jpg"), image)
        names = folder / "list.txt"
        names.write_text(f"{folder / 'image.jpg'}\n" * entries)
        options |= {"model": model, "source": str(names)}
    code = (
        "import sys; from yolopose.config import check_options; from yolopose.jobs import run_checked\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"run_checked(check_options('batch', {options!r}){'' if model else f', {OPENER!r}'})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    next_report = entries // 10
    peak = [0.0, 0.0]
    rows = folder / "job/rows"
    while process.poll() is None:
        time.sleep(1)
        memory = [pss(process.pid) / 1e6, sum(map(pss, descendants(process.pid))) / 1e6]
        peak = [max(pair) for pair in zip(peak, memory, strict=True)]
        done = 500 * len(list(rows.glob("part-*"))) if rows.is_dir() else 0
        if done >= next_report:
            print(f"{done} inputs: driver {memory[0]:.0f} MB, worker {memory[1]:.0f} MB", flush=True)
            next_report += entries // 10
    assert process.returncode == 0
    assert job_status(folder / "job").rows == entries
    print(json.dumps({"entries": entries, "driver_peak_mb": round(peak[0]), "worker_peak_mb": round(peak[1])}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("scan", "run"))
    parser.add_argument("--entries", type=int)
    parser.add_argument("--shard", type=int, default=1000)
    parser.add_argument("--model")
    parser.add_argument("--imgsz", type=int, default=32)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="jobs-memory-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if options.what == "scan":
        scan(folder, options.entries or 1_000_000, options.shard)
    else:
        run(folder, options.entries or 100_000, options.model, options.imgsz)


if __name__ == "__main__":
    main()
