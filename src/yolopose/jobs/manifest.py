"""The manifest of a job: one line of JSON for each finished shard, appended when its file is complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from yolopose.jobs.storage import Storage

FOLDER = "manifest"
ROWS_FOLDER = "rows"
_SUFFIX = ".jsonl"


@dataclass(frozen=True, slots=True)
class Record:
    """A finished shard.

    Attributes:
        shard: its number.
        rows: number of rows.
        errors: number of rows with an error.
        bytes: size of its file.
        sha256: hash of its file.
    """

    shard: int
    rows: int
    errors: int
    bytes: int
    sha256: str


def shard_name(shard: int) -> str:
    """Return the file of a shard, relative to the job folder."""
    return f"{ROWS_FOLDER}/part-{shard:08d}.parquet"


def shard_number(name: str) -> int | None:
    """Return the number of a shard from its file name without folder; None for other files."""
    number = name.removeprefix("part-").removesuffix(".parquet")
    return int(number) if name.startswith("part-") and name.endswith(".parquet") and number.isdigit() else None


class FinishedShards:
    """Sizes and hashes of finished shards, in 56 bytes for each shard of the job.

    Args:
        count: number of shards of the job.
    """

    def __init__(self, count: int) -> None:
        self.bytes = np.full(count, -1, np.int64)
        self.rows = np.zeros(count, np.int64)
        self.errors = np.zeros(count, np.int64)
        self._hashes = np.zeros((count, 32), np.uint8)

    def __len__(self) -> int:
        return int(np.count_nonzero(self.bytes >= 0))

    def __contains__(self, shard: int) -> bool:
        return bool(self.bytes[shard] >= 0)

    def add(self, record: Record) -> None:
        """Add a shard; a later record of the same shard replaces it."""
        if 0 <= record.shard < len(self.bytes):
            self.bytes[record.shard] = record.bytes
            self.rows[record.shard] = record.rows
            self.errors[record.shard] = record.errors
            self._hashes[record.shard] = np.frombuffer(bytes.fromhex(record.sha256), np.uint8)

    def sha256(self, shard: int) -> str:
        """Return the recorded hash of a finished shard, hexadecimal."""
        return self._hashes[shard].tobytes().hex()

    def remove(self, shard: int) -> None:
        """Remove a shard, so that it is computed again."""
        self.bytes[shard] = -1
        self.rows[shard] = 0
        self.errors[shard] = 0


class Manifest:
    """Reads and extends the manifest of a job.

    Args:
        storage: the job folder.
        writer: name of the process that appends, unique among those that run at the same time.
    """

    def __init__(self, storage: Storage, writer: str) -> None:
        self._storage = storage
        self._writer = writer
        self._number = self._count = 0

    def append(self, record: Record) -> None:
        """Record a finished shard, durably.

        Raises:
            OutputError: it cannot be written.
        """
        if self._count == 0:
            self._number = self._next_number()
        elif self._count % self._storage.records_per_file == 0:
            self._number += 1
        name = f"{FOLDER}/{self._number:06d}-{self._writer}{_SUFFIX}"
        self._storage.append(name, json.dumps(asdict(record)))
        self._count += 1

    def _next_number(self) -> int:
        """Return a number after those of all earlier files, so that their names sort by age."""
        numbers = [name.partition("-")[0] for name, _ in self._storage.sizes(FOLDER)]
        return max((int(number) for number in numbers if number.isdigit()), default=-1) + 1

    def read(self) -> Iterator[Record]:
        """Yield all records, those of later runs last; incomplete lines are skipped."""
        for name in sorted(name for name, _ in self._storage.sizes(FOLDER) if name.endswith(_SUFFIX)):
            for line in (self._storage.read(f"{FOLDER}/{name}") or b"").splitlines():
                record = _parse(line)
                if record is not None:
                    yield record


def _parse(line: bytes) -> Record | None:
    """Return the record of a line; None for a line that was cut off when its writer was killed."""
    try:
        values: Any = json.loads(line)
        record = Record(**values)
        return record if len(bytes.fromhex(record.sha256)) == 32 else None
    except (ValueError, TypeError):
        return None
