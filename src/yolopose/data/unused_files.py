"""Files in the folders of a split that look like labels or images of it and are not used."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from yolopose.base.text import one_line
from yolopose.data.images import IMAGE_SUFFIXES, is_image_name
from yolopose.data.paths import label_path

# files that annotation tools, operating systems and trainings leave beside images
_OTHER_SUFFIXES = frozenset(
    {"", ".cache", ".csv", ".db", ".html", ".ini", ".json", ".jsonl", ".lock", ".log", ".md", ".npy", ".npz", ".pdf"}
    | {".pkl", ".py", ".sh", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml", ".zip"}
)
_NO_LABEL_FILES = frozenset({"classes.txt", "notes.txt", "readme.txt", "license.txt"})


@dataclass(slots=True)
class _Files:
    """Files of one kind.

    Attributes:
        count: their number.
        first: path of the first.
        suffixes: number by suffix.
    """

    count: int = 0
    first: Path | None = None
    suffixes: Counter[str] = field(default_factory=Counter[str])

    def add(self, folder: Path, names: Sequence[str]) -> None:
        if names and self.first is None:
            self.first = folder / min(names)
        self.count += len(names)
        self.suffixes.update(PurePath(name).suffix.lower() for name in names)


def find_unused(folders: Iterable[tuple[Path, Sequence[str]]]) -> list[str]:
    """Describe the files that look like labels or images and are not used.

    Args:
        folders: the folders of the images of a split, with the names of the files in them.

    Returns:
        One line for each kind, with the number of files and the first of them.
    """
    kinds = {kind: _Files() for kind in _DESCRIPTIONS}
    for folder, names in folders:
        for kind, (place, unused) in _sort_files(folder, names).items():
            kinds[kind].add(place, unused)
    return [_describe(kind, files) for kind, files in kinds.items() if files.count]


def _sort_files(folder: Path, names: Sequence[str]) -> Mapping[str, tuple[Path, list[str]]]:
    """Return the unused files of one folder of images by kind, with the folder that they are in."""
    label_folder = label_path(folder / "x.jpg").parent
    images = [name for name in names if is_image_name(name)]
    stems = Counter(os.path.splitext(name)[0] for name in images)
    known_suffixes = _OTHER_SUFFIXES | IMAGE_SUFFIXES
    visible = [name for name in names if not name.startswith(".")]
    others = [name for name in visible if os.path.splitext(name)[1].lower() not in known_suffixes]
    result = {
        "image": (folder, others),
        "shared": (folder, [name for name in images if stems[os.path.splitext(name)[0]] > 1]),
    }
    if label_folder == folder:
        return result
    labels = _list_files(label_folder)
    known = set(labels)
    beside = [name for name in visible if name.lower().endswith(".txt") and name[:-4] in stems]
    misnamed = [
        name
        for name in labels
        if (name.endswith(".TXT") and name[:-4] in stems) or (name.endswith(".txt") and is_image_name(name[:-4]))
    ]
    known_stems = {os.path.splitext(name)[0] for name in visible}
    orphans = [
        name
        for name in labels
        if name.endswith(".txt")
        and name[:-4] not in known_stems
        and name not in misnamed
        and name.lower() not in _NO_LABEL_FILES
        and not name.startswith(".")
    ]
    return result | {
        "beside": (folder, [name for name in beside if f"{name[:-4]}.txt" not in known]),
        "misnamed": (label_folder, misnamed),
        "orphan": (label_folder, orphans),
    }


def _list_files(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_file()]
    except OSError:
        return []


_DESCRIPTIONS = {
    "beside": (
        "label files beside the images are not used; the label file of images/a.jpg is labels/a.txt: move them there"
    ),
    "misnamed": "label files are not used because of their names; the label file of a.jpg is a.txt: rename them",
    "orphan": "label files do not belong to an image of the folder",
    "image": "files are not used, since they are not images of a supported type",
    "shared": "images differ only by their suffix from another one in their folder, and share its label file",
}


def _describe(kind: str, files: _Files) -> str:
    suffixes = ""
    if kind == "image":
        by_suffix = ", ".join(f"{one_line(suffix)} {count}" for suffix, count in files.suffixes.most_common(5))
        suffixes = f" ({by_suffix}; supported are {' '.join(sorted(IMAGE_SUFFIXES))})"
    return f"{files.count:>6}  {_DESCRIPTIONS[kind]}{suffixes}; first: {one_line(files.first)}"
