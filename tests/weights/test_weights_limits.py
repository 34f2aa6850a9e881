"""Files that try to exhaust memory or time end in one error, within a few megabytes."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from weights_craft import LAYER, STORAGES, archive, call, checkpoint, encode, module, name, network, op, program, text

from yolopose.base.errors import WeightsError
from yolopose.weights import read_checkpoint
from yolopose.weights.pickle_reader import MAX_INSTRUCTIONS

MARK = op("MARK")


def put(index: int) -> bytes:
    return op("BINPUT") + bytes([index])


def get(index: int) -> bytes:
    return op("BINGET") + bytes([index])


def laughs(levels: int, wrap: bytes = op("APPENDS")) -> bytes:
    """A list of ten lists of ten lists …, each stored only once (billion laughs)."""
    body = encode(["ha"]) + put(0)
    for level in range(levels):
        body += op("POP") + op("EMPTY_LIST") + MARK + get(level) * 10 + wrap + put(level + 1)
    return body


def nested(levels: int) -> bytes:
    return EMPTY + op("TUPLE1") * levels


def self_dict() -> bytes:
    """A dict that contains itself."""
    return op("EMPTY_DICT") + put(9) + text("me") + get(9) + op("SETITEM")


def tower(levels: int, width: int) -> bytes:
    """A layer that contains one layer under `width` names, which contains the next in the same way, and so on."""
    body = encode(module("Conv2d")) + put(0)
    for level in range(levels):
        names = b"".join(text(str(number)) + get(level) for number in range(width))
        modules = op("EMPTY_DICT") + MARK + names + op("SETITEMS")
        state = op("EMPTY_DICT") + MARK + text("_modules") + modules + op("SETITEMS")
        body += op("POP") + name(LAYER, "Conv2d") + EMPTY + op("NEWOBJ") + state + op("BUILD") + put(level + 1)
    return body


def endless_module() -> bytes:
    state = op("EMPTY_DICT") + MARK + text("_modules") + op("EMPTY_DICT") + text("a") + get(5) + op("SETITEM")
    return name(LAYER, "Conv2d") + EMPTY + op("NEWOBJ") + put(5) + state + op("SETITEMS") + op("BUILD")


EMPTY = op("EMPTY_TUPLE")
MANY = encode(list(range(3000))) + put(7)
COPIES = MANY + (op("POP") + name("builtins", "set") + get(7) + op("TUPLE1") + op("REDUCE")) * 3000

# name: (pickle, part of the error message; None where the file is valid)
BOMBS = {
    "lists of lists in train_args": (encode(checkpoint(train_args={"a": laughs(12)})), "unfold without end"),
    "lists of lists that are not read": (encode(checkpoint(optimizer=laughs(30))), None),
    "deep tuples in train_args": (encode(checkpoint(train_args={"a": nested(100_000)})), "nested too deep"),
    "deep tuples that are not read": (encode(checkpoint(optimizer=nested(100_000))), None),
    "deep tuples as kpt_shape": (encode(checkpoint(model=network(kpt_shape=nested(100_000)))), "nested too deep"),
    "a dict in itself as yaml": (encode(checkpoint(model=network(yaml=self_dict()))), "contain themselves"),
    "a dict in itself as file": (self_dict(), "neither a network nor a state_dict"),
    "a layer in itself": (encode(checkpoint(model=endless_module())), "contains itself"),
    "layers of layers": (encode(checkpoint(model=tower(12, 10))), "unfolds without end"),
    "copied sets": (encode(checkpoint(optimizer=COPIES)), "copies the same lists"),
    "too many instructions": (op("NONE") + op("DUP") * MAX_INSTRUCTIONS, "instructions"),
    "a text of 2^62 bytes": (op("BINUNICODE8") + struct.pack("<Q", 2**62) + b"x", "ends early"),
    "a text of 4 GB": (op("BINUNICODE") + b"\xff\xff\xff\xff" + b"x", "ends early"),
    "a frame of 2^62 bytes": (op("FRAME") + struct.pack("<Q", 2**62), "ends early"),
    "a long number": (op("LONG4") + struct.pack("<i", 2**30), "LONG4"),
    "a far memo": (op("NONE") + op("LONG_BINPUT") + b"\xff\xff\xff\xff", "neither a network nor a state_dict"),
    "an unknown memo": (get(3), "ends early"),
    "an empty stack": (op("POP"), "ends early"),
    "no mark": (op("APPENDS"), "ends early"),
    "an odd number of items": (op("EMPTY_DICT") + MARK + op("NONE") + op("SETITEMS"), "ends early"),
    "broken UTF-8": (op("BINUNICODE") + b"\2\0\0\0\xff\xff", "ends early"),
    "two values": (op("NONE") * 2, "continues after its end"),
    "code after the end": (op("NONE") + op("STOP"), "continues after its end"),
    "nothing": (b"", "continues after its end"),
    "protocol 9": (op("PROTO") + b"\x09", "protocol is 9"),
}


@pytest.mark.parametrize("row", BOMBS)
def test_bomb_ends_in_an_error_within_bounded_memory(row: str, tmp_path: Path) -> None:
    body, message = BOMBS[row]
    path = tmp_path / "file.pt"
    path.write_bytes(archive(program(body), STORAGES))
    tracemalloc.start()
    try:
        if message is None:
            assert len(read_checkpoint(path).state) == 3
        else:
            with pytest.raises(WeightsError, match=message):
                read_checkpoint(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 30 * path.stat().st_size + 40e6


def test_length_of_nested_names_is_limited(tmp_path: Path) -> None:
    layer = module("Conv2d")
    for _ in range(30):
        layer = module("Conv2d", _modules={"n" * 1000: layer})
    path = tmp_path / "file.pt"
    path.write_bytes(archive(program(encode(checkpoint(model=layer))), STORAGES))
    with pytest.raises(WeightsError, match="nested too deep"):
        read_checkpoint(path)


def test_call_of_a_method_with_many_arguments(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    body = call("torch", "Size", encode(tuple(range(9))))
    path.write_bytes(archive(program(encode(checkpoint(shape=body))), STORAGES))
    with pytest.raises(WeightsError, match=r"torch\.Size"):
        read_checkpoint(path)
