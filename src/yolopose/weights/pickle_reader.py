"""A small interpreter for the pickle instructions that weights files use. No callable of a file is ever called.

Python's own unpickler runs whatever a file names. This one knows a short list of instructions; names become
inert `Name` values, objects inert `Stand`s, tensors `TensorRef`s. Each instruction costs constant time and memory
(copies are counted), so a hostile file can neither run anything nor blow up.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any

from yolopose.base.errors import WeightsError
from yolopose.weights.allowlist import allowed, call, check_keys, is_class_name
from yolopose.weights.errors import damaged, refused, shown
from yolopose.weights.values import STORAGES, Name, Stand, Storage, described

# the largest public networks take about 150 000 instructions, with optimizer state twice that
MAX_INSTRUCTIONS = 1_000_000
MAX_BYTES = 64 * 2**20
_HIGHEST_PROTOCOL = 5


def read_pickle(data: bytes, sizes: Mapping[str, int], path: str) -> object:
    """Return what a restricted pickle holds.

    Args:
        data: the pickle.
        sizes: bytes of each storage in the archive, by key.
        path: the file, for errors.

    Returns:
        Plain values, lists, tuples, dicts and sets, with `Name`, `Stand` and `TensorRef` in them. Containers may be
        shared or hold themselves: whoever walks them must count.

    Raises:
        UnsafeFileError: the file asks for anything not on the list.
        WeightsError: the pickle is damaged or unreasonably long.
    """
    if len(data) > MAX_BYTES:
        raise damaged(path, f"its description is {len(data)} bytes long, and {MAX_BYTES} is the most that is read")
    return _Machine(data, sizes, path).run()


class _Machine:
    def __init__(self, data: bytes, sizes: Mapping[str, int], path: str) -> None:
        self.data, self.sizes, self.path = data, sizes, path
        self.position = 0
        self.copied = 0
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> object:
        try:
            for _ in range(MAX_INSTRUCTIONS):
                code = self.data[self.position]
                self.position += 1
                if code == 0x2E:  # STOP
                    return self._finish()
                step = _STEPS[code]
                if step is None:
                    raise refused(self.path, f"the pickle instruction {_instruction(code)}")
                step(self)
        except WeightsError:
            raise
        except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
            what = f"its description breaks off or contradicts itself at byte {self.position}"
            raise damaged(self.path, what) from error
        raise damaged(self.path, f"its description has more than {MAX_INSTRUCTIONS} instructions")

    def spend(self, items: int) -> None:
        self.copied += items
        if self.copied > MAX_INSTRUCTIONS:
            raise damaged(self.path, "it copies the same lists over and over")

    def _finish(self) -> object:
        if self.position != len(self.data) or self.marks or len(self.stack) != 1:
            raise damaged(self.path, f"its description goes on after its end at byte {self.position}")
        return self.stack[0]

    # reading -----------------------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > len(self.data):
            raise IndexError
        chunk = self.data[self.position : end]
        self.position = end
        return chunk

    def byte(self) -> int:
        value = self.data[self.position]
        self.position += 1
        return value

    def number(self, form: struct.Struct) -> Any:
        value = form.unpack_from(self.data, self.position)[0]
        self.position += form.size
        return value

    def line(self) -> str:
        end = self.data.find(b"\n", self.position, self.position + 1000)
        if end < 0:
            raise IndexError
        text = self.data[self.position : end].decode("utf-8")
        self.position = end + 1
        return text

    def long(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.byte()), "little", signed=True))

    # containers --------------------------------------------------------------------------------------------

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def tuple_of(self, count: int) -> None:
        items = tuple(self.stack[len(self.stack) - count :]) if count <= len(self.stack) else None
        if items is None:
            raise IndexError
        self.stack[len(self.stack) - count :] = [items]

    def marked_tuple(self) -> None:
        items = tuple(self.pop_mark())
        self.stack.append(items)

    def extend(self, items: list[Any], kind: type) -> None:
        target = self.stack[-1]
        if type(target) is not kind:
            raise refused(self.path, f"items added to {described(target)} as if it were a {kind.__name__}")
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

    # names, calls and objects ------------------------------------------------------------------------------

    def named(self) -> None:
        module, qualname = self.line(), self.line()
        self.stack.append(allowed(module, qualname, self.path))

    def stack_named(self) -> None:
        qualname, module = self.stack.pop(), self.stack.pop()
        if not (isinstance(module, str) and isinstance(qualname, str)):
            raise refused(self.path, f"a name made of {described(module)} and {described(qualname)}")
        self.stack.append(allowed(module, qualname, self.path))

    def reduce(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        self.stack.append(call(function, args, self.path, self.spend))

    def new_object(self) -> None:
        args, cls = self.stack.pop(), self.stack.pop()
        if not (is_class_name(cls) and isinstance(args, tuple)):
            raise refused(self.path, f"a new object of {described(cls)}")
        self.stack.append(Stand(cls, args))

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Stand) and type(state) is dict and not target.state:
            target.state = state
        # state of an ordered dict (`_metadata` of a state_dict) says nothing that is needed
        elif not (type(target) is dict and type(state) is dict):
            raise refused(self.path, f"{described(state)} as state of {described(target)}")

    def persistent(self) -> None:
        fields = self.stack.pop()
        if not (type(fields) is tuple and len(fields) == 5 and fields[0] == "storage"):
            raise refused(self.path, "an outside object that is no tensor storage")
        _, kind, key, location, numel = fields
        if not (isinstance(kind, Name) and kind.module == "torch" and kind.qualname in STORAGES):
            raise refused(self.path, f"a storage of {described(kind)}")
        if not (type(key) is str and type(location) is str and type(numel) is int):
            raise damaged(self.path, "a tensor storage in it is described in an unknown way")
        dtype, width = STORAGES[kind.qualname]
        have = self.sizes.get(key)
        if have is None or numel < 0 or have != numel * width:
            holds = "is not there" if have is None else f"holds {have} bytes"
            raise damaged(self.path, f"storage {shown(key)} should hold {numel} numbers of {dtype} but {holds}")
        known = self.storages.setdefault(key, Storage(key, dtype, numel))
        if known.dtype != dtype:
            raise damaged(self.path, f"storage {shown(key)} is both {known.dtype} and {dtype}")
        self.stack.append(known)

    # memory of the file ------------------------------------------------------------------------------------

    def memoize(self, index: int | None = None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def protocol(self) -> None:
        version = self.byte()
        if not 2 <= version <= _HIGHEST_PROTOCOL:
            raise damaged(self.path, f"it says pickle protocol {version}")

    def frame(self) -> None:
        if self.number(_U64) > len(self.data) - self.position:
            raise IndexError


_U16, _U32, _U64 = (struct.Struct(form) for form in ("<H", "<I", "<Q"))
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")


def _instruction(code: int) -> str:
    return next((op.name for op in pickletools.opcodes if ord(op.code) == code), f"0x{code:02x}")


_TABLE: dict[str, Callable[[_Machine], object]] = {
    "PROTO": _Machine.protocol,
    "FRAME": _Machine.frame,
    "MARK": _Machine.mark,
    "POP": lambda m: m.stack.pop(),
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda m: m.stack.append(m.stack[-1]),
    "NONE": lambda m: m.stack.append(None),
    "NEWTRUE": lambda m: m.stack.append(True),
    "NEWFALSE": lambda m: m.stack.append(False),
    "BININT": lambda m: m.stack.append(m.number(_I32)),
    "BININT1": lambda m: m.stack.append(m.byte()),
    "BININT2": lambda m: m.stack.append(m.number(_U16)),
    "LONG1": _Machine.long,
    "BINFLOAT": lambda m: m.stack.append(m.number(_F64)),
    "SHORT_BINUNICODE": lambda m: m.stack.append(m.take(m.byte()).decode("utf-8")),
    "BINUNICODE": lambda m: m.stack.append(m.take(m.number(_U32)).decode("utf-8")),
    "BINUNICODE8": lambda m: m.stack.append(m.take(m.number(_U64)).decode("utf-8")),
    "EMPTY_TUPLE": lambda m: m.stack.append(()),
    "EMPTY_LIST": lambda m: m.stack.append([]),
    "EMPTY_DICT": lambda m: m.stack.append({}),
    "EMPTY_SET": lambda m: m.stack.append(set()),
    "TUPLE": _Machine.marked_tuple,
    "TUPLE1": lambda m: m.tuple_of(1),
    "TUPLE2": lambda m: m.tuple_of(2),
    "TUPLE3": lambda m: m.tuple_of(3),
    "APPEND": _Machine.append,
    "APPENDS": lambda m: m.extend(m.pop_mark(), list),
    "SETITEM": _Machine.set_item,
    "SETITEMS": lambda m: m.extend(m.pop_mark(), dict),
    "ADDITEMS": lambda m: m.extend(m.pop_mark(), set),
    "BINPUT": lambda m: m.memoize(m.byte()),
    "LONG_BINPUT": lambda m: m.memoize(m.number(_U32)),
    "MEMOIZE": _Machine.memoize,
    "BINGET": lambda m: m.recall(m.byte()),
    "LONG_BINGET": lambda m: m.recall(m.number(_U32)),
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.stack_named,
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
_BY_NAME = {op.name: ord(op.code) for op in pickletools.opcodes}
_STEPS: list[Callable[[_Machine], object] | None] = [None] * 256
for _name, _step in _TABLE.items():
    _STEPS[_BY_NAME[_name]] = _step
