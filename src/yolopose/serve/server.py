"""Run the application with uvicorn: connection limit, timeouts of slow clients, signals."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from yolopose.base.errors import UsageError
from yolopose.base.log import LOGGER
from yolopose.serve.app import PoseApp
from yolopose.serve.web import MAX_HEADER_BYTES

if TYPE_CHECKING:
    from types import FrameType

    from yolopose.config import ServeOptions

_BACKLOG = 1024
_SPARE_FILES = 128  # descriptors that are kept for model files, logs and connections that are being refused
_KEEP_ALIVE = 75  # seconds; longer than the 60 seconds of common proxies, so that the proxy closes first
_LINGER = 2.0  # seconds in which the rest of a refused request is discarded, and the client can read the answer
_TOO_MANY = b'{"error":{"code":"connections","message":"Too many connections. Try again later."}}'
_OVERLOADED = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_TOO_MANY), _TOO_MANY)
)


class _HttpProtocol(H11Protocol):
    """HTTP connection that ends when the client is slow, and is refused when there are too many.

    The head of a request, and reading a response, must each take less than `read_timeout`; the application limits the
    body itself. The rest of the body of a refused request is discarded for a moment, since closing the connection at
    once would keep the client from reading the answer.
    """

    read_timeout = 20.0
    max_connections = 1000

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._state = ""
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._refused = len(self.connections) >= self.max_connections
        if self._refused:
            self.transport = transport
            transport.write(_OVERLOADED)
            transport.close()
            return
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_timer("")
        if self._write_timer is not None:
            self._write_timer.cancel()
        if not self._refused:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def handle_websocket_upgrade(self, event: Any) -> None:
        self._set_timer("")
        self._refused = True  # this object no longer has a connection
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self._write_timer or self.loop.call_later(self.read_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # closing waits until the client has read everything
        self.loop.call_later(self.read_timeout, self.transport.abort)

    def _watch(self) -> None:
        """Set the timer for what the connection waits for."""
        if self._refused or self.transport.is_closing() or (self.cycle and not self.cycle.response_complete):
            self._set_timer("")
        elif self.conn.their_state is h11.SEND_BODY:
            self._set_timer("discard", _LINGER, self.transport.abort)
        elif self.timeout_keep_alive_task is None:
            self._set_timer("head", self.read_timeout, self._end_slow_head)
        else:
            self._set_timer("")

    def _set_timer(self, state: str, seconds: float = 0.0, action: Callable[[], None] | None = None) -> None:
        """Start a timer when the state changes; a running timer of the same state continues."""
        if state == self._state:
            return
        self._state = state
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if action is not None:
            self._timer = self.loop.call_later(seconds, action)

    def _end_slow_head(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.transport.close()
            self.loop.call_later(_LINGER, self.transport.abort)


class _WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSocket connection that ends when the client does not read its replies."""

    read_timeout = 20.0
    _write_timer: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self._write_timer or self.loop.call_later(self.read_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


class PoseServer(uvicorn.Server):
    """A uvicorn server that is not ready from the moment it is asked to stop.

    Args:
        app: the application.
        options: options of the server.
    """

    def __init__(self, app: PoseApp, options: ServeOptions) -> None:
        super().__init__(_config(app, options))
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen, and print the address."""
        await super().startup(sockets)
        options = self._app.service.options
        port = self.servers[0].sockets[0].getsockname()[1]
        host = f"[{options.host}]" if ":" in options.host and "[" not in options.host else options.host
        models = ", ".join(self._app.service.store.names)
        LOGGER.info(f"Serving {models} at http://{host}:{port} (documentation at /docs, Ctrl-C stops)")
        if options.insecure:
            LOGGER.warning("insecure=True: everyone who reaches this address can use the server.")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting connections, and finish the running requests."""
        self._app.service.draining = True
        LOGGER.info("Stopping: running requests are finished first.")
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish the running requests; the process then ends normally instead of by the signal."""
        await super().shutdown(sockets)
        self._captured_signals.clear()


def _config(app: PoseApp, options: ServeOptions) -> uvicorn.Config:
    limits = {"read_timeout": options.read_timeout, "max_connections": _connection_limit(options.connections)}
    return uvicorn.Config(
        cast(Any, app),
        host=options.host.strip("[]"),
        port=options.port,
        http=type("HttpProtocol", (_HttpProtocol,), limits),
        ws=type("WebSocketProtocol", (_WebSocketProtocol,), {"read_timeout": options.read_timeout}),
        ws_max_size=round(options.max_body_mb * 2**20),
        ws_per_message_deflate=False,  # images are compressed already, and a small message could become a large one
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(options.drain)),
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )


def _connection_limit(connections: int) -> int:
    """Return the largest number of connections that the limit of open files allows; the limit is raised if possible."""
    try:
        import resource
    except ImportError:  # Windows does not have this limit
        return connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + _BACKLOG + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return connections
    limit = max(soft - _BACKLOG - _SPARE_FILES, soft // 2)
    if limit < connections:
        LOGGER.warning(f"connections={connections} exceeds the limit of open files, {soft}: {limit} are accepted.")
    return min(limit, connections)


def serve(options: ServeOptions) -> None:
    """Serve models over HTTP until the process is asked to stop.

    SIGTERM and Ctrl-C finish the running requests first; SIGHUP reads the model files again.

    Args:
        options: options of the server.

    Raises:
        UsageError: an impossible option, the port is in use, or others could reach the server without a key.
        NotFoundError, WeightsError: a model cannot be opened.
    """
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it logs a line for each invalid request
    app = PoseApp(options)
    server = PoseServer(app, options)
    try:
        sockets = [server.config.bind_socket()]
    except SystemExit as error:
        app.service.close()
        raise UsageError(
            f"The server cannot listen on {options.host}:{options.port}: the port is in use, or the address is not one "
            "of this computer. Give another port=, or 0 for a free one."
        ) from error
    server.run(sockets=sockets)
