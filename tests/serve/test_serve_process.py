"""`yolo serve` as a process: signals, 10 000 connections, memory, no torch."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from few_images import SMALL
from yolopose import YOLO

pytest.importorskip("torch")
pytest.importorskip("onnx")
if not hasattr(signal, "SIGHUP"):
    pytest.skip("signals of Unix are needed", allow_module_level=True)

IMAGE = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("small") / "small-pose.yaml"
    file.write_text(SMALL, encoding="utf-8")
    return Path(YOLO(file).export(format="onnx", imgsz=64, simplify=False, verbose=False))


class Process:
    """A running `yolo serve`."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def post(self, **options: Any) -> httpx.Response:
        return httpx.post(f"{self.address}/predict", content=IMAGE, timeout=60, **options)

    def memory(self) -> float:
        """Resident memory, MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def loaded(self) -> str:
        return Path(f"/proc/{self.process.pid}/maps").read_text()


@contextmanager
def served(model: Path, *options: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "yolopose", "serve", f"model=small={model}", "port=0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    try:
        for line in process.stdout:
            if address := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        else:
            raise AssertionError("the server does not start")
        yield Process(process, address[0])
    finally:
        process.kill()
        process.communicate()


def test_sigterm_finishes_requests_and_ends_normally(exported: Path) -> None:
    with served(exported, "verbose=False") as server, ThreadPoolExecutor(16) as pool:
        server.post().raise_for_status()
        futures = [pool.submit(server.post) for _ in range(16)]
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        statuses = []
        for future in futures:
            # sent after the server stopped to listen, or not read completely before
            with suppress(httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                statuses.append(future.result().status_code)
        assert set(statuses) <= {200}
        assert server.process.wait(30) == 0
        assert "Traceback" not in server.process.stdout.read()


def test_sighup_reads_the_files_again(exported: Path, tmp_path: Path) -> None:
    model = Path(shutil.copyfile(exported, tmp_path / "m.onnx"))
    with served(model, "verbose=False") as server:
        first = server.post().json()["version"]
        model.write_bytes(b"damaged")
        server.process.send_signal(signal.SIGHUP)
        assert "SIGHUP" in server.process.stdout.readline()
        assert "was not replaced" in server.process.stdout.readline()
        assert server.post().json()["version"] == first
        shutil.copyfile(exported, tmp_path / "new.onnx")
        os.replace(tmp_path / "new.onnx", model)
        server.process.send_signal(signal.SIGHUP)
        server.process.stdout.readline()
        assert "version 2" in server.process.stdout.readline()
        assert httpx.get(f"{server.address}/v2/models/small").json()["versions"] == ["2"]


def test_torch_is_not_loaded(exported: Path) -> None:
    with served(exported, "verbose=False") as server:
        server.post().raise_for_status()
        assert "libtorch" not in server.loaded()
        assert "onnxruntime" in server.loaded()


def test_a_port_in_use_and_an_open_address_are_refused(exported: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for options, message in [
            ([f"port={listener.getsockname()[1]}"], "the port is in use"),
            (["host=0.0.0.0", "port=0"], "no API key is set"),
        ]:
            command = [sys.executable, "-m", "yolopose", "serve", f"model={exported}", *options]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert done.returncode == 1
            assert message in done.stderr
            assert "Traceback" not in done.stderr


def first_bytes(sock: socket.socket) -> bytes:
    """Return what the server sent; nothing for a connection that it keeps open or has reset."""
    sock.settimeout(0.01)
    with suppress(OSError):
        return sock.recv(4096)
    return b""


def test_ten_thousand_connections(exported: Path) -> None:
    """Connections above the limit are refused; the others, idle ones too, do not keep the server from answering."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 11_000:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(11_000, hard)), hard))
    connections: list[socket.socket] = []
    with served(exported, "verbose=False", "connections=500", "read_timeout=3") as server:
        host, port = server.address.removeprefix("http://").split(":")
        before = server.memory()
        try:
            limits = httpx.Limits(keepalive_expiry=600)
            with httpx.Client(limits=limits) as client:  # connected before the others
                assert client.get(f"{server.address}/healthz").status_code == 200
                for number in range(10_000):
                    sock = socket.create_connection((host, int(port)), timeout=20)
                    connections.append(sock)
                    if number % 3 == 0:
                        with suppress(ConnectionError):
                            sock.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nabc")
                response = client.post(f"{server.address}/predict", content=IMAGE, timeout=60)
                assert response.status_code == 200
            refused = next(
                answer for sock in reversed(connections) if (answer := first_bytes(sock)).startswith(b"HTTP/1.1 503")
            )
            head, _, body = refused.partition(b"\r\n\r\n")
            assert f"Content-Length: {len(body)}".encode() in head
            assert json.loads(body)["error"]["code"] == "connections"
            end = time.monotonic() + 30  # idle connections are closed in time, so that others get their place
            while time.monotonic() < end:
                with suppress(httpx.HTTPError):
                    if httpx.get(f"{server.address}/readyz").status_code == 200:
                        break
                time.sleep(0.2)
            server.post().raise_for_status()
            assert server.memory() - before < 150
        finally:
            for sock in connections:
                sock.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_memory_stays_flat(exported: Path) -> None:
    with served(exported, "verbose=False") as server, httpx.Client() as client, ThreadPoolExecutor(8) as pool:

        def send(count: int) -> None:
            for _ in range(count):
                client.post(f"{server.address}/predict", content=IMAGE, timeout=60).raise_for_status()

        send(100)
        before = server.memory()
        list(pool.map(send, [100] * 8))
        assert server.memory() - before < 60
