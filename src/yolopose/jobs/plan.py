"""The plan of a job: its inputs in a fixed order, divided into shards, and the options that change its rows.

`job.json` is written last, so a job exists completely or not at all. Inputs are stored as Parquet files with one row
group for each shard: a worker reads its own shard only, and the process that distributes shards reads none of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any

from yolopose._version import __version__
from yolopose.base.errors import DataError, UsageError
from yolopose.jobs.entries import Entry
from yolopose.jobs.rows import require_pyarrow
from yolopose.jobs.storage import Storage, open_storage

JOB_FILE = "job.json"
_FORMAT = 1
_SHARDS_PER_FILE = 1000


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file of the plan.

    Attributes:
        name: relative to the job folder.
        first: number of its first shard.
        shards: number of its shards.
        entries: number of its inputs.
    """

    name: str
    first: int
    shards: int
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job, as `job.json` stores it.

    Attributes:
        source: text of the source, for messages.
        model: path of the network when the job was started.
        model_sha256: its hash.
        options: the options that change predictions, by name.
        shard: images per shard.
        inputs: files of the plan.
        version: version of yolopose that started the job.
    """

    source: str
    model: str
    model_sha256: str
    options: dict[str, Any]
    shard: int
    inputs: list[InputFile] = field(default_factory=list[InputFile])
    version: str = __version__

    @property
    def shards(self) -> int:
        """Number of shards."""
        return sum(file.shards for file in self.inputs)

    @property
    def entries(self) -> int:
        """Number of inputs."""
        return sum(file.entries for file in self.inputs)

    @property
    def digest(self) -> str:
        """SHA-256 of everything except the inputs that decides on the contents of rows."""
        values = json.dumps([self.model_sha256, self.options], sort_keys=True)
        return hashlib.sha256(values.encode()).hexdigest()


def read_job(storage: Storage) -> Job | None:
    """Return the job of a folder; None if it has none.

    Raises:
        DataError: `job.json` is not that of a job of this version.
    """
    from yolopose.base.records import JobPlan, check_record, plain_values  # costs start-up time

    data = storage.read(JOB_FILE)
    if data is None:
        return None
    try:
        plan = check_record(json.loads(data), JobPlan, "it does not hold a plan", DataError)
        if plan.format != _FORMAT:
            raise ValueError("it has another format")
        files = [InputFile(**plain_values(file)) for file in plan.inputs]
        values = {key: getattr(plan, key) for key in plan.__struct_fields__ if key not in ("format", "inputs")}
        return Job(**values, inputs=files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{storage.path(JOB_FILE)} is damaged or of another version of yolopose ({error}). Continue the job with "
            "the version that started it, or choose another output folder."
        ) from error


def write_job(storage: Storage, job: Job) -> None:
    """Store a job; an older one is replaced atomically.

    Raises:
        OutputError: it cannot be written.
    """
    storage.write(JOB_FILE, json.dumps({"format": _FORMAT, **asdict(job)}, indent=1).encode())


def add_inputs(storage: Storage, job: Job, entries: Iterable[Entry]) -> Job:
    """Append inputs to the plan of a job, and store it.

    Args:
        storage: the job folder.
        job: the job, with or without inputs.
        entries: inputs, consumed one by one; each video is a shard of its own.

    Raises:
        OutputError: the plan cannot be written.
    """
    files = list(job.inputs)
    shards = _divide(entries, job.shard)
    for shard in shards:
        files.append(_write_inputs(storage, sum(file.shards for file in files), shard, shards))
    job = replace(job, inputs=files)
    write_job(storage, job)
    return job


def _divide(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """Yield shards of up to `size` images of one kind in a row, or one video."""
    shard: list[Entry] = []
    for entry in entries:
        if shard and (
            entry.is_video or len(shard) == size or (entry.container is None) != (shard[0].container is None)
        ):
            yield shard
            shard = []
        shard.append(entry)
        if entry.is_video:
            yield shard
            shard = []
    if shard:
        yield shard


def _write_inputs(storage: Storage, first: int, shard: list[Entry], following: Iterator[list[Entry]]) -> InputFile:
    """Write a shard and up to 999 following ones to a file of the plan."""
    arrow = require_pyarrow()
    name = f"inputs/inputs-{first:08d}.parquet"
    total = 0
    count = 0
    current: list[Entry] | None = shard
    with storage.new_file(name) as file:
        writer = arrow.parquet.ParquetWriter(file, _schema(), compression="zstd")
        while current is not None:
            columns = [
                arrow.array([entry.path.encode("utf-8", "surrogateescape") for entry in current], arrow.binary()),
                arrow.array([entry.is_video for entry in current]),
                arrow.array([entry.container for entry in current], arrow.string()),
                arrow.array([entry.row for entry in current], arrow.int64()),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=_schema()), row_group_size=max(len(current), 1))
            total += len(current)
            count += 1
            current = next(following, None) if count < _SHARDS_PER_FILE else None
        writer.close()
    return InputFile(name, first, count, total)


def _schema() -> Any:
    arrow = require_pyarrow()
    return arrow.schema(
        [
            ("path", arrow.binary()),  # names of files need not be UTF-8
            ("is_video", arrow.bool_()),
            ("container", arrow.string()),
            ("row", arrow.int64()),
        ]
    )


def read_shard(output: str, job: Job, shard: int) -> list[Entry]:
    """Return the inputs of a shard.

    Args:
        output: path or URL of the job folder.
        job: its job.
        shard: number of the shard.
    """
    file = next(file for file in job.inputs if file.first <= shard < file.first + file.shards)
    table = _open_inputs(output, file.name).read_row_group(shard - file.first)
    return _to_entries(table)


def read_entries(output: str, job: Job) -> Iterator[Entry]:
    """Yield all inputs of a job in order."""
    for file in job.inputs:
        for shard in range(file.first, file.first + file.shards):
            yield from read_shard(output, job, shard)


def _to_entries(table: Any) -> list[Entry]:
    columns = (table.column(name).to_pylist() for name in ("path", "is_video", "container", "row"))
    return [
        Entry(path.decode("utf-8", "surrogateescape"), is_video, container, row)
        for path, is_video, container, row in zip(*columns, strict=True)
    ]


@lru_cache(maxsize=2)
def _open_inputs(output: str, name: str) -> Any:
    return require_pyarrow().parquet.ParquetFile(open_storage(output).open(name))


def inputs_digest(entries: Iterable[Entry]) -> str:
    """Return the SHA-256 of the paths of inputs."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(entry.path.encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def require_same(job: Job, new: Job, output: str) -> None:
    """Check that a call continues the job that the folder contains.

    Raises:
        UsageError: the network or an option that changes predictions differs.
    """
    names = sorted({*job.options, *new.options})
    differing = [
        f"{name}={new.options.get(name)!r} instead of {job.options.get(name)!r}"
        for name in names
        if job.options.get(name) != new.options.get(name)
    ]
    if job.model_sha256 != new.model_sha256:
        differing.append(f"another network ({new.model} instead of {job.model})")
    if differing:
        raise UsageError(
            f"{output} holds a job with other values: {'; '.join(differing)}. Give the same ones to continue it, or "
            "another output folder for a new job."
        )
    if new.source and new.source != job.source:
        raise UsageError(
            f"{output} holds a job over {job.source}, not {new.source}. Omit source= to continue it, or give another "
            "output folder for a new job."
        )


def new_entries(output: str, job: Job, entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries that are not inputs of a job yet; needs memory for 16 bytes of hash per input and overhead."""

    def key(entry: Entry) -> bytes:
        return hashlib.blake2b(entry.path.encode("utf-8", "surrogateescape"), digest_size=16).digest()

    with closing(read_entries(output, job)) as existing:  # pyright: ignore[reportArgumentType]
        known = {key(entry) for entry in existing}
    return (entry for entry in entries if key(entry) not in known)
