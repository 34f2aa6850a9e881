"""Decode image files to (H, W, 3) uint8 BGR, or (H, W, 4) BGRA; letterbox them into network inputs.

Files are decoded from their bytes, so that file names in any script work on every platform, and a truncated file is an
error, never a partly gray image.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import NotFoundError, SourceError
from yolopose.base.files import read_regular
from yolopose.base.log import warn_once
from yolopose.data.arrays import match_channels, to_bgr, to_image
from yolopose.data.dng import decode_dng, is_dng
from yolopose.data.image_header import MAX_IMAGE_BYTES
from yolopose.data.image_limits import MAX_PIXELS, limit_problem
from yolopose.data.jpeg import is_complete_jpeg, jpeg_size, lacks_rows
from yolopose.geometry import Letterbox
from yolopose.geometry.letterbox import PAD_VALUE

Image = npt.NDArray[np.uint8]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dng", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm"}
    | {".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)

_SUFFIXES = tuple(IMAGE_SUFFIXES)
_REDUCED_FLAGS = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
# first bytes of TIFF and JPEG 2000, which have compressions and color spaces that Pillow supports and OpenCV does not
_PILLOW_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"\0\0\0\x0c", b"\xff\x4f\xff\x51")
# EXIF data in PNG and WebP, with the orientation of the image
_EXIF_MARKS = (b"eXIf", b"EXIF", b"Raw profile type")
# brands of ISO media files that are images, not videos
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heim", b"heis", b"heix", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1")


class DamagedImageError(SourceError):
    """The contents of an image file cannot be decoded."""


def is_image(path: PurePath) -> bool:
    """Return whether a file name is that of an image; hidden files (`._x.jpg` of macOS) are not."""
    return is_image_name(path.name)


def is_image_name(name: str) -> bool:
    """Return `is_image` of a file name without folders, faster."""
    return name[name.rfind(".") :].lower() in IMAGE_SUFFIXES and not name.startswith(".")


def image_names(names: Iterable[str]) -> list[str]:
    """Return the names of images among file names, as `is_image_name`, twice as fast."""
    return [
        name
        for name in names
        # most suffixes are in lower case
        if name[0] != "." and (name.endswith(_SUFFIXES) or name[name.rfind(".") :].lower() in IMAGE_SUFFIXES)
    ]


def read_image(path: str | Path, *, alpha: bool = False) -> Image:
    """Read an image and apply its EXIF orientation.

    Args:
        path: the file.
        alpha: keep the fourth channel of a PNG, TIFF or WebP file that has one.

    Returns:
        (H, W, 3) uint8 BGR; 16-bit and gray images are converted, an alpha channel is dropped. With `alpha`,
        (H, W, 4) BGRA if the file has four channels.

    Raises:
        NotFoundError: the file does not exist.
        SourceError: it is empty, truncated, damaged or not an image; the message names the file.
    """
    return decode_image(_read_bytes(Path(path)), str(path), alpha=alpha)


def read_channels(path: str | Path, channels: int) -> Image:
    """Read an image as a network reads it.

    Args:
        path: the file.
        channels: channels of the network: 1, 3 or 4.

    Returns:
        (H, W, channels) uint8: gray, BGR, or BGRA, whose alpha is 255 where the file has none.

    Raises:
        NotFoundError, SourceError: as `read_image`.
    """
    return _match_channels(read_image(path, alpha=channels == 4), channels)


def read_channels_reduced(path: str | Path, channels: int, min_side: int) -> tuple[Image, tuple[int, int]]:
    """Read an image as a network reads it; a large JPEG at 1/2, 1/4 or 1/8 of its size, if both sides are multiples.

    Args:
        path: the file.
        channels: channels of the network: 1, 3 or 4.
        min_side: least length of the longer side after the reduction, pixels.

    Returns:
        The image as from `read_channels`, and the (height, width) before the reduction.

    Raises:
        NotFoundError, SourceError: as `read_image`.
    """
    data = _read_bytes(Path(path))
    image, size = decode_reduced(data, str(path), min_side, alpha=channels == 4, exact=True)
    return _match_channels(image, channels), size or (image.shape[0], image.shape[1])


def _match_channels(image: Image, channels: int) -> Image:
    if channels == 4 and image.shape[2] == 3:
        warn_once("Images without a fourth channel are read as opaque: their fourth channel is 255.")
    return match_channels(image, channels)


def read_reduced(path: str | Path, min_side: int, *, alpha: bool = False) -> tuple[Image, tuple[int, int] | None]:
    """Read an image; a large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, in a fraction of the time.

    Args:
        path: the file.
        min_side: least length of the longer side after the reduction, pixels.
        alpha: see `read_image`.

    Returns:
        The image as from `read_image`, and the (height, width) before the reduction, or None if it was not reduced.

    Raises:
        NotFoundError, SourceError: as `read_image`.
    """
    return decode_reduced(_read_bytes(Path(path)), str(path), min_side, alpha=alpha)


def decode_reduced(
    data: bytes, name: str, min_side: int, *, alpha: bool = False, exact: bool = False
) -> tuple[Image, tuple[int, int] | None]:
    """Decode the contents of an image file at a reduced scale; see `read_reduced`.

    Args:
        data: contents of the file.
        name: name of the image in error messages.
        min_side: least length of the longer side after the reduction, pixels.
        alpha: keep a fourth channel.
        exact: reduce only where both sides are multiples of the factor; else the last pixels would lie partly outside.

    Raises:
        SourceError: the data are not a complete image.
    """
    size = jpeg_size(data)
    if size is None or not is_complete_jpeg(data):
        return decode_image(data, name, alpha=alpha), None
    _require_limits(data, name)
    height, width = size
    # imdecode applies the EXIF orientation, while `size` is the one before it: the reduced sides must show which it is
    factors = [
        factor
        for factor in _REDUCED_FLAGS
        if -(-max(size) // factor) >= min_side
        and (height == width or -(-height // factor) != -(-width // factor))
        and not (exact and (height % factor or width % factor))
    ]
    image: Any = None
    if factors:
        with suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), _REDUCED_FLAGS[max(factors)])
    if image is None:
        return decode_image(data, name), None
    if lacks_rows(data, image):
        raise _cut_short(name)
    is_transposed = image.shape[:2] != tuple(-(-side // max(factors)) for side in size)
    return image, (width, height) if is_transposed else size


def _read_bytes(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_IMAGE_BYTES)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"The image {path} does not exist. Check the path (current folder: {Path.cwd()})."
        ) from error
    except OSError as error:
        raise SourceError(f"The image {path} cannot be read: {error.strerror or error}.") from error


def decode_image(data: bytes, name: str, *, alpha: bool = False) -> Image:
    """Decode the contents of an image file; see `read_image`.

    Args:
        data: contents of the file.
        name: name of the image in error messages.
        alpha: keep a fourth channel.

    Raises:
        DamagedImageError: the data are not a complete image.
    """
    if not data:
        raise DamagedImageError(f"The image {name} is empty (0 bytes). Copy it again or remove it.")
    if not is_complete_jpeg(data):
        raise _cut_short(name)
    _require_limits(data, name, alpha)
    if is_dng(data):
        return to_bgr(decode_dng(data, name))
    image = _cv2_decode(data)
    if image is not None and lacks_rows(data, image):
        raise _cut_short(name)
    if data[4:8] == b"ftyp":  # an ISO media file: AVIF, HEIC or a video
        return _apply_avif_orientation(image, data) if image is not None else _decode_heif(data, name)
    if image is None and data[:4] in _PILLOW_MAGIC:
        image = _pillow_decode(data)
    if image is None:
        raise DamagedImageError(
            f"The image {name} cannot be decoded: it is damaged, cut short or not an image ({len(data)} bytes). "
            "Save it again as JPEG or PNG, or remove it."
        )
    return _with_alpha(image, data) if alpha else image


def _with_alpha(image: Image, data: bytes) -> Image:
    """Return a decoded image with the fourth channel of its file, if the file has one."""
    if data[:2] == b"\xff\xd8":  # JPEG has no alpha
        return image
    try:
        stored: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.ndim != 3 or stored.shape[2] != 4:
            return image
        stored = to_image(stored, 4)
    except (cv2.error, SourceError):
        return image
    if not any(mark in data for mark in _EXIF_MARKS):
        return stored
    # IMREAD_UNCHANGED ignores the EXIF orientation: the color channels show which one was applied
    for turns in range(4):
        for step in (1, -1):
            turned = np.ascontiguousarray(np.rot90(stored, turns)[:, ::step])
            if turned.shape[:2] == image.shape[:2] and cv2.norm(turned[:, :, :3], image, cv2.NORM_INF) <= 1:
                return turned
    return image


def _require_limits(data: bytes, name: str, alpha: bool = False) -> None:
    problem = limit_problem(data, alpha=alpha)
    if problem:
        raise DamagedImageError(
            f"The image {name} cannot be decoded: {problem} ({len(data)} bytes). Save it again as JPEG or PNG, or "
            "remove it."
        )


def _cut_short(name: str) -> DamagedImageError:
    return DamagedImageError(f"The image {name} is cut short: the JPEG data end too early. Copy it again or remove it.")


def letterbox_batch(images: Sequence[Image], letterboxes: Sequence[Letterbox], channels: int = 3) -> Image:
    """Letterbox images that share an input size.

    Args:
        images: (H, W, 3) uint8 BGR each, or (H, W, 4) BGRA.
        letterboxes: position of each image in the input; all with the same `out`.
        channels: C, channels of the network.

    Returns:
        (B, C, height, width) uint8; see `letterbox_into`.
    """
    batch = np.empty((len(images), channels, *letterboxes[0].out), dtype=np.uint8)
    for planes, image, letterbox in zip(batch, images, letterboxes, strict=True):
        letterbox_into(planes, image, letterbox)
    return batch


def letterbox_into(planes: Image, image: Image, letterbox: Letterbox) -> None:
    """Write one letterboxed image into its slot of a batch.

    Args:
        planes: (C, height, width) uint8 output of size `letterbox.out`: RGB with C = 3, gray with 1; four channels keep
            the order of the image, B, G, R, A.
        image: (H, W, 3) uint8 BGR or (H, W, 4) BGRA, of size `letterbox.source` or decoded at a smaller scale.
        letterbox: position of the image.

    Raises:
        SourceError: the image cannot be converted to C channels.
    """
    image = match_channels(image, len(planes))
    height, width = letterbox.inner
    top, left = letterbox.top, letterbox.left
    bottom, right = top + height, left + width
    planes[:, :top] = PAD_VALUE
    planes[:, bottom:] = PAD_VALUE
    planes[:, top:bottom, :left] = PAD_VALUE
    planes[:, top:bottom, right:] = PAD_VALUE
    if letterbox.inner != image.shape[:2]:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    targets = list(planes[:, top:bottom, left:right])
    # cv2.split writes into the planes of the batch, four times faster than a transposed copy in numpy
    cv2.split(image, targets[::-1] if len(planes) == 3 else targets)


def _cv2_decode(data: bytes) -> Image | None:
    buffer = np.frombuffer(data, dtype=np.uint8)
    try:
        image: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
        if image is None and data[:2] in (b"II", b"MM"):
            # OpenCV decodes TIFF files with float samples only with IMREAD_UNCHANGED
            image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            image = None if image is None else to_bgr(image)
    except (cv2.error, SourceError):
        return None
    return image


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
            if opened.width * opened.height > MAX_PIXELS:
                return None
            rgb = np.asarray(operations.exif_transpose(opened).convert("RGB"))
            return np.ascontiguousarray(rgb[:, :, ::-1])
    except Exception:  # plug-ins raise errors of any type
        return None
