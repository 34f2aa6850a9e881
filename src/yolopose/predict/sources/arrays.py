"""Sources in memory: arrays, PIL images, encoded bytes, tensors that are network input already."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError, UsageError
from yolopose.base.log import LOGGER
from yolopose.data.images import decode_image, to_bgr
from yolopose.predict.items import Entry, Item

UInt8 = npt.NDArray[np.uint8]

# Bicubic resizing overshoots 0…1 a little; an image in 0…255 whose brightest value is under 2 is black anyway.
_BYTES_ABOVE = 2.0


def is_tensor(source: Any) -> bool:
    """Return a torch tensor by what it can do."""
    return hasattr(source, "detach") and hasattr(source, "cpu") and not isinstance(source, np.ndarray)


def is_pillow(source: Any) -> bool:
    """Return a PIL image by what it can do."""
    return hasattr(source, "getexif") and hasattr(source, "convert")


def is_file(source: Any) -> bool:
    """Return an open file, or what behaves like one."""
    return callable(getattr(source, "read", None))


def read_file(file: Any, name: str) -> Entry:
    """What is left to read of an open file: the content of an image file.

    Args:
        file: opened for bytes; read here, and left open.
        name: path of the result, where the file has no name.

    Raises:
        UsageError: it was opened as text.
        SourceError: it cannot be read.
    """
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # closed, not readable, or text that is none
        raise SourceError(f"The open file given as source cannot be read: {error}.") from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise UsageError("A file given as source must be opened for bytes: open(PATH, 'rb'), or give the path itself.")
    own = getattr(file, "name", None)
    return bytes_entry(bytes(data), own if isinstance(own, str) and own else name)


def array_entry(array: npt.NDArray[Any], name: str) -> Entry:
    """An array in any layout that `yolopose.data.images.to_bgr` reads."""
    return Entry(name, lambda: Item(name, to_bgr(array)))


def pillow_entry(img: Any, name: str) -> Entry:
    """A PIL image of any mode."""
    return Entry(name, lambda: Item(name, _pillow_to_bgr(img)))


def bytes_entry(data: bytes, name: str) -> Entry:
    """The content of an image file."""
    return Entry(name, lambda: Item(name, decode_image(data, f"{name} (given as bytes)")))


def tensor_entries(tensor: Any, first: int, stride: int) -> list[Entry]:
    """One entry for each image of a tensor.

    Args:
        tensor: (B, 3, H, W) or (3, H, W) RGB, float 0…1 (or 0…255, which is divided with a warning).
        first: number in the name of its first image, `image<first>.jpg`.
        stride: H and W must be multiples of it.

    Raises:
        UsageError: its shape does not go.
        SourceError: it holds NaN or infinite values.
    """
    shape = tuple(int(side) for side in tensor.shape)
    if len(shape) not in (3, 4) or shape[-3] != 3 or 0 in shape:
        raise UsageError(
            f"A tensor of shape {shape} is no network input: give (B, 3, height, width) RGB, float 0…1. "
            "Images with channels last (height, width, 3) go as numpy arrays in BGR."
        )
    if shape[-2] % stride or shape[-1] % stride:
        raise UsageError(
            f"A tensor goes to the network as it is, so its height and width must be multiples of {stride}; "
            f"got {shape[-2]} × {shape[-1]}. Resize or pad it, or give a numpy array, which is letterboxed."
        )
    batch = _unit_range(np.asarray(tensor.detach().cpu().float().numpy(), np.float32).reshape(-1, *shape[-3:]))
    return [_planes_entry(planes, f"image{first + index}.jpg") for index, planes in enumerate(batch)]


def _unit_range(batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    if not np.isfinite(batch).all():
        raise SourceError("The tensor holds NaN or infinite values; replace them before prediction.")
    if batch.max() > _BYTES_ABOVE:
        LOGGER.warning("The tensor has values above 1, so it is taken as 0…255 and divided by 255; give float 0…1.")
        return np.divide(batch, 255, dtype=np.float32)
    return batch


def _planes_entry(planes: npt.NDArray[np.float32], name: str) -> Entry:
    return Entry(name, partial(_planes_item, planes, name))


def _planes_item(planes: npt.NDArray[np.float32], name: str) -> Item:
    image = np.clip(np.rint(planes[::-1].transpose(1, 2, 0) * 255), 0, 255).astype(np.uint8)
    return Item(name, np.ascontiguousarray(image), planes=planes)


def _pillow_to_bgr(img: Any) -> UInt8:
    operations: Any = importlib.import_module("PIL.ImageOps")  # it is there, since the image is made by it
    try:
        img = operations.exif_transpose(img)
        if img.mode == "F" or img.mode.startswith("I"):
            return to_bgr(_deep(np.asarray(img)))
        return np.ascontiguousarray(np.asarray(img.convert("RGB"), dtype=np.uint8)[:, :, ::-1])
    except (OSError, ValueError, SyntaxError) as error:  # Pillow decodes a file only now
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"The PIL image cannot be decoded: {error}.") from error


def _deep(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pillow holds 16-bit images as 16 or 32-bit whole numbers."""
    wide = array.dtype.kind in "iu" and array.size and array.max() > 255
    return array.astype(np.uint16) if wide else array
