"""Hostile requests: each gets its answer, and the next client is served."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile_requests import CASES, GOOD, LIMITS, READ_TIMEOUT, Case, form, form_file, image, markdown
from running_server import Answer, Running, read_answer, running

DOC = Path(__file__).parents[2] / "docs/hostile-requests.md"
SECRETS = (b"Traceback", b'File "', b"/src/", b"site-packages", b".py", b"root:")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(**LIMITS) as started:
        yield started


def send(server: Running, data: bytes) -> Answer:
    with server.connect() as sock:
        with suppress(ConnectionError):  # refused before all was sent; the answer can still be read
            sock.sendall(data)
        return read_answer(sock)


def assert_alive(server: Running) -> None:
    answer = send(server, image(GOOD))
    assert answer.status == 200
    assert b'"confidence":0.875' in answer.body


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}"[:80])
def test_answers(case: Case, server: Running) -> None:
    answer = send(server, case.send())
    assert answer.status in case.status, answer
    if case.error:
        assert answer.error == case.error
    assert not any(secret in answer.body for secret in SECRETS)
    assert_alive(server)


def test_there_are_many_kinds() -> None:
    assert len(CASES) >= 100
    assert len({(case.group, case.name) for case in CASES}) == len(CASES)


def test_table_in_the_documentation() -> None:
    if os.environ.get("YOLOPOSE_WRITE_DOCS") == "1":
        DOC.write_text(markdown(), encoding="utf-8")
    assert DOC.read_text(encoding="utf-8") == markdown(), "run YOLOPOSE_WRITE_DOCS=1 pytest on this file"


def test_client_that_leaves_in_the_middle(server: Running) -> None:
    for data in (image(GOOD)[:-20], image(GOOD), form(form_file())[:100], b"GET /"):
        with server.connect() as sock:
            sock.sendall(data)
        with server.connect() as sock:  # with a reset instead of an end
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(data)
    assert_alive(server)
    end = time.monotonic() + 20
    while server.app.service.batcher.waiting("fake") and time.monotonic() < end:
        time.sleep(0.01)
    assert server.app.service.batcher.waiting("fake") == 0


def test_client_that_sends_a_byte_at_a_time(server: Running) -> None:
    with server.connect() as sock:
        started = time.monotonic()
        try:
            for byte in image(GOOD):
                sock.sendall(bytes([byte]))
                time.sleep(READ_TIMEOUT / 20)
                if time.monotonic() - started > 20 * READ_TIMEOUT:
                    break
        except ConnectionError:
            pass
        assert read_answer(sock).status in (0, 408)
    assert_alive(server)


def test_client_that_does_not_read(server: Running) -> None:
    """Responses that nobody reads do not stay in memory: the connection is aborted."""
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    request = image(cv2.imencode(".jpg", noise)[1].tobytes(), "/predict?format=image")  # the answer is larger still
    with server.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(READ_TIMEOUT / 4)
        before = len(server.server.server_state.connections)
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                sock.sendall(request)
            except TimeoutError:  # the server does not read either
                time.sleep(READ_TIMEOUT / 4)
            except ConnectionError:
                break
        else:
            pytest.fail("the connection stays open")
        while len(server.server.server_state.connections) >= before and time.monotonic() < end:
            time.sleep(0.01)
    assert_alive(server)


def test_pipelined_requests(server: Running) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with server.connect() as sock:
        sock.sendall((request + b"\r\n") * 99 + request + b"Connection: close\r\n\r\n")
        data = b""
        while received := sock.recv(65536):
            data += received
    assert data.count(b"HTTP/1.1 200 OK") == 100
