"""Read a source as prediction does, without any network."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing

from fake_runtime import FakeRuntime
from yolopose.predict.parallel import run_windows
from yolopose.predict.sources.base import LoadedImage, Source


def load_all(source: Source, ahead: int = 0) -> Generator[LoadedImage, None, None]:
    """What the flow makes of a source, without any network."""
    with closing(run_windows(source, FakeRuntime(), lambda _, items: items, ahead + 1)) as jobs:
        for items in jobs:
            yield from items
