from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from servers import Answer, Server, cut, redirect, whole
from yolopose.base import download as room
from yolopose.base.addresses import recorded_address
from yolopose.base.download import DownloadSpec, download, git_blob_id, verify_checksum
from yolopose.base.errors import DownloadError, WeightsError

BODY = bytes(range(256)) * 5000


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "content " * 100)
    return data.getvalue()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_delay_factor", lambda: 0.0)


def fetch(server: Server, folder: Path, answer: Answer, **options: object) -> Path:
    server.answers["/f"] = answer
    spec = {
        "url": f"{server.address}/f",
        "title": "f",
        "max_bytes": 10_000_000,
        "manual_hint": "put it there.",
    }
    return download(DownloadSpec(**{**spec, **options}), folder / "f.bin")


def rest(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_downloads_and_records_checksum_and_source(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fetch(server, tmp_path, whole(BODY), license="AGPL-3.0")
    assert path.read_bytes() == BODY
    assert rest(tmp_path) == ["f.bin", "f.bin.sha256"]
    digest = hashlib.sha256(BODY).hexdigest()
    assert (tmp_path / "f.bin.sha256").read_text() == f"{digest}  f.bin\n# {recorded_address(f'{server.address}/f')}\n"
    shown = capsys.readouterr().out
    assert "(AGPL-3.0)" in shown
    assert digest in shown
    verify_checksum(path)
    path.write_bytes(BODY[1:])
    with pytest.raises(DownloadError, match="has changed since it was downloaded"):
        verify_checksum(path)


@pytest.mark.parametrize("times", [1, 3])
def test_resumes_interrupted_downloads(times: int, server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path, cut(BODY, 500_000, times)).read_bytes() == BODY
    assert server.seen[-1] == ("/f", "bytes=500000-")


def test_keeps_partial_downloads_for_the_next_run(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="to resume"):
        fetch(server, tmp_path, cut(BODY, 300_000, 99))
    assert rest(tmp_path) == ["f.bin.part", "f.bin.part.tag"]
    assert fetch(server, tmp_path, whole(BODY)).read_bytes() == BODY
    assert server.seen[-1] == ("/f", "bytes=300000-")
    assert rest(tmp_path) == ["f.bin", "f.bin.sha256"]


def test_restarts_when_the_file_has_changed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, cut(BODY, 300_000, 99))
    other = BODY[::-1]
    assert fetch(server, tmp_path, whole(other, ETag='"2"')).read_bytes() == other


def test_restarts_without_range_support(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError):
        fetch(server, tmp_path, cut(BODY, 300_000, 99))
    assert fetch(server, tmp_path, lambda handler: handler.send(200, BODY)).read_bytes() == BODY


def test_follows_redirects(server: Server, tmp_path: Path) -> None:
    server.answers["/g"] = whole(BODY)
    assert fetch(server, tmp_path, redirect("/g")).read_bytes() == BODY


def longer(handler: object) -> None:
    handler.send(200, BODY, Content_Length=str(len(BODY) + 10))  # type: ignore[attr-defined]


def unannounced(handler: object) -> None:
    handler.send_response(200)  # type: ignore[attr-defined]
    handler.end_headers()  # type: ignore[attr-defined]
    handler.wfile.write(BODY)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("answer", "options", "message"),
    [
        (lambda handler: handler.send(404), {}, "responded 404 Not Found: the file does not exist"),
        (lambda handler: handler.send(403), {}, "responded 403"),
        (lambda handler: handler.send(503), {}, "the server responded 503"),
        (longer, {}, "Incomplete download"),
        (redirect("/f"), {}, "redirects endlessly"),
        (redirect("file:///etc/passwd"), {}, "is not allowed"),
        (redirect("ftp://example.com/x"), {}, "only https, or http to http"),
        (whole(b"<!DOCTYPE html><p>log in", Content_Type="text/html; charset=utf-8"), {}, "a web page"),
        (whole(b"\n<html>log in"), {}, "a web page"),
        (whole(b""), {}, "an empty file"),
        (whole(BODY), {"max_bytes": 1000}, "more than the limit of 0 MB"),
        (unannounced, {"max_bytes": 1_000_000}, "more than 1 MB"),
        (whole(zipped("a", "b")[:-40]), {}, "is damaged"),
        (whole(zipped("a", "b").replace(b"content", b"kontent", 1)), {}, "is damaged"),
        (whole(BODY), {"url": "file:///etc/passwd"}, "not an http or https address"),
        (whole(BODY), {"url": "http://127.0.0.1:9/f"}, "cannot be reached"),
        (whole(BODY), {"url": "http://nowhere.invalid/f"}, "cannot be reached"),
    ],
)
def test_refuses_bad_responses(
    answer: Answer, options: dict[str, object], message: str, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "f.bin").write_bytes(b"older")
    with pytest.raises(DownloadError, match=message):
        fetch(server, tmp_path, answer, **options)
    assert (tmp_path / "f.bin").read_bytes() == b"older"
    assert not (tmp_path / "f.bin.sha256").exists()


def test_accepts_valid_archives(server: Server, tmp_path: Path) -> None:
    assert fetch(server, tmp_path, whole(zipped("a"))).read_bytes() == zipped("a")


def test_rejected_files_are_not_moved_to_the_target(server: Server, tmp_path: Path) -> None:
    server.answers["/f"] = whole(BODY)

    def refuse(path: Path) -> None:
        assert path.read_bytes() == BODY
        raise WeightsError("not these")

    with pytest.raises(WeightsError, match="not these"):
        download(DownloadSpec(url=f"{server.address}/f", title="f", max_bytes=10**7), tmp_path / "f.bin", refuse)
    assert "f.bin" not in rest(tmp_path)


@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_mode_sends_no_request(
    value: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLOPOSE_OFFLINE", value)
    with pytest.raises(DownloadError, match=r"offline mode.*put it there"):
        fetch(server, tmp_path, whole(BODY))
    assert not server.seen


def test_checks_disk_space_first(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(DownloadError, match="MB free"):
        fetch(server, tmp_path, whole(BODY))


def test_git_blob_id() -> None:
    # what `git hash-object` says of an empty file and of this one
    path = Path(__file__).with_name("blob.txt")
    try:
        path.write_bytes(b"hello\n")
        assert git_blob_id(path) == "ce013625030ba8dba906f756967f9e9ca394464a"
    finally:
        path.unlink()
