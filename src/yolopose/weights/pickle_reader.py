"""An interpreter for the pickle instructions that weights files use. No callable in a file is ever called.

Python's unpickler calls any function that a file names. This one supports a short list of instructions; names become
inert `StoredName` values, objects `StoredObject`, tensors `TensorRef`. Each instruction takes constant time and memory
(copies are counted), so a malicious file can neither run code nor exhaust memory.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from yolopose.base.errors import WeightsError
from yolopose.weights.allowlist import check_keys, check_name, emulate_call, is_layer
from yolopose.weights.errors import damaged_error, printable, unsafe_error
from yolopose.weights.values import STORAGES, Storage, StoredName, StoredObject, describe

# the largest public networks take about 150 000 instructions, twice that with optimizer state
MAX_INSTRUCTIONS = 1_000_000
MAX_BYTES = 64 * 2**20
_MAX_LINE = 1000
_MAX_PROTOCOL = 5
_STOP = 0x2E
_U16, _U32, _U64 = struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")


def read_pickle(data: bytes, storage_sizes: Mapping[str, int], path: str) -> object:
    """Return the content of a restricted pickle.

    Args:
        data: the pickle.
        storage_sizes: size in bytes of each storage in the archive, by key.
        path: the file, for errors.

    Returns:
        Plain values, lists, tuples, dicts and sets, with `StoredName`, `StoredObject` and `TensorRef` in them.
        Containers may be shared or contain themselves, so a walk over them needs a limit.

    Raises:
        UnsafeFileError: the file uses an instruction or a name that is not allowed.
        WeightsError: the pickle is damaged or unreasonably long.
    """
    if len(data) > MAX_BYTES:
        raise damaged_error(path, f"its data.pkl is {len(data)} bytes long; at most {MAX_BYTES} are read")
    return _PickleReader(data, storage_sizes, path).run()


class _PickleReader:
    """The pickle machine: position in the data, stack, marks, and memo. Methods carry the names of instructions."""

    def __init__(self, data: bytes, storage_sizes: Mapping[str, int], path: str) -> None:
        self.data = data
        self.storage_sizes = storage_sizes
        self.path = path
        self.position = 0
        self.copied = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> object:
        try:
            for _ in range(MAX_INSTRUCTIONS):
                opcode = self.data[self.position]
                self.position += 1
                if opcode == _STOP:
                    return self._finish()
                handler = _HANDLERS[opcode]
                if handler is None:
                    raise unsafe_error(self.path, f"the pickle instruction {_opcode_name(opcode)}")
                handler(self)
        except WeightsError:
            raise
        except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
            reason = f"its data.pkl ends early or contradicts itself at byte {self.position}"
            raise damaged_error(self.path, reason) from error
        raise damaged_error(self.path, f"its data.pkl has more than {MAX_INSTRUCTIONS} instructions")

    def charge_copies(self, items: int) -> None:
        # a short file can copy one long list many times, so copied items are limited like instructions
        self.copied += items
        if self.copied > MAX_INSTRUCTIONS:
            raise damaged_error(self.path, "it copies the same lists again and again")

    def _finish(self) -> object:
        if self.position != len(self.data) or self.marks or len(self.stack) != 1:
            raise damaged_error(self.path, f"its data.pkl continues after its end at byte {self.position}")
        return self.stack[0]

    # --- operands

    def read_bytes(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise IndexError
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def read_byte(self) -> int:
        value = self.data[self.position]
        self.position += 1
        return value

    def read_number(self, form: struct.Struct) -> Any:
        value = form.unpack_from(self.data, self.position)[0]
        self.position += form.size
        return value

    def read_line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + _MAX_LINE)
        if end < 0:
            raise IndexError
        text = self.data[self.position : end].decode("utf-8")
        self.position = end + 1
        return text

    def push_text(self, length: int) -> None:
        self.stack.append(self.read_bytes(length).decode("utf-8"))

    def long1(self) -> None:
        self.stack.append(int.from_bytes(self.read_bytes(self.read_byte()), "little", signed=True))

    # --- containers

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def short_tuple(self, count: int) -> None:
        if count > len(self.stack):
            raise IndexError
        start = len(self.stack) - count
        self.stack[start:] = [tuple(self.stack[start:])]

    def tuple_from_mark(self) -> None:
        items = tuple(self.pop_mark())
        self.stack.append(items)

    def extend(self, items: list[Any], kind: type) -> None:
        target = self.stack[-1]
        if type(target) is not kind:
            raise unsafe_error(self.path, f"items added to {describe(target)} as if it were a {kind.__name__}")
        if kind is list:
            target.extend(items)
            return
        check_keys(items if kind is set else items[::2], self.path)
        if kind is dict and len(items) % 2:
            raise IndexError
        target.update(items if kind is set else zip(items[::2], items[1::2], strict=True))

    def append(self) -> None:
        self.extend([self.stack.pop()], list)

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.extend([key, value], dict)

    # --- names, calls and objects

    def global_name(self) -> None:
        module, qualname = self.read_line(), self.read_line()
        self.stack.append(check_name(module, qualname, self.path))

    def stack_global(self) -> None:
        qualname, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(qualname, str)):
            raise unsafe_error(self.path, f"a name made of {describe(module)} and {describe(qualname)}")
        self.stack.append(check_name(module, qualname, self.path))

    def reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(emulate_call(function, args, self.path, self.charge_copies))

    def new_object(self) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        if not (is_layer(cls) and isinstance(args, tuple)):
            raise unsafe_error(self.path, f"a new object of {describe(cls)}")
        self.stack.append(StoredObject(cls, args))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, StoredObject) and type(state) is dict and not target.state:
            target.state = state
        # the state of an OrderedDict (`_metadata` of a state_dict) is not needed
        elif not (type(target) is dict and type(state) is dict):
            raise unsafe_error(self.path, f"{describe(state)} as state of {describe(target)}")

    def persistent_id(self) -> None:
        # torch keeps tensor data outside the pickle: ("storage", class, key, location, number of elements)
        fields = self.stack.pop()
        if not (type(fields) is tuple and len(fields) == 5 and fields[0] == "storage"):
            raise unsafe_error(self.path, "an external object that is not a tensor storage")
        _, kind, key, location, numel = fields
        if not (isinstance(kind, StoredName) and kind.module == "torch" and kind.qualname in STORAGES):
            raise unsafe_error(self.path, f"a storage of {describe(kind)}")
        if not (type(key) is str and type(location) is str and type(numel) is int):
            raise damaged_error(self.path, "a tensor storage in it is described in an unknown way")
        dtype, width = STORAGES[kind.qualname]
        actual = self.storage_sizes.get(key)
        if actual is None or numel < 0 or actual != numel * width:
            problem = "is missing" if actual is None else f"has {actual} bytes"
            raise damaged_error(
                self.path, f"storage {printable(key)} should have {numel} elements of {dtype} but {problem}"
            )
        storage = self.storages.setdefault(key, Storage(key, dtype, numel))
        if storage.dtype != dtype:
            raise damaged_error(self.path, f"storage {printable(key)} is both {storage.dtype} and {dtype}")
        self.stack.append(storage)

    # --- memo and framing

    def memoize(self, index: int | None = None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def get_memo(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def protocol(self) -> None:
        version = self.read_byte()
        if not 2 <= version <= _MAX_PROTOCOL:
            raise damaged_error(self.path, f"its pickle protocol is {version}")

    def frame(self) -> None:
        if self.read_number(_U64) > len(self.data) - self.position:
            raise IndexError


def _opcode_name(opcode: int) -> str:
    return next((op.name for op in pickletools.opcodes if ord(op.code) == opcode), f"0x{opcode:02x}")


_BY_NAME: dict[str, Callable[[_PickleReader], object]] = {
    "PROTO": _PickleReader.protocol,
    "FRAME": _PickleReader.frame,
    "MARK": _PickleReader.mark,
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": _PickleReader.pop_mark,
    "DUP": lambda m: m.stack.append(m.stack[-1]),
    "NONE": lambda m: m.stack.append(None),
    "NEWTRUE": lambda m: m.stack.append(True),
    "NEWFALSE": lambda m: m.stack.append(False),
    "BININT": lambda m: m.stack.append(m.read_number(_I32)),
    "BININT1": lambda m: m.stack.append(m.read_byte()),
    "BININT2": lambda m: m.stack.append(m.read_number(_U16)),
    "LONG1": _PickleReader.long1,
    "BINFLOAT": lambda m: m.stack.append(m.read_number(_F64)),
    "SHORT_BINUNICODE": lambda m: m.push_text(m.read_byte()),
    "BINUNICODE": lambda m: m.push_text(m.read_number(_U32)),
    "BINUNICODE8": lambda m: m.push_text(m.read_number(_U64)),
    "EMPTY_TUPLE": lambda m: m.stack.append(()),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "EMPTY_SET": lambda m: m.stack.append(set()),
    "TUPLE": _PickleReader.tuple_from_mark,
    "TUPLE1": lambda m: m.short_tuple(1),
    "TUPLE2": lambda m: m.short_tuple(2),
    "TUPLE3": lambda m: m.short_tuple(3),
    "APPEND": _PickleReader.append,
    "APPENDS": lambda m: m.extend(m.pop_mark(), list),
    "SETITEM": _PickleReader.set_item,
    "SETITEMS": lambda m: m.extend(m.pop_mark(), dict),
    "ADDITEMS": lambda m: m.extend(m.pop_mark(), set),
    "BINPUT": lambda m: m.memoize(m.read_byte()),
    "LONG_BINPUT": lambda m: m.memoize(m.read_number(_U32)),
    "MEMOIZE": _PickleReader.memoize,
    "BINGET": lambda m: m.get_memo(m.read_byte()),
    "LONG_BINGET": lambda m: m.get_memo(m.read_number(_U32)),
    "GLOBAL": _PickleReader.global_name,
    "STACK_GLOBAL": _PickleReader.stack_global,
    "REDUCE": _PickleReader.reduce,
    "NEWOBJ": _PickleReader.new_object,
    "BUILD": _PickleReader.build,
    "BINPERSID": _PickleReader.persistent_id,
}
# indexed by opcode: None for every instruction that is not supported
_HANDLERS: list[Callable[[_PickleReader], object] | None] = [None] * 256
for _opcode in pickletools.opcodes:
    _HANDLERS[ord(_opcode.code)] = _BY_NAME.get(_opcode.name)
