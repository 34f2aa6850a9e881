"""The names a weights file may mention, and the inert value that replaces a call of each. Nothing is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from yolopose.weights.errors import damaged_error, dill_error, printable, unsafe_error
from yolopose.weights.values import STORAGES, Storage, StoredName, StoredObject, TensorRef, describe

_PUBLIC_PACKAGE = "ultralytics"  # module path in public checkpoints; never imported here
_TORCH_MODULES = "torch.nn.modules."
_DILL = ("dill", "_frozen_importlib", "_frozen_importlib_external")
_MAX_DIMS = 8

_DTYPES = (
    "float16", "bfloat16", "float32", "float64", "bool", "uint8", "int8", "int16", "int32", "int64",
)  # fmt: skip
_BUILTINS = ("builtins", "__builtin__")
_ALLOWED = {
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

_KEY_TYPES = (str, int, float, bool, type(None))


def check_name(module: str, qualname: str, path: str) -> StoredName:
    """Return the name as an inert value.

    Raises:
        UnsafeFileError: the name is not on the list.
    """
    if (module, qualname) in _ALLOWED:
        return StoredName(module, qualname)
    if _is_layer_class(module, qualname):
        return StoredName(module, qualname, layer=True)
    text = printable(f"{module}.{qualname}")
    if module.split(".")[0] in _DILL:
        raise dill_error(path, text)
    raise unsafe_error(path, f"the name {text}")


def is_layer(name: object) -> bool:
    """Return whether this is a class of the public package or of torch's layers, read as `StoredObject`."""
    return isinstance(name, StoredName) and name.layer


def emulate_call(function: object, args: object, path: str, charge_copies: Callable[[int], None]) -> object:
    """Return the inert value that replaces `function(*args)`; nothing is called.

    Args:
        function: an allowed name.
        args: its arguments, a tuple.
        path: the file, for errors.
        charge_copies: is passed the number of items copied, and raises when the file copies too much.

    Raises:
        UnsafeFileError: such a call is not supported.
        WeightsError: the arguments are inconsistent.
    """
    if not isinstance(function, StoredName):
        raise unsafe_error(path, f"a call of {describe(function)}")
    if not isinstance(args, tuple):
        raise _arguments_error(function, path)
    key = ("builtins", function.qualname) if function.module in _BUILTINS else (function.module, function.qualname)
    if is_layer(function):
        return StoredObject(function, args)
    if key in (("collections", "OrderedDict"), ("builtins", "set")):
        return _container(function, args, path, charge_copies)
    if key == ("builtins", "getattr"):
        return _bound_method(args, function, path)
    if key == ("torch", "device"):  # part of a loss that some versions leave in the network
        return StoredObject(function)
    if key == ("torch", "Size") and len(args) == 1 and isinstance(args[0], (tuple, list)):
        if len(args[0]) <= _MAX_DIMS:
            return tuple(args[0])
    elif key == ("torch._utils", "_rebuild_tensor_v2"):
        return _tensor_ref(args, path)
    elif key == ("torch._utils", "_rebuild_parameter") and len(args) == 3 and isinstance(args[0], TensorRef):
        return args[0]
    elif function.qualname == "_reconstructor" and len(args) == 3 and is_layer(args[0]) and args[2] is None:
        return StoredObject(args[0])
    raise _arguments_error(function, path)


def check_keys(keys: list[object], path: str) -> None:
    """Allow only short plain keys: hashing a deep tuple or a huge integer can hang or crash Python.

    Raises:
        UnsafeFileError: a key or set member is something else.
    """
    for key in keys:
        if type(key) not in _KEY_TYPES or (type(key) is int and key.bit_length() > 64):
            raise unsafe_error(path, f"{describe(key)} as a dictionary key or set member")


def _is_layer_class(module: str, qualname: str) -> bool:
    # classes have a capital letter and functions of these packages none; a dot in the name could reach other modules
    known = module == _PUBLIC_PACKAGE or module.startswith((_PUBLIC_PACKAGE + ".", _TORCH_MODULES))
    plain = re.fullmatch(r"[A-Za-z_]\w*", qualname, re.ASCII) and re.fullmatch(r"[\w.]+", module, re.ASCII)
    return known and plain is not None and qualname != qualname.lower()


def _container(
    function: StoredName, args: tuple[object, ...], path: str, charge_copies: Callable[[int], None]
) -> object:
    items = args[0] if len(args) == 1 else [] if not args else None
    if not isinstance(items, list):
        raise _arguments_error(function, path)
    charge_copies(len(items))
    if function.qualname == "set":
        check_keys(items, path)
        return set(items)
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in items):
        raise _arguments_error(function, path)
    check_keys([pair[0] for pair in items], path)
    return {pair[0]: pair[1] for pair in items}


def _bound_method(args: tuple[object, ...], function: StoredName, path: str) -> StoredObject:
    """Return an empty object for a bound method of a public module (`Detect.forward`); no attribute is looked up."""
    owner = args[0] if len(args) == 2 and isinstance(args[1], str) else None
    if is_layer(owner) or (isinstance(owner, StoredObject) and is_layer(owner.name)):
        return StoredObject(function)
    raise _arguments_error(function, path)


def _tensor_ref(args: tuple[Any, ...], path: str) -> TensorRef:
    """Check a tensor's view of its storage: `_rebuild_tensor_v2(storage, offset, size, stride, …)`."""
    if len(args) not in (6, 7) or not isinstance(args[0], Storage):
        raise damaged_error(path, "a tensor in it is described in an unknown way")
    storage: Storage = args[0]
    offset, size, stride = args[1:4]
    if not (isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride) <= _MAX_DIMS):
        raise damaged_error(path, f"a tensor over storage {storage.key} has an invalid shape")
    if any(type(value) is not int or not 0 <= value < 2**63 for value in (offset, *size, *stride)):
        raise damaged_error(
            path, f"a tensor over storage {storage.key} has a negative or broken offset, size or stride"
        )
    count, last = 1, offset
    for side, step in zip(size, stride, strict=True):
        count *= side
        last += (side - 1) * step
    # more elements than the storage holds would be expanded values, which weights never are: a memory bomb
    if (count and last >= storage.numel) or offset > storage.numel or count > storage.numel:
        raise damaged_error(path, f"a tensor reaches outside its storage {storage.key} ({storage.numel} elements)")
    return TensorRef(storage, offset, size, stride)


def _arguments_error(function: StoredName, path: str) -> Exception:
    return unsafe_error(path, f"a call of {function.text} with unusual arguments")
