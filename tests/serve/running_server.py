"""A server of `yolo serve` in a thread, with an engine that detects colored rectangles; raw connections to it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from fake_runtime import FakeRuntime, painted
from yolopose.config import ServeOptions, make_options
from yolopose.runtime import Candidates
from yolopose.serve.app import PoseApp
from yolopose.serve.server import PoseServer

BOX = (20, 30, 60, 90)


def encoded(suffix: str = ".png", height: int = 120, width: int = 160, cls: int = 0) -> bytes:
    """An image file with one rectangle."""
    return cv2.imencode(suffix, painted(height, width, BOX, cls))[1].tobytes()


class GatedRuntime(FakeRuntime):
    """Waits in each call until `gate` is set, and records the batches."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0

    def infer(self, batch: np.ndarray, **options: Any) -> Candidates:
        self.calls += 1
        assert self.gate.wait(30)
        return super().infer(batch, **options)


def serve_options(**options: Any) -> ServeOptions:
    values = {"model": "fake=fake.onnx", "verbose": False, "port": 0, "imgsz": 160, **options}
    return cast(ServeOptions, make_options("serve", values))


def make_app(runtime: FakeRuntime | None = None, **options: Any) -> PoseApp:
    """The application with the given engine in place of a model file."""
    engine = runtime or FakeRuntime()
    engine.shapes.clear()
    app = PoseApp(serve_options(**options), lambda path, given: (engine, (160, 160)))
    engine.shapes.clear()
    return app


@dataclass
class Running:
    """A running server."""

    app: PoseApp
    server: PoseServer
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self, timeout: float = 20) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout)


def running(runtime: FakeRuntime | None = None, **options: Any) -> AbstractContextManager[Running]:
    """Run a server with the given engine in a thread until the end of the block."""
    return run_app(make_app(runtime, **options))


@contextmanager
def run_app(app: PoseApp) -> Iterator[Running]:
    """Run an application in a thread until the end of the block."""
    server = PoseServer(app, app.service.options)
    sock = server.config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Running(app, server, sock.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@dataclass(frozen=True)
class Answer:
    """A response on a raw connection; status 0 if the connection was closed without one."""

    status: int
    body: bytes
    rest: bytes = b""

    @property
    def error(self) -> str:
        try:
            error = json.loads(self.body)["error"]
        except (ValueError, KeyError, TypeError):
            return ""
        return error if isinstance(error, str) else error["code"]


def read_answer(sock: socket.socket) -> Answer:
    """Read one response."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            received = sock.recv(65536)
            if not received:
                return Answer(0, data)
            data += received
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")), None)
        while length is None or len(body) < length:
            received = sock.recv(65536)
            if not received:
                break
            body += received
    except ConnectionError:
        return Answer(0, data)
    end = len(body) if length is None else length
    return Answer(int(head.split()[1]), body[:end], body[end:])


def request_bytes(
    body: bytes = b"", path: str = "/predict", method: str = "POST", length: int | None = None, **headers: str
) -> bytes:
    """A request with `Content-Length`; names of further headers are written with `_` for `-`."""
    lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(body) if length is None else length}"]
    if "Host" not in headers:
        lines.append("Host: 127.0.0.1")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def read_source(name: str) -> str:
    return (Path(__file__).parents[2] / name).read_text(encoding="utf-8")
