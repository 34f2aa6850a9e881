"""Options of `yolo batch`; see `options.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolopose.config.options import CommonOptions, DetectionOptions, option


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BatchOptions(DetectionOptions, CommonOptions):
    """Options of `batch`: predictions of any number of images and videos as Parquet files."""

    source: Any = option(
        None,
        "folder (with subfolders), glob, image, video, list (.txt, .csv) or Parquet file, local or s3://, gs://, …; "
        "None continues the job in output=",
    )
    output: str | None = option(None, "folder of the job: a path, or s3://, gs://, …")
    engine: str = option(
        "local", "where it runs: processes of this machine, or actors of a Ray cluster", choices=("local", "ray")
    )
    batch: int = option(1, "images per batch", low=1)
    vid_stride: int = option(1, "use every n-th frame of a video", low=1)
    fast_decode: bool = option(False, "decode large JPEGs at a reduced scale: faster, with slightly different results")
    track: bool = option(False, "track the instances of each video: the column `ids`")
    tracker: str = option("oks.yaml", "tracker of track=True; see the option of `track`")
    max_instances: int | None = option(None, "number of instances in the videos: never more ids than that", low=1)
    fps: float | None = option(None, "frames per second of a video that does not state it; 30 by default", low=0.001)
    shard: int = option(1000, "images per output file; a video has a file of its own", low=1)
    workers: int | None = option(
        None, "processes or actors; by default one per GPU, or one per 4 CPU cores of this machine or cluster", low=1
    )
    threads: int | None = option(None, "CPU cores of each worker; by default all cores are divided", low=1)
    gpus: float | None = option(
        None, "engine=ray: GPUs of each actor, such as 0.5; by default 1, or 0 with device=cpu", low=0
    )
    address: str | None = option(
        None, "engine=ray: cluster to join, auto or ray://host:10001; a cluster of this machine by default"
    )
    task: str | None = option(None, "compute only this share of the files, such as 3/16 (0/16 … 15/16), for job arrays")
    update: bool = option(False, "list the source again, and add inputs that are new since the job was started")
    retry_errors: bool = option(False, "compute files again that have rows with an error")
    verify: bool = option(False, "compare finished files with their recorded hashes, instead of their sizes")
