from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from make_video import make
from source_images import load_all

from servers import Server, whole
from stream_server import page, refused, stream
from yolopose.base.errors import DownloadError, NotFoundError, SourceError
from yolopose.predict.sources import open_source
from yolopose.predict.sources.base import LoadedImage
from yolopose.predict.sources.urls import stream_feed

PNG = cv2.imencode(".png", np.full((4, 5, 3), 7, np.uint8))[1].tobytes()


def read(source: object) -> list[LoadedImage]:
    return list(load_all(open_source(source), ahead=2))


@pytest.mark.parametrize(
    ("path", "headers", "name"),
    [("/a.png", {}, "a.png"), ("/shot", {"Content_Type": "image/png"}, "image"), ("/p%20q.png?x=1", {}, "p q.png")],
)
def test_downloads_images(server: Server, path: str, headers: dict[str, str], name: str) -> None:
    server.answers[path] = whole(PNG, **headers)
    (item,) = read(server.address + path)
    assert (item.path, item.image.shape, int(item.image[0, 0, 0])) == (name, (4, 5, 3), 7)


@pytest.mark.parametrize(("path", "kind"), [("/a.mp4", "text/plain"), ("/clip", "video/mp4"), ("/a.ts", "video/mp2t")])
def test_downloads_finished_videos_once(server: Server, tmp_path: Path, path: str, kind: str) -> None:
    code = "mp4v"
    video = make(tmp_path / ("a.ts" if path.endswith(".ts") else "a.mp4"), code, count=4).read_bytes()
    server.answers[path] = whole(video, Content_Type=kind)
    for _ in range(2):
        items = read(server.address + path)
        assert [item.frame and item.frame.number for item in items] == [1, 2, 3, 4]
    # a last part without a suffix may be a token
    assert items[0].path == ("video" if path == "/clip" else path.lstrip("/"))
    asked = 0 if path == "/a.mp4" else 2
    assert len(server.seen) == 1 + asked


def test_detects_stream_by_content_type(server: Server) -> None:
    server.answers["/?action=stream"] = stream(range(3))
    assert open_source(f"{server.address}/?action=stream").live


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/cam", refused(404), "answers 404 Not Found: it does not exist"),
        ("/cam", refused(403), "user and password"),
        ("/cam", page, "is a web page instead of an image or stream"),
    ],
)
def test_reports_bad_url_immediately(server: Server, path: str, answer: object, message: str) -> None:
    server.answers[path] = answer  # type: ignore[assignment]
    with pytest.raises(SourceError, match=message):
        open_source(server.address + path)


def test_missing_video(server: Server) -> None:
    with pytest.raises(DownloadError, match="404"):
        read(f"{server.address}/a.mp4")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("https://www.youtube.com/watch?v=abc", r"yt-dlp .*source=video\.mp4"),
        ("https://youtu.be/abc", "yt-dlp"),
        ("s3://bucket/a.mp4", "the scheme must be http, https, .*rtsp"),
        ("http://[::1/a.jpg", "not a valid URL"),
        ("http://anna:geheim@127.0.0.1/a.jpg", r"http://\*\*\*@127\.0\.0\.1/a\.jpg is not downloaded"),
    ],
)
def test_refuses_unsupported_urls(source: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        open_source(source)
    assert "geheim" not in str(caught.value)


def test_file_urls(tmp_path: Path) -> None:
    (tmp_path / "a b.png").write_bytes(PNG)
    assert read((tmp_path / "a b.png").as_uri())[0].image.shape == (4, 5, 3)
    with pytest.raises(NotFoundError):
        open_source("file:///no/such.png")


def test_stream_names_are_unique_file_names() -> None:
    names = [stream_feed(f"rtsp://u:p@10.0.0.7:554/cam?channel={number}&pwd=x").name for number in (1, 2)]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"10_0_0_7_554_[0-9a-f]{8}", name) for name in names)  # neither user nor path nor query
