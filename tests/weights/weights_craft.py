"""Pickles and torch archives assembled byte by byte, valid and malicious ones."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from dataclasses import dataclass, field
from typing import Any

LAYER = "torch.nn.modules.conv"


def op(name: str) -> bytes:
    value: bytes = getattr(pickle, name)
    return value


def text(value: str) -> bytes:
    data = value.encode()
    return op("BINUNICODE") + struct.pack("<I", len(data)) + data


def name(module: str, qualname: str) -> bytes:
    return op("GLOBAL") + f"{module}\n{qualname}\n".encode()


def call(module: str, qualname: str, *args: bytes) -> bytes:
    return name(module, qualname) + op("MARK") + b"".join(args) + op("TUPLE") + op("REDUCE")


def program(body: bytes) -> bytes:
    return op("PROTO") + b"\x02" + body + op("STOP")


@dataclass
class Obj:
    """An object of a foreign class."""

    module: str
    qualname: str
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class View:
    """A tensor over storage `key`."""

    key: str
    numel: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int = 0
    kind: str = "FloatStorage"


def encode(value: Any) -> bytes:
    """Instructions that leave the value on the stack."""
    if value is None or value is True or value is False:
        return op({None: "NONE", True: "NEWTRUE", False: "NEWFALSE"}[value])
    if isinstance(value, bytes):  # instructions as they are
        return value
    if isinstance(value, int):
        data = value.to_bytes(9, "little", signed=True)
        return op("LONG1") + b"\x09" + data
    if isinstance(value, float):
        return op("BINFLOAT") + struct.pack(">d", value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, tuple):
        return op("MARK") + b"".join(map(encode, value)) + op("TUPLE")
    if isinstance(value, list):
        return op("EMPTY_LIST") + op("MARK") + b"".join(map(encode, value)) + op("APPENDS")
    if isinstance(value, dict):
        pairs = b"".join(encode(key) + encode(item) for key, item in value.items())
        return op("EMPTY_DICT") + op("MARK") + pairs + op("SETITEMS")
    if isinstance(value, Obj):
        return name(value.module, value.qualname) + op("EMPTY_TUPLE") + op("NEWOBJ") + encode(value.state) + op("BUILD")
    assert isinstance(value, View)
    storage = encode(("storage", name("torch", value.kind), value.key, "cpu", value.numel)) + op("BINPERSID")
    hooks = call("collections", "OrderedDict")
    return call(
        "torch._utils", "_rebuild_tensor_v2",
        storage, encode(value.offset), encode(value.size), encode(value.stride), op("NEWFALSE"), hooks,
    )  # fmt: skip


def module(qualname: str, where: str = LAYER, **state: Any) -> Obj:
    """A layer with the three dicts of torch's modules."""
    return Obj(where, qualname, {"_parameters": {}, "_buffers": {}, "_modules": {}, **state})


def archive(
    pickled: bytes,
    storages: dict[str, bytes] | None = None,
    members: dict[str, bytes] | None = None,
    root: str = "archive",
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """A torch file of a pickle and its storages; `members` adds or replaces archive members."""
    content = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
    content |= {f"data/{key}": data for key, data in (storages or {}).items()} | (members or {})
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as opened:
        for member, data in content.items():
            opened.writestr(zipfile.ZipInfo(f"{root}/{member}"), data, compression)
    return stream.getvalue()


FLOATS = struct.pack("<12f", *range(12))
STORAGES = {"0": FLOATS, "1": struct.pack("<q", 3)}


def network(**changes: Any) -> Obj:
    """A public network of one layer: a 2×3 matrix and a vector that share storage 0, and a counter."""
    layer = module("Conv2d")
    layer.state["_parameters"] = {
        "weight": View("0", 12, (2, 3), (3, 1)),
        "bias": View("0", 12, (2,), (2,), offset=6),
        "none": None,
    }
    layer.state["_buffers"] = {"count": View("1", 1, (), (), kind="LongStorage"), "anchors": View("0", 12, (1,), (1,))}
    layer.state["_non_persistent_buffers_set"] = call("builtins", "set", encode(["anchors"]))
    layer.state |= {"nc": 1, "kpt_shape": (4, 2)}
    rows = module("Sequential", "torch.nn.modules.container", _modules={"0": layer})
    state = {"_modules": {"model": rows}, "names": {0: "mouse"}, "yaml": {"yaml_file": "tiny-pose.yaml"}}
    return module("PoseModel", "ultralytics.nn.tasks", **state | changes)


def checkpoint(**changes: Any) -> dict[str, Any]:
    """The dict in a public file."""
    return {"epoch": -1, "ema": None, "model": network(), "train_args": {"imgsz": 320}, "version": "8.3.0", **changes}


def good() -> bytes:
    """A small public file."""
    return archive(program(encode(checkpoint())), STORAGES)
