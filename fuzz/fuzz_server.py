"""Requests to the server, in process through ASGI.

A case is a request as it is sent: `METHOD path?query`, headers, an empty line, the body.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote_to_bytes

from instrumented import instrument

with instrument():
    from harness import Target, main
    from running_server import make_app

_APP = make_app(max_body_mb=1, max_megapixels=1, timeout=20)
_LOOP = asyncio.new_event_loop()


def run(data: bytes) -> None:
    """Send one case; the server must answer with a client error or a result."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    if not any(name == b"host" for name, _ in headers):
        headers.append((b"host", b"127.0.0.1"))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": method.decode("latin-1"), "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path, "query_string": query, "root_path": "", "headers": headers,
        "client": ("127.0.0.1", 50000), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    messages = _LOOP.run_until_complete(_exchange(scope, body))
    status = next(message["status"] for message in messages if message["type"] == "http.response.start")
    answer = b"".join(message.get("body", b"") for message in messages)
    assert 200 <= status < 500 or status in (501, 503, 505), f"status {status}"
    assert b"Traceback" not in answer


async def _exchange(scope: dict[str, Any], body: bytes) -> list[dict[str, Any]]:
    parts = [{"type": "http.request", "body": body, "more_body": False}]
    messages: list[dict[str, Any]] = []
    done = asyncio.Event()

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await done.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        messages.append(dict(message))

    await _APP(scope, receive, send)
    done.set()
    return messages


_TOKENS = [
    b"POST /predict",
    b"GET /",
    b"conf=",
    b"imgsz=",
    b"classes=",
    b"content-type: ",
    b"multipart/form-data; boundary=b",
    b"--b\n",
    b"/v2/models/fake/infer",
    b"inference-header-content-length: ",
    b'"inputs"',
    b'"shape"',
    b"content-length: ",
]
TARGET = Target("server", run, _TOKENS)

if __name__ == "__main__":
    main(TARGET)
