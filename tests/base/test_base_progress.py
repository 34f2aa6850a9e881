from __future__ import annotations

import io

import pytest

from yolopose.base.log import LOGGER
from yolopose.base.progress import download_bar, format_duration, is_terminal, progress


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 seconds"), (1, "1 second"), (89, "89 seconds"), (90, "2 minutes"), (180, "3 minutes"),
        (5399, "90 minutes"), (5400, "1.5 hours"), (36_000, "10 hours"), (216_000, "2.5 days"), (1e9, "11574 days"),
    ],
)  # fmt: skip
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


class _Window:
    def write(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize("stream", [None, _Window(), io.StringIO()])
def test_runs_without_a_terminal(stream: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setattr("sys.stderr", stream)
    assert list(progress([1, 2], "title")) == [1, 2]
    with download_bar("title", 10) as advance:
        advance(5)
    LOGGER.info("line")
    LOGGER.warning("line")


def test_a_closed_stream_is_not_a_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    assert not is_terminal(stream)
