"""Schemas of values that come out of files, and the one function that checks values against them.

msgspec checks types and bounds; what depends on other values (one name per keypoint, rows that exist) is checked where
the values are used. Import this module where a file is read, since msgspec costs start-up time.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from yolopose.base.errors import YoloposeError
from yolopose.base.text import short_text

MAX_SIDE = 65_536
MAX_STRIDE = 1024

Text = Annotated[str, Meta(max_length=4096)]
Name = Annotated[str, Meta(max_length=1000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]
Share = Annotated[float, Meta(ge=0, le=1)]
Record = TypeVar("Record")


class Metadata(Struct, frozen=True):
    """Metadata of a network, beside classes and keypoints (`ModelMetadata`)."""

    name: Text
    stride: Annotated[int, Meta(ge=1, le=MAX_STRIDE)]
    imgsz: tuple[Side, Side]
    batch: Annotated[int, Meta(ge=0, le=MAX_SIDE)]
    dynamic: bool
    end2end: bool
    outputs: Name
    license: Text
    version: Name
    args: dict[str, Any]


class RunOptions(Struct, frozen=True):
    """Options of a validation run."""

    imgsz: tuple[Side, Side]
    batch: Annotated[int, Meta(ge=1, le=1_000_000)]
    conf: Share
    iou: Share
    max_det: Count
    rect: bool
    half: bool | None
    augment: bool
    single_cls: bool


class RunInfo(Struct, frozen=True):
    """What a validation run measured (`evaluate.record_builder.describe_run`)."""

    version: Name
    created: Name
    model: Text
    device: Name
    data: Text
    root: Text
    split: Name
    names: Annotated[list[Name], Meta(min_length=1, max_length=100_000)]
    spec: dict[str, Any]
    options: RunOptions
    refused: Count
    refused_names: Annotated[list[Text], Meta(max_length=100)]
    speed: dict[Name, float] = {}
    coco: dict[Name, float | None] = {}


class LabelReport(Struct, frozen=True):
    """The part of a label cache that is not an array."""

    issues: list[tuple[Count, bool, int | None, int | None, Text, Text]]
    warnings: dict[Text, tuple[Count, Count]]
    notes: list[Text]


class LabelCache(Struct, frozen=True):
    """Header of a label cache."""

    key: Name
    report: LabelReport


class JobInputs(Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the plan of a job."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,200}$")]
    first: Count
    shards: Count
    entries: Count


class JobPlan(Struct, frozen=True, forbid_unknown_fields=True):
    """The file `job.json`."""

    format: int
    source: Annotated[str, Meta(max_length=1_000_000)]
    model: Text
    model_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    options: dict[Name, Any]
    shard: Annotated[int, Meta(ge=1, le=1_000_000)]
    inputs: list[JobInputs]
    version: Name


class CheckpointHeader(Struct, frozen=True):
    """The plain values of a checkpoint of yolopose."""

    version: Name
    date: Name
    license: Text
    epoch: Annotated[int, Meta(ge=-1, le=1_000_000_000)]
    dtype: Name
    yaml: dict[Any, Any]
    args: dict[Any, Any]
    metrics: dict[Any, Any]


def check_record(values: object, kind: type[Record], what: str, error: type[YoloposeError]) -> Record:
    """Check values against a schema.

    Args:
        values: plain values, as JSON or YAML holds them.
        kind: a class of this module.
        what: the file and what it should be, for the message: `runs/val/predictions.npz is damaged`.
        error: type of the error.

    Returns:
        The values as an object of the class.

    Raises:
        YoloposeError: (of type `error`) a value is missing, of another type, or out of bounds; the text names it.
    """
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError) as cause:
        raise error(f"{what}: {_describe(str(cause))}.") from cause


def _describe(text: str) -> str:
    """Return a message of msgspec with the words of YAML and JSON files."""
    problem, _, place = text.partition(" - at ")
    name = place.strip("`").removeprefix("$").removeprefix(".")
    missing = re.match("Object missing required field `(.*)`", problem)
    if missing:
        key = f"{name}.{missing[1]}" if name else missing[1]
        return f"{short_text(key)} is missing"
    names = {"`object`": "a mapping", "`array`": "a list", "`str`": "text", "`int`": "an integer", "`null`": "nothing"}
    for old, new in {**names, "`float`": "a number", "`bool`": "true or false"}.items():
        problem = problem.replace(old, new)
    return short_text(f"{name}: {problem[:1].lower()}{problem[1:]}" if name else problem)


def plain_values(record: Struct) -> dict[str, Any]:
    """Return the checked values as plain dicts and lists."""
    return msgspec.to_builtins(record)
