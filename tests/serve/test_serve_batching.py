"""The batcher: which images are computed together, full queues, deadlines, clients that leave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hostile_requests import GOOD, image
from running_server import GatedRuntime, Running, encoded, read_answer, running

TALL = encoded(height=160, width=80)


@pytest.fixture
def gated() -> Iterator[GatedRuntime]:
    runtime = GatedRuntime()
    yield runtime
    runtime.gate.set()


def wait_until(condition: Any) -> None:
    end = time.monotonic() + 60  # a busy machine
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def waiting(server: Running) -> int:
    return server.app.service.batcher.waiting("fake")


class Clients:
    """Requests that wait in threads."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._pool = ThreadPoolExecutor(32)

    def send(self, data: bytes = GOOD, **params: Any) -> Any:
        return self._pool.submit(httpx.post, f"{self._server.address}/predict", content=data, params=params, timeout=60)

    def block_engine(self, runtime: GatedRuntime) -> Any:
        """Close the gate, and send an image that waits behind it."""
        runtime.gate.clear()
        calls = runtime.calls
        first = self.send()
        wait_until(lambda: runtime.calls > calls)
        return first


def test_batches_hold_one_size_in_the_order_of_arrival(gated: GatedRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolopose.serve.models.physical_cores", lambda: 2)  # the engine has no replicas: whole batches
    with running(gated, batch=4, max_delay_ms=10_000) as server:  # the last image may still be decoded at the opening
        clients = Clients(server)
        futures = [clients.block_engine(gated)]
        for count, data in enumerate([GOOD, TALL, GOOD, GOOD, TALL, GOOD, GOOD, GOOD], start=1):
            futures.append(clients.send(data))
            wait_until(lambda count=count: waiting(server) == count)
        gated.gate.set()
        assert all(len(future.result().json()["poses"]) == 1 for future in futures)
        counts = [(shape[0], shape[2:]) for shape in gated.shapes]
        assert counts == [(1, (128, 160)), (4, (128, 160)), (2, (160, 96)), (2, (128, 160))]


def test_a_single_client_does_not_wait_for_others(gated: GatedRuntime) -> None:
    with running(gated, max_delay_ms=10_000) as server:
        started = time.monotonic()
        for _ in range(3):
            httpx.post(f"{server.address}/predict", content=GOOD, timeout=60).raise_for_status()
        assert time.monotonic() - started < 9


def test_full_queue(gated: GatedRuntime) -> None:
    with running(gated, queue=3, batch=1) as server:
        clients = Clients(server)
        futures = [clients.block_engine(gated)]
        for count in range(1, 4):
            futures.append(clients.send())
            wait_until(lambda count=count: waiting(server) == count)
        refused = httpx.post(f"{server.address}/predict", content=GOOD)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
        assert httpx.get(f"{server.address}/healthz").status_code == 200
        assert 'yolopose_waiting_images{model="fake"} 3.0' in httpx.get(f"{server.address}/metrics").text
        gated.gate.set()
        assert [future.result().status_code for future in futures] == [200] * 4
        assert httpx.post(f"{server.address}/predict", content=GOOD).status_code == 200


def test_deadlines(gated: GatedRuntime) -> None:
    with running(gated, timeout=20) as server:
        clients = Clients(server)
        first = clients.block_engine(gated)
        late = clients.send(timeout=0.2).result()
        assert (late.status_code, late.json()["error"]["code"]) == (504, "timeout")
        assert waiting(server) == 0
        calls = gated.calls
        gated.gate.set()
        assert first.result().status_code == 200
        assert gated.calls == calls  # the late one was not computed


def test_a_client_that_leaves_is_not_computed(gated: GatedRuntime) -> None:
    with running(gated, batch=1) as server:
        clients = Clients(server)
        first = clients.block_engine(gated)
        connections = []
        for count in range(1, 4):
            connections.append(server.connect())
            connections[-1].sendall(image(GOOD))
            wait_until(lambda count=count: waiting(server) == count)
        connections[0].close()
        connections[2].close()
        wait_until(lambda: waiting(server) == 1)
        calls = gated.calls
        gated.gate.set()
        assert first.result().status_code == 200
        assert read_answer(connections[1]).status == 200
        connections[1].close()
        assert gated.calls == calls + 1


def test_models_take_turns(gated: GatedRuntime) -> None:
    """A flood of requests to one model does not keep another one waiting."""
    with running(gated, model="fake=a.onnx,other=b.onnx", batch=1) as server:
        clients = Clients(server)
        first = clients.block_engine(gated)
        order: list[str] = []
        futures = []
        for count in range(1, 7):
            futures.append(clients.send())
            wait_until(lambda count=count: waiting(server) == count)
        futures.append(clients.send(model="other"))
        wait_until(lambda: server.app.service.batcher.waiting("other") == 1)
        for name, future in zip(["fake"] * 6 + ["other"], futures, strict=True):
            future.add_done_callback(lambda _, name=name: order.append(name))
        gated.gate.set()
        assert all(future.result().status_code == 200 for future in [first, *futures])
        wait_until(lambda: len(order) == 7)
        assert "other" in order[:3]


def test_decoded_pixels_do_not_wait_in_the_queue(gated: GatedRuntime) -> None:
    from yolopose.serve.batching import Batcher

    jobs = []
    put = Batcher.put
    with running(gated, batch=1) as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batcher, "put", lambda self, job: (jobs.append(job), put(self, job)))
        data = encoded(".jpg", 1500, 2000)
        assert httpx.post(f"{server.address}/predict", content=data, timeout=60).status_code == 200
        assert jobs[0].pixels.shape == (3, 128, 160)


def test_memory_of_bodies_is_limited(gated: GatedRuntime) -> None:
    with running(gated, max_body_mb=0.5) as server:
        connections = [server.connect() for _ in range(17)]
        for sock in connections:
            sock.sendall(b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 524288\r\n\r\n")
        statuses = [read_answer(connections[-1]).status]
        assert statuses == [429]
        for sock in connections:
            sock.close()
        wait_until(lambda: not server.server.server_state.tasks)
        assert httpx.post(f"{server.address}/predict", content=GOOD).status_code == 200


def test_stopping_finishes_running_requests(gated: GatedRuntime) -> None:
    with running(gated) as server:
        clients = Clients(server)
        futures = [clients.block_engine(gated), clients.send(), clients.send()]
        wait_until(lambda: waiting(server) == 2)
        server.server.handle_exit(15, None)
        ready = server.app.service
        assert ready.draining
        time.sleep(0.3)
        threading.Timer(0.2, gated.gate.set).start()
        assert [future.result().status_code for future in futures] == [200] * 3


def test_an_engine_error_reaches_only_its_batch() -> None:
    class Failing(GatedRuntime):
        def infer(self, batch: Any, **options: Any) -> Any:
            if batch.shape[2:] == (160, 96):
                raise MemoryError
            return super().infer(batch, **options)

    with running(Failing()) as server:
        clients = Clients(server)
        futures = [clients.send(data) for data in [GOOD, TALL] * 4]
        assert [future.result().status_code for future in futures] == [200, 500] * 4


def test_synchronous_prediction() -> None:
    """The synchronous interface, which the Python backend of Triton uses, computes images of any sizes in order."""
    from running_server import make_app

    app = make_app()
    model = app.service.store.get()
    results = model.predict([GOOD, TALL, GOOD], app.service.defaults(model))
    assert [result.orig_shape for result in results] == [(120, 160), (160, 80), (120, 160)]
    app.service.close()
