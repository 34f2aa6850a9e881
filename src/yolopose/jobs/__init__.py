"""Jobs over any number of images and videos: restartable, on this machine or a Ray cluster, with Parquet output."""

from yolopose.jobs.job import run_checked, run_job
from yolopose.jobs.results import JobResult, job_status, read_rows
from yolopose.jobs.scheduler import JobError

__all__ = ["JobError", "JobResult", "job_status", "read_rows", "run_checked", "run_job"]
