"""`run_job`: predict any number of images and videos; a job that was stopped continues where it was."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import NotFoundError, UsageError
from yolopose.base.files import make_folder
from yolopose.base.log import LOGGER, quiet
from yolopose.base.progress import format_duration
from yolopose.config import BatchOptions, CheckedOptions, check_options, make_options, parse_devices
from yolopose.jobs.entries import list_entries
from yolopose.jobs.local import LocalPool, WorkerPool, divide_cores
from yolopose.jobs.manifest import ROWS_FOLDER, FinishedShards, Manifest, Record
from yolopose.jobs.network_file import file_sha256
from yolopose.jobs.plan import Job, add_inputs, new_entries, read_job, require_same
from yolopose.jobs.results import JobResult, job_result
from yolopose.jobs.rows import require_pyarrow
from yolopose.jobs.scan import remove_unfinished, scan_finished
from yolopose.jobs.scheduler import JobError, Scheduler
from yolopose.jobs.storage import LocalStorage, Storage, is_url, open_storage
from yolopose.jobs.worker import DEFAULT_OPENER, WorkerConfig

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from yolopose.config.kwargs import BatchKwargs

DEFAULT_MODEL = "yolo11n-pose.pt"
_RESULT_OPTIONS = (
    "imgsz", "conf", "iou", "max_det", "classes", "agnostic_nms", "half", "runtime", "augment", "end2end", "nms",
    "detector", "given_boxes", "batch", "vid_stride", "fast_decode", "track", "tracker", "max_instances", "fps",
)  # fmt: skip
"""Options that change rows; a job cannot continue with other values."""


def run_job(source: Any = None, output: str | Path | None = None, **options: Unpack[BatchKwargs]) -> JobResult:
    """Predict any number of images and videos, and write one Parquet row per image or frame.

    Each finished file of rows is recorded, so that the same call continues a job that was stopped in any way.

    Args:
        source: folder (with its subfolders), glob pattern, image, video, list (.txt, .csv) or Parquet file with paths
            or images; local or a URL of fsspec such as `s3://…`; or an iterable of these. None continues the job.
        output: folder of the job, or its URL.
        **options: `model`, `engine`, `conf`, `track`, `shard`, `workers`, …: `yolo help batch` lists them.

    Returns:
        The state of the job.

    Raises:
        UsageError: an impossible option, or the folder holds another job.
        NotFoundError: the source or the network does not exist.
        JobError: shards could not be computed; the same call tries them again.
        OutputError: a file cannot be written.
        DependencyError: a package for the engine or the storage is not installed.
        KeyboardInterrupt: the job was interrupted; the same call continues it.

    Example:
        >>> from yolopose.jobs import run_job
        >>> run_job("photos/", "results/", model="yolo11n-pose.onnx")  # doctest: +SKIP
    """
    given = check_options("batch", {**options, "source": source, "output": output})
    return run_checked(given)


def run_checked(given: CheckedOptions, opener: str = DEFAULT_OPENER) -> JobResult:
    """Run a job with checked options; see `run_job`.

    Args:
        given: the options that were given.
        opener: see `WorkerConfig`.
    """
    options = cast(BatchOptions, make_options("batch", given))
    if options.output is None:
        raise UsageError("A job needs a folder for its results: give output=results/ (or a URL such as s3://…).")
    index, count = _parse_task(options.task)
    start = time.monotonic()
    storage = open_storage(options.output)
    with quiet(not options.verbose), _exclusive(storage, f"task-{index}-of-{count}"):
        job = _open_job(storage, given, options)
        scan = scan_finished(storage, job, verify=options.verify, retry_errors=options.retry_errors)
        manifest = Manifest(storage, f"task-{index}-of-{count}")
        for record in scan.unrecorded:
            manifest.append(record)
        finished = scan.finished
        own = np.arange(index, job.shards, count)
        todo = own[finished.bytes[own] < 0]
        _log_start(job, len(finished), len(todo), count)
        failed: dict[int, str] = {}
        remove_unfinished(storage, own)
        if len(todo):
            failed = _compute(job, storage, options, opener, todo, manifest, finished)
        result = job_result(storage, job, finished, len(todo) - len(failed), time.monotonic() - start)
        _log_end(result, failed)
        return result


def _compute(
    job: Job,
    storage: Storage,
    options: BatchOptions,
    opener: str,
    todo: npt.NDArray[np.int64],
    manifest: Manifest,
    finished: FinishedShards,
) -> dict[int, str]:
    """Compute shards and record them; return the errors of those that failed, by number."""

    def add_record(record: Record) -> None:
        manifest.append(record)
        finished.add(record)

    pool = _make_pool(job, storage, options, opener, len(todo))
    scheduler = Scheduler(pool, (int(shard) for shard in todo), len(todo), add_record)
    try:
        scheduler.run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"Interrupted: {len(finished)} of {job.shards} shards are finished. The same command, or yolo batch "
            f"output={options.output}, continues."
        ) from None
    finally:
        remove_unfinished(storage, todo)  # of workers that died
    return scheduler.failed


# -- start -----------------------------------------------------------------------------------------------------------


def _parse_task(text: str | None) -> tuple[int, int]:
    """Return (index, count) of `task=index/count`.

    Raises:
        UsageError: it is not such a text.
    """
    if text is None:
        return 0, 1
    index, _, count = text.partition("/")
    if index.isdigit() and count.isdigit() and int(index) < int(count):
        return int(index), int(count)
    raise UsageError(f"task={text} is not possible: give INDEX/COUNT with INDEX from 0, such as task=3/16.")


@contextmanager
def _exclusive(storage: Storage, name: str) -> Generator[None, None, None]:
    """Hold the lock of a task; object stores have none.

    Raises:
        UsageError: another process holds it.
    """
    if not isinstance(storage, LocalStorage):
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(make_folder(storage.folder) / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"Another process is working on the job in {storage.folder}. Wait for it, end it, or divide the job among "
            "processes with task=0/2, task=1/2."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _open_job(storage: Storage, given: CheckedOptions, options: BatchOptions) -> Job:
    """Return the job of the folder, or plan a new one; concurrent tasks of a local folder wait for each other."""
    require_pyarrow()
    if not isinstance(storage, LocalStorage):
        return _plan(storage, given, options)
    from filelock import FileLock

    with FileLock(storage.folder / ".plan.lock"):
        return _plan(storage, given, options)


def _plan(storage: Storage, given: CheckedOptions, options: BatchOptions) -> Job:
    job = read_job(storage)
    output = str(options.output)
    if options.source is None:
        if job is None:
            raise UsageError(f"{output} does not hold a job: give source=images/ to start one.")
        if options.update:
            raise UsageError("update=True lists the source again: give source=, as in the call that started the job.")
        _require_same_options(job, given, output)
        return job
    new = _new_job(given, options, job)
    if job is None:
        LOGGER.info(f"Listing {new.source} …")
        return add_inputs(storage, new, list_entries(options.source))
    require_same(job, new, output)
    if options.update:
        before = job.entries
        job = add_inputs(storage, job, new_entries(output, job, list_entries(options.source)))
        LOGGER.info(f"{job.entries - before} inputs are new.")
    return job


def _new_job(given: CheckedOptions, options: BatchOptions, job: Job | None) -> Job:
    model = _find_model(given.get("model") or (job.model if job else None))
    return Job(
        source=_describe(options.source),
        model=model,
        model_sha256=file_sha256(model),
        options=_result_options(given),
        shard=options.shard,
    )


def _require_same_options(job: Job, given: CheckedOptions, output: str) -> None:
    """Check the options of a call without a source: those that it gives must be those of the job."""
    options = {**job.options, **_result_options(given)}
    sha256 = file_sha256(_find_model(given["model"])) if given.get("model") else job.model_sha256
    require_same(job, replace(job, options=options, model_sha256=sha256, source=""), output)


def _result_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given options that change rows, as JSON stores them."""
    values = {name: given[name] for name in _RESULT_OPTIONS if given.get(name) is not None}
    for name in ("tracker", "given_boxes", "detector"):
        value = values.get(name)
        if isinstance(value, (str, os.PathLike)):
            path = os.fsdecode(cast("str", value))
            values[name] = os.path.abspath(path) if os.path.exists(path) else path
    return json.loads(json.dumps(values))


def _find_model(model: str | None) -> str:
    from yolopose.model.foreign_models import find_network

    if model is None:
        LOGGER.info(f"No model= given: using {DEFAULT_MODEL}.")
        model = DEFAULT_MODEL
    if Path(model).suffix.lower() in (".yaml", ".yml"):
        raise UsageError(f"model={model} is a new network without weights: give trained weights or an exported file.")
    return os.path.abspath(find_network(model))


def _describe(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        text = os.fsdecode(cast("str", source))
        return text if is_url(text) else os.path.abspath(os.path.expanduser(text))
    return "a list of paths"


def _make_pool(job: Job, storage: Storage, options: BatchOptions, opener: str, shards: int) -> WorkerPool:
    output = str(options.output) if is_url(str(options.output)) else storage.path("").rstrip("/")
    devices: Sequence[str] = parse_devices(options.device)
    config = WorkerConfig(output, _current_model(job), devices[0] if devices else None, opener)
    if options.engine == "ray":
        from yolopose.jobs.ray_pool import RayPool

        if len(devices) > 1:
            raise UsageError("engine=ray distributes the GPUs itself: omit device, and give workers= and gpus=.")
        return RayPool(config, job.model_sha256, options.workers, options.threads, options.gpus, options.address)
    if options.address is not None or options.gpus is not None:
        raise UsageError("address= and gpus= belong to engine=ray.")
    workers = len(devices) if len(devices) > 1 and options.workers is None else options.workers
    workers, threads = divide_cores(workers, options.threads)
    configs = [replace(config, device=devices[index % len(devices)] if devices else None) for index in range(workers)]
    return LocalPool(configs[:shards], threads)


def _current_model(job: Job) -> str:
    """Return the path of the network, which must be the one that the job was started with.

    Raises:
        NotFoundError: it does not exist any more.
        UsageError: it has changed.
    """
    try:
        sha256 = file_sha256(job.model)
    except OSError as error:
        raise NotFoundError(
            f"The network {job.model}, with which the job was started, cannot be read ({error.strerror or error}). "
            "Restore it."
        ) from error
    if sha256 != job.model_sha256:
        raise UsageError(f"The network {job.model} has changed since the job was started. Start a new job with it.")
    return job.model


# -- end -------------------------------------------------------------------------------------------------------------


def _log_start(job: Job, finished: int, todo: int, count: int) -> None:
    share = f" {todo} of the others are in this task." if count > 1 else ""
    state = f"{finished} are finished.{share}" if finished or share else ""
    LOGGER.info(f"{_count(job.entries, 'input')} in {_count(job.shards, 'shard')}. {state}".rstrip())


def _log_end(result: JobResult, failed: Mapping[int, str]) -> None:
    """Log the summary.

    Raises:
        JobError: shards failed.
    """
    if failed:
        shard, message = next(iter(failed.items()))
        raise JobError(
            f"{len(failed)} of {result.shards} shards could not be computed; the others are finished. Shard {shard}: "
            f"{message} The same command tries them again."
        )
    errors = f", {result.errors} of them with an error (column `error`)" if result.errors else ""
    speed = f" in {format_duration(result.seconds)}" if result.computed else ""
    LOGGER.info(
        f"{_count(result.computed, 'shard')} computed{speed}. {result.output}/{ROWS_FOLDER} has "
        f"{_count(result.rows, 'row')}{errors}."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
