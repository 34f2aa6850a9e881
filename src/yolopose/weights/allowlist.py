"""The names that a weights file may mention, and what stands for a call of each. Nothing is imported or called."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from yolopose.weights.errors import damaged, refused, refused_dill, shown
from yolopose.weights.values import STORAGES, Name, Stand, Storage, TensorRef, described

_PUBLIC_PACKAGE = "ultralytics"  # module path that the public checkpoints write; never imported here
_TORCH_MODULES = "torch.nn.modules."
_DILL = ("dill", "_frozen_importlib", "_frozen_importlib_external")
_MAX_DIMS = 8

_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64",
)  # fmt: skip
_BUILTINS = ("builtins", "__builtin__")
_KNOWN = {
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch", "device"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"),
    ("copyreg", "_reconstructor"),
    ("copy_reg", "_reconstructor"),
    *((module, name) for module in _BUILTINS for name in ("set", "getattr", "object")),
    *(("torch", name) for name in (*STORAGES, *_DTYPES)),
}

SCALARS = (str, int, float, bool, type(None))


def is_class_name(name: object) -> bool:
    """Whether this is a class of the public package or of torch's layers, which a stand-in may stand for."""
    return isinstance(name, Name) and name.layer


def allowed(module: str, qualname: str, path: str) -> Name:
    """Return the inert name.

    Raises:
        UnsafeFileError: the name is not on the list.
    """
    if (module, qualname) in _KNOWN:
        return Name(module, qualname)
    if _is_class(module, qualname):
        return Name(module, qualname, layer=True)
    text = shown(f"{module}.{qualname}")
    if module.split(".")[0] in _DILL:
        raise refused_dill(path, text)
    raise refused(path, f"the name {text}")


def call(function: object, args: object, path: str, spend: Callable[[int], None]) -> object:
    """Return the value that stands for `function(*args)`; nothing is called.

    Args:
        function: an allowed name.
        args: its arguments, a tuple.
        path: the file, for errors.
        spend: takes the number of items copied, and raises when the file copies too much.

    Raises:
        UnsafeFileError: no such call is known.
        WeightsError: the arguments contradict each other.
    """
    if not isinstance(function, Name):
        raise refused(path, f"a call of {described(function)}")
    if not isinstance(args, tuple):
        return _bad(function, path)
    key = ("builtins", function.qualname) if function.module in _BUILTINS else (function.module, function.qualname)
    if is_class_name(function):
        return Stand(function, args)
    if key in (("collections", "OrderedDict"), ("builtins", "set")):
        return _container(function, args, path, spend)
    if key == ("builtins", "getattr"):
        return _attribute(args, function, path)
    if key == ("torch", "device"):  # of a loss that some versions leave in the network
        return Stand(function)
    if key == ("torch", "Size") and len(args) == 1 and isinstance(args[0], (tuple, list)):
        return tuple(args[0]) if len(args[0]) <= _MAX_DIMS else _bad(function, path)
    if key == ("torch._utils", "_rebuild_tensor_v2"):
        return _tensor(args, path)
    if key == ("torch._utils", "_rebuild_parameter") and len(args) == 3 and isinstance(args[0], TensorRef):
        return args[0]
    if function.qualname == "_reconstructor" and len(args) == 3 and is_class_name(args[0]) and args[2] is None:
        return Stand(args[0])
    return _bad(function, path)


def check_keys(keys: list[object], path: str) -> None:
    """Allow plain short keys only: hashing a deep tuple or a chosen huge number can hang or crash Python.

    Raises:
        UnsafeFileError: a key or set member is something else.
    """
    for key in keys:
        if type(key) not in SCALARS or (type(key) is int and key.bit_length() > 64):
            raise refused(path, f"{described(key)} as a dictionary key or set member")


def _is_class(module: str, qualname: str) -> bool:
    # a class has a capital letter; functions of these packages have none, and dots would reach through modules
    inside = module == _PUBLIC_PACKAGE or module.startswith((_PUBLIC_PACKAGE + ".", _TORCH_MODULES))
    plain = re.fullmatch(r"[A-Za-z_]\w*", qualname, re.ASCII) and re.fullmatch(r"[\w.]+", module, re.ASCII)
    return inside and plain is not None and qualname != qualname.lower()


def _container(function: Name, args: tuple[object, ...], path: str, spend: Callable[[int], None]) -> object:
    items = args[0] if len(args) == 1 else [] if not args else None
    if not isinstance(items, list):
        return _bad(function, path)
    spend(len(items))
    if function.qualname == "set":
        check_keys(items, path)
        return set(items)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in items):
        return _bad(function, path)
    check_keys([pair[0] for pair in items], path)
    return {pair[0]: pair[1] for pair in items}


def _attribute(args: tuple[object, ...], function: Name, path: str) -> Stand:
    """A bound method of a public module, such as `Detect.forward`: an empty stand-in, no attribute is looked up."""
    owner = args[0] if len(args) == 2 and isinstance(args[1], str) else None
    if is_class_name(owner) or (isinstance(owner, Stand) and is_class_name(owner.name)):
        return Stand(function)
    return _bad(function, path)


def _tensor(args: tuple[Any, ...], path: str) -> TensorRef:
    if len(args) not in (6, 7) or not isinstance(args[0], Storage):
        raise damaged(path, "a tensor in it is described in an unknown way")
    storage: Storage = args[0]
    offset, size, stride = args[1:4]
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= _MAX_DIMS):
        raise damaged(path, f"a tensor over storage {storage.key} has no valid sides")
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, *size, *stride)):
        raise damaged(path, f"a tensor over storage {storage.key} has a negative or broken offset, size or stride")
    count, last = 1, offset
    for side, step in zip(size, stride, strict=True):
        count *= side
        last += (side - 1) * step
    # more elements than the storage has would be one number repeated, which no weights are
    if (count and last >= storage.numel) or offset > storage.numel or count > storage.numel:
        raise damaged(path, f"a tensor reaches outside its storage {storage.key} ({storage.numel} numbers)")
    return TensorRef(storage, offset, size, stride)


def _bad(function: Name, path: str) -> Stand:
    raise refused(path, f"a call of {function.text} with unusual arguments")
