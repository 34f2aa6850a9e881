"""Image files of annotations: where they are, how large they are, and how EXIF turns them."""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from yolopose.base.errors import DataError, NotFoundError, SourceError
from yolopose.data.convert.record import Box, Id, ImageRecord, IssueLog, Point
from yolopose.data.images import image_names, read_image
from yolopose.data.paths import relative_name, resolve_under

_HEADS = (1 << 12, 1 << 18)  # bytes; the size is in front of the pixels, after EXIF, a thumbnail and a color profile
OUTSIDE = "images outside of the folder of the annotations are not used"
NOT_FOUND = "images were not found"
_FOLDER_KEYS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_NOT_IN_UPLOADS = re.compile(r"[^-\w.]")  # as `get_valid_filename` of Django, which Label Studio uses
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
_MAX_BELOW = 2_000_000  # images below a folder; above, it is not searched
_SWAPPED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange width and height


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Size of an image file.

    Attributes:
        width: pixels after EXIF orientation, as `read_image` returns it.
        height: as `width`.
        orientation: EXIF orientation, 1…8; 1 for images without one.
    """

    width: int
    height: int
    orientation: int = 1

    @property
    def stored(self) -> tuple[int, int]:
        """(width, height) before EXIF orientation, as tools report it that ignore EXIF."""
        return (self.height, self.width) if self.orientation in _SWAPPED else (self.width, self.height)


class ImageLocator:
    """Find image files by the names in annotations.

    Names are searched with their folders in each root, in the folder of the split and in `images`; then without their
    folders, if the last part of the name occurs once. The folder of a split may be written as tools write it: `Train`,
    `valid` or `Validation` for val, `default` for images without a split. At last the only file of that name in any
    folder below `deep_roots` is used.

    Args:
        roots: folders to search; files outside them are never used.
        names: all names, if known beforehand: a name that occurs in two folders is not searched without them.
        renamed: whether the tool renamed images on upload (`a (1).jpg` to `0a1b2c3d-a_1.jpg`): the only file with a
            name that becomes the same is used then.
        deep_roots: those of the roots whose subfolders are searched as well.
    """

    def __init__(
        self,
        roots: Iterable[Path],
        names: Iterable[str] = (),
        *,
        renamed: bool = False,
        deep_roots: Iterable[Path] = (),
    ) -> None:
        self._roots = list(dict.fromkeys(roots))
        self._deep_roots = list(deep_roots)
        self._below: dict[Path, dict[str, str]] = {}
        self._renamed = renamed
        self._existing: dict[str, list[tuple[Path, PurePosixPath]]] = {}
        self._uploads: dict[tuple[Path, PurePosixPath], dict[str, str]] = {}
        self._counts = Counter(PurePosixPath(name.replace("\\", "/")).name for name in names)

    @classmethod
    def beside(
        cls, source: Path, images: Path | None, names: Iterable[str] = (), *, renamed: bool = False
    ) -> ImageLocator:
        """Return the locator of annotations: searches `images`, or beside the annotations and their folder.

        Args:
            source: file or folder of the annotations.
            images: folder given by the user, or None.
            names: see `ImageLocator`.
            renamed: see `ImageLocator`.
        """
        folder = source if source.is_dir() else source.parent
        # not the folder of a file, which may be that of all downloads
        deep = [images] if images else [source] if source.is_dir() else []
        return cls([images] if images else [folder, folder.parent], names, renamed=renamed, deep_roots=deep)

    def find(self, name: str, issues: IssueLog, split: str = "") -> Path | None:
        """Return the file of an image, or None, which is logged.

        Args:
            name: path as written in the annotations; it must be relative.
            issues: log of images that were not found or lie outside of the roots.
            split: name of the split, which may be a folder of the images.

        Raises:
            DataError: the name is not a safe relative path.
        """
        path = relative_name(name)
        spellings = [path] if self._counts[path.name] > 1 else [path, PurePosixPath(path.name)]
        for spelling in dict.fromkeys(spellings):
            for root, folder in self._existing_folders(split):
                # os.path.isfile is False, not an error, for paths that are too long
                if not os.path.isfile(f"{root}/{folder}/{spelling}"):
                    continue
                try:
                    return resolve_under(root, folder / spelling)
                except DataError as error:
                    issues.change(OUTSIDE, error, "Give their folder with images=… to read them")
                    return None
        if self._renamed and (upload := self._find_renamed(path.name, split)):
            return upload
        if self._counts[path.name] <= 1 and (file := self._find_below(path.name)):
            return file
        searched = ", ".join(str(root / folder) for root in self._roots for folder in _folders(split))
        advice = f"Searched {searched}. Training needs them: give their folder with images=…"
        issues.change(NOT_FOUND, name, advice)
        return None

    def _find_renamed(self, name: str, split: str) -> Path | None:
        """Return the file that an upload renames to `name`, if there is exactly one."""
        for root, folder in self._existing_folders(split):
            if (root, folder) not in self._uploads:
                self._uploads[root, folder] = _uploaded_names(root / folder)
            original = self._uploads[root, folder].get(name, "")
            if original and os.path.isfile(root / folder / original):
                try:
                    return resolve_under(root, folder / original)
                except DataError:
                    return None
        return None

    def _find_below(self, name: str) -> Path | None:
        """Return the only file of a name in any folder below the deep roots."""
        for root in self._deep_roots:
            if root not in self._below:
                self._below[root] = _names_below(root, self._renamed)
            if relative := self._below[root].get(name, ""):
                try:
                    return resolve_under(root, relative)
                except DataError:
                    return None
        return None

    def _existing_folders(self, split: str) -> list[tuple[Path, PurePosixPath]]:
        """Return the folders to search that exist: most do not, and there may be 100 000 images to search for."""
        if split not in self._existing:
            candidates = ((root, folder) for root in self._roots for folder in _ordered_folders(root, split))
            self._existing[split] = [(root, folder) for root, folder in candidates if (root / folder).is_dir()]
        return self._existing[split]


def _folders(split: str) -> list[PurePosixPath]:
    """Return the folders below a root that images of a split may be in."""
    folders = [PurePosixPath(split), PurePosixPath("images", split)] if split else []
    return [*folders, PurePosixPath("images"), PurePosixPath()]


def _ordered_folders(root: Path, split: str) -> list[PurePosixPath]:
    """Return the folders to search: of the split, of its name in other words or letters, then those of all splits."""
    similar = [
        folder / name
        for folder in (PurePosixPath("images"), PurePosixPath())
        for name in _names_in(root / folder)
        if _folder_key(name) == _folder_key(split or "default")
    ]
    own, common = _folders(split)[:-2], _folders(split)[-2:]
    return list(dict.fromkeys([*own, *similar, *common] if split else [*common, *similar]))


def _folder_key(name: str) -> str:
    return _FOLDER_KEYS.get(name.lower(), name.lower())


def _uploaded_names(folder: Path) -> dict[str, str]:
    """Return the file names of a folder by their names after an upload; without those that two files would have."""
    uploads: dict[str, str] = {}
    for name in _names_in(folder):
        key = _upload_key(name)
        uploads[key] = "" if key in uploads else name
    return uploads


def _upload_key(name: str) -> str:
    """Return the name of a file after an upload, without the prefix that the file may have from an earlier one."""
    return _UPLOAD_PREFIX.sub("", _NOT_IN_UPLOADS.sub("", name.strip().replace(" ", "_")))


def _names_below(root: Path, renamed: bool) -> dict[str, str]:
    """Return the path of each image below a folder, relative to it, by its name; empty for names that occur twice."""
    paths: dict[str, str] = {}
    count = 0
    for folder, _, names in os.walk(root):
        for name in image_names(names):
            relative = os.path.relpath(os.path.join(folder, name), root)
            for key in {name, _upload_key(name)} if renamed else {name}:
                paths[key] = "" if key in paths else relative
            count += 1
        if count > _MAX_BELOW:
            return {}
    return paths


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def read_image_info(path: Path) -> ImageInfo | None:
    """Return size and orientation of an image file; None if it cannot be read.

    JPEG and PNG files are read up to their size, others are decoded.
    """
    try:
        with path.open("rb") as file:
            head = b""
            for size in _HEADS:
                head += file.read(size - len(head))
                if info := _jpeg_info(head) or _png_info(head):
                    return info
                if len(head) < size:
                    break
    except OSError:
        return None
    try:
        height, width = read_image(path).shape[:2]
    except (NotFoundError, SourceError):
        return None
    return ImageInfo(width, height)


def complete_size(image: ImageRecord, issues: IssueLog) -> bool:
    """Set the size of an image record from its file, and put its coordinates into the frame that `read_image` returns.

    Annotations made with the stored size of a photo that EXIF turns are turned too. The size in the annotations is
    kept where the file is not available.

    Args:
        image: the record; changed in place.
        issues: log of sizes that were missing or different.

    Returns:
        Whether the size is known.
    """
    info = None if image.path is None else read_image_info(image.path)
    if info is None:
        return image.size is not None
    actual = (info.width, info.height)
    stated = image.size
    image.width, image.height = actual
    if stated is None:
        issues.change("image sizes are missing in the annotations and were read from the images", image.name)
    elif stated != actual and stated == info.stored:
        _turn(image, info, issues)
    elif stated != actual:
        _rescale(image, actual, stated, issues)
    return True


def _turn(image: ImageRecord, info: ImageInfo, issues: IssueLog) -> None:
    """Map an image record from the stored frame to the one after EXIF orientation, unless it is already there."""
    width, height = info.stored
    xs = [value for instance in image.instances for value in _coordinates(instance.box, instance.labeled, 0)]
    ys = [value for instance in image.instances for value in _coordinates(instance.box, instance.labeled, 1)]
    name = f"{image.name}: {width}×{height}, orientation {info.orientation}"
    if xs and (max(xs) > width + 1 or max(ys) > height + 1) and max(xs) <= height + 1 and max(ys) <= width + 1:
        issues.change(
            "images have width and height exchanged in the annotations, as if EXIF did not turn them", name,
            "The coordinates fit the image as it is displayed and are unchanged",
        )  # fmt: skip
        return
    issues.change(
        "images are annotated before the turn by EXIF", name, "Their coordinates were turned with the image; check them"
    )
    for instance in image.instances:
        if instance.box is not None:
            x1, y1, x2, y2 = instance.box.corners
            first = _turn_xy(x1, y1, width, height, info.orientation)
            second = _turn_xy(x2, y2, width, height, info.orientation)
            instance.box = Box.from_corners(*first, *second)
        for key, point in instance.points.items():
            x, y = _turn_xy(point.x, point.y, width, height, info.orientation)
            if point.state or point.x or point.y:
                instance.points[key] = point._replace(x=x, y=y)
        if instance.segmentation:
            instance.segmentation = None
            issues.skip("segmentations of images that EXIF turns", name)


def _coordinates(box: Box | None, points: Sequence[Point], axis: int) -> list[float]:
    values = [point.y if axis else point.x for point in points]
    return values + ([] if box is None else [box.corners[axis], box.corners[axis + 2]])


def _turn_xy(x: float, y: float, width: int, height: int, orientation: int) -> tuple[float, float]:
    """Map a point of the stored frame to the displayed one (EXIF 2.3, tag 0x0112)."""
    mapped = {
        1: (x, y),
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }
    return mapped[orientation]


def _rescale(image: ImageRecord, actual: tuple[int, int], stated: tuple[int, int], issues: IssueLog) -> None:
    """Scale coordinates where the annotations state another size of the same shape; otherwise keep them."""
    scale_x = actual[0] / stated[0]
    scale_y = actual[1] / stated[1]
    name = f"{image.name}: {stated[0]}×{stated[1]} in the annotations, {actual[0]}×{actual[1]} in the image"
    if abs(scale_x / scale_y - 1) > 0.02:
        issues.change(
            "images have another size and shape than the annotations state", name,
            "Their coordinates are unchanged; check that these are the annotated images",
        )  # fmt: skip
        return
    issues.change("images were resized after annotation", name, "Their coordinates were scaled with them")
    for instance in image.instances:
        if instance.box is not None:
            x, y, width, height = instance.box
            instance.box = Box(x * scale_x, y * scale_y, width * scale_x, height * scale_y)
        for key, point in instance.points.items():
            instance.points[key] = point._replace(x=point.x * scale_x, y=point.y * scale_y)
        if instance.area is not None:
            instance.area *= scale_x * scale_y
        if instance.segmentation:
            instance.segmentation = None
            issues.skip("segmentations of images that were resized", name)


def _png_info(head: bytes) -> ImageInfo | None:
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24 or b"eXIf" in head:
        return None  # the rare PNG with EXIF is decoded
    width, height = struct.unpack(">II", head[16:24])
    return ImageInfo(width, height)


def _jpeg_info(head: bytes) -> ImageInfo | None:
    if head[:2] != b"\xff\xd8":
        return None
    orientation = 1
    position = 2
    while position + 9 <= len(head):
        if head[position] != 0xFF:
            return None
        marker = head[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length
            position += 2
            continue
        length = int.from_bytes(head[position + 2 : position + 4], "big")
        if marker == 0xE1 and head[position + 4 : position + 10] == b"Exif\0\0":
            orientation = _exif_orientation(head[position + 10 : position + 2 + length])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            height, width = struct.unpack(">HH", head[position + 5 : position + 9])
            turned = orientation in _SWAPPED
            return ImageInfo(height if turned else width, width if turned else height, orientation)
        position += 2 + length
    return None


def _exif_orientation(tiff: bytes) -> int:
    """Return the value of tag 0x0112 in the first directory of an EXIF block, 1 where there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    try:
        if order is None:
            return 1
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(count):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * index)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def id_key(value: Id | float) -> str:
    """Return a key that is equal for an id written as number and as text: 7, 7.0 and "7"."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
