"""State and rows of a job folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.base.errors import DataError, NotFoundError
from yolopose.jobs.manifest import FinishedShards, shard_name
from yolopose.jobs.plan import Job, read_job
from yolopose.jobs.rows import read_file, require_pyarrow
from yolopose.jobs.scan import scan_finished
from yolopose.jobs.storage import Storage, open_storage


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """State of a job after `run_job`.

    Attributes:
        output: path or URL of the job folder; the rows are in its subfolder `rows`.
        entries: number of inputs.
        shards: number of shards.
        finished: number of finished shards; fewer than `shards` while other tasks of a job array still run.
        rows: number of rows in finished shards.
        errors: number of rows with an error.
        computed: number of shards that this call computed.
        seconds: duration of this call.

    Examples:
        >>> from yolopose.jobs import JobResult
        >>> result = JobResult(output="poses", entries=100, shards=4, finished=4, rows=250, errors=1)
        >>> result.finished == result.shards, result.computed
        (True, 0)
    """

    output: str
    entries: int
    shards: int
    finished: int
    rows: int
    errors: int
    computed: int = 0
    seconds: float = 0.0


def job_result(storage: Storage, job: Job, finished: FinishedShards, computed: int, seconds: float) -> JobResult:
    """Return the state of a job.

    Args:
        storage: the job folder.
        job: its job.
        finished: its finished shards.
        computed: number of shards that a call computed.
        seconds: its duration.
    """
    return JobResult(
        output=storage.path("").rstrip("/"),
        entries=job.entries,
        shards=job.shards,
        finished=len(finished),
        rows=int(finished.rows.sum()),
        errors=int(finished.errors.sum()),
        computed=computed,
        seconds=seconds,
    )


def job_status(output: str | Path) -> JobResult:
    """Return how far a job is, without changing anything.

    Args:
        output: folder of the job, or its URL.

    Raises:
        NotFoundError: the folder does not hold a job.
    """
    storage = open_storage(output)
    job = read_job(storage)
    if job is None:
        raise NotFoundError(f"{output} does not hold a job (it has no job.json).")
    return job_result(storage, job, scan_finished(storage, job).finished, 0, 0.0)


def read_rows(output: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a job in the order of its inputs, those of finished shards only.

    Args:
        output: folder of the job, or its URL.

    Yields:
        The columns of `docs/batch-jobs.md` by name; `boxes` as (N, 4), `scores`, `classes` and `ids` as (N,),
        `keypoints` as (N, K, D) arrays; None where a row has no value.

    Raises:
        NotFoundError: the folder does not hold a job.
        DataError: a file is damaged.
    """
    storage = open_storage(output)
    job = read_job(storage)
    if job is None:
        raise NotFoundError(f"{output} does not hold a job (it has no job.json).")
    arrow = require_pyarrow()
    for shard in np.flatnonzero(scan_finished(storage, job).finished.bytes >= 0).tolist():
        name = shard_name(shard)
        try:
            with storage.open(name) as file:
                yield from read_file(file)
        except (OSError, ValueError, arrow.ArrowException) as error:
            raise DataError(
                f"{storage.path(name)} cannot be read ({error}). Run the job again with verify=True."
            ) from error
