"""The data set YAML: read, checked, and its images found."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from yolopose import zoo
from yolopose.base.errors import DataError, NotFoundError, UsageError, did_you_mean, nearest
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.base.suggestions import suggest_path
from yolopose.base.yamlfile import read_yaml
from yolopose.data.fetch import fetch_data
from yolopose.data.figures import FiguresPlan, figures_plan, is_made, make_figures
from yolopose.data.images import IMAGE_SUFFIXES, is_image
from yolopose.data.yaml_checks import complete_keypoints, note_keys, note_mirror, zip_urls
from yolopose.schema import KeypointSchema, PoseSpec, class_names

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set as its YAML describes it.

    Attributes:
        yaml_path: the YAML file.
        root: folder that `train`, `val` and `test` are relative to; absolute.
        spec: classes and keypoints.
        entries: for each split that the YAML names, its folders and .txt lists as written there.
        raw: all keys of the YAML.
    """

    yaml_path: Path
    root: Path
    spec: PoseSpec
    entries: Mapping[Split, tuple[str, ...]]
    raw: Mapping[str, Any]

    @property
    def shipped(self) -> bool:
        """Whether the YAML comes with the package, so that its name is enough to find it."""
        return self.yaml_path.parent == _shipped_folder()

    def image_files(self, split: str) -> list[Path]:
        """List the images of a split by sorted path; an image that is listed twice stands twice.

        Args:
            split: `train`, `val` or `test`. Folders are searched with all their subfolders; lines of a .txt list
                that start `./` are relative to the list, others to the root.

        Raises:
            UsageError: there is no such split.
            DataError: the YAML has no such entry, it is not there, or it holds no image.
        """
        if split not in SPLITS:
            raise UsageError(
                f"There is no split {split!r}.{did_you_mean(split, SPLITS)} The splits are: train, val, test."
            )
        if split not in self.entries:
            close = nearest(split, self.raw, 1)
            hint = f" (it has `{close[0]}:`; is that meant?)" if close else ""
            raise DataError(f"{self.yaml_path} has no `{split}:` entry{hint}. Add the folder of its images.")
        files: list[Path] = []
        for entry in self.entries[split]:
            found = _locate(self.root, entry)
            if found is None:
                raise DataError(
                    f"{self.yaml_path}: the entry `{split}: {entry}` is not there: looked for {self.root / entry}. "
                    "Mend the entry or `path:`."
                )
            files += self._images_in(found, split)
        if not files:
            raise DataError(
                f"{self.yaml_path}: `{split}: {', '.join(self.entries[split])}` holds no images under {self.root} "
                f"(suffixes looked for: {' '.join(sorted(IMAGE_SUFFIXES))})."
            )
        return sorted(files, key=str)

    def _images_in(self, place: Path, split: str) -> list[Path]:
        if place.is_dir():
            return _images_below(place)
        if place.suffix.lower() == ".txt":
            return _images_of_list(place, self.root)
        raise DataError(
            f"{self.yaml_path}: `{split}:` names {place}, which is neither a folder of images nor a .txt list of them."
        )


def shipped_datasets() -> list[str]:
    """Return the file names of the data set YAMLs that come with the package."""
    return sorted(path.name for path in _shipped_folder().glob("*.yaml"))


def load_dataset(
    source: str | Path, *, download: bool | None = False, splits: Sequence[Split] | None = None
) -> Dataset:
    """Read and checks a data set YAML and finds where its data are.

    Data of a YAML with a `figures:` key are drawn when they are not there, under the `datasets_dir` of the settings.

    Args:
        source: path of the YAML, or the file name of a shipped one (`coco8-pose.yaml`); a path that is not there but
            whose file name is shipped gives the shipped one.
        download: fetch archives that `download:` names and that are not here: None those of up to 1 GB, True any,
            False none.
        splits: splits that are going to be read; archives of images of others are not fetched. None: all.

    Raises:
        NotFoundError: there is no such YAML.
        DataError: a key is missing or wrong, or none of the `train`/`val`/`test` entries is there; the text names
            file and key, and lists what was tried.
        DownloadError: an archive cannot be fetched.
        OutputError: figures are to be drawn or archives unpacked, and their folder cannot be written.
    """
    path = _find_yaml(source)
    raw = read_yaml(path, "data YAML", DataError)
    note_keys(path, raw)
    urls = zip_urls(path, raw.get("download"))
    spec = _read_spec(path, raw)
    entries: dict[Split, tuple[str, ...]] = {
        split: _entry(path, split, raw[split]) for split in SPLITS if raw.get(split) is not None
    }
    if not entries:
        close = [key for split in SPLITS for key in nearest(split, raw, 1)]
        hint = f" (it has `{close[0]}:`; is that meant?)" if close else ""
        raise DataError(f"{path} has no `train:`, `val:` or `test:` entry{hint}. Add `train: images/train`.")
    places = _places(path, raw.get("path"), entries)
    root = places.found
    if plan := figures_plan(path, raw):
        root = _drawn(places, plan)
    allowed = bool(urls) and download is not False
    if root is None and allowed:
        root = _fetched(places, urls, download, splits)
    if root is None:
        raise DataError(_nothing_found(path, places, urls))
    dataset = Dataset(yaml_path=path, root=root, spec=spec, entries=entries, raw=raw)
    if allowed and not all(_has_images(dataset, split) for split in splits or entries if split in entries):
        fetch_data(root, urls, large=download, splits=splits)
    return dataset


def _shipped_folder() -> Path:
    return Path(zoo.__file__).parent / "datasets"


def _find_yaml(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if path.exists():
        return path
    shipped = _shipped_folder() / path.name
    if not shipped.is_file():
        names = shipped_datasets()
        hint = suggest_path(path, "data") or (did_you_mean(path.name, names, ".yaml") if path.parent == Path() else "")
        raise NotFoundError(
            f"There is no data YAML {path} (current folder: {Path.cwd()}).{hint} Shipped ones are: {', '.join(names)}."
        )
    if path.parent != Path():
        LOGGER.warning(f"There is no {path}; the shipped {path.name} is used.")
    return shipped


def _read_spec(path: Path, raw: Mapping[str, Any]) -> PoseSpec:
    try:
        classes = class_names(raw.get("names"), raw.get("nc"))
        keypoints = KeypointSchema.from_dict(raw)
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error
    spec = PoseSpec(classes=classes, keypoints=complete_keypoints(path, keypoints, len(classes)))
    note_mirror(path, spec.keypoints)
    return spec


def _entry(path: Path, split: str, value: object) -> tuple[str, ...]:
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise DataError(f"{path}: `{split}:` must be a folder, a .txt list, or a list of these; got {value!r}.")
    return tuple(str(item) for item in items)


def _locate(root: Path, entry: str) -> Path | None:
    """The place of an entry under a root.

    Exports of some labeling tools write `../train/images` and mean `train/images`; that is tried second.
    """
    spellings = [entry, entry[3:]] if entry.startswith("../") else [entry]
    places = (Path(os.path.abspath(root / Path(spelling).expanduser())) for spelling in spellings)
    return next((place for place in places if place.exists()), None)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where the data of a YAML may be: its `path:`, the folders tried, the entries looked for, the one that fits."""

    folder: Path
    roots: list[Path]
    wanted: list[str]
    found: Path | None


def _places(path: Path, value: object, entries: Mapping[Split, tuple[str, ...]]) -> _Places:
    if value is not None and not isinstance(value, str):
        raise DataError(f"{path}: `path:` must be a folder, got {value!r}.")
    folder = Path(value or "").expanduser()
    bases = [folder] if folder.is_absolute() else [path.parent / folder, Path.cwd() / folder, _datasets() / folder]
    roots = list(dict.fromkeys(Path(os.path.abspath(base)) for base in bases))
    # `test` alone decides nothing unless the YAML has nothing else
    wanted = [entries[split][0] for split in ("train", "val") if split in entries] or [entries["test"][0]]
    fitting = (
        root for enough in (all, any) for root in roots if enough(_locate(root, entry) is not None for entry in wanted)
    )
    return _Places(folder, roots, wanted, next(fitting, None))


def _datasets() -> Path:
    return Path(load_settings().datasets_dir)


def _drawn(places: _Places, plan: FiguresPlan) -> Path:
    """Draw figures where there is nothing, or completes what was drawn."""
    found = places.found
    if found is None or is_made(found):
        found = found or Path(os.path.abspath(_datasets() / places.folder))
        make_figures(found, train=plan.train, val=plan.val, size=plan.size, seed=plan.seed)
    return found


def _fetched(
    places: _Places, urls: Sequence[str], download: bool | None, splits: Sequence[Split] | None
) -> Path | None:
    """Fetch the archives; returns the folder when the entries are there then."""
    root = places.roots[-1]
    if root.exists():  # somebody's own data, of another layout
        return None
    fetch_data(root, urls, large=download, splits=splits)
    return root if any(_locate(root, entry) is not None for entry in places.wanted) else None


def _has_images(dataset: Dataset, split: Split) -> bool:
    """Whether the images of a split are there too: lists come in an archive of their own."""
    try:
        return dataset.image_files(split)[0].exists()
    except DataError:
        return False


def _nothing_found(path: Path, places: _Places, urls: Sequence[str]) -> str:
    text = (
        f"The data of {path} are not there: looked for {' and '.join(places.wanted)} under "
        f"{', '.join(map(str, places.roots))} (`path: {places.folder}`). Put the data in one of these places, or set "
        "`path:` to the absolute folder."
    )
    if not urls:
        return text
    return (
        f"{text} They are published at {', '.join(urls)}: download=True fetches and unpacks them, unless something "
        f"else stands at {places.roots[-1]}."
    )


def _images_below(folder: Path) -> list[Path]:
    """All images under a folder; links to folders are followed, but none twice."""
    files: list[Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [path for name in names if is_image(path := Path(parent, name))]
    return files


def _images_of_list(path: Path, root: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The image list {path} cannot be read as UTF-8 text: {error}.") from error
    lines = [line for line in lines if line]
    named = [line for line in lines if Path(line).suffix.lower() in IMAGE_SUFFIXES]
    if len(named) < len(lines):
        LOGGER.warning(f"{path}: {len(lines) - len(named)} of {len(lines)} lines name no image and are left out.")
    plain = next((line for line in named if not line.startswith("./")), "")
    bases = (root, path.parent, Path.cwd())
    base = next((base for base in bases if (base / plain).exists()), root)
    return [Path(os.path.abspath((path.parent if line.startswith("./") else base) / line)) for line in named]
