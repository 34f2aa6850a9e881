"""Hostile names, addresses, texts, archives, servers, plots and exported files."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import socketserver
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hostile_data import JPEG, YAML, _npz, load, make_dataset, record_bytes, run_info
from hostile_runner import Case

from yolopose.base.archives import unzip
from yolopose.base.log import LOGGER
from yolopose.base.yamlfile import to_yaml
from yolopose.data.convert.conversion import convert

NAMES = (
    "/etc/passwd",
    "../outside/photo.jpg",
    "../../outside/photo.jpg",
    "a/../../outside/photo.jpg",
    "..\\outside\\photo.jpg",
    "C:\\photo.jpg",
    "c:photo.jpg",
    "\\\\server\\share\\photo.jpg",
    "a\0b.jpg",
    "a\nb.jpg",
    "esc\x1b[2J\x1b]0;owned\x07.jpg",
    "",
    ".",
    "..",
    "...",
    "con.jpg",
    "NUL",
    "a" * 300 + ".jpg",
    "x/" * 600 + "a.jpg",
    "\udcff.jpg",
    "link/photo.jpg",
    "link.jpg",
    "~/photo.jpg",
    "file:///etc/passwd",
    "%2e%2e/outside/photo.jpg",
    "photo.jpg/../../../outside/photo.jpg",
    "\u202egpj.exe",
    "images/../../outside/.bashrc",
)


def _links(folder: Path) -> None:
    """Links below the folder that lead out of it."""
    (folder / "link").symlink_to("../outside")
    (folder / "link.jpg").symlink_to("../outside/photo.jpg")


# -- kind 1: paths ------------------------------------------------------------------------------------------------


def _coco(name: str) -> tuple[str, str]:
    annotation = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": [2, 2, 2]}
    annotation |= {"num_keypoints": 1, "iscrowd": 0, "area": 81}
    return "person_keypoints_val.json", json.dumps(
        {
            "images": [{"id": 0, "width": 64, "height": 64, "file_name": name}],
            "annotations": [annotation],
            "categories": [{"id": 1, "name": "x", "keypoints": ["a"], "skeleton": []}],
        }
    )


def _ndjson(name: str) -> tuple[str, str]:
    head = {"type": "dataset", "task": "pose", "name": "x", "class_names": {"0": "a"}, "kpt_shape": [1, 3]}
    image = {"type": "image", "file": name, "width": 64, "height": 64, "split": "val"}
    image["annotations"] = {"pose": [[0, 0.5, 0.5, 0.2, 0.2, 0.5, 0.5, 2]]}
    return "set.ndjson", f"{json.dumps(head)}\n{json.dumps(image)}\n"


def _labelme(name: str) -> tuple[str, str]:
    shapes = [
        {"label": "x", "shape_type": "rectangle", "points": [[1, 1], [9, 9]], "group_id": 1, "flags": {}},
        {"label": "a", "shape_type": "point", "points": [[3, 3]], "group_id": 1, "flags": {}},
    ]
    values = {"version": "5.0", "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None}
    return "a.json", json.dumps({**values, "imageHeight": 64, "imageWidth": 64})


def _via(name: str) -> tuple[str, str]:
    region = {"shape_attributes": {"name": "point", "cx": 3, "cy": 3}, "region_attributes": {"name": "a"}}
    return "via.json", json.dumps(
        {f"{name}100": {"filename": name, "size": 100, "regions": [region], "file_attributes": {}}}
    )


def _label_studio(name: str) -> tuple[str, str]:
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["x"]}
    point = {"x": 12, "y": 12, "width": 0.5, "keypointlabels": ["a"]}
    result = [
        {
            "id": "r",
            "type": "rectanglelabels",
            "from_name": "b",
            "to_name": "i",
            "original_width": 64,
            "original_height": 64,
            "value": value,
        },
        {
            "id": "k",
            "type": "keypointlabels",
            "from_name": "k",
            "to_name": "i",
            "parentID": "r",
            "original_width": 64,
            "original_height": 64,
            "value": point,
        },
    ]
    data = {"image": f"/data/local-files/?d={name}"}
    return "tasks.json", json.dumps([{"id": 1, "data": data, "annotations": [{"id": 1, "result": result}]}])


def _cvat(name: str) -> tuple[str, str]:
    from xml.sax.saxutils import quoteattr

    clean = "".join(letter for letter in name if letter.isprintable())
    return "annotations.xml", (
        f'<annotations><version>1.1</version><image id="0" name={quoteattr(clean)} width="64" height="64">'
        '<skeleton label="x"><points label="a" occluded="0" outside="0" points="3,3"/></skeleton></image></annotations>'
    )


def _mot(name: str) -> tuple[str, str]:
    return "x.csv", f"scorer,,,s,s\nbodyparts,,,a,a\ncoords,,,x,y\nlabeled-data,v,{name},3,3\n"


_WRITERS: dict[str, Callable[[str], tuple[str, str]]] = {
    "COCO": _coco,
    "NDJSON": _ndjson,
    "Labelme": _labelme,
    "VIA": _via,
    "Label Studio": _label_studio,
    "CVAT": _cvat,
    "DeepLabCut": _mot,
}


def foreign_names() -> Iterator[Case]:
    """Names of images in the files of labeling tools."""
    for tool, write in _WRITERS.items():
        for index, name in enumerate(NAMES):

            def run(folder: Path, write: Callable[[str], tuple[str, str]] = write, name: str = name) -> str:
                source = folder / "input"
                source.mkdir()
                _links(folder)
                file, text = write(name)
                (source / file).write_bytes(text.encode("utf-8", "surrogatepass"))
                (source / "photo.jpg").write_bytes(JPEG)
                return str(convert(source / file, folder / "out", to="yolo"))[:100]

            yield Case(1, f"{tool}: image name {index} ({name[:30]!r})", "convert", run, _no_link_out)


def _no_link_out(work: Path) -> str:
    outside = (work.parent / "outside/photo.jpg").stat()
    for path in (work / "out").rglob("*") if (work / "out").exists() else ():
        if path.is_symlink() or (path.is_file() and path.stat().st_ino == outside.st_ino):
            return f"{path.name} is a file from outside"
        if path.is_file() and path.stat().st_size == outside.st_size:
            return f"{path.name} is a copy of a file from outside"
    return ""


def class_folders() -> Iterator[Case]:
    """Class names as folders of crops, names of images as names of results."""
    for index, name in enumerate(NAMES):

        def run(folder: Path, name: str = name) -> str:
            from yolopose.results import Results

            os.makedirs("out")
            boxes = np.array([[1, 1, 60, 60, 0.9, 0]], np.float32)
            result = Results(
                np.zeros((64, 64, 3), np.uint8),
                path="a.jpg",
                names={0: name},
                boxes=boxes,
                keypoints=np.zeros((1, 1, 3), np.float32),
            )
            files = result.save_crop("out/crops")
            if any(not path.resolve().is_relative_to(Path("out/crops").resolve()) for path in files):
                raise AssertionError("a crop is outside")
            if any(path.parent.resolve() == Path("out/crops").resolve() for path in files):
                raise AssertionError("a crop is beside the folders of the classes")
            return str(len(files))

        yield Case(1, f"class name {index} as folder ({name[:30]!r})", "predict save_crop", run)


def record_names() -> Iterator[Case]:
    """Names of images in run records."""
    with np.load(io.BytesIO(record_bytes())) as archive:
        arrays = {name: archive[name] for name in archive.files}
    count = len(arrays["image_size"])
    for index, name in enumerate(NAMES):
        if "\0" in name:
            continue
        names = np.frombuffer("\0".join([name] * count).encode(errors="surrogateescape"), np.uint8)
        for root in (".", "/", "../outside"):
            info = np.frombuffer(json.dumps(run_info(root)).encode(), np.uint8)

            def run(folder: Path, names: Any = names, info: Any = info) -> str:
                from yolopose.evaluate.page.build import make_report
                from yolopose.evaluate.record import RECORD_FILE

                _links(folder)
                (folder / "run").mkdir()
                sizes = np.tile(np.array([[1080, 810]], np.int32), (count, 1))
                data = _npz({**arrays, "image_names": names, "run_info": info, "image_size": sizes})
                (folder / "run" / RECORD_FILE).write_bytes(data)
                return str(make_report(folder / "run").stat().st_size)

            def check(work: Path, root: str = root) -> str:
                page = work / "run/report.html"
                has_image = page.exists() and b'"jpeg":"' in page.read_bytes()
                return "the page has an image from outside" if has_image and root == "." else ""

            if root == "." or index < 4:
                yield Case(1, f"run record: image name {index}, root {root}", "report", run, check)


def archive_names() -> Iterator[Case]:
    """Names of files in archives."""
    for index, name in enumerate(NAMES):

        def run(folder: Path, name: str = name) -> str:
            (folder / "input").mkdir()
            path = folder / "input/a.zip"
            with zipfile.ZipFile(path, "w") as archive:
                info = zipfile.ZipInfo("x")
                info.filename = name.encode("utf-8", "replace").decode()
                archive.writestr(info, b"data")
                archive.writestr("labels/a.txt", b"0")
            return str(unzip(path, folder / "out", 1 << 20))[-20:]

        yield Case(7, f"zip: file name {index} ({name[:30]!r})", "unzip", run)


# -- kind 2: names and content ------------------------------------------------------------------------------------


def cache_names() -> Iterator[Case]:
    """Files of two addresses never share an entry of the cache."""
    pairs = (
        ("http://{}/a/w.pt", "http://{}/b/w.pt"),
        ("http://{}/a/w.pt?x=1", "http://{}/a/w.pt?x=2"),
        ("http://{}/a/w.pt", "http://{}/a/./w.pt"),
        ("http://u:p@{}/a/w.pt", "http://v:p@{}/a/w.pt"),
        ("http://{}/yolo11n-pose.pt", "http://{}/b/yolo11n-pose.pt"),
        ("http://{}/a/%77.pt", "http://{}/a/w.pt"),
    )
    for first, second in pairs:

        def run(folder: Path, first: str = first, second: str = second) -> str:
            from yolopose.model.weights_download import _check_weights, weights_from_url  # noqa: F401

            with _server(lambda path: _answer(path.encode() * 10)) as host, _online(), _no_check():
                paths = [weights_from_url(address.format(host)) for address in (first, second)]
                again = [weights_from_url(address.format(host)) for address in (first, second)]
            if paths[0] == paths[1] or paths != again:
                raise AssertionError("two addresses share a file")
            names = {path.name for path in Path(os.environ["YOLOPOSE_WEIGHTS_DIR"]).glob("*.pt")}
            if names:
                raise AssertionError(f"a file became {names} for every script")
            return ""

        yield Case(2, f"{first} and {second}", "weights", run)

    def other_content(folder: Path) -> str:
        from yolopose.model.hub import find_weights

        target = Path(os.environ["YOLOPOSE_WEIGHTS_DIR"])
        target.mkdir(parents=True, exist_ok=True)
        with _server(lambda path: _answer(b"PK not the weights" * 9)) as host, _online():
            os.environ["YOLOPOSE_ASSETS_URL"] = f"http://{host}"
            return str(find_weights("yolo11n-pose.pt"))

    yield Case(2, "another file under a public name", "weights", other_content, None)


# -- kind 3: secrets ----------------------------------------------------------------------------------------------

ADDRESSES = (
    "http://user:hunter2@{h}/a/b.{s}",
    "http://hunter2@{h}/b.{s}",
    "http://user:hunter2%40@{h}/b.{s}",
    "http://{h}/b.{s}?token=hunter2",
    "http://{h}/b.{s}?X-Amz-Signature=hunter2&x=1",
    "http://{h}/b.{s}#hunter2",
    "http://{h}/hunter2/b.{s}",
    "http://{h}/b.{s};sig=hunter2",
    "HTTP://user:hunter2@{h}/b.{s}",
    "http:/user:hunter2@{h}/b.{s}",
    "http:\\\\user:hunter2@{h}\\b.{s}",
    "http://user:hun/hunter2@{h}/b.{s}",
    "http://user:p@hunter2@{h}/b.{s}",
    " http://user:hunter2@{h}/b.{s}",
    "http://user:hunter2@[::1/b.{s}",
    "http://user:hunter2@{h}:99999/b.{s}",
    "ftp://user:hunter2@{h}/b.{s}",
    "s3://key:hunter2@bucket/b.{s}",
    "rtsp://user:hunter2@{h}/1.{s}",
    "rtmp://{h}/live/hunter2",
    "srt://{h}?passphrase=hunter2",
    "http://ünï:hunter2@{h}/ü b.{s}",
    "https://user:hunter2@localhost:1/b.{s}",
    "user:hunter2@{h}.example.com/b.{s}",
)


def secrets() -> Iterator[Case]:
    """Addresses with passwords, signed parameters and stream keys, in every option that takes one."""
    from yolopose import YOLO
    from yolopose.data.dataset import load_dataset
    from yolopose.predict.sources import open_source

    def predict(address: str, folder: Path) -> object:
        source = open_source(address)
        return [getattr(part, "name", "") for part in source.images] if hasattr(source, "images") else ""

    def dataset(address: str, folder: Path) -> object:
        text = YAML.replace("path: .", "path: absent") + f"download: {json.dumps(address)}\n"
        (folder / "input").mkdir()
        (folder / "input/data.yaml").write_text(text)
        return load_dataset(folder / "input/data.yaml", download=True)

    def command(*words: str) -> Callable[[str, Path], object]:
        def run(address: str, folder: Path) -> object:
            from yolopose.cli import main

            return main([word.format(address=address) for word in words])

        return run

    verbs: dict[str, tuple[str, Callable[[str, Path], object]]] = {
        "weights": ("pt", lambda address, folder: YOLO(address.strip())),
        "predict": ("jpg", predict),
        "predict video": ("mp4", predict),
        "data YAML": ("zip", dataset),
        "yolo predict": ("jpg", command("predict", "model=absent.pt", "source={address}")),
        "yolo val": ("zip", command("val", "model=absent.pt", "data={address}")),
        "yolo export": ("onnx", command("export", "model={address}")),
        "yolo batch": ("jpg", command("batch", "model=absent.pt", "source={address}", "output=out")),
        "yolo convert": ("json", command("convert", "source={address}", "output=out")),
    }
    for verb, (suffix, run) in verbs.items():
        for address in ADDRESSES:

            def open_address(folder: Path, address: str = address, suffix: str = suffix, run: Any = run) -> object:
                with _server(lambda path: _answer(JPEG, b"404 Not Found")) as host, _online(), _short_waits():
                    return str(run(address.format(h=host, s=suffix), folder))[:60]

            yield Case(3, address, verb, open_address)


# -- kind 4: texts ------------------------------------------------------------------------------------------------

TEXTS = (
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b2J",
    "\r\x1b[A",
    "a\u202eb",
    "\x08\x08\x08",
    "\x7f",
    "\u2066x",
    "=cmd|'/c calc'!A1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1",
    "<script>alert(1)</script>",
    "</script><svg onload=alert(1)>",
    "`|`\n|x|",
    "[x](javascript:1)",
)


def texts() -> Iterator[Case]:
    """Escape codes, formulas and markup in class names, file names, keys and reasons of servers."""
    from yolopose.results import Results

    for index, text in enumerate(TEXTS):

        def yaml_key(folder: Path, text: str = text) -> str:
            make_dataset(
                folder,
                to_yaml(
                    {
                        "path": ".",
                        "train": "images/val",
                        "val": "images/val",
                        "names": [text],
                        "kpt_shape": [1, 3],
                        f"{text}names": 1,
                        text: text,
                    }
                ),
            )
            return load(folder)

        def file_name(folder: Path, text: str = text) -> str:
            name = text.replace("/", "_") or "x"
            make_dataset(folder, names=(name, "b"))
            (folder / f"labels/val/{name}.txt").write_text(f"{text} bad row\n")
            return load(folder)

        def table(folder: Path, text: str = text) -> str:
            boxes = np.array([[1, 1, 60, 60, 0.9, 0]], np.float32)
            result = Results(
                np.zeros((64, 64, 3), np.uint8),
                path=f"{text}.jpg",
                names={0: text},
                boxes=boxes,
                keypoints=np.zeros((1, 1, 3), np.float32),
            )
            lines = result.to_csv().splitlines()
            if any(field[:1] in "=+@\t" for line in lines for field in line.replace('"', "").split(",") if field):
                raise AssertionError(f"a cell is a formula: {lines}")
            LOGGER.info(result.verbose())
            return ""

        def reason(folder: Path, text: str = text) -> str:
            from yolopose.model.weights_download import weights_from_url

            line = text.replace("\n", " ").replace("\r", " ").encode("utf-8")
            with _server(lambda path: b"HTTP/1.1 403 " + line + b"\r\nContent-Length: 0\r\n\r\n") as host, _online():
                return str(weights_from_url(f"http://{host}/w.pt"))

        def redirect(folder: Path, text: str = text) -> str:
            from yolopose.model.weights_download import weights_from_url

            line = (
                b"HTTP/1.1 302 x\r\nLocation: ftp://h/" + text.replace("\n", " ").replace("\r", " ").encode() + b"\r\n"
            )
            with _server(lambda path: line + b"Content-Length: 0\r\n\r\n") as host, _online():
                return str(weights_from_url(f"http://{host}/w.pt"))

        def page(folder: Path, text: str = text) -> str:
            from yolopose.evaluate.page.build import make_report
            from yolopose.evaluate.record import RECORD_FILE

            with np.load(io.BytesIO(record_bytes())) as archive:
                arrays = {name: archive[name] for name in archive.files}
            info = {**run_info(), "model": text, "data": text, "device": text, "split": text, "names": [text, "b"]}
            arrays["run_info"] = np.frombuffer(json.dumps(info).encode(), np.uint8)
            (folder / "run").mkdir()
            (folder / "run" / RECORD_FILE).write_bytes(_npz(arrays))
            content = make_report(folder / "run").read_text(encoding="utf-8")
            if "<" in text and text in content:
                raise AssertionError("markup is not escaped")
            return ""

        def option(folder: Path, text: str = text) -> str:
            from yolopose.cli import main

            return str(
                [main(["val", f"data={text}.yaml", f"model={text}.pt"]), main([text]), main(["train", f"{text}=1"])]
            )

        for verb, run in {
            "val": yaml_key,
            "val files": file_name,
            "tables": table,
            "server reason": reason,
            "server redirect": redirect,
            "report": page,
            "command line": option,
        }.items():
            yield Case(4, f"text {index} ({text[:20]!r})", verb, run)


# -- kind 7: archives ---------------------------------------------------------------------------------------------


def _zip(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return stream.getvalue()


def _claim(data: bytes, size: int) -> bytes:
    """Return an archive whose entries state another size."""
    changed = bytearray(data)
    position = changed.find(b"PK\1\2")
    while position >= 0:
        changed[position + 24 : position + 28] = struct.pack("<I", size)
        position = changed.find(b"PK\1\2", position + 4)
    changed[22:26] = struct.pack("<I", size)
    return bytes(changed)


def archive_files() -> dict[str, Callable[[], bytes]]:
    """Return hostile archives by description."""
    zeros = 64 << 20

    def bomb(method: int) -> Callable[[], bytes]:
        return lambda: _claim(_zip(("a.jpg", bytes(zeros)), method=method), 1000)

    def overlap() -> bytes:
        data = _zip(("a", bytes(1 << 20)))
        end = data.find(b"PK\1\2")
        entry = data[end : data.find(b"PK\5\6")]
        entries = b"".join(entry[:46] + bytes([97 + i // 26 % 26]) + entry[47:] for i in range(2000))
        return data[:end] + entries + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 2000, 2000, len(entries), end, 0)

    return {
        "bzip2 that claims 1 000 bytes": bomb(zipfile.ZIP_BZIP2),
        "LZMA that claims 1 000 bytes": bomb(zipfile.ZIP_LZMA),
        "deflate that claims 1 000 bytes": bomb(zipfile.ZIP_DEFLATED),
        "deflate of 64 MB": lambda: _zip(("a.jpg", bytes(zeros))),
        "an entry of 4 GB": lambda: _claim(_zip(("a.jpg", b"x" * 100)), 2**32 - 2),
        "2 000 entries that share bytes": overlap,
        "an archive in an archive": lambda: _zip(("a.zip", _zip(("b.zip", bytes(1 << 20))))),
        "a link": lambda: _zip_link("link", "/etc/passwd"),
        "encrypted": lambda: (
            _zip(("a", b"x"))
            .replace(b"PK\3\4\x14\0\0\0", b"PK\3\4\x14\0\1\0")
            .replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")
        ),
        "a file and a folder of one name": lambda: _zip(("a", b"x"), ("a/b", b"y")),
        "two files of one name": lambda: _zip(("a", b"x"), ("b", b"y")).replace(b"b", b"a"),
        "an empty archive": lambda: _zip(),
        "not an archive": lambda: b"PK\3\4" + bytes(500),
        "the end record only": lambda: b"PK\5\6" + bytes(18),
        "a directory of 3 GB": lambda: b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, 3 << 30, 0, 0),
        "a directory beyond the file": lambda: _zip(("a", b"x"))[:-10] + b"\xff" * 10,
        "method 99": lambda: _zip(("a", b"x"), method=0).replace(b"\x14\0\0\0\0\0", b"\x14\0\0\0\x63\0"),
        "a comment of 65 535": lambda: _zip(("a", b"x"))[:-2] + b"\xff\xff" + bytes(65_535),
        "60 000 entries": lambda: _zip(*((f"{i}", b"") for i in range(60_000)), method=0),
        "cut short": lambda: _zip(("a", os.urandom(10_000)))[:5000],
        "wrong checksum": lambda: _zip(("a", b"hello world"), method=0).replace(b"hello", b"jello"),
        "a FIFO entry": lambda: _zip_link("fifo", "", 0o010644),
        "zip64 that claims 2^62": lambda: (
            b"PK\6\6"
            + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, 2**62, 0)
            + b"PK\6\7"
            + struct.pack("<IQI", 0, 0, 1)
            + b"PK\5\6"
            + b"\xff" * 16
            + bytes(2)
        ),
    }


def _zip_link(name: str, target: str, mode: int = 0o120777) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, target)
    return stream.getvalue()


def archives() -> Iterator[Case]:
    """Archives as data sets, as downloads, and as the containers of weights, records and bundles."""
    for name, make in archive_files().items():
        _FILES[make] = make()

        def extract(folder: Path, make: Callable[[], bytes] = make) -> str:
            (folder / "a.zip").write_bytes(_made(make))
            return str(unzip(folder / "a.zip", folder / "out", 100 << 20))[-10:]

        def download(folder: Path, make: Callable[[], bytes] = make) -> str:
            from yolopose.model.weights_download import weights_from_url

            data = _made(make)
            with _server(lambda path: _answer(data)) as host, _online():
                return str(weights_from_url(f"http://{host}/a.onnx"))[-10:]

        def weights(folder: Path, make: Callable[[], bytes] = make) -> str:
            from yolopose.weights import read_checkpoint

            (folder / "a.pt").write_bytes(_made(make))
            return str(read_checkpoint(folder / "a.pt"))[:50]

        def record(folder: Path, make: Callable[[], bytes] = make) -> str:
            from yolopose.evaluate.record import load_record

            (folder / "a.npz").write_bytes(_made(make))
            return str(load_record(folder / "a.npz"))[:50]

        def bundle(folder: Path, make: Callable[[], bytes] = make) -> str:
            from yolopose.foreign.bundle import read_bundle
            from yolopose.foreign.download import read_member
            from yolopose.formats.tflite import read_appended_metadata

            (folder / "a.task").write_bytes(_made(make))
            with contextlib.suppress(ValueError):
                read_member(folder / "a.task", "a.jpg")
            read_appended_metadata(folder / "a.task")
            return str(read_bundle(folder / "a.task"))[:50]

        for verb, run in {
            "unzip": extract,
            "download": download,
            "weights": weights,
            "run record": record,
            "bundle": bundle,
        }.items():
            yield Case(7, name, verb, run)
    for name, make_tar in {
        "tar.gz of 128 MB": lambda: _tar("x", 128 << 20),
        "tar.gz whose member claims 8 GB": lambda: _tar("x", 1000, 8 << 30),
        "gzip of zeros": lambda: gzip.compress(bytes(128 << 20), 1),
    }.items():
        _FILES[make_tar] = make_tar()

        def member(folder: Path, make_tar: Callable[[], bytes] = make_tar) -> str:
            from yolopose.foreign.download import read_member

            (folder / "a.tgz").write_bytes(_made(make_tar))
            return str(len(read_member(folder / "a.tgz", "y")))

        yield Case(7, name, "bundle", member)
    for name, header in {
        "a header of 2^60": (1 << 60).to_bytes(8, "little") + b"{" + bytes(100),
        "a tensor of 2^60": _safetensors({"a": {"dtype": "F32", "shape": [1 << 58], "data_offsets": [0, 1 << 60]}}),
        "tensors that overlap": _safetensors(
            {
                "a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
                "b": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
            },
            bytes(16),
        ),
        "a shape with -1": _safetensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, bytes(4)),
        "an unknown type": _safetensors({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
        "deep metadata": _safetensors({"__metadata__": {"yolopose": "[" * 100_000}}),
        "metadata that is a list": _safetensors({"__metadata__": []}),
        "metadata of other types": _safetensors(
            {"__metadata__": {"yolopose": json.dumps({"format": 1, "epoch": 1e99})}}
        ),
        "100 000 empty tensors": _safetensors(
            {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(100_000)}
        ),
    }.items():

        def safetensors(folder: Path, header: bytes = header) -> str:
            from yolopose.weights import read_checkpoint

            (folder / "a.safetensors").write_bytes(header)
            return str(len(read_checkpoint(folder / "a.safetensors").state))

        yield Case(7, f"safetensors: {name}", "weights", safetensors)


def _safetensors(header: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def _tar(name: str, size: int, claimed: int | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        info = tarfile.TarInfo(name)
        info.size = size
        archive.addfile(info, io.BytesIO(bytes(size)))
        if claimed:
            info = tarfile.TarInfo("y")
            info.size = claimed
            archive.fileobj.write(info.tobuf())  # type: ignore[union-attr]
    return stream.getvalue()


_FILES: dict[Callable[[], bytes], bytes] = {}


def _made(make: Callable[[], bytes]) -> bytes:
    """Return what the parent has made, so that making it does not count."""
    return _FILES[make]


# -- kind 8: servers ----------------------------------------------------------------------------------------------


def _answer(body: bytes, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n" % len(body) + headers + b"\r\n" + body


@contextlib.contextmanager
def _server(answer: Callable[[str], bytes | Iterator[bytes]]) -> Iterator[str]:
    """A server that sends any bytes; yields host and port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError, IndexError):
                line = self.rfile.readline().decode("latin-1")
                while self.rfile.readline().strip():
                    pass
                sent = answer(line.split()[1])
                for part in [sent] if isinstance(sent, bytes) else sent:
                    self.wfile.write(part)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextlib.contextmanager
def _online() -> Iterator[None]:
    os.environ["YOLOPOSE_OFFLINE"] = "0"
    with _short_waits():
        yield


@contextlib.contextmanager
def _short_waits() -> Iterator[None]:
    from yolopose.base import download, http_client

    download._delay_factor = lambda: 0.0
    download._TIMEOUT = 1.0  # type: ignore[misc]
    http_client.RATE_SECONDS = 0.5
    yield


@contextlib.contextmanager
def _no_check() -> Iterator[None]:
    from yolopose.model import weights_download

    weights_download._check_weights = lambda name, path: None  # type: ignore[assignment]
    yield


def _forever(part: bytes, pause: float, first: bytes = b"") -> Iterator[bytes]:
    yield first
    while True:
        yield part
        time.sleep(pause)


SERVERS: dict[str, Callable[[str], bytes | Iterator[bytes]]] = {
    "one byte every 50 ms": lambda path: _forever(b"x", 0.05, b"HTTP/1.1 200 OK\r\n\r\n"),
    "one byte of a header every 50 ms": lambda path: _forever(b"x", 0.05, b"HTTP/1.1 200 OK\r\nX: "),
    "status 100 for ever": lambda path: _forever(b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    "status 100 every 50 ms": lambda path: _forever(b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
    "headers for ever": lambda path: _forever(b"A: b\r\n", 0, b"HTTP/1.1 200 OK\r\n"),
    "a header line for ever": lambda path: _forever(b"x" * 1000, 0, b"HTTP/1.1 200 OK\r\nA: "),
    "a chunk size that drips": lambda path: _forever(
        b"0", 0.05, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    ),
    "a chunk size of letters": lambda path: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc",
    "a chunk of 2^80": lambda path: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 20 + b"\r\nabc",
    "a length of letters": lambda path: b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nx",
    "length of a superscript": lambda path: "HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\nx".encode(),
    "length of 5 000 digits": lambda path: b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nx",
    "negative length": lambda path: b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nx",
    "length of 10^15": lambda path: b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\nx",
    "two lengths": lambda path: b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\nhello",
    "no status": lambda path: b"\r\n\r\n",
    "status 999": lambda path: _answer(b"x", b"999 Odd"),
    "a status of letters": lambda path: b"HTTP/1.1 abc OK\r\n\r\n",
    "HTTP 0.9": lambda path: b"hello",
    "bytes": lambda path: bytes(range(256)) * 10,
    "nothing": lambda path: b"",
    "a redirect to itself": lambda path: (
        b"HTTP/1.1 302 x\r\nLocation: " + path.encode() + b"\r\nContent-Length: 0\r\n\r\n"
    ),
    "a redirect to a file": lambda path: b"HTTP/1.1 302 x\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "a redirect to nothing": lambda path: b"HTTP/1.1 302 x\r\nLocation: \r\nContent-Length: 0\r\n\r\n",
    "a redirect to half an address": lambda path: (
        b"HTTP/1.1 302 x\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n"
    ),
    "a redirect to a bad port": lambda path: b"HTTP/1.1 302 x\r\nLocation: http://h:x/\r\nContent-Length: 0\r\n\r\n",
    "a redirect in Latin-1": lambda path: b"HTTP/1.1 302 x\r\nLocation: http://h\xe4/\xe4\r\nContent-Length: 0\r\n\r\n",
    "a web page": lambda path: _answer(b"<html>", headers=b"Content-Type: text/html\r\n"),
    "206 without being asked": lambda path: _answer(b"x" * 50, b"206 Partial", b"Content-Range: bytes 5-9/10\r\n"),
    "416": lambda path: _answer(b"", b"416 Range", b"Content-Range: bytes */x\r\n"),
    "429 for ever": lambda path: _answer(b"", b"429 Slow down", b"Retry-After: 99999999\r\n"),
    "gzip although it was not asked for": lambda path: _answer(
        gzip.compress(bytes(1000)), headers=b"Content-Encoding: gzip\r\n"
    ),
    "an ETag with line breaks": lambda path: _answer(b"PKx", headers=b'ETag: "a\r\n b\x1b[2J"\r\n'),
}

_ODD_ADDRESSES = (
    "http://{h}/ü.pt",
    "http://{h}/a b.pt",
    "http://{h}/a\nb.pt",
    "http://{h}/a\0b.pt",
    "http://ü{h}/a.pt",
    "http://" + "a" * 70 + ".example/a.pt",
    "http://{h}:/a.pt",
    "http://:80/a.pt",
    "http:///a.pt",
    "http://[::1/a.pt",
    "http://{h}/\udcff.pt",
    "http://..example../a.pt",
    "http://{h}/" + "a" * 100_000 + ".pt",
    "http://{h}/a.pt?x=ü",
    "http://1.2.3.4.5.6:99999/a.pt",
    "http://%00/a.pt",
    "http://{h}\\a.pt",
    "http://{h}/%.pt",
)


def servers() -> Iterator[Case]:
    """Servers that never end, lie, or send no HTTP; addresses that the protocol cannot carry."""
    from yolopose.predict.sources import open_source

    def weights(address: str) -> object:
        from yolopose.model.weights_download import weights_from_url

        with _no_check():
            return weights_from_url(address)

    def image(address: str) -> object:
        return [part.load().image.shape for part in open_source(address).images]

    for verb, run, suffix in (("weights", weights, "pt"), ("predict", image, "jpg"), ("probe", image, "php")):
        for name, answer in SERVERS.items():

            def ask(folder: Path, answer: Any = answer, run: Any = run, suffix: str = suffix) -> str:
                from yolopose.predict.sources import urls

                urls._PROBE_TIMEOUT = 1.0  # type: ignore[misc]
                with _server(answer) as host, _online():
                    return str(run(f"http://{host}/a.{suffix}"))[-60:]

            yield Case(8, name, verb, ask)
        for address in _ODD_ADDRESSES if verb != "probe" else ():

            def call(folder: Path, address: str = address, run: Any = run) -> str:
                with _server(lambda path: _answer(b"PKx")) as host, _online():
                    return str(run(address.format(h=host)))[-60:]

            yield Case(8, f"the address {address[:40]!r}", verb, call)


# -- kind 11: plots -----------------------------------------------------------------------------------------------

PLOT_NAMES = (
    "$",
    "$x",
    "$\\frac{1}{0}$",
    "$" * 1001,
    "\\",
    "x" * 100_000,
    "\udcff",
    "\ud800",
    "\x1b[2J",
    "\0",
    "_x",
    "日本語" * 50,
    "a\nb\nc",
    "%s{0}",
    "",
    " ",
    "=1+1",
    "<b>",
    "\u202eabc",
    "💃" * 300,
)


def plots() -> Iterator[Case]:
    """Class and keypoint names in plots, drawings and weights."""
    for index, name in enumerate(PLOT_NAMES):

        def draw(folder: Path, name: str = name) -> str:
            import matplotlib

            matplotlib.use("Agg")
            from yolopose.evaluate.plots import plot_confusion, plot_curves  # noqa: F401

            plot_confusion(np.ones((3, 3)), [name, "b", "background"][:2], folder / "c.png", True)
            return ""

        def annotate(folder: Path, name: str = name) -> str:
            from yolopose.results import Results

            boxes = np.array([[1, 1, 60, 60, 0.9, 0]], np.float32)
            result = Results(
                np.zeros((64, 64, 3), np.uint8),
                path="a.jpg",
                names={0: name},
                boxes=boxes,
                keypoints=np.zeros((1, 1, 3), np.float32),
            )
            return str(result.plot().shape)

        def dataset(folder: Path, name: str = name) -> str:
            import matplotlib

            matplotlib.use("Agg")
            from yolopose.data.dataset import load_dataset
            from yolopose.data.labels import load_labels
            from yolopose.train.record.plots import plot_labels

            values = {
                "path": ".",
                "train": "images/val",
                "val": "images/val",
                "names": [name],
                "kpt_shape": [1, 3],
                "kpt_names": {0: [name]},
            }
            make_dataset(folder, json.dumps(values))
            data = load_dataset(folder / "data.yaml")
            plot_labels(load_labels(data, "val"), data.spec, folder / "labels.png")
            return ""

        def save(folder: Path, name: str = name) -> str:
            from yolopose import YOLO

            values = {"path": ".", "train": "images/val", "names": [name], "kpt_shape": [1, 3]}
            make_dataset(folder, json.dumps(values))
            from yolopose.data.dataset import load_dataset
            from yolopose.nn import build_network
            from yolopose.schema import ModelMetadata
            from yolopose.weights import Checkpoint, read_checkpoint, write_checkpoint

            spec = load_dataset(folder / "data.yaml").spec
            network = build_network("yolo11n-pose.yaml", spec=spec)
            checkpoint = Checkpoint(state=network.state_dict(), metadata=ModelMetadata(spec=spec), model_yaml={})
            write_checkpoint(folder / "a.pt", checkpoint)
            read_checkpoint(folder / "a.pt")
            return str(YOLO.__name__)

        for verb, run in {"plots": draw, "drawing": annotate, "train plots": dataset, "weights": save}.items():
            yield Case(11, f"name {index} ({name[:20]!r})", verb, run)


# -- kinds 10 and 13: exported files ------------------------------------------------------------------------------


def border_cases() -> Iterator[Case]:
    """All cases of this module."""
    for make in (
        foreign_names,
        class_folders,
        record_names,
        archive_names,
        cache_names,
        secrets,
        texts,
        archives,
        servers,
        plots,
    ):
        yield from make()
