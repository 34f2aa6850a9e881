from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from make_video import STEP, make
from source_images import load_all

from yolopose.base.errors import NotFoundError, SourceError
from yolopose.predict.sources import open_source
from yolopose.predict.sources.base import LoadedImage

KINDS = [("mp4v", "mp4"), ("MJPG", "avi"), ("MJPG", "mkv"), ("VP80", "webm"), ("mp4v", "ts")]


def number_in(image: np.ndarray) -> int:
    return round(float(image[24:, :32].mean()) / STEP)


def frames(source: Any, **options: Any) -> Iterator[LoadedImage]:
    opened = open_source(source, **options)
    for entry in opened.images:
        yield entry.load()
    opened.close()


def numbers(source: Any, **options: Any) -> list[int]:
    return [item.frame.number for item in frames(source, **options) if item.frame]


@pytest.mark.parametrize(("code", "suffix"), KINDS)
def test_reads_frames_in_order(tmp_path: Path, code: str, suffix: str) -> None:
    path = make(tmp_path / f"a.{suffix}", code)
    items = list(frames(str(path)))
    assert [item.frame and item.frame.number for item in items] == list(range(1, 41))
    seen = [number_in(item.image) for item in items]
    assert np.abs(np.array(seen) - np.arange(40)).max() <= 2  # lossy
    frame = items[9].frame
    assert frame is not None
    assert (frame.total, frame.fps, frame.video, frame.live) == (40, 25.0, 0, False)
    assert frame.seconds == pytest.approx(9 / 25)
    assert {item.path for item in items} == {str(path)}


def test_animated_gif_is_a_video(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    images = [image_module.new("L", (30, 20), 60 * index) for index in range(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=100)
    assert [round(item.image.mean() / 60) for item in frames(tmp_path / "a.gif")] == [0, 1, 2, 3]


def test_stride(tmp_path: Path) -> None:
    items = list(frames(make(tmp_path / "a.avi", "MJPG", 10), vid_stride=4))
    assert [item.frame and item.frame.number for item in items] == [1, 5, 9]
    assert [number_in(item.image) for item in items] == pytest.approx([0, 4, 8], abs=1)


def test_folder_with_images_and_videos(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.full((9, 9, 3), 200, np.uint8))
    make(tmp_path / "b.mp4", count=3)
    make(tmp_path / "d.avi", "MJPG", count=2)
    items = list(frames(tmp_path))
    assert [Path(item.path).name for item in items] == ["a.png", *["b.mp4"] * 3, "c.png", *["d.avi"] * 2]
    assert [item.frame and (item.frame.video, item.frame.number) for item in items] == [
        None, (0, 1), (0, 2), (0, 3), None, (1, 1), (1, 2),
    ]  # fmt: skip
    assert open_source(tmp_path).count is None
    (tmp_path / "list.txt").write_text("d.avi\na.png\n")
    array = np.zeros((5, 5, 3), np.uint8)
    mixed = [Path(item.path).name for item in frames([array, tmp_path / "list.txt", str(tmp_path / "*.mp4")])]
    assert mixed == ["image0.jpg", "d.avi", "d.avi", "a.png", "b.mp4", "b.mp4", "b.mp4"]


def test_applies_rotation_flag(tmp_path: Path) -> None:
    data = bytearray(make(tmp_path / "a.mp4", count=3).read_bytes())
    at = data.index(b"tkhd") + 44  # after type, flags, times, track, length, layer, volume
    matrix = struct.unpack(">9i", data[at : at + 36])
    assert matrix[:2] == (1 << 16, 0)
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(data)
    (item, *_) = frames(tmp_path / "a.mp4")
    assert item.image.shape == (64, 48, 3)
    assert item.image[-16:, -16:].std() > 30  # the noisy corner, from top right to bottom right
    assert item.image[:16, -16:].std() < 10


def test_skips_damaged_frames_and_keeps_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path / "a.mkv", "MJPG")
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    items = list(frames(path))
    assert 30 <= len(items) <= 38
    for item in items:
        assert item.frame is not None
        assert abs(number_in(item.image) - (item.frame.number - 1)) <= 1
    assert "damaged frames could not be decoded" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "suffix"), [("MJPG", "avi"), ("mp4v", "mkv")])
def test_truncated_video(tmp_path: Path, capsys: pytest.CaptureFixture[str], code: str, suffix: str) -> None:
    path = make(tmp_path / f"a.{suffix}", code)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    got = numbers(path)
    assert got == list(range(1, len(got) + 1))
    assert 10 <= len(got) <= 30
    assert f"ends after {len(got)} of 40 frames" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["empty", "text", "cut"])
def test_refuses_invalid_video(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = make(tmp_path / "a.mp4", count=5)
    content = path.read_bytes()
    path.write_bytes({"empty": b"", "text": b"hello " * 99, "cut": content[: len(content) // 2]}[kind])
    with pytest.raises(SourceError, match=r"The video .*a\.mp4 (is empty|cannot be opened)"):
        list(frames(path))
    cv2.imwrite(str(tmp_path / "b.png"), np.zeros((9, 9, 3), np.uint8))
    items = list(load_all(open_source(tmp_path), ahead=2))
    assert [item.error is None for item in items] == [False, True]
    assert "a.mp4" in (items[0].error or "")
    assert "VIDEOIO" not in "".join(capfd.readouterr())  # no noise from OpenCV


def test_video_deleted_before_reading(tmp_path: Path) -> None:
    opened = open_source(make(tmp_path / "a.mp4", count=2))
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(NotFoundError, match=r"a\.mp4"):
        list(opened.images)


def test_closing_early_releases_file(tmp_path: Path) -> None:
    opened = open_source(make(tmp_path / "a.mp4"))
    entries = iter(opened.images)
    next(entries)
    opened.close()
    assert list(entries) == []


def test_real_video(shared: Path) -> None:
    items = list(frames(shared / "video/people_mmpose_demo.mp4"))
    assert [item.image.shape for item in items] == [(540, 960, 3)] * 5


@pytest.mark.slow
def test_long_real_video(shared: Path) -> None:
    assert numbers(shared / "video/mouse_openfield_m3v1.mp4", vid_stride=500) == [1, 501, 1001, 1501, 2001]
