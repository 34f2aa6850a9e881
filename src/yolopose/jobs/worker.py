"""Compute shards: the class that all engines use, and the process of engine=local."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from typing import Any

from yolopose.base.errors import YoloposeError
from yolopose.base.isolation import default_errors
from yolopose.base.log import LOGGER
from yolopose.base.memory import process_memory
from yolopose.jobs.entries import Entry
from yolopose.jobs.manifest import Record, shard_name
from yolopose.jobs.plan import Job, inputs_digest, read_job, read_shard
from yolopose.jobs.predictor import Predictor, YoloPredictor, predict_entries, predict_singly
from yolopose.jobs.rows import RowWriter, ShardInfo
from yolopose.jobs.storage import Storage, open_storage
from yolopose.results import Results

# An input that was being predicted twice when the process died is skipped: probably it kills the process.
_MAX_DEATHS = 2
_SUSPECTS = "suspects"
DEFAULT_OPENER = "yolopose.jobs.predictor:YoloPredictor"


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker needs to start.

    Attributes:
        output: path or URL of the job folder.
        model: path of the network.
        device: device of the network; None for the best one.
        opener: `module:function` that opens the predictor, of (model, options, device).
    """

    output: str
    model: str
    device: str | None = None
    opener: str = DEFAULT_OPENER


class ShardWorker:
    """Computes shards of one job.

    Args:
        config: job, network and device.

    Raises:
        YoloposeError: the network cannot be opened.
    """

    def __init__(self, config: WorkerConfig) -> None:
        LOGGER.setLevel(logging.CRITICAL)  # errors of inputs are rows
        job = read_job(open_storage(config.output))
        assert job is not None  # noqa: S101  # written before the first worker starts
        self._storage: Storage = open_storage(config.output)
        self._config = config
        self._job: Job = job
        module, _, name = config.opener.partition(":")
        opener: Callable[..., Predictor] = YoloPredictor
        if config.opener != DEFAULT_OPENER:
            opener = getattr(import_module(module), name)
        self._predictor = opener(config.model, job.options, config.device)
        self.device = self._predictor.device

    def compute(self, shard: int, careful: bool = False) -> dict[str, Any]:
        """Compute a shard and store its file.

        Args:
            shard: its number.
            careful: predict one input at a time and note which, since the process died in this shard before.

        Returns:
            Message for the process that distributes shards: the record, or the error.
        """
        try:
            return {"event": "done", "shard": shard, "record": asdict(self._compute(shard, careful))}
        except Exception as error:  # reported by the process that distributes shards
            known = isinstance(error, YoloposeError)
            text = str(error) if known else f"{type(error).__name__}: {error}"
            return {"event": "failed", "shard": shard, "kind": type(error).__name__ if known else "", "message": text}

    @default_errors
    def _compute(self, shard: int, careful: bool) -> Record:
        entries = read_shard(self._config.output, self._job, shard)
        name = shard_name(shard)
        rows = self._predict_careful(shard, entries) if careful else predict_entries(self._predictor, entries)
        with self._storage.new_file(name) as file:
            with RowWriter(file, self._info(shard, entries)) as writer:
                for entry, result in rows:
                    if isinstance(result, str):
                        writer.add_error(entry.path, result)
                    else:
                        writer.add(entry.path, result)
            record = Record(shard, writer.rows, writer.errors, file.size, file.sha256)
        if careful:
            self._storage.remove(f"{_SUSPECTS}/{shard}.json")
        return record

    def _info(self, shard: int, entries: list[Entry]) -> ShardInfo:
        return ShardInfo(
            job=self._job.digest,
            shard=shard,
            inputs=inputs_digest(entries),
            model=os.path.basename(self._job.model),
            model_sha256=self._job.model_sha256,
            classes=self._predictor.classes,
            keypoints=self._predictor.keypoints,
            kpt_shape=self._predictor.kpt_shape,
        )

    def _predict_careful(self, shard: int, entries: list[Entry]) -> Iterator[tuple[Entry, Results | str]]:
        """Predict inputs one by one; skip those during which the process has died repeatedly."""
        name = f"{_SUSPECTS}/{shard}.json"
        state: dict[str, Any] = json.loads(self._storage.read(name) or b'{"position": null, "deaths": {}}')
        deaths: dict[str, int] = state["deaths"]
        if state["position"] is not None:
            key = str(state["position"])
            deaths[key] = deaths.get(key, 0) + 1
        for position, entry in enumerate(entries):
            if deaths.get(str(position), 0) >= _MAX_DEATHS:
                yield entry, "The process that predicted this input died each time, without an error message."
                continue
            self._storage.write(name, json.dumps({"position": position, "deaths": deaths}).encode())
            if entry.is_video:
                yield from predict_entries(self._predictor, [entry])
            else:
                yield entry, predict_singly(self._predictor, entry)


# -- process of engine=local -------------------------------------------------------------------------------------------


def main() -> None:
    """Run the process of a worker: messages are lines of JSON on standard input and output.

    The process ends when its standard input is closed, also by the death of the process that started it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the process that distributes shards ends this one
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print
    send = partial(_send, replies)
    lines = _read_lines()
    try:
        worker = ShardWorker(WorkerConfig(**json.loads(next(lines))))
    except Exception as error:
        known = isinstance(error, YoloposeError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        send({"event": "broken", "kind": type(error).__name__ if known else "", "message": text})
        return
    send({"event": "ready", "device": worker.device})
    for line in lines:
        send({**worker.compute(**json.loads(line)), "memory": process_memory()})


def _send(file: Any, message: dict[str, Any]) -> None:
    with suppress(BrokenPipeError):
        file.write(json.dumps(message) + "\n")
        file.flush()


def _read_lines() -> Iterator[str]:
    """Yield the lines of standard input; end the process at once when it is closed."""
    from queue import SimpleQueue

    queue: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            queue.put(line)
        os._exit(0)  # also in the middle of a shard, whose file is then absent

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield queue.get()
