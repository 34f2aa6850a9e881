"""A small web server for tests, whose answers a test writes itself; it misbehaves on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]


@dataclass
class Server:
    """A running server: `answers` by path, `seen` requests as (path, Range header)."""

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: Server

    def do_GET(self) -> None:
        self.server_of.seen.append((self.path, self.headers.get("Range")))
        self.close_connection = True
        self.server_of.answers.get(self.path, missing)(self)

    def log_message(self, *_: object) -> None:
        """Test read the output of the program alone."""

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)


def missing(handler: Handler) -> None:
    handler.send(404, b"no")


def whole(body: bytes, **headers: str) -> Answer:
    """A well-behaved file, ranges and all."""

    def answer(handler: Handler) -> None:
        asked = handler.headers.get("Range", "")
        tag = headers.get("ETag", '"1"')
        if asked and handler.headers.get("If-Range") == tag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                handler.send(416, Content_Range=f"bytes */{len(body)}")
                return
            span = f"bytes {start}-{len(body) - 1}/{len(body)}"
            handler.send(206, body[start:], **{"ETag": tag, "Content_Range": span, **headers})
            return
        handler.send(200, body, **{"ETag": tag, **headers})

    return answer


def cut(body: bytes, after: int, times: int = 1, **headers: str) -> Answer:
    """End the connection after some bytes, so many times; then behaves."""
    left = [times]
    good = whole(body, **headers)

    def answer(handler: Handler) -> None:
        if left[0] <= 0:
            good(handler)
            return
        left[0] -= 1
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("ETag", headers.get("ETag", '"1"'))
        handler.end_headers()
        handler.wfile.write(body[:after])

    return answer


def redirect(to: str) -> Answer:
    return lambda handler: handler.send(302, Location=to)


@contextmanager
def serving(**answers: Answer) -> Iterator[Server]:
    """Run a server on this machine until the block ends."""
    server = Server(answers=dict(answers))
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"server_of": server}))
    server.address = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        web.shutdown()
        web.server_close()
