"""Decode image files and convert arrays to (H, W, 3) uint8 BGR; letterbox them into network inputs.

Files are decoded from their bytes, so that file names in any script work on every platform, and a truncated file is an
error, never a partly gray image.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import NotFoundError, SourceError
from yolopose.data.dng import decode_dng, is_dng
from yolopose.geometry import Letterbox
from yolopose.geometry.letterbox import PAD_VALUE

Image = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"}
)

_REDUCED_FLAGS = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
# first bytes of TIFF and JPEG 2000, which have compressions and color spaces that Pillow supports and OpenCV does not
_PILLOW_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0c", b"\xff\x4f\xff\x51")
# brands of ISO media files that are images, not videos
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1")
_NO_MARKER = -1


def is_image(path: Path) -> bool:
    """Return whether a file name is that of an image; hidden files (`._x.jpg` of macOS) are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def read_image(path: str | Path) -> Image:
    """Read an image and apply its EXIF orientation.

    Args:
        path: the file.

    Returns:
        (H, W, 3) uint8 BGR; 16-bit and gray images are converted, an alpha channel is dropped.

    Raises:
        NotFoundError: there is no such file.
        SourceError: it is empty, truncated, damaged or not an image; the message names the file.
    """
    return decode_image(_read_bytes(Path(path)), str(path))


def read_reduced(path: str | Path, min_side: int) -> tuple[Image, tuple[int, int] | None]:
    """Read an image; a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, in a fraction of the time.

    Args:
        path: the file.
        min_side: least length of the longer side after the reduction, pixels.

    Returns:
        The image as from `read_image`, and the (height, width) before the reduction, or None if it was not reduced.

    Raises:
        NotFoundError, SourceError: as `read_image`.
    """
    data = _read_bytes(Path(path))
    size = _jpeg_size(data)
    factors = [factor for factor in _REDUCED_FLAGS if size is not None and -(-max(size) // factor) >= min_side]
    if size is None or not factors or not _is_complete_jpeg(data):
        return decode_image(data, str(path)), None
    factor = max(factors)
    image: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), _REDUCED_FLAGS[factor])
    if image is None:
        return decode_image(data, str(path)), None
    # imdecode has applied the EXIF orientation, while `size` is the one before it
    transposed = image.shape[:2] != tuple(-(-side // factor) for side in size)
    return image, (size[1], size[0]) if transposed else size


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The image {path} does not exist. Check the path (current folder: {Path.cwd()})."
        ) from error
    except OSError as error:
        raise SourceError(f"The image {path} cannot be read: {error.strerror or error}.") from error


def decode_image(data: bytes, name: str) -> Image:
    """Decode the contents of an image file; see `read_image`.

    Args:
        data: contents of the file.
        name: name of the image in error messages.

    Raises:
        SourceError: the data are not a complete image.
    """
    if not data:
        raise SourceError(f"The image {name} is empty (0 bytes). Copy it again or remove it.")
    if not _is_complete_jpeg(data):
        raise SourceError(f"The image {name} is cut short: the JPEG data end too early. Copy it again or remove it.")
    if is_dng(data):
        return to_bgr(decode_dng(data, name))
    image = _cv2_decode(data)
    if data[4:8] == b"ftyp":  # an ISO media file: AVIF, HEIC or a video
        return _apply_avif_orientation(image, data) if image is not None else _decode_heif(data, name)
    if image is None and data[:4] in _PILLOW_MAGIC:
        image = _pillow_decode(data)
    if image is None:
        raise SourceError(
            f"The image {name} cannot be decoded: it is damaged, cut short or not an image ({len(data)} bytes). "
            "Save it again as JPEG or PNG, or remove it."
        )
    return image


def to_bgr(array: npt.NDArray[Any]) -> Image:
    """Convert an array to a BGR image.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) BGR or (H, W, 4) BGRA; uint8, uint16 (0…65535), bool, float (0…1, or 0…255
            when a value exceeds 1) or another integer type (0…255).

    Returns:
        (H, W, 3) uint8; the array itself if it has this form. Alpha is dropped.

    Raises:
        SourceError: another shape or type, no pixels, or values that are not finite.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or not array.size:
        raise SourceError(
            f"An array of shape {array.shape} is not an image: give (height, width), or (height, width, channels) "
            "with 1, 3 (BGR) or 4 (BGRA) channels."
        )
    pixels = _to_uint8(array)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(pixels[:, :, :3])


def letterbox_batch(images: Sequence[Image], letterboxes: Sequence[Letterbox]) -> Image:
    """Letterbox images that share an input size.

    Args:
        images: (H, W, 3) uint8 BGR each.
        letterboxes: position of each image in the input; all with the same `out`.

    Returns:
        (B, 3, height, width) uint8 RGB.
    """
    batch = np.empty((len(images), 3, *letterboxes[0].out), dtype=np.uint8)
    for planes, image, letterbox in zip(batch, images, letterboxes, strict=True):
        letterbox_into(planes, image, letterbox)
    return batch


def letterbox_into(planes: Image, image: Image, letterbox: Letterbox) -> None:
    """Write one letterboxed image into its slot of a batch.

    Args:
        planes: (3, height, width) uint8 RGB output of size `letterbox.out`.
        image: (H, W, 3) uint8 BGR, of size `letterbox.source` or decoded at a smaller scale.
        letterbox: position of the image.
    """
    height, width = letterbox.inner
    top, left = letterbox.top, letterbox.left
    bottom, right = top + height, left + width
    planes[:, :top] = PAD_VALUE
    planes[:, bottom:] = PAD_VALUE
    planes[:, top:bottom, :left] = PAD_VALUE
    planes[:, top:bottom, right:] = PAD_VALUE
    if letterbox.inner != image.shape[:2]:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    red, green, blue = planes[:, top:bottom, left:right]
    # cv2.split writes into the planes of the batch, four times faster than a transposed copy in numpy
    cv2.split(image, [blue, green, red])


def _to_uint8(array: npt.NDArray[Any]) -> Image:
    kind = array.dtype.kind
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if kind == "b":
        return array.astype(np.uint8) * 255
    if kind == "f":
        if not np.isfinite(array).all():
            raise SourceError("The image array contains NaN or infinite values; replace them before prediction.")
        array = array * 255 if array.max() <= 1 else array
        return np.clip(np.rint(array), 0, 255).astype(np.uint8)
    if kind in "iu":
        return np.clip(array, 0, 255).astype(np.uint8)
    raise SourceError(f"Image arrays of type {array.dtype} are not supported; use uint8 (0…255) or float (0…1).")


def _cv2_decode(data: bytes) -> Image | None:
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if image is None and data[:2] in (b"II", b"MM"):
            # OpenCV decodes TIFF files with float samples only with IMREAD_UNCHANGED
            image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            image = None if image is None else to_bgr(_narrow_integers(image))
    except (cv2.error, SourceError):
        return None
    return image


def _narrow_integers(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Convert 16-bit samples that are stored as 32-bit integers to uint16."""
    is_wide = array.dtype.kind in "iu" and array.itemsize > 2 and array.max() > 255
    return np.clip(array, 0, 65535).astype(np.uint16) if is_wide else array


def _apply_avif_orientation(image: Image, data: bytes) -> Image:
    """Apply the properties `irot` and `imir` of an AVIF file, which OpenCV ignores."""
    head = data[: max(data.find(b"mdat"), 0)]  # the properties come before the pixels
    rotation = head.find(b"\0\0\0\x09irot")
    mirror = head.find(b"\0\0\0\x09imir")
    if rotation >= 0:
        image = np.rot90(image, head[rotation + 8] & 3)
    if mirror >= 0:
        image = image[:, ::-1] if head[mirror + 8] & 1 else image[::-1]
    return np.ascontiguousarray(image)


def _decode_heif(data: bytes, name: str) -> Image:
    """Decode HEIC, or AVIF where OpenCV was built without it."""
    if data[8:12] not in _IMAGE_BRANDS:
        raise SourceError(f"The file {name} is a video. Give it a name with a suffix of videos, such as .mp4.")
    image = _pillow_decode(data)
    if image is None:
        raise SourceError(
            f"The image {name} is HEIC or AVIF and cannot be decoded: it is damaged, or no decoder is installed. Run "
            "`pip install pillow pillow-heif`, or save the image as JPEG or PNG."
        )
    return image


def _pillow_decode(data: bytes) -> Image | None:
    """Decode with Pillow; None if it, or its plug-in for the format, is not installed or fails."""
    try:
        pillow: Any = importlib.import_module("PIL.Image")
        operations: Any = importlib.import_module("PIL.ImageOps")
    except ImportError:
        return None
    with suppress(ImportError):  # needed for HEIC; Pillow itself reads AVIF since 11.3
        importlib.import_module("pillow_heif").register_heif_opener()
    try:
        with pillow.open(io.BytesIO(data)) as opened:
            rgb = np.asarray(operations.exif_transpose(opened).convert("RGB"))
            return np.ascontiguousarray(rgb[:, :, ::-1])
    except Exception:  # plug-ins raise errors of any type
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the stored (height, width) of a JPEG, before EXIF orientation; None for other files."""
    for marker, position in _jpeg_segments(data):
        # start-of-frame markers are C0…CF, except those of Huffman tables, extensions and arithmetic coding
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and position + 9 <= len(data):
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            return height, width
    return None


def _is_complete_jpeg(data: bytes) -> bool:
    """Return False for a JPEG without end marker, of which some decoders return a partly gray image.

    The end marker is searched for from the start of the scan, since an embedded thumbnail has an end marker too.
    """
    if data[:2] != b"\xff\xd8":
        return True
    for marker, position in _jpeg_segments(data):
        if marker == 0xDA:  # start of scan
            return data.rfind(b"\xff\xd9", position) >= 0
        if marker == _NO_MARKER:
            return True  # not a valid JPEG structure: the decoder decides
    return False


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield marker and position of each JPEG segment up to the start of scan; `_NO_MARKER` if the structure ends."""
    position = 2
    while data[:2] == b"\xff\xd8" and position + 4 <= len(data):
        marker = data[position + 1] if data[position] == 0xFF else _NO_MARKER
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        yield marker, position
        if marker in (0xDA, _NO_MARKER):
            return
        # TEM and RST0…RST7 consist of the marker only; other segments store their length
        has_length = not (marker == 0x01 or 0xD0 <= marker <= 0xD8)
        position += 2 + (int.from_bytes(data[position + 2 : position + 4], "big") if has_length else 0)
