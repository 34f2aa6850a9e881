"""WebSocket `/stream`: track ids, smoothing, settings, limits."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import cv2
import pytest
from hostile_requests import GOOD
from running_server import Running, running
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync import client

from fake_runtime import painted

KEY = "key-of-this-server-1234"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(max_body_mb=1) as started:
        yield started


def connect(server: Running, **options: Any) -> Any:
    return client.connect(f"ws://127.0.0.1:{server.port}/stream", compression=None, **options)


def frame(number: int) -> bytes:
    left = 10 + 4 * number + number % 2  # jitter
    return cv2.imencode(".png", painted(120, 160, (left, 30, left + 30, 90)))[1].tobytes()


def ask(stream: Any, message: bytes) -> dict[str, Any]:
    stream.send(message)
    return json.loads(stream.recv(timeout=30))


def test_ids_and_smoothing(server: Running) -> None:
    with connect(server) as stream, connect(server) as second:
        answers = []
        for number in range(8):
            stream.send(json.dumps({"time": number / 30}))
            answers.append(ask(stream, frame(number)))
        assert [answer["frame"] for answer in answers] == list(range(1, 9))
        assert {pose["track_id"] for answer in answers for pose in answer["poses"]} == {1}
        last = answers[-1]["poses"][0]
        smoothed, measured = (last[key]["keypoint 0"]["x"] for key in ("keypoints", "raw_keypoints"))
        assert measured == pytest.approx(10 + 4 * 7 + 1, abs=1)
        assert smoothed != measured
        assert abs(smoothed - measured) < 5
        assert answers[-1]["time_ms"]["track"] >= 0
        assert ask(second, frame(0))["poses"][0]["track_id"] == 1  # each stream has its own ids


def test_settings(server: Running) -> None:
    with connect(server) as stream:
        stream.send(json.dumps({"smooth": False}))
        assert "raw_keypoints" not in ask(stream, frame(0))["poses"][0]
        stream.send(json.dumps({"track": False, "conf": 0.9}))
        assert ask(stream, frame(1))["poses"] == []
        stream.send(json.dumps({"conf": 0.5}))
        assert "track_id" not in ask(stream, frame(2))["poses"][0]
        stream.send(json.dumps({"track": True, "tracker": "bytetrack", "classes": [0]}))
        assert ask(stream, frame(3))["poses"][0]["track_id"] == 1
        stream.send(json.dumps({"tracker": "botsort"}))  # compares pixels
        assert [len(ask(stream, frame(number))["poses"]) for number in (4, 5, 6)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("no json", "settings"),
        ("[1]", "settings"),
        ("[" * 10_000, "settings"),
        ('{"conf": 7}', "parameter"),
        ('{"tracker": "../../etc/tracker.yaml"}', "parameter"),
        ('{"tracker": "trackers:bytetrack"}', "parameter"),
        ('{"time": -1}', "parameter"),
        ('{"time": NaN}', "parameter"),
        ('{"track": "no"}', "parameter"),
        ('{"model": "other"}', "unknown_model"),
        ('{"source": "rtsp://camera"}', "parameter"),
        (b"no image", "unsupported_image"),
        (b"", "empty_image"),
        (GOOD[:50], "image_damaged"),
    ],
)
def test_errors_do_not_end_the_stream(message: str | bytes, code: str, server: Running) -> None:
    with connect(server) as stream:
        stream.send(message)
        error = json.loads(stream.recv(timeout=30))["error"]
        assert error["code"] == code
        assert "/" not in error["message"]
        assert len(ask(stream, frame(0))["poses"]) == 1


def test_a_frame_above_the_limit_ends_the_stream(server: Running) -> None:
    with connect(server) as stream:
        with suppress(ConnectionClosed):
            stream.send(bytes(2 * 2**20))
        with pytest.raises(ConnectionClosed) as closed:
            stream.recv(timeout=30)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    with connect(server) as stream:
        assert len(ask(stream, frame(0))["poses"]) == 1


def test_number_of_streams_and_origin() -> None:
    with running(streams=1) as server:
        with connect(server) as first:
            assert len(ask(first, frame(0))["poses"]) == 1
            with connect(server) as second:
                assert json.loads(second.recv(timeout=30))["error"]["code"] == "streams"
                with pytest.raises(ConnectionClosed):
                    second.recv(timeout=30)
        for origin in ("https://evil.example", "null"):
            with pytest.raises(InvalidStatus):
                connect(server, origin=origin)
        end = time.monotonic() + 20
        while server.app.service.metrics.streams._value.get() and time.monotonic() < end:
            time.sleep(0.01)
        with connect(server, origin=f"http://127.0.0.1:{server.port}") as again:
            assert len(ask(again, frame(0))["poses"]) == 1


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_API_KEY", KEY)
    with running(read_timeout=1) as server:
        with connect(server, additional_headers={"Authorization": f"Bearer {KEY}"}) as stream:
            assert len(ask(stream, frame(0))["poses"]) == 1
        with connect(server) as stream:  # browsers cannot send headers
            stream.send(json.dumps({"key": KEY, "conf": 0.4}))
            assert len(ask(stream, frame(0))["poses"]) == 1
        for message in (frame(0), '{"conf": 0.4}', '{"key": "wrong"}', '{"key": 5}', None):
            with connect(server) as stream:
                if message is not None:
                    stream.send(message)
                error = json.loads(stream.recv(timeout=30))["error"]["code"]
                assert error == ("idle" if message is None else "unauthorized")
                with pytest.raises(ConnectionClosed):
                    stream.recv(timeout=30)


def test_stopping_closes_streams() -> None:
    with running() as server:
        with connect(server) as stream:
            assert len(ask(stream, frame(0))["poses"]) == 1
            threading.Timer(0.1, lambda: setattr(server.server, "should_exit", True)).start()
            with pytest.raises(ConnectionClosed) as closed:
                stream.recv(timeout=30)
        assert closed.value.rcvd.code == 1012


def test_damaged_frames_of_the_protocol(server: Running) -> None:
    """Unmasked data, a reserved opcode and a length of 2⁶³ end the connection and nothing else."""
    handshake = (
        b"GET /stream HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    for data in (b"\x82\x03abc", b"\x83\x80\0\0\0\0", b"\x82\xff\x7f" + b"\xff" * 7 + b"\0\0\0\0", bytes(range(256))):
        with server.connect() as sock:
            sock.sendall(handshake)
            assert b" 101 " in sock.recv(4096)
            sock.sendall(data)
            received = b"start"
            while received:
                received = sock.recv(4096)
    with connect(server) as stream:
        assert len(ask(stream, frame(0))["poses"]) == 1
