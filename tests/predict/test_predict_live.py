from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from servers import Server
from stream_server import in_turn, mid_frame, number_of, page, refused, rubbish, stall, stream
from yolopose.base.errors import SourceError, UsageError
from yolopose.predict.sources import live, open_source, video
from yolopose.predict.sources.base import LoadedImage, RetryPolicy

GONE = refused(404)


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = RetryPolicy(2, read_timeout=0.7, first_delay=0.05, max_delay=0.2, give_up_after=0.6, max_attempts=2)
    monkeypatch.setattr(live, "RETRY_POLICY", quick)


def items(source: Any, most: int = 10_000, **options: Any) -> Iterator[LoadedImage]:
    opened = open_source(source, **options)
    assert opened.live
    try:
        for entry in islice(opened.images, most):
            yield entry.load()
    finally:
        opened.close()


def until_error(source: Any, **options: Any) -> tuple[list[LoadedImage], str]:
    got: list[LoadedImage] = []
    try:
        for item in items(source, **options):
            got.append(item)
    except SourceError as error:
        return got, str(error)
    pytest.fail("it ended without an error")


@pytest.mark.parametrize(
    ("fault", "message"),
    [(None, "has ended"), (mid_frame, "has ended"), (stall, "no image for 0.7 s"), (rubbish, "has ended")],
)
def test_reconnects_after_failure(server: Server, capsys: pytest.CaptureFixture[str], fault: Any, message: str) -> None:
    server.answers["/cam.mjpg"] = in_turn(stream(range(5), fault), stream(range(20, 25)), GONE)
    got, error = until_error(f"{server.address}/cam.mjpg", buffer=True)
    numbers = [number_of(item.image) for item in got]
    assert [number for number in numbers if number < 5] == [0, 1, 2, 3, 4]
    assert numbers[-5:] == [20, 21, 22, 23, 24]
    places = [item.frame.number for item in got if item.frame]
    assert places == sorted(set(places))
    output = capsys.readouterr()
    assert message in output.err
    assert "Connecting again in 0.05 s" in output.err
    assert "is back after" in output.out
    assert "answers 404" in error
    assert "Given up after 0.6 s" in error


def test_reconnection_delay_doubles(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.answers["/cam.mjpg"] = in_turn(stream(range(3)), refused(503))
    _, error = until_error(f"{server.address}/cam.mjpg", buffer=True)
    output = capsys.readouterr().err
    places = [output.index(f"in {pause} s (attempt {number})") for number, pause in enumerate((0.05, 0.1, 0.2, 0.2), 1)]
    assert places == sorted(places)
    assert "503" in error


@pytest.mark.parametrize(
    ("answer", "message"),
    [(GONE, "answers 404"), (page, "is a web page"), (refused(401), "user and password"), (refused(503), "503")],
)
def test_gives_up_without_stream(server: Server, answer: Any, message: str) -> None:
    server.answers["/cam.mjpg"] = answer
    start = time.monotonic()
    got, error = until_error(f"{server.address}/cam.mjpg")
    assert not got
    assert message in error
    assert time.monotonic() - start < 4


def test_messages_contain_no_credentials(capfd: pytest.CaptureFixture[str]) -> None:
    got, error = until_error("rtsp://anna:geheim@127.0.0.1:9/live?channel=1&token=tiger")
    output = "".join(capfd.readouterr())
    assert not got
    assert "rtsp://***@127.0.0.1:9/…?***" in error
    assert "Connecting again" in output
    for secret in ("geheim", "anna", "tiger"):
        assert secret not in output + error


def test_newest_frame_or_buffer(server: Server) -> None:
    server.answers["/cam.mjpg"] = stream(range(50), stall)
    newest = items(f"{server.address}/cam.mjpg")
    assert number_of(next(newest).image) < 50
    time.sleep(0.6)  # the engine is busy
    last = next(newest)
    assert number_of(last.image) == 49
    assert last.frame is not None
    assert (last.frame.number, last.frame.live, last.frame.total) == (50, True, None)
    newest.close()
    every = items(f"{server.address}/cam.mjpg", most=50, buffer=True)
    first = next(every)
    time.sleep(0.6)
    assert [number_of(item.image) for item in [first, *every]] == list(range(50))


def test_stride_of_a_stream(server: Server) -> None:
    server.answers["/cam.mjpg"] = in_turn(stream(range(10)), GONE)
    got, _ = until_error(f"{server.address}/cam.mjpg", vid_stride=4, buffer=True)
    assert [(number_of(item.image), item.frame and item.frame.number) for item in got] == [(0, 1), (4, 5), (8, 9)]


def test_dead_and_slow_streams_do_not_block_others(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answers["/quick.mjpg"] = in_turn(stream(range(30)), GONE)
    server.answers["/slow.mjpg"] = in_turn(stream(range(3), pause=0.8), GONE)
    list_file = tmp_path / "cams.streams"
    names = ("quick.mjpg", "dead.mjpg", "slow.mjpg")
    server.answers["/dead.mjpg"] = GONE
    list_file.write_text("# the yard\n" + "".join(f"{server.address}/{name}\n" for name in names))
    assert open_source(list_file).per_call == 3
    got, error = until_error(list_file, buffer=True)
    by_feed: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for item in got:
        assert item.frame is not None
        by_feed[item.frame.video].append(number_of(item.image))
    assert by_feed == {0: list(range(30)), 1: [], 2: [0, 1, 2]}
    assert "dead.mjpg" in error
    assert "The other streams continue." in capsys.readouterr().err


def test_closing_ends_threads(server: Server) -> None:
    server.answers["/cam.mjpg"] = stream(range(60), stall, pause=0.02)
    running = items(f"{server.address}/cam.mjpg")
    next(running)
    running.close()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and any("yolopose-feed" in thread.name for thread in threading.enumerate()):
        time.sleep(0.02)
    assert not any("yolopose-feed" in thread.name for thread in threading.enumerate())


def test_refuses_streams_with_files() -> None:
    with pytest.raises(UsageError, match="only be combined with other cameras and streams"):
        open_source([np.zeros((4, 4, 3), np.uint8), "rtsp://x/1"])


# -- cameras -------------------------------------------------------------------------------------------------------


class FakeCapture:
    """A camera that gives what a test lays ready: frames, or None for a grab that fails."""

    plugged: dict[int, list[list[int | None]]] = {}  # noqa: RUF012
    open_now: set[FakeCapture] = set()  # noqa: RUF012

    def __init__(self, number: int, *_: object) -> None:
        ready = self.plugged.get(number, []) if isinstance(number, int) else []
        self.frames = ready.pop(0) if ready else None
        self.open_now.add(self)

    def isOpened(self) -> bool:
        return self.frames is not None

    def get(self, key: int) -> float:
        return {cv2.CAP_PROP_FPS: 30.0, cv2.CAP_PROP_FRAME_COUNT: -1.0}[key]

    def grab(self) -> bool:
        self.now = self.frames.pop(0) if self.frames else None
        return self.now is not None

    def retrieve(self) -> tuple[bool, np.ndarray]:
        return True, np.full((4, 6, 3), self.now, np.uint8)

    def release(self) -> None:
        self.open_now.discard(self)


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[list[int | None]]]:
    monkeypatch.setattr(video.cv2, "VideoCapture", FakeCapture)
    monkeypatch.setattr(FakeCapture, "plugged", {})
    monkeypatch.setattr(FakeCapture, "open_now", set())
    return FakeCapture.plugged


@pytest.mark.parametrize("source", [1, "1", np.int64(1), [1]])
def test_camera_by_number(cameras: dict[int, list[Sequence[int]]], source: Any) -> None:
    cameras[1] = [[7, 8, 9]]
    got, error = until_error(source, buffer=True)
    assert [int(item.image[0, 0, 0]) for item in got] == [7, 8, 9]
    assert (got[0].path, got[0].frame and got[0].frame.fps) == ("camera1", 30.0)
    assert "The camera 1 cannot be opened" in error
    assert not FakeCapture.open_now


def test_skips_damaged_frame_and_reconnects_camera(
    cameras: dict[int, list[list[int | None]]], capsys: pytest.CaptureFixture[str]
) -> None:
    cameras[0] = [[1, None, 3], [4, 5]]
    got, _ = until_error(0, buffer=True)
    assert [(int(item.image[0, 0, 0]), item.frame and item.frame.number) for item in got] == [
        (1, 1), (3, 3), (4, 4), (5, 5),
    ]  # fmt: skip
    assert "The camera 0 is back" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("there", "readable", "message"), [(0, 1, "does not exist"), (1, 0, "group"), (1, 1, "another program")]
)
def test_explains_unavailable_camera(
    cameras: object, monkeypatch: pytest.MonkeyPatch, there: bool, readable: bool, message: str
) -> None:
    monkeypatch.setattr(video.sys, "platform", "linux")
    monkeypatch.setattr(Path, "exists", lambda _: bool(there))
    monkeypatch.setattr(os, "access", lambda *_: bool(readable))
    got, error = until_error(3)
    assert not got
    assert message in error
    assert "The camera 3 cannot be opened" in error


def test_refuses_negative_camera_number() -> None:
    with pytest.raises(UsageError, match="start at 0"):
        open_source(-1)
