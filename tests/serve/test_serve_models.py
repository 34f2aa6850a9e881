"""Replacing a model: no request is lost, and a damaged file changes nothing."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hostile_requests import GOOD
from running_server import GatedRuntime, make_app, run_app, serve_options

from fake_runtime import FakeRuntime
from yolopose.base.errors import WeightsError
from yolopose.runtime import Runtime
from yolopose.serve.app import PoseApp
from yolopose.serve.models import file_digest

ADMIN = "administrator-of-the-server"


def app_of(open_file: Any, **options: Any) -> PoseApp:
    return PoseApp(serve_options(**options), open_file)


def test_requests_continue_while_models_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients send without a pause while the model is replaced ten times: each request is answered by one version."""
    monkeypatch.setenv("YOLOPOSE_ADMIN_KEY", ADMIN)

    def open_file(path: Path, options: Any) -> tuple[Runtime, tuple[int, int]]:
        time.sleep(0.05)
        return FakeRuntime(), (160, 160)

    with run_app(app_of(open_file, queue=1000)) as server:
        stop = threading.Event()

        def client() -> list[int]:
            statuses: list[int] = []
            with httpx.Client() as session:
                while not stop.is_set():
                    statuses.append(session.post(f"{server.address}/predict", content=GOOD, timeout=60).status_code)
            return statuses

        with ThreadPoolExecutor(6) as pool:
            futures = [pool.submit(client) for _ in range(6)]
            url = f"{server.address}/v2/repository/models/fake/load"
            for version in range(2, 12):
                response = httpx.post(url, headers={"X-API-Key": ADMIN}, timeout=60)
                assert response.json()["version"] == str(version)
            stop.set()
            statuses = [status for future in futures for status in future.result()]
        assert set(statuses) == {200}
        assert len(statuses) >= 6
        assert httpx.get(f"{server.address}/v2/models/fake").json()["versions"] == ["11"]


def test_waiting_images_are_computed_by_the_model_of_their_arrival() -> None:
    engines = [GatedRuntime(), GatedRuntime()]
    opened = iter(engines)

    app = app_of(lambda path, options: (next(opened), (160, 160)), batch=4)
    with run_app(app) as server, ThreadPoolExecutor(4) as pool:
        old, new = engines
        for engine in engines:
            engine.shapes.clear()
        old.gate.clear()
        calls = old.calls

        def send() -> Any:
            return pool.submit(httpx.post, f"{server.address}/predict", content=GOOD, timeout=60)

        futures = [send()]
        while old.calls == calls:
            time.sleep(0.01)
        futures += [send(), send()]
        while server.app.service.batcher.waiting("fake") < 2:
            time.sleep(0.01)
        old.shapes.clear()
        server.app.service.store.load("fake")
        new.shapes.clear()
        futures.append(send())
        while server.app.service.batcher.waiting("fake") < 3:
            time.sleep(0.01)
        old.gate.set()
        assert [future.result().status_code for future in futures] == [200] * 4
        assert sum(shape[0] for shape in old.shapes) == 3
        assert sum(shape[0] for shape in new.shapes) == 1


@pytest.mark.parametrize("kind", ["opening", "computing"])
def test_a_damaged_file_changes_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLOPOSE_ADMIN_KEY", ADMIN)
    count = 0

    class Broken(FakeRuntime):
        def infer(self, batch: Any, **options: Any) -> Any:
            raise RuntimeError("/secret/weights.onnx is damaged")

    def open_file(path: Path, options: Any) -> tuple[Runtime, tuple[int, int]]:
        nonlocal count
        count += 1
        if count > 1 and kind == "opening":
            raise WeightsError("/secret/weights.onnx is damaged")
        return FakeRuntime() if count == 1 else Broken(), (160, 160)

    with run_app(app_of(open_file)) as server:
        url = f"{server.address}/v2/repository/models/fake/load"
        response = httpx.post(url, headers={"X-API-Key": ADMIN}, timeout=60)
        assert response.status_code == 422
        assert "secret" not in response.text
        assert httpx.get(f"{server.address}/v2/models/fake").json()["versions"] == ["1"]
        assert httpx.post(f"{server.address}/predict", content=GOOD, timeout=60).status_code == 200


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"abc")
    folder = tmp_path / "b_openvino_model"
    folder.mkdir()
    (folder / "b.xml").write_bytes(b"abc")
    first = file_digest(folder)
    assert file_digest(tmp_path / "a.onnx").startswith("ba7816bf")
    (folder / "b.bin").write_bytes(b"")
    assert file_digest(folder) != first


def test_a_model_that_cannot_be_opened_stops_the_start() -> None:
    def fail(path: Path, options: Any) -> Any:
        raise WeightsError("damaged")

    with pytest.raises(WeightsError):
        app_of(fail)
    make_app().service.close()
