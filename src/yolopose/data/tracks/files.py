"""Read and write track files of every format, chosen by the name of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from yolopose.base.errors import DataError, NotFoundError, UsageError, did_you_mean
from yolopose.base.suggestions import suggest_path
from yolopose.data.tracks.deeplabcut import DeepLabCutWriter, is_deeplabcut, read_deeplabcut
from yolopose.data.tracks.jsonl import JsonLinesWriter, read_json_lines
from yolopose.data.tracks.mot import MotWriter, read_mot
from yolopose.data.tracks.tabular import CsvWriter, ParquetWriter, read_csv, read_parquet
from yolopose.data.tracks.tracks import Tracks, TrackWriter

TRACK_FORMATS = {"jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet", "mot": ".txt", "deeplabcut": ".csv"}
"""Formats of track files, and the suffix of their files."""


def track_format(path: str | Path, name: str | None = None) -> str:
    """Return the format of a file that is to be written.

    Args:
        path: the file; its suffix decides without `name`, and `.csv` is the table of `save_csv`.
        name: `jsonl`, `csv`, `parquet`, `mot` or `deeplabcut`.

    Raises:
        UsageError: an unknown name or suffix.
    """
    if name is not None:
        if name not in TRACK_FORMATS:
            raise UsageError(
                f"format={name!r} is not a format of track files.{did_you_mean(name, TRACK_FORMATS)} The formats are: "
                f"{', '.join(TRACK_FORMATS)}."
            )
        return name
    for name, suffix in TRACK_FORMATS.items():
        if Path(path).suffix.lower() == suffix:
            return name
    endings = ", ".join(dict.fromkeys(TRACK_FORMATS.values()))
    raise UsageError(f"{path}: the suffix must be one of {endings}, or pass the format: {', '.join(TRACK_FORMATS)}.")


def open_track_writer(
    path: str | Path, format: str | None = None, *, video: Tracks, has_raw: bool = False
) -> TrackWriter:
    """Open a file that grows frame by frame, and appears under its name when it is closed.

    Args:
        path: the file.
        format: see `track_format`.
        video: name, rate, size, class names and keypoints of the video; its instances are ignored.
        has_raw: whether frames have `raw_keypoints` (tables only; JSON Lines has them where they exist).

    Raises:
        UsageError: an unknown format.
        OutputError: it cannot be written.
        DependencyError: a library is missing.
    """
    path = Path(path)
    kind = track_format(path, format)
    if kind == "jsonl":
        return JsonLinesWriter(path, video)
    if kind == "csv":
        return CsvWriter(path, video, has_raw)
    if kind == "parquet":
        return ParquetWriter(path, video, has_raw)
    return MotWriter(path) if kind == "mot" else DeepLabCutWriter(path, video)


def write_tracks(path: str | Path, tracks: Tracks | Sequence[Tracks], format: str | None = None) -> Path:
    """Write the tracks of one video, or of several into one file of JSON Lines, CSV or Parquet.

    Args:
        path: the file.
        tracks: the tracks.
        format: see `track_format`.

    Returns:
        The path.

    Raises:
        UsageError: an unknown format.
        DataError: the format needs keypoints, but there are none, or it holds one video.
        OutputError: it cannot be written; an older file is unchanged.
        DependencyError: a library is missing.
    """
    videos = [tracks] if isinstance(tracks, Tracks) else list(tracks)
    if not videos:
        raise DataError(f"{path}: the list of tracks is empty.")
    has_raw = any(video.raw_keypoints is not None for video in videos)
    writer = open_track_writer(path, format, video=videos[0], has_raw=has_raw)
    try:
        for index, video in enumerate(videos):
            if index:
                writer.next_video(video)
            for frame in video.by_frame():
                writer.write(frame)
    except BaseException:
        writer.discard()
        raise
    writer.close()
    return Path(path)


def read_tracks(path: str | Path) -> list[Tracks]:
    """Read the tracks of all videos of a file, or of all track files in a folder.

    Formats: JSON Lines and CSV of predict and track, Parquet, MOTChallenge text, CSV of DeepLabCut. A folder holds one
    file per video (`NAME.txt`, …), or `NAME/gt/gt.txt` as in MOTChallenge.

    Args:
        path: the file or folder.

    Raises:
        NotFoundError: it does not exist.
        DataError: it is not a track file; the message has the line.
        DependencyError: a library is missing.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise NotFoundError(f"The track file {path} does not exist.{suggest_path(path)}")
    suffix = path.suffix.lower()
    if suffix == ".jsonl":
        videos = read_json_lines(path)
    elif suffix == ".parquet":
        videos = read_parquet(path)
    elif suffix == ".csv":
        videos = [read_deeplabcut(path)] if is_deeplabcut(path) else read_csv(path)
    elif suffix == ".txt":
        videos = [read_mot(path)]
    else:
        raise DataError(
            f"{path} is not a track file: its suffix must be .jsonl, .csv, .parquet or .txt (MOTChallenge)."
        )
    if not videos:
        raise DataError(f"{path} is empty: it has no frames.")
    return videos


def _read_folder(folder: Path) -> list[Tracks]:
    suffixes = set(TRACK_FORMATS.values())
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in suffixes and file.is_file())
    files += sorted(folder.glob("*/gt/gt.txt"))
    if not files:
        raise DataError(f"{folder} has no track files (*.jsonl, *.csv, *.parquet, *.txt, or NAME/gt/gt.txt).")
    return [tracks for file in files for tracks in read_tracks(file)]


def match_videos(tracks: Sequence[Tracks], gt: Sequence[Tracks]) -> list[tuple[Tracks, Tracks]]:
    """Return (tracks, ground truth) of each video: by the stem of its name, or the only video of both.

    Raises:
        DataError: a video of one side is missing on the other, or two have the same name.
    """
    if len(tracks) == 1 and len(gt) == 1:
        return [(tracks[0], gt[0])]
    sides: list[dict[str, Tracks]] = []
    for label, videos in (("tracks", tracks), ("ground truth", gt)):
        names = [Path(video.name).stem for video in videos]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"Two videos of the {label} are named {twice!r}; names decide which files belong together.")
        sides.append(dict(zip(names, videos, strict=True)))
    unmatched = sorted(set(sides[0]) ^ set(sides[1]))
    if unmatched:
        where = "ground truth" if unmatched[0] in sides[0] else "tracks"
        raise DataError(
            f"The video {unmatched[0]!r} is missing in the {where}; videos are matched by the stem of their name. "
            f"Tracks: {', '.join(sorted(sides[0]))}; ground truth: {', '.join(sorted(sides[1]))}."
        )
    return [(sides[0][name], video) for name, video in sides[1].items()]
