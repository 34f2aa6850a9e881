"""Known data sets: the YAMLs of `zoo/datasets`, with their source, license and size, and how to get the data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from yolopose import zoo
from yolopose.base.errors import DataError, NotFoundError, UsageError, did_you_mean
from yolopose.base.files import expand_user
from yolopose.base.log import LOGGER
from yolopose.base.settings import load_settings
from yolopose.base.yamlfile import read_yaml
from yolopose.data.dataset import Split, load_dataset, shipped_datasets
from yolopose.data.yaml_checks import parse_download
from yolopose.schema import KeypointSchema, PoseSpec, class_names

_FOLDER = Path(zoo.__file__).parent / "datasets"
_WIDTH = 100  # columns of the text


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDataset:
    """A data set of the zoo.

    Attributes:
        name: name of its YAML without suffix.
        path: the YAML.
        title: full name.
        kind: `people`, `animals`, `hands`, `faces`, `clothes`.
        spec: classes and keypoints.
        source: address of its publisher.
        paper: reference.
        license: terms as stated by the publisher.
        images: number of images of each split; may be empty.
        size: size of the download as text; may be empty.
        total: number of keypoints in its annotations, of which these are the first; 0 if they have exactly these.
        sigmas: where the OKS σ come from; empty if none are published.
        flips: remark on the mirror pairs; may be empty.
        get: how to get the data where they cannot be downloaded directly; empty otherwise.
        download: addresses of its archives; empty if they cannot be downloaded directly.
        folder: folder of its data on this machine, which may not exist.
    """

    name: str
    path: Path
    title: str
    kind: str
    spec: PoseSpec
    source: str
    paper: str
    license: str
    images: Mapping[str, int]
    size: str
    total: int
    sigmas: str
    flips: str
    get: str
    download: tuple[str, ...]
    folder: Path

    @property
    def available(self) -> bool:
        """Whether a folder with its data exists in the data sets folder of the settings."""
        return self.folder.is_dir()

    def matches(self, text: str) -> bool:
        """Return whether a text occurs in the name, title, kind, classes or keypoint names."""
        texts = [self.name, self.title, self.kind, *self.spec.classes]
        for names in self.spec.keypoints.names.values():
            texts += names
        return any(text.lower() in item.lower() for item in texts)


def known_datasets() -> list[KnownDataset]:
    """Return all data sets of the zoo, sorted by name."""
    return [_read_entry(_FOLDER / name) for name in shipped_datasets()]


def known_dataset(name: str) -> KnownDataset:
    """Return a data set of the zoo.

    Args:
        name: its name, with or without `.yaml`.

    Raises:
        NotFoundError: the data set is unknown; the message suggests similar names.
    """
    key = name.removesuffix(".yaml").lower()
    names = [known.removesuffix(".yaml") for known in shipped_datasets()]
    by_letters = {_letters(known): known for known in names}  # `AP-10K` is `ap10k`
    known = by_letters.get(_letters(key))
    if known is None:
        raise NotFoundError(
            f"{name!r} is not a known data set.{did_you_mean(key, names)} `yolo data list` shows all; "
            "find=… searches by class or keypoint, such as find=dog."
        )
    return _read_entry(_FOLDER / f"{known}.yaml")


def dataset_table(find: str | None = None) -> str:
    """Return the known data sets as a text table.

    Args:
        find: list only those with this text in their name, title, kind, classes or keypoint names.

    Raises:
        NotFoundError: no data set has this text.
    """
    entries = [entry for entry in known_datasets() if find is None or entry.matches(find)]
    if not entries:
        raise NotFoundError(f"No known data set has {find!r} in its name, classes or keypoints. Try: yolo data list")
    header = ("name", "K", "classes", "images", "size", "σ", "get", "license")
    rows = [header, *map(_row, sorted(entries, key=lambda entry: (entry.kind, entry.name)))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header) - 1)]
    lines = ["  ".join([*map(str.ljust, row, widths), row[-1]]) for row in rows]
    notes = (
        "get: `here` is on this machine, `yes` can be downloaded by `yolo data get name=NAME`, `drawn` is drawn by it, "
        "`manual` needs a form, an account or a conversion.\n`yolo data list name=NAME` shows keypoints, mirror pairs, "
        "skeleton, source and steps. Read the terms of a data set before you use it."
    )
    return "\n".join([*lines, "", notes])


def describe_dataset(name: str) -> str:
    """Return all that is known of a data set as text.

    Raises:
        NotFoundError: the data set is unknown.
    """
    entry = known_dataset(name)
    keypoints = entry.spec.keypoints
    names = keypoints.keypoint_names(0)
    images = ", ".join(f"{split} {_grouped(count)}" for split, count in entry.images.items())
    fields = {
        "title": entry.title,
        "YAML": entry.path.name,
        "source": entry.source,
        "paper": entry.paper,
        "license": entry.license,
        "images": images or "not stated",
        "size": entry.size or "not stated",
        "classes": ", ".join(entry.spec.classes),
        "keypoints": f"{keypoints.count} × {keypoints.dims}",
        "σ": entry.sigmas or "none published: 1/K each is used; set your own with kpt_oks_sigmas",
        "mirror": entry.flips or _mirror_text(keypoints),
        "get": _how_to_get(entry),
    }
    lines = [_field(key, value) for key, value in fields.items() if value]
    table = _keypoint_table(entry, names)
    edges = ", ".join(f"{names[a]}-{names[b]}" for a, b in keypoints.skeleton)
    return "\n".join([*lines, "", *table, "", _field("skeleton", edges or "none")])


def get_dataset(
    name: str | Path,
    *,
    split: Split | None = None,
    sources: Sequence[str | Path] = (),
    images: str | Path | None = None,
) -> Path:
    """Download a data set, draw it, or import a downloaded one, into the data sets folder of the settings.

    Every download is resumable, limited in size, checked, and recorded with its SHA-256; archives whose SHA-256 the
    YAML states under `download_sha256` must have it.

    Args:
        name: name of a data set of the zoo, or the path of a data YAML with `download:`.
        split: download only the images of this split, where they are in an archive of their own.
        sources: annotations that were downloaded by hand, for data sets that cannot be downloaded directly; they become
            labels with the names, mirror pairs and σ of the zoo.
        images: folder of their images; None searches beside the annotations.

    Returns:
        The data YAML, for `data=`.

    Raises:
        NotFoundError: the data set is unknown.
        DataError: it cannot be downloaded directly (the message has the steps), or an archive is not what it should be.
        DownloadError: an archive cannot be downloaded.
        OutputError: a file cannot be written.
    """
    path = Path(name)
    if sources:
        from yolopose.data.known_import import import_dataset

        entry = known_dataset(str(name))
        folder = None if images is None else expand_user(images)
        import_dataset(entry, [expand_user(source) for source in sources], folder, split=split)
        path = entry.path
    elif not path.exists():
        entry = known_dataset(str(name))
        path = entry.path
        if not entry.available and entry.get and not entry.download:
            raise DataError(f"{entry.title} cannot be downloaded directly. {_how_to_get(entry)}")
        license_note = f" License: {entry.license}." if entry.license else ""
        LOGGER.info(f"{entry.title}{f', {entry.size}' if entry.size else ''}.{license_note}")
    dataset = load_dataset(path, download=True, splits=None if split is None else [split])
    for name_ in [split] if split else dataset.entries:
        try:
            count = len(dataset.image_files(name_))
        except DataError:  # the publisher has more splits than were imported
            LOGGER.info(f"{name_}: not in {dataset.root}")
        else:
            LOGGER.info(f"{name_}: {count} images in {dataset.root}")
    shown = path.name if dataset.shipped else path
    LOGGER.info(f"Train with: yolo pose train data={shown}")
    return path


def _grouped(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _letters(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _read_entry(path: Path) -> KnownDataset:
    raw = read_yaml(path, "data YAML", DataError)
    info = cast("dict[str, Any]", raw.get("info") or {})
    try:
        spec = PoseSpec(classes=class_names(raw.get("names"), None), keypoints=KeypointSchema.from_dict(raw))
    except UsageError as error:
        raise DataError(f"{path}: {error}") from error
    return KnownDataset(
        name=path.stem,
        path=path,
        title=str(info.get("title", path.stem)),
        kind=str(info.get("kind", "")),
        spec=spec,
        source=str(info.get("source", "")),
        paper=str(info.get("paper", "")),
        license=str(info.get("license", "")),
        images={str(split): int(count) for split, count in (info.get("images") or {}).items()},
        size=str(info.get("size", "")),
        total=int(info.get("total", 0)),
        sigmas=str(info.get("sigmas", "")),
        flips=str(info.get("flips", "")),
        get=" ".join(str(info.get("get", "")).split()),
        download=parse_download(path, raw.get("download")),
        folder=Path(load_settings().datasets_dir) / str(raw.get("path", "")),
    )


def _row(entry: KnownDataset) -> tuple[str, ...]:
    classes = entry.spec.classes
    total = sum(entry.images.values())
    get = "here" if entry.available else "yes" if entry.download else "manual" if entry.get else "drawn"
    return (
        entry.name,
        str(entry.spec.keypoints.count),
        classes[0] if len(classes) == 1 else f"{len(classes)} classes",
        _grouped(total) if total else "",
        entry.size,
        "yes" if entry.sigmas else "",
        get,
        entry.license.split(";")[0],
    )


def _how_to_get(entry: KnownDataset) -> str:
    if entry.available:
        return f"it is in {entry.folder}"
    if entry.download:
        return f"yolo data get name={entry.name}, from {', '.join(entry.download)}"
    if entry.get:
        return f"{entry.get} Source: {entry.source}."
    return f"yolo data get name={entry.name} draws it"


def _mirror_text(keypoints: KeypointSchema) -> str:
    if keypoints.flip_idx is None:
        return "unknown: training does not mirror images"
    if keypoints.flip_idx == tuple(range(keypoints.count)):
        return "no keypoint changes its name in a mirror"
    return ""


def _field(key: str, value: str) -> str:
    return textwrap.fill(
        value, _WIDTH, initial_indent=f"{key + ':':<11}", subsequent_indent=" " * 11, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _keypoint_table(entry: KnownDataset, names: Sequence[str]) -> list[str]:
    """Return a line for each keypoint: index, name, partner in a mirror, σ."""
    keypoints = entry.spec.keypoints
    sigmas = keypoints.oks_sigmas if entry.sigmas else None
    flip = keypoints.flip_idx or range(keypoints.count)
    width = max(map(len, names))
    lines = [f"{'index':>5}  {'keypoint':<{width}}  {'mirrored':<{width}}  σ".rstrip()]
    for index, name in enumerate(names):
        partner = names[flip[index]] if flip[index] != index else ""
        sigma = "" if sigmas is None else f"{sigmas[index]:.4g}"
        lines.append(f"{index:>5}  {name:<{width}}  {partner:<{width}}  {sigma}".rstrip())
    return lines
