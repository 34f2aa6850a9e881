"""Sources in memory: numpy arrays, PIL images, bytes of image files, tensors that are network input."""

from __future__ import annotations

import importlib
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.base.errors import SourceError, UsageError
from yolopose.base.log import LOGGER
from yolopose.data.arrays import negative_share, planes_to_bgr, seems_normalized, to_bgr, to_image
from yolopose.data.images import decode_image
from yolopose.predict.sources.base import ImageRef, LoadedImage

UInt8 = npt.NDArray[np.uint8]

# Bicubic resizing overshoots 0…1 slightly; an image in 0…255 with a maximum below 2 is black anyway.
_MAX_UNIT_VALUE = 2.0
_MAX_BYTE_VALUE = 255 * 1.25


def is_tensor(source: Any) -> bool:
    """Check for a torch tensor without importing torch."""
    return hasattr(source, "detach") and hasattr(source, "cpu") and not isinstance(source, np.ndarray)


def is_pillow(source: Any) -> bool:
    """Check for a PIL image without importing PIL."""
    return hasattr(source, "getexif") and hasattr(source, "convert")


def is_file_object(source: Any) -> bool:
    """Check for an open file or a similar object."""
    return callable(getattr(source, "read", None))


def from_array(array: npt.NDArray[Any], name: str, channels: int) -> ImageRef:
    """Wrap an array in any layout that `yolopose.data.arrays.to_image` reads."""
    return ImageRef(name, lambda: LoadedImage(name, to_image(array, channels)))


def from_pillow(image: Any, name: str, channels: int) -> ImageRef:
    """Wrap a PIL image of any mode; with 4 channels, alpha is kept."""
    return ImageRef(name, lambda: LoadedImage(name, _from_pillow(image, alpha=channels == 4)))


def from_bytes(data: bytes, name: str, channels: int) -> ImageRef:
    """Wrap the content of an image file."""
    title = f"{name} (passed as bytes)"
    return ImageRef(name, lambda: LoadedImage(name, decode_image(data, title, alpha=channels == 4)))


def from_file_object(file: Any, name: str, channels: int) -> ImageRef:
    """Read the rest of an open image file.

    Args:
        file: opened in binary mode; it is not closed.
        name: path of the result if the file has no name.
        channels: channels of the network.

    Raises:
        UsageError: it was opened in text mode.
        SourceError: it cannot be read.
    """
    try:
        data = file.read()
    except (OSError, ValueError) as error:  # closed, not readable, or not valid text
        raise SourceError(f"The open file passed as source cannot be read: {error}.") from error
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise UsageError("A file passed as source must be open in binary mode: open(PATH, 'rb'), or pass its path.")
    file_name = getattr(file, "name", None)
    return from_bytes(bytes(data), file_name if isinstance(file_name, str) and file_name else name, channels)


def from_tensor(tensor: Any, first: int, stride: int, channels: int) -> list[ImageRef]:
    """Wrap each image of a tensor.

    Args:
        tensor: (B, C, H, W) or (C, H, W), float 0…1 (or 0…255, which is divided with a warning); RGB with 3 channels.
        first: number in the name of its first image, `image<first>.jpg`.
        stride: H and W must be multiples of it.
        channels: C, channels of the network.

    Raises:
        UsageError: its shape is not supported.
        SourceError: it contains NaN or infinite values, or is normalized to mean 0.
    """
    shape = tuple(int(side) for side in tensor.shape)
    if len(shape) not in (3, 4) or shape[-3] != channels or 0 in shape:
        raise UsageError(
            f"A tensor of shape {shape} is not a network input: pass (B, {channels}, height, width)"
            f"{' RGB' if channels == 3 else ''}, float 0…1. Pass images with channels last (height, width, {channels}) "
            f"as numpy arrays{' in BGR' if channels == 3 else ''}."
        )
    if shape[-2] % stride or shape[-1] % stride:
        raise UsageError(
            f"A tensor goes to the network unchanged, so its height and width must be multiples of {stride}; "
            f"got {shape[-2]} × {shape[-1]}. Resize or pad it, or pass a numpy array, which is letterboxed."
        )
    is_integer = not tensor.is_floating_point() if hasattr(tensor, "is_floating_point") else False
    values = np.asarray(tensor.detach().cpu().float().numpy(), np.float32).reshape(-1, *shape[-3:])
    batch = _to_unit_range(values, is_integer)
    names = [f"image{first + index}.jpg" for index in range(len(batch))]
    return [ImageRef(name, partial(_load_tensor, planes, name)) for planes, name in zip(batch, names, strict=True)]


def _to_unit_range(batch: npt.NDArray[np.float32], is_integer: bool) -> npt.NDArray[np.float32]:
    with np.errstate(all="ignore"):
        low, high = float(batch.min()), float(batch.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise SourceError("The tensor contains NaN or infinite values; replace them before prediction.")
        if high > _MAX_BYTE_VALUE:
            raise SourceError(f"The tensor has values up to {high:.6g}; pass float 0…1, or 0…255.")
        scale = 255 if is_integer or high > _MAX_UNIT_VALUE else 1
        if low < 0 and seems_normalized(low, high, negative_share(batch)):
            raise SourceError(
                f"The tensor has values from {low:.4g} to {high:.4g}: it seems to be normalized (mean 0, or -1…1), but "
                "networks here take RGB 0…1."
            )
        if scale == 1:
            return batch
        LOGGER.warning("The tensor has values above 1: it is read as 0…255 and divided by 255. Pass float 0…1.")
        return np.divide(batch, 255, dtype=np.float32)


def _load_tensor(planes: npt.NDArray[np.float32], name: str) -> LoadedImage:
    image = np.clip(np.rint(planes * 255), 0, 255).astype(np.uint8)
    return LoadedImage(name, planes_to_bgr(image), tensor=planes)


def _from_pillow(image: Any, *, alpha: bool) -> UInt8:
    image_ops: Any = importlib.import_module("PIL.ImageOps")  # installed, since the source is a PIL image
    try:
        image = image_ops.exif_transpose(image)
        if image.mode == "F" or image.mode.startswith("I"):
            return to_bgr(np.asarray(image))
        if alpha and ("A" in image.getbands() or "transparency" in image.info):
            return np.ascontiguousarray(np.asarray(image.convert("RGBA"), dtype=np.uint8)[:, :, [2, 1, 0, 3]])
        return np.ascontiguousarray(np.asarray(image.convert("RGB"), dtype=np.uint8)[:, :, ::-1])
    except (OSError, ValueError, SyntaxError) as error:  # PIL decodes a file lazily, here
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"The PIL image cannot be decoded: {error}.") from error
