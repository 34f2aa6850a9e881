"""What a job folder contains: finished shards, complete files without a record, files that killed processes left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose.base.log import LOGGER
from yolopose.jobs.manifest import ROWS_FOLDER, FinishedShards, Manifest, Record, shard_name, shard_number
from yolopose.jobs.plan import Job, inputs_digest, read_shard
from yolopose.jobs.rows import read_info, require_pyarrow
from yolopose.jobs.storage import HashedFile, LocalStorage, Storage


@dataclass(frozen=True, slots=True)
class Scan:
    """What a job folder contains.

    Attributes:
        finished: the finished shards.
        unrecorded: records of complete files that lack one, because a process was killed between both steps.
    """

    finished: FinishedShards
    unrecorded: list[Record]


def scan_finished(storage: Storage, job: Job, *, verify: bool = False, retry_errors: bool = False) -> Scan:
    """Find out which shards are finished, from the manifest and the files.

    Args:
        storage: the job folder.
        job: its job.
        verify: compare the hashes of the files, not only their sizes.
        retry_errors: treat shards that have rows with an error as unfinished.
    """
    finished = FinishedShards(job.shards)
    for record in Manifest(storage, "").read():
        finished.add(record)
    present = np.full(job.shards, -1, np.int64)
    for name, size in storage.sizes(ROWS_FOLDER):
        shard = shard_number(name)
        if shard is not None and shard < job.shards:
            present[shard] = size
    unrecorded: list[Record] = []
    for shard in np.flatnonzero(present != finished.bytes).tolist():
        finished.remove(shard)
        record = _read_record(storage, job, shard) if present[shard] >= 0 else None
        if record is not None:
            unrecorded.append(record)
            finished.add(record)
    for shard in np.flatnonzero(finished.bytes >= 0).tolist() if verify else ():
        if _hash_file(storage, shard_name(shard)).sha256 != finished.sha256(shard):
            LOGGER.warning(f"{storage.path(shard_name(shard))} was changed or damaged: it is computed again.")
            finished.remove(shard)
    if retry_errors:
        for shard in np.flatnonzero(finished.errors > 0).tolist():
            finished.remove(shard)
        unrecorded = [record for record in unrecorded if record.shard in finished]
    return Scan(finished, unrecorded)


def _read_record(storage: Storage, job: Job, shard: int) -> Record | None:
    """Return the record of a complete file without a valid one; None if the file is not that of this shard."""
    arrow = require_pyarrow()
    name = shard_name(shard)
    try:
        with storage.open(name) as file:
            opened = arrow.parquet.ParquetFile(file)
            info = read_info(opened)
            if info.get("job") != job.digest or info.get("shard") != shard:
                return None
            if info.get("inputs") != inputs_digest(read_shard(storage.path("").rstrip("/"), job, shard)):
                return None
            rows = opened.metadata.num_rows
            errors = rows - sum(batch.column(0).null_count for batch in opened.iter_batches(columns=["error"]))
        content = _hash_file(storage, name)
    except (OSError, ValueError, arrow.ArrowException):
        return None
    return Record(shard, rows, errors, content.size, content.sha256)


def _hash_file(storage: Storage, name: str) -> HashedFile:
    """Return size and hash of a stored file."""
    content = HashedFile()
    with storage.open(name) as file:
        while block := file.read(1 << 20):
            content.write(block)
    return content


def remove_unfinished(storage: Storage, shards: npt.NDArray[np.int64]) -> None:
    """Remove temporary files that killed processes left for these shards, which nobody may be writing now.

    Args:
        storage: the job folder.
        shards: numbers of shards; those of other tasks may be in work.
    """
    if not isinstance(storage, LocalStorage):
        return
    for name, _ in storage.sizes(ROWS_FOLDER):
        number = name[6:14]
        if name.startswith(".part-") and number.isdigit() and int(number) in shards:
            storage.remove(f"{ROWS_FOLDER}/{name}")
