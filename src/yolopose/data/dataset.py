"""Read a data set YAML and locate its images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from yolopose import zoo
from yolopose.base.errors import DataError, NotFoundError, UsageError, did_you_mean, nearest
from yolopose.base.files import read_regular
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.base.suggestions import suggest_path
from yolopose.base.text import one_line, short_repr
from yolopose.base.yamlfile import read_yaml
from yolopose.data.fetch import fetch_data
from yolopose.data.figures import FiguresSpec, is_figures_folder, parse_figures, write_figures
from yolopose.data.foreign_data import convert_foreign_data, is_foreign_data
from yolopose.data.images import IMAGE_SUFFIXES, image_names
from yolopose.data.paths import PathList, require_unpacked
from yolopose.data.yaml_checks import (
    check_names,
    parse_channels,
    parse_checksums,
    parse_download,
    warn_misspelled_keys,
    warn_wrong_flip_idx,
    with_coco_person_defaults,
)
from yolopose.schema import KeypointSchema, PoseSpec, class_names

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_MAX_LIST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set as described by its YAML.

    Attributes:
        yaml_path: the YAML file.
        root: absolute folder that `train`, `val` and `test` are relative to.
        spec: classes, keypoints and channels of the images.
        entries: folders and .txt lists of each split in the YAML, as written there.
        raw: all keys of the YAML.

    Examples:
        >>> from pathlib import Path
        >>> from yolopose.data import Dataset, load_dataset
        >>> from yolopose.schema import PoseSpec
        >>> dataset = load_dataset("coco8-pose.yaml")  # doctest: +SKIP
        >>> spec = PoseSpec.from_dict({"names": ["mouse"], "kpt_shape": [4, 3]})
        >>> entries = {"train": ("images/train",), "val": ("images/val",)}
        >>> dataset = Dataset(yaml_path=Path("mice.yaml"), root=Path("mice"), spec=spec, entries=entries, raw={})
        >>> dataset.spec.nc, dataset.shipped
        (1, False)
    """

    yaml_path: Path
    root: Path
    spec: PoseSpec
    entries: Mapping[Split, tuple[str, ...]]
    raw: Mapping[str, Any]

    @property
    def shipped(self) -> bool:
        """Whether the YAML is part of the package, so that its name is enough to load it."""
        return self.yaml_path.parent == _shipped_folder()

    def image_files(self, split: str) -> list[Path]:
        """List the images of a split, sorted by path; see `image_paths`."""
        return list(self.image_paths(split))

    def image_paths(self, split: str) -> PathList:
        """List the images of a split, sorted by path; an image that is listed twice occurs twice.

        Args:
            split: `train`, `val` or `test`. Folders are searched with all their subfolders; lines of a .txt list
                that start with `./` are relative to the list, others to the root.

        Raises:
            UsageError: the name of the split is unknown.
            DataError: the YAML does not have the split, its path does not exist, or it contains no image.
        """
        if split not in SPLITS:
            raise UsageError(f"Unknown split {split!r}.{did_you_mean(split, SPLITS)} The splits are: train, val, test.")
        if split not in self.entries:
            hint = _similar_key_hint(self.raw, [split])
            stated = ", ".join(f"`{name}:`" for name in self.entries)
            raise DataError(
                f"{self.yaml_path} has no `{split}:` entry{hint}, only {stated}. Add the folder of its images, or "
                f"divide the images into train and val: yolo data split data={self.yaml_path}"
            )
        files: list[str] = []
        for entry in self.entries[split]:
            path = _locate_entry(self.root, entry)
            if path is None:
                raise DataError(
                    f"{self.yaml_path}: the entry `{split}: {entry}` does not exist: looked for {self.root / entry}. "
                    "Fix the entry or `path:`."
                )
            files += self._images_in(path, split)
        if not files:
            raise DataError(
                f"{self.yaml_path}: `{split}: {', '.join(self.entries[split])}` contains no images under {self.root} "
                f"(supported suffixes: {' '.join(sorted(IMAGE_SUFFIXES))})."
            )
        return PathList(sorted(files))

    def image_folders(self, split: str) -> Iterator[tuple[Path, list[str]]]:
        """Yield the folders of a split, with their subfolders, and the names of all files in each.

        The images of a .txt list are not included, since their folders may belong to other splits too.
        """
        for entry in self.entries.get(cast(Split, split), ()):
            path = _locate_entry(self.root, entry)
            if path is not None and path.is_dir():
                yield from _walk(path)

    def _images_in(self, path: Path, split: str) -> list[str]:
        if path.is_dir():
            return _images_in_folder(path)
        if path.suffix.lower() == ".txt":
            return _images_in_list(path, self.root)
        raise DataError(
            f"{self.yaml_path}: `{split}:` names {path}, which is neither a folder of images nor a .txt list of images."
        )


def shipped_datasets() -> list[str]:
    """Return the file names of the data set YAMLs that are part of the package."""
    return sorted(path.name for path in _shipped_folder().glob("*.yaml"))


def load_dataset(
    source: str | Path, *, download: bool | None = False, splits: Sequence[Split] | None = None
) -> Dataset:
    """Read and check a data set YAML and locate its data.

    The data of a YAML with a `figures:` key are drawn if they do not exist, in the `datasets_dir` of the settings.

    Args:
        source: path of the YAML, or the file name of a shipped one (`coco8-pose.yaml`); a path that does not exist but
            has the file name of a shipped YAML loads the shipped one. Annotations of another format (a COCO JSON file,
            a folder of a labeling tool) are converted once, beside them.
        download: whether to download missing archives of `download:`: None those of up to 1 GB, True any, False none.
        splits: splits that will be used; image archives of others are not downloaded. None: all.

    Raises:
        NotFoundError: the YAML does not exist.
        DataError: a key is missing or wrong, or no `train`/`val`/`test` entry exists; the message names file and key
            and lists the folders that were searched.
        DownloadError: an archive cannot be downloaded.
        OutputError: figures cannot be drawn, or archives cannot be unpacked, into their folder.
    """
    path = _find_yaml(source)
    raw = read_yaml(path, "data YAML", DataError, text_keys=("names", "kpt_names", "class_keypoints"))
    warn_misspelled_keys(path, raw)
    urls = parse_download(path, raw.get("download"))
    checksums = parse_checksums(path, raw.get("download_sha256"))
    spec = _read_spec(path, raw)
    entries: dict[Split, tuple[str, ...]] = {
        split: _read_entry(path, split, raw[split]) for split in SPLITS if raw.get(split) is not None
    }
    if not entries:
        hint = _similar_key_hint(raw, SPLITS)
        raise DataError(f"{path} has no `train:`, `val:` or `test:` entry{hint}. Add `train: images/train`.")
    search = _search_root(path, raw.get("path"), entries)
    root = search.root
    if figures := parse_figures(path, raw):
        root = _draw_figures(search, figures)
    may_download = bool(urls) and download is not False
    if root is None and may_download:
        root = _download(search, urls, download, splits, checksums)
    if root is None:
        raise DataError(_missing_data_message(path, search, urls) + _publisher_hint(path, raw, urls))
    dataset = Dataset(yaml_path=path, root=root, spec=spec, entries=entries, raw=raw)
    if may_download and not all(_has_images(dataset, split) for split in splits or entries if split in entries):
        fetch_data(root, urls, large=download, splits=splits, checksums=checksums)
    return dataset


def _shipped_folder() -> Path:
    return Path(zoo.__file__).parent / "datasets"


def _find_yaml(source: str | Path) -> Path:
    path = Path(os.path.expanduser(source))
    require_unpacked(path)
    if is_foreign_data(path):
        return convert_foreign_data(path)
    if os.path.exists(path):
        return path
    shipped = _shipped_folder() / path.name
    if not shipped.is_file():
        names = shipped_datasets()
        hint = suggest_path(path, "data")
        if not hint and path.parent == Path():
            hint = did_you_mean(path.name, names, ".yaml")
        raise NotFoundError(
            f"The data YAML {path} does not exist (current folder: {Path.cwd()}).{hint} `yolo data "
            "list` shows the data sets whose YAMLs are part of yolopose."
        )
    if path.parent != Path():
        LOGGER.warning(f"{path} does not exist; the shipped {path.name} is used.")
    return shipped


def _read_spec(path: Path, raw: Mapping[str, Any]) -> PoseSpec:
    try:
        classes = class_names(raw.get("names"), raw.get("nc"))
        keypoints = KeypointSchema.from_dict(raw)
        PoseSpec(classes=classes, keypoints=keypoints)  # checks that class_keypoints names existing classes
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error
    check_names(path, classes, keypoints)
    spec = PoseSpec(
        classes=classes,
        keypoints=with_coco_person_defaults(path, keypoints, len(classes)),
        channels=parse_channels(path, raw.get("channels")),
    )
    warn_wrong_flip_idx(path, spec.keypoints)
    return spec


def _read_entry(path: Path, split: str, value: object) -> tuple[str, ...]:
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise DataError(
            f"{path}: `{split}:` must be a folder, a .txt list, or a list of these; got {short_repr(value)}."
        )
    return tuple(str(item) for item in items)


def _similar_key_hint(raw: Mapping[str, Any], wanted: Sequence[str]) -> str:
    similar = [key for name in wanted for key in nearest(name, raw, 1)]
    return f" (did you mean `{similar[0]}:`?)" if similar else ""


def _locate_entry(root: Path, entry: str) -> Path | None:
    """Return the path of an entry under a root if it exists.

    Exports of some labeling tools write `../train/images` and mean `train/images`; that is tried second.
    """
    spellings = [entry, entry[3:]] if entry.startswith("../") else [entry]
    # os.path does not raise errors for names that no file can have
    paths = (Path(os.path.abspath(root / os.path.expanduser(spelling))) for spelling in spellings)
    return next((path for path in paths if os.path.exists(path)), None)


@dataclass(frozen=True, slots=True)
class _RootSearch:
    """Where the data of a YAML may be.

    Attributes:
        folder: `path:` as written.
        candidates: the absolute folders that were searched.
        wanted: the entries that were looked for.
        root: the candidate that contains them, if any.
    """

    folder: Path
    candidates: list[Path]
    wanted: list[str]
    root: Path | None


def _search_root(path: Path, value: object, entries: Mapping[Split, tuple[str, ...]]) -> _RootSearch:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{path}: `path:` must be a folder, got {short_repr(value)}.")
    folder = Path(os.path.expanduser(value or ""))
    bases = [path.parent / folder, Path.cwd() / folder, _datasets_dir() / folder]
    if folder.is_absolute():
        bases = [folder]
    candidates = list(dict.fromkeys(Path(os.path.abspath(base)) for base in bases))
    # a missing `test` is tolerated unless the YAML has no other split
    wanted = [entries[split][0] for split in ("train", "val") if split in entries] or [entries["test"][0]]
    matches = (
        candidate
        for condition in (all, any)  # a folder with all entries is preferred to one with some
        for candidate in candidates
        if condition(_locate_entry(candidate, entry) is not None for entry in wanted)
    )
    root = next(matches, None)
    if root is None and folder.is_absolute() and path.parent != _shipped_folder():
        # the folder of a converted set was moved, with its data YAML
        moved = path.parent.absolute()
        if all(_locate_entry(moved, entry) is not None for entry in wanted):
            LOGGER.warning(
                f"{path}: `path: {folder}` does not contain the data; the folder of the YAML does and is used."
            )
            root = moved
    return _RootSearch(folder, candidates, wanted, root)


def _datasets_dir() -> Path:
    return Path(load_settings().datasets_dir)


def _draw_figures(search: _RootSearch, figures: FiguresSpec) -> Path:
    """Draw figures if the data do not exist, or if they were drawn with other options."""
    root = search.root
    if root is None or is_figures_folder(root):
        root = root or Path(os.path.abspath(_datasets_dir() / search.folder))
        write_figures(root, figures)
    return root


def _download(
    search: _RootSearch,
    urls: Sequence[str],
    download: bool | None,
    splits: Sequence[Split] | None,
    checksums: Mapping[str, str],
) -> Path | None:
    """Download the archives and return the folder if it contains the entries."""
    root = search.candidates[-1]
    if os.path.exists(root):  # data of the user with another layout, which are left unchanged
        return None
    fetch_data(root, urls, large=download, splits=splits, checksums=checksums)
    return root if any(_locate_entry(root, entry) is not None for entry in search.wanted) else None


def _has_images(dataset: Dataset, split: Split) -> bool:
    """Return whether the images exist, since a list of images may come in a separate archive."""
    try:
        return os.path.exists(dataset.image_files(split)[0])
    except DataError:
        return False


def _missing_data_message(path: Path, search: _RootSearch, urls: Sequence[str]) -> str:
    message = (
        f"The data of {path} were not found: looked for {' and '.join(search.wanted)} under "
        f"{', '.join(map(str, search.candidates))} (`path: {search.folder}`). Move the data to one of these folders, "
        "or set `path:` to their absolute folder."
    )
    if not urls:
        return message
    return (
        f"{message} They are published at {', '.join(urls)}: download=True downloads and unpacks them, unless "
        f"{search.candidates[-1]} already exists."
    )


def _publisher_hint(path: Path, raw: Mapping[str, Any], urls: Sequence[str]) -> str:
    """Return where to get a known data set that cannot be downloaded directly; empty for other data sets."""
    info = raw.get("info")
    if urls or not isinstance(info, Mapping) or "source" not in info:
        return ""
    values = cast("Mapping[str, object]", info)
    return (
        f" This data set is published at {values['source']} and cannot be downloaded directly: `yolo data list "
        f"name={path.stem}` has the steps."
    )


def _images_in_folder(folder: Path) -> list[str]:
    files: list[str] = []
    for parent, names in _walk(folder):
        prefix = os.path.join(parent, "")
        files += [prefix + name for name in image_names(names)]
    return files


def _walk(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder and all below it, each with its files; links are followed, but each folder is visited once."""
    visited: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real_path = os.path.realpath(parent)
        if real_path in visited:
            folders.clear()
            continue
        visited.add(real_path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), names


def _images_in_list(path: Path, root: Path) -> list[str]:
    try:
        text = read_regular(path, _MAX_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"The image list {path} cannot be read as UTF-8 text: {error}.") from error
    except OSError as error:
        raise DataError(f"The image list {path} cannot be read: {error.strerror or error}.") from error
    lines = [line for raw_line in text.splitlines() if (line := raw_line.strip())]
    images = [line for line in lines if Path(line).suffix.lower() in IMAGE_SUFFIXES]
    if len(images) < len(lines):
        skipped = next(line for line in lines if Path(line).suffix.lower() not in IMAGE_SUFFIXES)
        LOGGER.warning(
            f"{path}: {len(lines) - len(images)} of {len(lines)} lines do not name an image of a supported type and "
            f"are skipped; first: {one_line(skipped)[:200]}."
        )
    # the first plain line shows which folder the lines are relative to
    plain = next((line for line in images if not line.startswith("./")), "")
    base = next((base for base in (root, path.parent, Path.cwd()) if os.path.exists(base / plain)), root)
    return [os.path.abspath((path.parent if line.startswith("./") else base) / line) for line in images]
