"""Checks of a data YAML that warn instead of raising errors; keypoint names and `flip_idx`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from urllib.parse import urlparse

from yolopose.base.errors import DataError, nearest
from yolopose.base.log import LOGGER, warn_once
from yolopose.base.text import one_line, short_repr
from yolopose.data.side_names import opposite_name
from yolopose.schema import COCO_PERSON_FLIP, COCO_PERSON_NAMES, COCO_PERSON_SKELETON, KeypointSchema

KNOWN_KEYS = (
    "path", "train", "val", "test", "names", "nc", "kpt_shape", "flip_idx", "kpt_oks_sigmas", "kpt_names",
    "skeleton", "download", "download_sha256", "figures", "info", "channels",
    "visibility", "class_keypoints",
)  # fmt: skip
IMAGE_CHANNELS = (1, 3, 4)
_MAX_KEY = 40  # longer keys are not misspelled ones


def warn_misspelled_keys(path: Path, keys: Iterable[str]) -> None:
    """Warn of unknown keys that resemble a known one; other unknown keys are ignored."""
    present = set(keys)
    for key in sorted(key for key in present - set(KNOWN_KEYS) if len(key) <= _MAX_KEY):
        similar = [known for known in nearest(key, KNOWN_KEYS) if known not in present]
        if similar:
            LOGGER.warning(f"{path}: the key `{key}` is unknown and has no effect. Did you mean `{similar[0]}`?")


def parse_channels(path: Path, channels: object) -> int:
    """Return the channels of the images: 1 (gray), 3 (color) or 4 (color and alpha, or another band); 3 by default.

    Raises:
        DataError: it is something else.
    """
    if channels is None:
        return 3
    if type(channels) is int and channels in IMAGE_CHANNELS:
        return channels
    raise DataError(
        f"{path}: `channels: {short_repr(channels)}` is not supported. It is 1 (images are read as gray), 3 (color, "
        "the default) or 4 (PNG, TIFF or WebP files with a fourth channel)."
    )


def check_names(path: Path, classes: Sequence[str], keypoints: KeypointSchema) -> None:
    """Warn of names that occur twice.

    Raises:
        DataError: a name is empty.
    """
    lists = {"names": classes} | {f"kpt_names of class {index}": names for index, names in keypoints.names.items()}
    for key, names in lists.items():
        if blank := [index for index, name in enumerate(names) if not name.strip()]:
            raise DataError(f"{path}: {key}: entry {blank[0]} has no name. Write one, in quotes if it is a number.")
        doubled = [name for name, count in Counter(names).items() if count > 1]
        if doubled:
            positions = ", ".join(str(index) for index, name in enumerate(names) if name == doubled[0])
            warn_once(
                f"{path}: {key}: {one_line(doubled[0])!r} occurs more than once (entries {positions}). They are "
                "distinguished only by position; give each its own name."
            )


def parse_download(path: Path, download: object) -> tuple[str, ...]:
    """Return the `download` value as URLs of zip files; anything else, such as a script, is ignored with a warning."""
    if download in (None, "", False):
        return ()
    items = cast("list[object]", download) if isinstance(download, list) else [download]
    if all(isinstance(item, str) and _is_zip_url(item) for item in items):
        return tuple(str(item).strip() for item in items)
    LOGGER.warning(
        f"{path}: `download:` is ignored: only the URL of a zip file, or a list of such URLs, is accepted. Scripts are "
        "never executed; download the data manually if they are missing."
    )
    return ()


def parse_checksums(path: Path, value: object) -> dict[str, str]:
    """Return `download_sha256`: SHA-256 in hexadecimal digits by name of an archive.

    Raises:
        DataError: it has another form.
    """
    if value is None:
        return {}
    items = cast("Mapping[object, object]", value) if isinstance(value, Mapping) else {}
    checksums = {str(name): str(digest).lower() for name, digest in items.items()}
    if not checksums or not all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in checksums.values()):
        raise DataError(
            f"{path}: `download_sha256:` must map names of archives to their SHA-256 of 64 hexadecimal digits, as in "
            f"`download_sha256: {{data.zip: 9f86d0…}}`; got {value!r}."
        )
    return checksums


def _is_zip_url(text: str) -> bool:
    try:
        url = urlparse(text.strip())
    except ValueError:  # an address with an unclosed bracket
        return False
    is_complete = bool(url.netloc) and not re.search(r"\s", text.strip())
    return is_complete and url.scheme in ("http", "https") and url.path.lower().endswith(".zip")


def with_coco_person_defaults(path: Path, keypoints: KeypointSchema, nc: int) -> KeypointSchema:
    """Add names and skeleton of a COCO person if `flip_idx` shows that the keypoints are those.

    Values from the YAML take precedence. Warns if the OKS σ of a person would be used for other keypoints.
    """
    excess = [index for index in keypoints.names if index >= nc]
    if excess:
        LOGGER.warning(f"{path}: kpt_names contains class {excess[0]}, but there are only {nc} classes (0…{nc - 1}).")
    if keypoints.count != len(COCO_PERSON_NAMES):
        return keypoints
    names_differ = any(names != COCO_PERSON_NAMES for names in keypoints.names.values())
    flip_differs = keypoints.flip_idx not in (None, COCO_PERSON_FLIP)
    if keypoints.dims == 3 and keypoints.sigmas is None and (names_differ or flip_differs):
        warn_once(
            f"{path}: its 17 keypoints are not those of a COCO person, but the OKS σ of a person are used, as for "
            "every [17, 3] data set. Set your own with `kpt_oks_sigmas: [17 positive numbers]`."
        )
    if keypoints.flip_idx != COCO_PERSON_FLIP or names_differ:
        return keypoints
    return replace(
        keypoints,
        names=keypoints.names or {0: COCO_PERSON_NAMES},
        skeleton=keypoints.skeleton or COCO_PERSON_SKELETON,
    )


def warn_wrong_flip_idx(path: Path, keypoints: KeypointSchema) -> None:
    """Warn, once per file, if `flip_idx` contradicts itself or the keypoint names; training warns if it is absent."""
    flip_idx = keypoints.flip_idx
    if flip_idx is None:
        return
    index = next((index for index, partner in enumerate(flip_idx) if flip_idx[partner] != index), None)
    if index is not None:
        partner = flip_idx[index]
        warn_once(
            f"{path}: flip_idx maps keypoint {index} to {partner}, but {partner} to {flip_idx[partner]}; mirroring "
            "twice should restore every keypoint."
        )
    mismatch = _first_mismatch(keypoints.names, flip_idx)
    if mismatch:
        name, mapped, expected = mismatch
        warn_once(
            f"{path}: flip_idx maps {name} to {mapped}, although there is a {expected}; mirror augmentation would mix "
            "up left and right."
        )


def _first_mismatch(names: Mapping[int, tuple[str, ...]], flip_idx: tuple[int, ...]) -> tuple[str, str, str] | None:
    """Return the first name with a side that is not mapped to its partner: (name, mapped name, partner)."""
    for keypoint_names in names.values():
        indices = {name.lower(): index for index, name in enumerate(keypoint_names)}
        for index, name in enumerate(keypoint_names):
            partner = opposite_name(name)
            expected = indices.get(partner.lower())
            if partner != name and expected is not None and flip_idx[index] != expected:
                return name, keypoint_names[flip_idx[index]], keypoint_names[expected]
    return None
