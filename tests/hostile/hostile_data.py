"""Hostile data sets: values of a data YAML, label caches, run records, files that are not regular, images."""

from __future__ import annotations

import functools
import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from hostile_runner import Case, make_special

from yolopose.base.yamlfile import to_yaml
from yolopose.data.array_file import read_arrays, write_arrays
from yolopose.data.dataset import load_dataset
from yolopose.data.images import read_image
from yolopose.data.label_scan import _ARRAYS
from yolopose.data.labels import load_labels
from yolopose.evaluate.record import load_record

PIXELS = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
JPEG = cv2.imencode(".jpg", PIXELS)[1].tobytes()
PNG = cv2.imencode(".png", PIXELS)[1].tobytes()
ROW = "0 .5 .5 .2 .2 .4 .4 2\n"
YAML = "path: .\ntrain: images/val\nval: images/val\nnames: {0: a}\nkpt_shape: [1, 3]\n"
HUGE = 10**30
SPECIAL_KINDS = ("pipe", "zero", "full", "folder", "socket", "sparse", "loop")


def make_dataset(folder: Path, yaml: str | bytes = YAML, label: str = ROW, names: tuple[str, ...] = ("a", "b")) -> Path:
    """Write a data set of small images and return its YAML."""
    for part in ("images/val", "labels/val"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"images/val/{name}.jpg").write_bytes(JPEG)
        (folder / f"labels/val/{name}.txt").write_text(label)
    path = folder / "data.yaml"
    path.write_bytes(yaml.encode("utf-8", "surrogatepass") if isinstance(yaml, str) else yaml)
    return path


def load(folder: Path, *, split: str = "val") -> str:
    """Load the data set in a folder as `yolo val` and `yolo train` do."""
    table = load_labels(load_dataset(folder / "data.yaml"), split)
    return f"{len(table)} images, {len(table.classes)} instances"


# -- kind 5: values -----------------------------------------------------------------------------------------------

_VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    0,
    10**9,
    HUGE,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "\0",
    "x" * 100_000,
    "9" * 5000,
    [],
    [[]],
    [None],
    [HUGE],
    ["a"] * 20_000,
    {},
    {"a": {"b": "c"}},
    {-1: "a"},
    {HUGE: "a"},
    {None: "a"},
    [-1, -1],
    [10**9, 3],
)
_KEYS = (
    "names",
    "nc",
    "kpt_shape",
    "flip_idx",
    "skeleton",
    "kpt_names",
    "kpt_oks_sigmas",
    "train",
    "val",
    "path",
    "channels",
    "download",
    "download_sha256",
    "figures",
    "info",
)


def yaml_values() -> Iterator[Case]:
    """Every key of a data YAML with values of every wrong kind and size."""
    base = {"path": ".", "train": "images/val", "val": "images/val", "names": {0: "a"}, "kpt_shape": [1, 3]}
    for key in _KEYS:
        for index, value in enumerate(_VALUES):

            def run(folder: Path, key: str = key, value: object = value) -> str:
                make_dataset(folder)
                (folder / "data.yaml").write_text(to_yaml({**base, key: value}), encoding="utf-8")
                return load(folder)

            yield Case(5, f"data YAML: {key} is value {index} ({str(value)[:20]!r})", "val", run)


def yaml_syntax() -> Iterator[Case]:
    """Aliases, depth, tags and scalars."""
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8)
    )
    texts = {
        "aliases of 10^9 values": bomb + "info: *i\n",
        "a list that holds itself": "info: &a [*a]\n",
        "a map that holds itself": "info: &a {0: *a}\n",
        "20 000 flow levels": "info: " + "[" * 20_000 + "]" * 20_000 + "\n",
        "20 000 map levels": "info: " + "{a: " * 20_000 + "}" * 20_000 + "\n",
        "3 000 block levels": "info:\n" + "".join(" " * (i + 1) + "a:\n" for i in range(3000)),
        "a date that does not exist": "info: 2024-13-45\n",
        "5 000 digits": "info: " + "9" * 5000 + "\n",
        "a sexagesimal number": "info: 1" + ":59" * 2000 + "\n",
        "a Python tag": "info: !!python/object/apply:os.system [id]\n",
        "a Python name": "info: !!python/name:os.system\n",
        "binary that is not": "info: !!binary '***'\n",
        "a map as key": "? {a: b}\n: c\n",
        "a list as key": "? [a]\n: c\n",
        "a merge of a list": "<<: [1, 2]\n",
        "a merge of itself": "m: &m {<<: *m}\n",
        "a NUL": "info: \0\n",
        "an int tag on text": "info: !!int abc\n",
        "an int tag on a list": "info: !!int [1]\n",
        "a float tag on text": "info: !!float abc\n",
        "a timestamp tag": "info: !!timestamp abc\n",
        "a set of lists": "info: !!set {[a]: null}\n",
        "omap": "info: !!omap {a: b}\n",
        "two documents": "---\ninfo: 1\n",
        "a directive": "%YAML 9.9\n---\ninfo: 1\n",
        "half of a surrogate": 'info: "\\ud800"\n',
        "an escape beyond Unicode": 'info: "\\UFFFFFFFF"\n',
        "a million keys": "info: {" + ", ".join(f"k{i}: 1" for i in range(300_000)) + "}\n",
        "a scalar of 6 MB": "info: " + "x" * 6_000_000 + "\n",
        "10 000 comments": "# x\n" * 10_000,
        "a tab": "info:\n\t- x\n",
        "an anchor without a value": "info: *nowhere\n",
    }
    for name, text in texts.items():

        def run(folder: Path, text: str = text) -> str:
            make_dataset(folder, YAML + text)
            return load(folder)

        yield Case(5, f"YAML: {name}", "val", run)
    for name, data in {
        "UTF-16": YAML.encode("utf-16"),
        "Latin-1": YAML.replace("a}", "ä}").encode("latin-1"),
        "bytes": bytes(range(256)) * 40,
        "9 MB": YAML.encode() + b"#" * (9 << 20),
        "empty": b"",
        "a list": b"- a\n",
    }.items():

        def run_bytes(folder: Path, data: bytes = data) -> str:
            make_dataset(folder, data)
            return load(folder)

        yield Case(5, f"YAML: {name}", "val", run_bytes)


_ROWS = {
    "a class of 10^9": "1000000000 .5 .5 .2 .2 .4 .4 2\n",
    "a class of 10^30": f"{HUGE} .5 .5 .2 .2 .4 .4 2\n",
    "class -1": "-1 .5 .5 .2 .2 .4 .4 2\n",
    "class NaN": "nan .5 .5 .2 .2 .4 .4 2\n",
    "class 0.5": "0.5 .5 .5 .2 .2 .4 .4 2\n",
    "NaN box": "0 nan .5 .2 .2 .4 .4 2\n",
    "infinite box": "0 inf .5 .2 .2 .4 .4 2\n",
    "negative size": "0 .5 .5 -.2 .2 .4 .4 2\n",
    "huge box": "0 1e300 .5 1e300 .2 .4 .4 2\n",
    "visibility 1e9": "0 .5 .5 .2 .2 .4 .4 1e9\n",
    "visibility -1": "0 .5 .5 .2 .2 .4 .4 -1\n",
    "20 million values": "0 " * 5_000_000 + "\n",
    "a number of 3 million digits": "0 .5 .5 .2 .2 .4 ." + "4" * 3_000_000 + " 2\n",
    "400 000 rows": ROW * 400_000,
    "NUL characters": "\0" * 1000,
    "escape codes": "\x1b[2J\x1b]0;owned\x07 .5 .5 .2 .2 .4 .4 2\n",
    "hexadecimal": "0x0 .5 .5 .2 .2 .4 .4 2\n",
    "underscores": "0 0_5 .5 .2 .2 .4 .4 2\n",
    "other digits": "0 .٥ .5 .2 .2 .4 .4 2\n",
    "commas": "0,.5,.5,.2,.2,.4,.4,2\n",
}


def label_rows() -> Iterator[Case]:
    """Rows of label files."""
    for name, text in _ROWS.items():

        def run(folder: Path, text: str = text) -> str:
            make_dataset(folder)
            (folder / "labels/val/a.txt").write_text(text)
            return load(folder)

        yield Case(5, f"label row: {name}", "val", run)


def _spoil(change: Callable[[Any, dict[str, Any]], None]) -> Callable[[Path], str]:
    """Return a run with a label cache whose checksum is right and whose contents are not."""

    def run(folder: Path) -> str:
        make_dataset(folder)
        load(folder)
        path = next(folder.rglob("*.yolopose.cache"))
        header, stored = read_arrays(path, _ARRAYS)
        arrays = {name: array.copy() for name, array in stored.items()}
        change(header, arrays)
        write_arrays(path, header, arrays)
        result = load(folder)
        if result != "2 images, 2 instances":
            raise AssertionError(f"labels that no file contains: {result}")
        table = load_labels(load_dataset(folder / "data.yaml"), "val")
        if not np.allclose(table.boxes[0], (0.5, 0.5, 0.2, 0.2)):
            raise AssertionError("boxes that no file contains")
        return result

    return run


def label_caches() -> Iterator[Case]:
    """Label caches with every array and every part of the header spoiled, and with the bytes changed."""
    array_values: dict[str, object] = {
        "-1": -1,
        "10^9": 10**9,
        "NaN": float("nan"),
        "infinite": float("inf"),
        "255": 255,
    }
    for name in ("status", "shapes", "offsets", "classes", "boxes", "keypoints"):
        for title, value in array_values.items():

            def change(header: Any, arrays: dict[str, Any], name: str = name, value: Any = value) -> None:
                with np.errstate(all="ignore"):
                    arrays[name].reshape(-1)[-1] = np.array(value).astype(arrays[name].dtype)

            yield Case(5, f"label cache: {name} ends in {title}", "val", _spoil(change))
        for title, shape in {"empty": (0,), "long": (1000,), "other": (7, 7, 7)}.items():

            def reshape(header: Any, arrays: dict[str, Any], name: str = name, shape: Any = shape) -> None:
                arrays[name] = np.zeros(shape, arrays[name].dtype)

            yield Case(5, f"label cache: {name} is {title}", "val", _spoil(reshape))
    for key, value in {
        "issues": [[0, True, None, None, "x", "y"]],
        "warnings": {"x": [10**9, 10**9]},
        "notes": ["x"] * 100,
    }.items():
        for title, spoiled in {"other": value, "null": None, "a number": 5, "nested": [[[]]], "absent": ...}.items():

            def rewrite(header: Any, arrays: dict[str, Any], key: str = key, spoiled: Any = spoiled) -> None:
                report = header["report"]
                if spoiled is ...:
                    del report[key]
                else:
                    report[key] = spoiled

            yield Case(5, f"label cache: {key} is {title}", "val", _spoil(rewrite))
    for title, edit in {
        "cut short": lambda data: data[:100],
        "empty": lambda data: b"",
        "a header of 2^60": lambda data: data[:16] + (1 << 60).to_bytes(8, "little") + data[24:],
        "a pickle": lambda data: b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "random bytes": lambda data: np.random.default_rng(1).bytes(len(data)),
        "deep JSON": lambda data: data[:16] + (200_000).to_bytes(8, "little") + b"[" * 200_000,
        "twice": lambda data: data + data,
    }.items():

        def run(folder: Path, edit: Callable[[bytes], bytes] = edit) -> str:
            make_dataset(folder)
            load(folder)
            path = next(folder.rglob("*.yolopose.cache"))
            path.write_bytes(edit(path.read_bytes()))
            return load(folder)

        yield Case(5, f"label cache: {title}", "val", run)


# -- kind 5: run records ------------------------------------------------------------------------------------------


def run_info(root: str = ".") -> dict[str, Any]:
    """Return the description of a run, as `describe_run` makes it."""
    from evaluate_runs import RECORD_SPEC

    options = {"imgsz": [640, 640], "batch": 1, "conf": 0.001, "iou": 0.7, "max_det": 300, "rect": True, "half": False}
    options |= {"augment": False, "single_cls": False, "classes": None}
    return {
        "version": "0.1",
        "created": "2026-01-01T00:00:00+00:00",
        "model": "n",
        "device": "cpu",
        "data": "data.yaml",
        "root": root,
        "split": "val",
        "names": ["a", "b"],
        "spec": {**RECORD_SPEC.to_dict(), "names": ["a", "b"]},
        "options": options,
        "refused": 0,
        "refused_names": [],
    }


@functools.cache
def record_bytes() -> bytes:
    """Return the file of a valid record."""
    import tempfile

    from evaluate_runs import random_run

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "predictions.npz"
        record = random_run(images=6, run_info=run_info()).record
        record.save(path)
        return path.read_bytes()


def _npz(arrays: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def open_record(folder: Path, data: bytes) -> str:
    """Read a record, and use it as `yolo val`'s report and `compare` do."""
    from yolopose.evaluate.page.build import make_report
    from yolopose.evaluate.record import RECORD_FILE

    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / RECORD_FILE).write_bytes(data)
    make_report(folder / "run")
    return "used"


def records() -> Iterator[Case]:
    """Run records: columns and information spoiled."""
    with np.load(io.BytesIO(record_bytes())) as archive:
        arrays = {name: archive[name] for name in archive.files}
    info = json.loads(arrays["run_info"].tobytes())
    for name, array in arrays.items():
        spoiled: dict[str, Any] = {"absent": ..., "empty": array.reshape(-1)[:0], "text": np.array(["x"])}
        if array.size and array.ndim and name not in ("image_names", "run_info"):
            for title, value in {"-1": -1, "10^9": 10**9, "NaN": float("nan"), "30 000": 30_000}.items():
                changed = array.copy()
                with np.errstate(all="ignore"):
                    changed.reshape(-1)[:] = np.array(value).astype(array.dtype)
                spoiled[title] = changed
            spoiled["of 3 more axes"] = array[..., None, None, None]
        for title, value in spoiled.items():
            columns = {key: column for key, column in arrays.items() if key != name}
            if value is not ...:
                columns[name] = value

            def run(folder: Path, columns: dict[str, Any] = columns) -> str:
                return open_record(folder, _npz(columns))

            yield Case(5, f"run record: {name} is {title}", "report", run)
    values = (None, -1, 0, 10**9, HUGE, "x", [], {}, [[[]]], float("nan"), "x" * 100_000)
    for key in [*info, "spec.kpt_shape", "spec.names", "spec.kpt_oks_sigmas"]:
        for index, value in enumerate((*values, ...)):
            changed_info = json.loads(json.dumps(info))
            target, _, last = key.rpartition(".")
            inner = changed_info[target] if target else changed_info
            if value is ...:
                inner.pop(last, None)
            else:
                inner[last] = value
            text = np.frombuffer(json.dumps(changed_info).encode(), np.uint8)

            def run_info(folder: Path, text: Any = text) -> str:
                return open_record(folder, _npz({**arrays, "run_info": text}))

            yield Case(5, f"run record: {key} is value {index}", "report", run_info)
    for title, text in {"a list": b"[]", "deep": b"[" * 100_000, "not JSON": b"\xff", "a number": b"5"}.items():

        def run_text(folder: Path, text: bytes = text) -> str:
            return open_record(folder, _npz({**arrays, "run_info": np.frombuffer(text, np.uint8)}))

        yield Case(5, f"run record: the information is {title}", "report", run_text)


# -- kind 6: files that are not regular ---------------------------------------------------------------------------


def special_files() -> Iterator[Case]:
    """Pipes, devices, folders, sockets, giants and loops in the place of each file that is read."""

    def dataset(kind: str, name: str, yaml: str = YAML) -> Callable[[Path], str]:
        def run(folder: Path) -> str:
            make_dataset(folder, yaml)
            make_special(folder / name, kind)
            return load(folder)

        return run

    listed = YAML.replace("val: images/val", "val: list.txt")
    places = {
        "image": ("images/val/c.jpg", YAML),
        "label": ("labels/val/a.txt", YAML),
        "data YAML": ("data.yaml", YAML),
        "image list": ("list.txt", listed),
        "label cache": ("labels/val.yolopose.cache", YAML),
    }
    for kind in SPECIAL_KINDS:
        for place, (name, yaml) in places.items():
            yield Case(6, f"{kind} as {place}", "val", dataset(kind, name, yaml))
        for place, run in _readers().items():

            def open_special(folder: Path, run: Callable[[Path], object] = run, kind: str = kind) -> object:
                return run_special(folder, run, kind)

            yield Case(6, f"{kind} as {place}", place, open_special)


def run_special(folder: Path, run: Callable[[Path], object], kind: str) -> object:
    """Let a reader open something that is not a regular file, under any suffix it wants."""
    return run(_Special(folder, kind).path)


class _Special:
    def __init__(self, folder: Path, kind: str) -> None:
        self.path = folder / "special"
        make_special(self.path, kind)


def _as(suffix: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    def run(path: Path) -> object:
        return read(path.rename(path.with_name(f"special{suffix}")))

    return run


def _readers() -> dict[str, Callable[[Path], object]]:
    from yolopose import YOLO
    from yolopose.data.convert.conversion import read_annotations
    from yolopose.data.given_boxes import read_boxes
    from yolopose.data.tracks import read_tracks
    from yolopose.nn import build_network
    from yolopose.predict.sources import open_source
    from yolopose.weights import read_checkpoint

    def predict(path: Path) -> object:
        return [part.load() for part in open_source(str(path)).images]

    def listed(path: Path) -> object:
        return list(open_source(str(path)).images)

    readers: dict[str, Callable[[Path], object]] = {
        "read_image": _as(".jpg", read_image),
        "predict image": _as(".png", predict),
        "predict video": _as(".mp4", listed),
        "predict list": _as(".txt", listed),
        "predict CSV": _as(".csv", listed),
        "predict streams": _as(".streams", listed),
        "weights": _as(".pt", read_checkpoint),
        "safetensors": _as(".safetensors", read_checkpoint),
        "model YAML": _as(".yaml", build_network),
        "given boxes": _as(".json", read_boxes),
        "run record": _as(".npz", load_record),
    }
    readers |= {f"exported {suffix}": _as(suffix, _open_model(YOLO)) for suffix in (".onnx", ".xml", ".tflite", ".mnn")}
    readers |= {f"tracks {suffix}": _as(suffix, read_tracks) for suffix in (".jsonl", ".csv", ".txt", ".parquet")}
    for suffix in (".json", ".xml", ".ndjson", ".csv", ".slp", ".mat", ".h5", ".nwb"):
        readers[f"convert {suffix}"] = _as(suffix, read_annotations)
    return readers


def _open_model(model_class: Any) -> Callable[[Path], object]:
    def run(path: Path) -> object:
        model_class(str(path)).predict(np.zeros((64, 64, 3), np.uint8), verbose=False)
        return None

    return run


# -- kind 9: images -----------------------------------------------------------------------------------------------


def _chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def _png(
    width: int, height: int, depth: int = 8, color: int = 0, data: bytes | None = None, extra: bytes = b""
) -> bytes:
    if data is None:
        packer = zlib.compressobj(9)
        row = b"\0" * (1 + width * depth // 8)
        data = b"".join(packer.compress(row) for _ in range(min(height, 40_000))) + packer.flush()
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _tiff(entries: list[tuple[int, int, int, int]], body: bytes = b"", order: str = "<", repeat: int = 1) -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    rows = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries) * repeat
    count = min(len(entries) * repeat, 65_535)
    return mark + struct.pack(f"{order}I", 8) + struct.pack(f"{order}H", count) + rows[: 12 * count] + bytes(4) + body


def _shared_tiff(tags: int, values: int, dng: bool) -> bytes:
    """A TIFF whose directory entries all point to the same bytes."""
    start = 8 + 2 + 12 * tags + 4
    first = [(254, 4, 1, 1), (256, 3, 1, 64), (257, 3, 1, 64)]
    rows = first + [(1000 + index, 4, values, start) for index in range(tags - 3 - dng)]
    rows += [(50706, 1, 4, 0x00000401)] if dng else []
    return _tiff(rows, bytes(4 * values))


def _preview(width: int, height: int) -> bytes:
    """A DNG whose JPEG preview promises a size."""
    jpeg = bytearray(JPEG)
    position = jpeg.find(b"\xff\xc0")
    jpeg[position + 5 : position + 9] = struct.pack(">HH", height, width)
    rows = [
        (254, 4, 1, 1),
        (256, 3, 1, 64),
        (257, 3, 1, 64),
        (259, 3, 1, 7),
        (262, 3, 1, 6),
        (273, 4, 1, 8 + 2 + 12 * 7 + 4),
        (279, 4, 1, len(jpeg)),
    ]
    rows += [(50706, 1, 4, 0x00000401)]
    start = 8 + 2 + 12 * len(rows) + 4
    rows[5] = (273, 4, 1, start)
    return _tiff(rows, bytes(jpeg))


def _jpeg_of(width: int, height: int, progressive: bool = False) -> bytes:
    data = bytearray(JPEG)
    position = data.find(b"\xff\xc0")
    data[position + 5 : position + 9] = struct.pack(">HH", height, width)
    if progressive:
        data[position + 1] = 0xC2
    return bytes(data)


def _exif_jpeg(value: bytes) -> bytes:
    return JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(value) + 8) + b"Exif\0\0" + value + JPEG[2:]


def image_files() -> dict[str, bytes]:
    """Return hostile image files by description and suffix."""
    files: dict[str, bytes] = {
        "60 000 entries that share bytes.tif": _shared_tiff(60_000, 10_000, False),
        "60 000 entries that share bytes.dng": _shared_tiff(60_000, 10_000, True),
        "60 000 entries of one byte.tif": _tiff([(256, 3, 1, 64)] * 3, repeat=20_000),
        "30 directories of many entries.dng": _shared_tiff(3000, 99_000, True),
        "a preview of 65 500².dng": _preview(65_500, 65_500),
        "a preview of 30 000².dng": _preview(30_000, 30_000),
        "65 500² pixels.jpg": _jpeg_of(65_500, 65_500),
        "30 000² pixels.jpg": _jpeg_of(30_000, 30_000),
        "20 000² pixels, progressive.jpg": _jpeg_of(20_000, 20_000, True),
        "0² pixels.jpg": _jpeg_of(0, 0),
        "32 000² pixels of zeros.png": _png(32_000, 32_000, 1),
        "30 000² gray pixels of zeros.png": _png(30_000, 30_000),
        "16 bits, 15 000².png": _png(15_000, 15_000, 16, 6, zlib.compress(b"")),
        "2^31 wide.png": _png(2**31 - 1, 1, data=zlib.compress(b"")),
        "2^31 square.png": _png(2**31 - 1, 2**31 - 1, data=zlib.compress(b"")),
        "a color profile of 100 MB.png": _png(
            64, 64, 8, 0, zlib.compress(bytes(65 * 64)), _chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(100 << 20), 1))
        ),
        "a text of 100 MB.png": _png(
            64, 64, 8, 0, zlib.compress(bytes(65 * 64)), _chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(100 << 20), 1))
        ),
        "100 000 chunks.png": _png(64, 64, 8, 0, zlib.compress(bytes(65 * 64)), _chunk(b"tEXt", b"a\0b") * 100_000),
        "100 000 animation frames.png": _png(
            64, 64, 8, 0, zlib.compress(bytes(65 * 64)), _chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
        ),
        "60 000² pixels.bmp": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(100),
        "-2^31 high.bmp": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 64, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(100),
        "RLE of 30 000².bmp": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 1078, 40, 30_000, 30_000, 1, 8, 1, 0, 0, 0, 256, 0)
        + bytes(1100),
        "50 000² pixels.pgm": b"P5 50000 50000 255\n" + bytes(1000),
        "10^30 pixels.ppm": b"P6 " + str(HUGE).encode() + b" 1 255\n" + bytes(1000),
        "text of 30 000².pbm": b"P1 30000 30000\n" + b"0 " * 1000,
        "65 535² pixels.tif": _tiff(
            [
                (256, 4, 1, 65_535),
                (257, 4, 1, 65_535),
                (258, 3, 1, 8),
                (259, 3, 1, 1),
                (262, 3, 1, 1),
                (273, 4, 1, 8),
                (277, 3, 1, 1),
                (278, 4, 1, 65_535),
                (279, 4, 1, 8),
            ]
        ),
        "2^31 square.tif": _tiff(
            [
                (256, 4, 1, 2**31),
                (257, 4, 1, 2**31),
                (258, 3, 1, 8),
                (259, 3, 1, 1),
                (262, 3, 1, 1),
                (273, 4, 1, 8),
                (277, 3, 1, 1),
                (278, 4, 1, 2**31),
                (279, 4, 1, 8),
            ]
        ),
        "a directory that is its own successor.tif": b"II*\0"
        + struct.pack("<IHHHIII", 8, 1, 256, 3, 1, 64, 8)
        + bytes(50),
        "a directory at the end.tif": b"II*\0" + struct.pack("<I", 2**32 - 1) + bytes(50),
        "BigTIFF.tif": b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2**62) + bytes(500),
        "16 383² pixels.webp": b"RIFF"
        + struct.pack("<I", 100)
        + b"WEBPVP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + b"\xfe\x3f\0\xfe\x3f\0"
        + bytes(74),
        "16 777 216² pixels.webp": b"RIFF"
        + struct.pack("<I", 100)
        + b"WEBPVP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + b"\xff" * 6
        + bytes(74),
        "16 383² lossless pixels.webp": b"RIFF"
        + struct.pack("<I", 100)
        + b"WEBPVP8L"
        + struct.pack("<I", 80)
        + b"\x2f\xff\xff\xff\x0f"
        + bytes(75),
        "EXIF that is damaged.jpg": _exif_jpeg(b"II*\0\xff\xff\xff\xff"),
        "EXIF of 5 000 entries.jpg": _exif_jpeg(_tiff([(274, 3, 1, 6)], repeat=5000)[:65_000]),
        "orientation 60 000.jpg": _exif_jpeg(_tiff([(274, 3, 1, 60_000)])),
        "JPEG 2000 of 2^32 − 1.jp2": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14ftypjp2 \0\0\0\0jp2 "
        + b"\0\0\0\x2djp2h\0\0\0\x16ihdr"
        + b"\xff" * 8
        + b"\0\3\7\7\0\0"
        + bytes(100),
        "a codestream of 2^32 − 1.jp2": b"\xff\x4f\xff\x51\0\x2f\0\0"
        + b"\xff" * 8
        + bytes(8)
        + b"\xff" * 8
        + bytes(8)
        + b"\0\3"
        + b"\7\1\1" * 3
        + bytes(100),
        "a HEIC of zeros.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(1000),
        "an AVIF of zeros.avif": b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(1000),
        "a video.jpg": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(1000),
        "a GIF of 65 535².jpg": b"GIF89a" + b"\xff\xff\xff\xff\0\0\0," + bytes(4) + b"\xff\xff\xff\xff\0\2" + bytes(50),
        "a pickle.jpg": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
        "SVG.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        "Radiance HDR of 60 000².jpg": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 60000 +X 60000\n" + bytes(100),
        "Sun raster of 2^31.jpg": b"\x59\xa6\x6a\x95"
        + struct.pack(">IIIIIII", 2**31 - 1, 2**31 - 1, 24, 0, 1, 0, 0)
        + bytes(100),
        "EXR header.jpg": b"\x76\x2f\x31\x01\2\0\0\0dataWindow\0box2i\0\x10\0\0\0"
        + bytes(8)
        + b"\xff\xff\xff\x7f" * 2
        + bytes(100),
        "PFM of 60 000².jpg": b"PF\n60000 60000\n-1.0\n" + bytes(100),
        "PAM of 60 000².jpg": b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
        + bytes(100),
    }
    rng = np.random.default_rng(31)
    for name, data in {
        "jpg": JPEG,
        "png": PNG,
        "webp": cv2.imencode(".webp", PIXELS)[1].tobytes(),
        "tif": cv2.imencode(".tiff", PIXELS)[1].tobytes(),
        "jp2": cv2.imencode(".jp2", PIXELS)[1].tobytes(),
        "bmp": cv2.imencode(".bmp", PIXELS)[1].tobytes(),
    }.items():
        for index in range(6):
            changed = np.frombuffer(data, np.uint8).copy()
            positions = rng.integers(0, min(len(data), 200 if index % 2 else len(data)), 8)
            changed[positions] = rng.integers(0, 256, len(positions))
            files[f"changed bytes {index}.{name}"] = changed.tobytes()
    return files


def images() -> Iterator[Case]:
    """Image files, in a data set and as a source."""
    for name, data in image_files().items():
        suffix = name.rpartition(".")[2]

        def scan(folder: Path, data: bytes = data, suffix: str = suffix) -> str:
            make_dataset(folder)
            (folder / f"images/val/c.{suffix}").write_bytes(data)
            return load(folder)

        def decode(folder: Path, data: bytes = data, suffix: str = suffix) -> str:
            path = folder / f"c.{suffix}"
            path.write_bytes(data)
            return str(read_image(path, alpha=True).shape)

        yield Case(9, name, "val", scan)
        yield Case(9, name, "predict", decode)


def data_cases() -> Iterator[Case]:
    """All cases of this module."""
    for make in (yaml_values, yaml_syntax, label_rows, label_caches, records, special_files, images):
        yield from make()
