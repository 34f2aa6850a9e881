"""What a restricted pickle may hold: plain values, and these inert records that nothing can be called on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# storage classes by the name that stands in the file: torch's dtype name, bytes per element
STORAGES: Mapping[str, tuple[str, int]] = {
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "FloatStorage": ("float32", 4),
    "DoubleStorage": ("float64", 8),
    "BoolStorage": ("bool", 1),
    "ByteStorage": ("uint8", 1),
    "CharStorage": ("int8", 1),
    "ShortStorage": ("int16", 2),
    "IntStorage": ("int32", 4),
    "LongStorage": ("int64", 8),
}


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A class or function that a file names; it is never looked up or imported.

    Attributes:
        module: the module as written in the file.
        qualname: the name inside it.
        layer: whether it is a class that a stand-in may stand for.
    """

    module: str
    qualname: str
    layer: bool = False

    @property
    def text(self) -> str:
        """`module.qualname`."""
        return f"{self.module}.{self.qualname}"


@dataclass(slots=True, eq=False)
class Stand:
    """Stands in for an object of a foreign class: it holds the state that the file gives, and does nothing.

    Attributes:
        name: the class.
        args: what the class would have been called with.
        state: the attributes; empty until the file gives them.
    """

    name: Name
    args: tuple[object, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict[Any, Any])


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A run of numbers in the archive: member `data/<key>`, its dtype and number of elements."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor not read yet: a view of a storage whose bounds have been checked.

    Attributes:
        storage: where its numbers are.
        offset: first element.
        size: sides.
        stride: steps in elements, one per side.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def described(value: object) -> str:
    """Return words for a value in an error text, such as `the name os.system` or `a list`."""
    if isinstance(value, Name):
        return f"the name {value.text}"
    if isinstance(value, Stand):
        return f"the stored {value.name.text}"
    if isinstance(value, (TensorRef, Storage)):
        return f"a {'tensor' if isinstance(value, TensorRef) else 'storage'}"
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}"
