# ruff: noqa: S104  # addresses that need a key
"""Who may use the server: keys, addresses, names, origins."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hostile_requests import GOOD
from running_server import Running, make_app, running, serve_options

from yolopose.base.errors import NotFoundError, UsageError
from yolopose.serve import access
from yolopose.serve.access import KeySet, access_policy, is_local

KEY, SECOND, ADMIN = "k" * 32, "second-key-of-this-server", "administrator-of-the-server"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys.txt").write_text(f"# clients\n{KEY}\n\n{SECOND}\n")
    (folder / "admin.txt").write_text(ADMIN)
    with running(api_key_file=str(folder / "keys.txt"), admin_key_file=str(folder / "admin.txt")) as server:
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


PROTECTED = [
    ("POST", "/predict"), ("GET", "/models"), ("GET", "/metrics"), ("GET", "/v2"), ("GET", "/v2/models/fake"),
    ("POST", "/v2/models/fake/infer"), ("POST", "/v2/repository/index"), ("POST", "/v2/repository/models/fake/load"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_key_is_required(method: str, path: str, keyed: Running) -> None:
    for headers in ({}, bearer("wrong" * 5), bearer(KEY[:-1]), bearer(KEY + "k"), {"X-API-Key": "é"}):
        encoded = {name: value.encode() for name, value in headers.items()}
        response = httpx.request(method, keyed.address + path, headers=encoded, content=GOOD)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert KEY not in response.text


def test_keys_are_accepted(keyed: Running) -> None:
    for headers in (bearer(KEY), bearer(SECOND), {"X-API-Key": KEY}, {"Authorization": f"bearer {KEY}"}):
        assert httpx.post(f"{keyed.address}/predict", content=GOOD, headers=headers).status_code == 200
    # a proxy may use any name with a key
    named = httpx.post(f"{keyed.address}/predict", content=GOOD, headers={**bearer(KEY), "Host": "poses.example"})
    assert named.status_code == 200


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/v2/health/live"])
def test_pages_and_health_need_no_key(path: str, keyed: Running) -> None:
    assert httpx.get(keyed.address + path).status_code == 200


def test_admin_key_replaces_models(keyed: Running) -> None:
    url = f"{keyed.address}/v2/repository/models/fake/load"
    assert httpx.post(url, headers=bearer(KEY)).status_code == 401  # the key of a client is not enough
    assert httpx.post(url, headers=bearer(ADMIN), json={}).json()["version"] == "2"
    for body in ({"parameters": {"config": "{}"}}, {"parameters": {"file:1/model.onnx": "AAAA"}}, [1]):
        assert httpx.post(url, headers=bearer(ADMIN), json=body).status_code == 400
    assert httpx.post(url.replace("load", "unload"), headers=bearer(ADMIN)).status_code == 400
    other = url.replace("fake", "..%2F..%2Fetc")
    assert httpx.post(other, headers=bearer(ADMIN)).status_code == 404


def test_comparison_takes_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key is compared by `hmac.compare_digest`, on hashes of one length, also after a match."""
    compared: list[tuple[int, int]] = []
    original = hmac.compare_digest

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((len(first), len(second)))
        return original(first, second)

    monkeypatch.setattr(access.hmac, "compare_digest", compare)
    keys = KeySet(["a" * 16, "b" * 20, "c" * 1000])
    for key in ("a" * 16, "c" * 1000, "", "wrong"):
        compared.clear()
        assert (key in keys) == (key[:1] in ("a", "c"))
        assert compared == [(32, 32)] * 3
    assert "a" * 16 not in vars(keys).values()


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("[::1]", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("192.168.1.4", False), ("example.org", False), ("", False), ("localhost.evil.example", False)],
)  # fmt: skip
def test_local_addresses(host: str, local: bool) -> None:
    assert is_local(host) == local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_other_addresses_need_a_key(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no API key is set"):
        make_app(host=host)
    assert access_policy(serve_options(host=host, insecure=True)).names is None
    (tmp_path / "keys").write_text(KEY)
    assert KEY in access_policy(serve_options(host=host, api_key_file=str(tmp_path / "keys"))).keys
    monkeypatch.setenv("YOLOPOSE_API_KEY", KEY)
    assert KEY in access_policy(serve_options(host=host)).keys


def test_the_default_address_is_this_computer() -> None:
    assert serve_options().host == "127.0.0.1"
    assert not serve_options().insecure
    with running() as server:
        assert server.server.config.host == "127.0.0.1"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "short", "\xff"])
def test_damaged_key_files(text: str, tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError):
        access_policy(serve_options(api_key_file=str(tmp_path / "keys")))
    with pytest.raises(NotFoundError):
        access_policy(serve_options(api_key_file=str(tmp_path / "missing")))


def test_names_of_the_server() -> None:
    with running(hosts="poses.lan") as server:
        for name in ("localhost", "localhost:8000", "POSES.LAN:1", "127.0.0.1", "[::1]:8000"):
            assert httpx.get(f"{server.address}/readyz", headers={"Host": name}).status_code == 200
        for name in ("evil.example", "localhost.evil.example", "evil.example:8000", ""):
            assert httpx.get(f"{server.address}/readyz", headers={"Host": name}).status_code == 421


def test_origins() -> None:
    with running(origins="https://pages.example") as server:
        own, url = f"http://127.0.0.1:{server.port}", f"{server.address}/predict"
        for origin, status in [(own, 200), ("https://pages.example", 200), ("https://evil.example", 403),
                               ("http://pages.example", 403), (f"{own}.evil.example", 403), ("null", 403)]:  # fmt: skip
            response = httpx.post(url, content=GOOD, headers={"Origin": origin})
            assert response.status_code == status
            allowed = response.headers.get("access-control-allow-origin")
            assert allowed == (origin if "pages" in origin and status == 200 else None)
        preflight: dict[str, Any] = {"Origin": "https://pages.example", "Access-Control-Request-Method": "POST"}
        response = httpx.options(url, headers=preflight)
        assert response.status_code == 204
        assert "authorization" in response.headers["access-control-allow-headers"]


def test_headers_of_responses(keyed: Running) -> None:
    for path in ("/", "/docs", "/models"):
        headers = httpx.get(keyed.address + path, headers=bearer(KEY)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "server" not in headers
    assert "frame-ancestors 'none'" in httpx.get(keyed.address).headers["content-security-policy"]
