"""`labels/SPLIT.coco.json`: what label rows cannot hold (areas, crowds, ids, attributes), stored beside them.

It is a COCO file whose annotations have `row`, the index of their row among the rows of the label file, or null for
annotations without a row, such as crowds.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from yolopose.base.errors import DataError
from yolopose.base.files import read_regular
from yolopose.data.convert.output import output_name
from yolopose.data.paths import label_path

Json = dict[str, Any]
MAX_RECORD_BYTES = 2 << 30


def find_coco_record(image: Path) -> tuple[Path, Path] | None:
    """Locate the annotations that a conversion stored beside the labels.

    Args:
        image: an image of the split.

    Returns:
        `labels/SPLIT.coco.json`, and the folder `images/SPLIT` that image names are relative to; None if there is none.
    """
    label = label_path(image)
    for label_folder, image_folder in zip(label.parents, image.parents, strict=True):
        record = label_folder.parent / f"{label_folder.name}.coco.json"
        if record.is_file():
            return record, image_folder
        if label_folder.name == "labels" or "images" not in image.parts:
            break
    return None


class Sidecar:
    """The stored annotations of a split; empty where there are none.

    Args:
        files: images of the split.

    Attributes:
        content: the whole file.
        images: its entry of `images` for each image that it contains.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.content: Json = {}
        self.images: dict[Path, Json] = {}
        self._annotations: dict[Any, list[Json]] = defaultdict(list)
        location = find_coco_record(files[0]) if files else None
        if location is not None:
            self._read(*location, files)

    def annotations(self, file: Path) -> list[Json]:
        """Return the stored annotations of an image."""
        image = self.images.get(file)
        return [] if image is None else self._annotations.get(image["id"], [])

    def _read(self, path: Path, folder: Path, files: Sequence[Path]) -> None:
        try:
            content: Json = json.loads(read_regular(path, MAX_RECORD_BYTES))
            by_path = {_recorded_name(image["file_name"], folder.name): image for image in content["images"]}
            for annotation in content.get("annotations", []):
                self._annotations[annotation.get("image_id")].append(annotation)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):  # not written by a conversion
            self._annotations.clear()
            return
        self.content = content
        # yolopose 0.1 wrote all images into one folder, so they are also looked up by a file name that occurs once
        counts = Counter(name.name for name in by_path)
        by_name = {name.name: image for name, image in by_path.items() if counts[name.name] == 1}
        used: set[Any] = set()
        for file in dict.fromkeys(files):
            inside = file.is_relative_to(folder)
            name = PurePosixPath(file.relative_to(folder).as_posix() if inside else file.name)
            image = by_path.get(name) or by_name.get(file.name)
            if image is not None and image["id"] not in used:  # an entry belongs to one file only
                self.images[file] = image
                used.add(image["id"])


def without_row(annotation: Mapping[str, Any]) -> Json:
    """Return a stored annotation as it was in its source."""
    return {key: value for key, value in annotation.items() if key != "row"}


def _recorded_name(file_name: str, split: str) -> PurePosixPath:
    try:
        return output_name(file_name, split)
    except DataError:  # yolopose 0.1 accepted absolute names; nothing is opened by this name
        return PurePosixPath(PurePosixPath(file_name).name)
