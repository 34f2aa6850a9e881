"""Read a source as prediction does, without any network."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from fake_runtime import FakeRuntime
from yolopose.predict.flow import run_jobs
from yolopose.predict.items import Item, Source


def load_all(source: Source, ahead: int = 0) -> Generator[Item, None, None]:
    """What the flow makes of a source, without any network."""
    with closing(run_jobs(source, FakeRuntime(), lambda _, items: items, ahead + 1)) as jobs:
        for items in jobs:
            yield from items
