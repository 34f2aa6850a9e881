"""Resuming an interrupted run of `track`: a log of its results, and the state of its tracks beside it.

A run folder contains `unfinished/` until its run ends. `results.jsonl` there has one line per result, with the exact
arrays. Every `save_period` results `state.json` is replaced, atomically: the options of the run, the number of results
it refers to, and the state of the trackers. A resumed run reads that many results from the log instead of computing
them, so that all its files are those of an uninterrupted run, and continues with the next image.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from io import BufferedRandom
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError, UsageError
from yolopose.base.files import expand_user, make_folder, output_error, remove_unfinished, write_text
from yolopose.base.log import LOGGER
from yolopose.config import TrackOptions
from yolopose.predict.sources.base import ImageRef
from yolopose.results import Frame, HostArray, Results
from yolopose.results.arrays import to_numpy
from yolopose.schema import PoseSpec

FOLDER = "unfinished"
STATE_FILE = "state.json"
LOG_FILE = "results.jsonl"
_FORMAT = 1
_HINT = "Start a new run: give source= without resume=."

MAY_CHANGE = frozenset({"device", "batch", "verbose", "show", "save_period", "stream_buffer"})
"""Options that a resumed run may change, since results do not depend on them."""


class HasState(Protocol):
    """What a recorder needs of the trackers."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfinishedRun:
    """The saved state of an interrupted run.

    Attributes:
        folder: the run folder.
        model: name or path of the network.
        digest: SHA-256 of its file; empty for a folder.
        source: what was tracked.
        directory: folder in which it was started, to which relative paths refer.
        options: options that differ from their defaults.
        count: number of results that the state refers to.
        log_size: size of the log after these results, bytes.
        last_video: index of the video of the last of them; None for an image.
        tracker: state of the trackers.
    """

    folder: Path
    model: str
    digest: str
    source: str | list[str]
    directory: str
    options: dict[str, Any]
    count: int
    log_size: int
    last_video: int | None
    tracker: dict[str, Any]

    def check_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of the resumed run.

        Args:
            given: options of the call that resumes it.

        Raises:
            UsageError: one would change the results.
        """
        defaults = TrackOptions()
        for name, value in given.items():
            before = self.options.get(name, getattr(defaults, name, None))
            if name in MAY_CHANGE or name in ("resume", "source") or _plain(value) == before:
                continue
            raise UsageError(
                f"{name}={value} is not possible with resume={self.folder}: that run has {name}={before}, and its "
                f"files must be as if it had not been interrupted. Omit {name}, or start a new run."
            )
        changed = {name: value for name, value in given.items() if name in MAY_CHANGE}
        return {**self.options, **changed}

    def check_model(self, model: str, digest: str) -> None:
        """Check that a network is that of the run.

        Raises:
            UsageError: it is another one.
        """
        before = Path(self.directory) / self.model
        if digest != self.digest or (not digest and Path(model).resolve() != before.resolve()):
            raise UsageError(
                f"The network {model} is not that of the run {self.folder}, {self.model}, or its file has changed "
                f"since. Use that network. {_HINT}"
            )

    def check_source(self, source: Any) -> None:
        """Check the source that a call gives beside `resume`, and that relative paths are still valid.

        Raises:
            UsageError: it is another source, or the current folder is another one.
        """
        if source is not None and plain_source(source) != self.source:
            raise UsageError(f"source={source} differs from that of the run to resume, {self.source}: omit source.")
        parts = [self.source] if isinstance(self.source, str) else self.source
        moved = [part for part in parts if not os.path.exists(part) and (Path(self.directory) / part).exists()]
        if moved:
            raise UsageError(
                f"The source {moved[0]} of the run {self.folder} is relative to {self.directory}: resume it in that "
                "folder."
            )


def read_unfinished(folder: str | Path) -> UnfinishedRun:
    """Read the saved state of an interrupted run.

    Args:
        folder: the run folder.

    Raises:
        UsageError: the folder does not contain the state of a run, or the state is damaged.
    """
    folder = expand_user(folder)
    file = folder / FOLDER / STATE_FILE
    try:
        state = json.loads(file.read_text("utf-8"))
    except OSError as error:
        reason = "it does not exist" if not folder.is_dir() else "it is finished, or was interrupted too early"
        raise UsageError(
            f"resume={folder}: nothing to resume in this folder: {reason} (no {file}). The state of a run that writes "
            "files is saved every save_period frames, except of live streams, trackers:NAME and persist=True. "
            f"{_HINT}"
        ) from error
    except ValueError as error:
        raise UsageError(f"{file} is damaged: it is not JSON ({error}). {_HINT}") from error
    names = {field.name for field in fields(UnfinishedRun)} - {"folder"}
    if not isinstance(state, dict) or state.get("format") != _FORMAT or not names <= set(state):
        raise UsageError(f"{file} is not the state of a run of track of this version. {_HINT}")
    return UnfinishedRun(folder=folder, **{name: state[name] for name in names})


def plain_source(source: Any) -> str | list[str] | None:
    """Return a source of paths as plain text; None for arrays, cameras and other sources that cannot be read again."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Sequence) and source and all(isinstance(part, str | Path) for part in source):
        return [str(part) for part in source]
    return None


def is_recordable(options: TrackOptions) -> bool:
    """Return whether a run with these options can be resumed: all of them are plain values, not arrays."""
    try:
        json.dumps([getattr(options, field.name) for field in fields(options)])
    except TypeError:
        return False
    return options.save_period > 0 and not options.persist


class RunRecorder:
    """Records a run of `track`, or replays the results of an interrupted one and continues to record it.

    Args:
        model: name or path of the network.
        digest: returns the SHA-256 of its file, empty for a folder; called when a state is saved.
        source: the source, as from `plain_source`.
        options: the options of the run.
        unfinished: the interrupted run that this one continues.
    """

    def __init__(
        self,
        model: str,
        digest: Callable[[], str],
        source: str | list[str],
        options: TrackOptions,
        unfinished: UnfinishedRun | None = None,
    ) -> None:
        self.unfinished = unfinished
        defaults = TrackOptions()
        values = {field.name: getattr(options, field.name) for field in fields(options)}
        changed = {name: _plain(value) for name, value in values.items() if value != getattr(defaults, name)}
        self._header = {
            "format": _FORMAT,
            "model": model,
            "source": source,
            "directory": os.getcwd() if unfinished is None else unfinished.directory,
            "options": {name: value for name, value in changed.items() if name not in ("source", "resume")},
        }
        self._digest = digest if unfinished is None else lambda: unfinished.digest
        self._period = options.save_period
        self._count = 0
        self._pending: list[Results] = []
        self._folder: Path | None = None
        self._log: BufferedRandom | None = None
        self._lock: Any = None
        self._has_state = unfinished is not None

    # -- recording -----------------------------------------------------------------------------------------------

    def add(self, result: Results, folder: Path | None, tracker: HasState) -> None:
        """Record the next result, and now and then the state of the trackers after it.

        Args:
            result: the result.
            folder: the run folder; None until the first file is written.
            tracker: the trackers.

        Raises:
            OutputError: it cannot be written.
        """
        self._pending.append(result)
        if folder is None:
            return
        log = self._log or self._open(folder)
        self._count += len(self._pending)
        lines = [json.dumps(_to_record(item)) for item in self._pending]
        self._pending.clear()
        try:
            log.write("".join(f"{line}\n" for line in lines).encode())
            log.flush()
            if self._period and self._count % self._period == 0:
                os.fsync(log.fileno())
                self._save(result, log.tell(), tracker)
        except OSError as error:
            raise output_error(self._files / LOG_FILE, error) from error

    def _save(self, result: Results, size: int, tracker: HasState) -> None:
        state = {
            **self._header,
            "digest": self._digest(),
            "count": self._count,
            "log_size": size,
            "last_video": None if result.frame is None else result.frame.video,
            "tracker": tracker.state_dict(),
        }
        write_text(self._files / STATE_FILE, json.dumps(state))
        self._has_state = True

    @property
    def _files(self) -> Path:
        assert self._folder is not None  # noqa: S101  # set by `_open`
        return self._folder / FOLDER

    def _open(self, folder: Path) -> BufferedRandom:
        """Open the log and lock the run, which another process may still be writing.

        Raises:
            UsageError: it is.
            OutputError: it cannot be written.
        """
        from filelock import FileLock, Timeout  # costs some 30 ms to import

        self._folder = folder
        make_folder(self._files)
        path = self._files / LOG_FILE
        try:
            self._lock = FileLock(self._files / "lock")
            self._lock.acquire(timeout=0)
            self._log = path.open("r+b" if self.unfinished else "w+b")
        except Timeout as error:
            raise UsageError(f"The run {folder} is not interrupted: another process is writing its files.") from error
        except OSError as error:
            raise output_error(path, error) from error
        return self._log

    def close(self, *, finished: bool) -> None:
        """Close the log; remove it at the end of the run, or if no state refers to it."""
        if self._log is None:
            return
        self._log.close()
        self._lock.release()
        if finished or not self._has_state:
            shutil.rmtree(self._files, ignore_errors=True)
        else:
            LOGGER.warning(f"The run is not finished. To continue it: yolo pose track resume={self._folder}")

    # -- replaying -----------------------------------------------------------------------------------------------

    def replay(self, images: Iterator[ImageRef], spec: PoseSpec) -> Iterator[tuple[Results, bool]]:
        """Yield the results of the interrupted run, and whether their video had ended before the saved state.

        Args:
            images: the images of the source; those of the results are taken from it.
            spec: classes and keypoints of the network.

        Raises:
            UsageError: the log is damaged, the source has changed, or another process is writing the run.
        """
        run = self.unfinished
        if run is None:
            return
        log = self._open(run.folder)
        for name in ("", "tracks"):
            remove_unfinished(run.folder / name)
        for number in range(1, run.count + 1):
            record = self._read(log, number)
            image = next(images, None)
            result = _from_record(record, image, spec)
            if result is None:
                raise UsageError(
                    f"The source of the run {run.folder} has changed: its image {number} was {record['path']}"
                    f"{_frame_text(record)}, and is now {'missing' if image is None else image.path}. {_HINT}"
                )
            yield result, result.frame is None or result.frame.video != run.last_video
        self._count = run.count
        log.truncate(run.log_size)  # results after the saved state, and the rest of an unfinished line
        log.seek(run.log_size)

    def _read(self, log: BufferedRandom, number: int) -> dict[str, Any]:
        line = log.readline()
        try:
            return json.loads(line)
        except ValueError as error:
            raise UsageError(f"The log {self._files / LOG_FILE} is damaged in line {number}. {_HINT}") from error


def _plain(value: Any) -> Any:
    """Return an option value as JSON returns it."""
    return json.loads(json.dumps(value, default=str))


def _frame_text(record: Mapping[str, Any]) -> str:
    return "" if record["frame"] is None else f" (frame {record['frame'][0]})"


_ARRAYS = ("boxes", "keypoints", "sigma", "visible", "raw_keypoints")


def _to_record(result: Results) -> dict[str, Any]:
    """Return a result as JSON values, with the bytes of its float32 arrays."""
    points = result.keypoints
    arrays: dict[str, Any] = {
        "boxes": result.boxes.data,
        "keypoints": points.data,
        "sigma": points.sigma,
        "visible": points.visible,
        "raw_keypoints": None if result.raw_keypoints is None else result.raw_keypoints.data,
    }
    frame = result.frame
    record: dict[str, Any] = {
        "path": result.path,
        "shape": result.orig_shape,
        "frame": None if frame is None else (frame.number, frame.total, frame.fps, frame.video),
    }
    if result.error is not None:
        record["error"] = result.error
    for name, array in arrays.items():
        if array is not None:
            record[name] = _encode(np.asarray(to_numpy(array), np.float32))
    return record


def _from_record(record: Mapping[str, Any], image: ImageRef | None, spec: PoseSpec) -> Results | None:
    """Return a result of the log with its image, or None if the image is another one."""
    if image is None or image.path != record["path"]:
        return None
    frame = None if record["frame"] is None else Frame(*record["frame"])
    if "error" in record:
        return Results.unreadable(record["path"], spec.names, record["error"], schema=spec.keypoints, frame=frame)
    if frame is not None:  # decoded already, since the frames of a video are read one after the other
        try:
            loaded = image.load()
        except SourceError:
            return None
        if loaded.frame is None or loaded.frame.number != frame.number:
            return None
    arrays = {name: _decode(record[name]) if name in record else None for name in _ARRAYS}
    result = Results(
        lambda: image.load().image,
        record["path"],
        spec.names,
        boxes=arrays["boxes"],
        keypoints=arrays["keypoints"],
        schema=spec.keypoints,
        frame=frame,
        orig_shape=tuple(record["shape"]),
        sigmas=arrays["sigma"],
        visible=arrays["visible"],
    )
    if arrays["raw_keypoints"] is not None:
        result.raw_keypoints = result.keypoints.with_data(arrays["raw_keypoints"])
    return result


def _encode(array: npt.NDArray[np.float32]) -> list[Any]:
    return [list(array.shape), base64.b64encode(array.tobytes()).decode()]


def _decode(value: Sequence[Any]) -> HostArray:
    return HostArray(np.frombuffer(base64.b64decode(value[1]), np.float32).reshape(value[0]).copy())
