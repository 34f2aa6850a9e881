from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from source_images import load_all

from yolopose.base.errors import NotFoundError, SourceError, UsageError
from yolopose.predict.sources import open_source
from yolopose.predict.sources.base import LoadedImage


def img(shade: int, size: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full((*size, 3), shade, np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for shade, name in enumerate(("b.png", "a.PNG", "c d é.bmp"), start=1):
        (tmp_path / name).write_bytes(cv2.imencode(".png", img(shade))[1].tobytes())
    (tmp_path / "notes.md").write_text("no image")
    (tmp_path / "._a.png").write_text("rubbish that macOS leaves")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/z.png").write_bytes(cv2.imencode(".png", img(9))[1].tobytes())
    return tmp_path


def read(source: Any) -> list[LoadedImage]:
    return list(load_all(open_source(source), ahead=2))


def shades(source: Any) -> list[int]:
    return [int(item.image[0, 0, 0]) for item in read(source)]


def test_file_as_str_and_path(folder: Path) -> None:
    for source in (str(folder / "b.png"), folder / "b.png"):
        (item,) = read(source)
        assert (item.path, item.image.shape, item.image[0, 0, 0]) == (str(folder / "b.png"), (20, 30, 3), 1)


def test_folder_is_sorted_by_name(folder: Path) -> None:
    assert shades(folder) == [2, 1, 3]
    assert open_source(folder).count == 3


def test_glob(folder: Path) -> None:
    assert shades(str(folder / "*.png")) == [1]
    assert shades(str(folder / "*")) == [2, 1, 3]
    assert shades(str(folder / "**/*.png")) == [1, 9]


def test_existing_file_precedes_glob(folder: Path) -> None:
    (folder / "b.png").rename(folder / "b[1].png")
    assert shades(str(folder / "b[1].png")) == [1]


def test_home_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    assert shades("~/b.png") == [1]


def test_list_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "inner")
    lines = f"./b.png\n\n{folder / 'c d é.bmp'}\nz.png\ninner\na.PNG\n"
    (folder / "some.txt").write_text(lines, encoding="utf-8-sig")
    assert shades(folder / "some.txt") == [1, 3, 9, 9, 2]
    (folder / "some.csv").write_text("file,label\nb.png,1\na.PNG,2\n")
    assert shades(str(folder / "some.csv")) == [1, 2]


def test_reports_line_of_list_file(folder: Path) -> None:
    (folder / "some.txt").write_text("b.png\nnothere.png\n")
    with pytest.raises(NotFoundError, match=r"some\.txt, line 2: .*nothere\.png"):
        open_source(folder / "some.txt")


@pytest.mark.parametrize(
    ("array", "shade"),
    [
        (img(7), 7),
        (img(7)[:, :, 0], 7),
        (img(7)[:, :, :1], 7),
        (np.dstack((img(7), np.zeros((20, 30, 1), np.uint8))), 7),
        (img(7).astype(np.uint16) * 256, 7),
        (img(51).astype(np.float32) / 255, 51),
    ],
)
def test_arrays(array: np.ndarray, shade: int) -> None:
    (item,) = read(array)
    assert item.path == "image0.jpg"
    assert item.image.shape == (20, 30, 3)
    assert (item.image == shade).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "I;16", "1"])
def test_pillow_modes(mode: str) -> None:
    image_module = pytest.importorskip("PIL.Image")
    colors = np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8).repeat(4, axis=0)
    source = image_module.fromarray(colors)
    if mode == "I;16":
        source = image_module.fromarray(np.array([[0, 65535]], np.uint16))
    elif mode != "RGB":
        source = source.convert(mode)
    (item,) = read(source)
    assert item.path == "image0.jpg"
    if mode in ("RGB", "RGBA", "P", "CMYK"):
        np.testing.assert_allclose(item.image[0], [[0, 0, 255], [255, 0, 0]], atol=1)  # BGR
    elif mode == "I;16":
        assert item.image[0, :, 0].tolist() == [0, 255]
    assert item.image.shape[2] == 3


def test_pillow_keeps_file_name(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    img = image_module.new("RGB", (20, 20))
    img.save(tmp_path / "a.png")
    source = open_source([img, image_module.open(tmp_path / "a.png")])
    assert [entry.path for entry in source.images] == ["image0.jpg", str(tmp_path / "a.png")]


def test_pillow_applies_exif_orientation() -> None:
    image_module = pytest.importorskip("PIL.Image")
    exif = image_module.Exif()
    exif[0x0112] = 6  # a quarter turn
    file = io.BytesIO()
    image_module.fromarray(img(5)).save(file, "JPEG", exif=exif)
    assert read(image_module.open(file))[0].image.shape == (30, 20, 3)


def test_truncated_pillow_file(folder: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    data = cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))[1].tobytes()
    with pytest.raises(SourceError, match="cannot be decoded"):
        read(image_module.open(io.BytesIO(data[: len(data) // 2])))


def test_bytes_of_a_file(folder: Path) -> None:
    assert shades((folder / "b.png").read_bytes()) == [1]
    with pytest.raises(SourceError, match="cannot be decoded"):
        read(b"abc")


def test_list_keeps_order(folder: Path) -> None:
    items = read([img(5), str(folder / "b.png"), img(6), folder / "a.PNG"])
    assert [item.image[0, 0, 0] for item in items] == [5, 1, 6, 2]
    assert [item.path for item in items] == ["image0.jpg", str(folder / "b.png"), "image2.jpg", str(folder / "a.PNG")]


def test_slow_first_image_keeps_order(tmp_path: Path) -> None:
    sizes = [(1500, 1500), *((8, 8),) * 12]
    for index, size in enumerate(sizes):
        (tmp_path / f"{index:02}.png").write_bytes(cv2.imencode(".png", img(index, size))[1].tobytes())
    assert shades(tmp_path) == list(range(13))


def test_unreadable_image_among_others(folder: Path) -> None:
    (folder / "b.png").write_bytes(b"rubbish")
    items = read([folder / "a.PNG", folder / "b.png", np.zeros((0, 0, 3), np.uint8), img(4)])
    assert [item.error is None for item in items] == [True, False, False, True]
    assert "b.png" in (items[1].error or "")


@pytest.mark.parametrize("content", [b"", b"rubbish", cv2.imencode(".jpg", img(1))[1].tobytes()[:-40]])
def test_single_unreadable_image_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(SourceError, match=r"bad\.jpg"):
        read(tmp_path / "bad.jpg")


@pytest.mark.parametrize("source", [None, [], (), {}, {"a": 1}, 1.5, True, object(), "", " ", [[]], iter([])])
def test_refuses_unknown_sources(source: Any) -> None:
    with pytest.raises(UsageError):
        open_source(source)


@pytest.mark.parametrize("name", ["nothere.jpg", "nothere", "no/such/*.jpg", "empty", "empty/*", "a\0b", "x" * 5000])
def test_refuses_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFoundError):
        open_source(name)


def test_empty_folder_lists_supported_formats(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="jpg"):
        open_source(tmp_path)


def test_file_named_like_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0").write_bytes(cv2.imencode(".png", img(8))[1].tobytes())
    monkeypatch.chdir(tmp_path)
    assert shades("0") == [8]


def test_open_files(folder: Path) -> None:
    with (folder / "b.png").open("rb") as file:
        (item,) = read(file)
    assert (item.path, item.image[0, 0, 0]) == (str(folder / "b.png"), 1)
    (item,) = read(io.BytesIO((folder / "b.png").read_bytes()))
    assert (item.path, item.image[0, 0, 0]) == ("image0.jpg", 1)
    with (folder / "notes.md").open() as file, pytest.raises(UsageError, match="'rb'"):
        open_source(file)
    with pytest.raises(SourceError, match="closed"):
        open_source(file)


def test_csv_path_column(folder: Path) -> None:
    (folder / "some.csv").write_text("id,image\n1,b.png\n2,a.PNG\n")
    assert shades(folder / "some.csv") == [1, 2]


def test_refuses_nested_lists(folder: Path) -> None:
    (folder / "one.txt").write_text("b.png\n")
    (folder / "two.txt").write_text("one.txt\n")
    with pytest.raises(SourceError, match=r"two\.txt, line 1: .*is a list"):
        open_source(folder / "two.txt")


def test_reduced_decoding_keeps_full_size(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), img(9, (1200, 1601)))
    cv2.imwrite(str(tmp_path / "b.png"), img(9, (1200, 1601)))
    large, other = load_all(open_source(tmp_path, reduce_to=640), ahead=1)
    assert (large.image.shape, large.full_size) == ((600, 801, 3), (1200, 1601))
    assert (other.image.shape, other.full_size) == ((1200, 1601, 3), None)


def test_closing_early_stops_decoding(folder: Path) -> None:
    items = load_all(open_source([folder] * 50), ahead=2)
    assert next(items).error is None
    items.close()
    assert list(items) == []
