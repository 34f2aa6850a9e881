"""Join data sets: classes and keypoints are matched by name, and contradictions are explained.

All sources are read as records, so they may have different formats. The result is a new data set in a new folder with
copies of the images; the sources stay as they are.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from yolopose.base.download import sha256
from yolopose.base.errors import DataError, UsageError
from yolopose.base.files import expand_user
from yolopose.base.log import LOGGER
from yolopose.data.convert.conversion import ConversionReport, read_annotations, write_annotations
from yolopose.data.convert.record import ClassTemplate, DatasetRecord, ImageRecord, IssueLog
from yolopose.data.paths import portable_key
from yolopose.data.side_names import infer_flip_idx, with_side_words
from yolopose.data.subset_files import dataset_name

_MAX_LISTED = 5


@dataclass(frozen=True, slots=True)
class MergeSource:
    """A data set to join.

    Attributes:
        name: folder of its images in the result, and its name in messages.
        record: its annotations.
    """

    name: str
    record: DatasetRecord


def merge_datasets(data: Sequence[str | Path], output: str | Path = "merged") -> ConversionReport:
    """Join data sets into a new one.

    - Classes of the same name are one class. Its keypoints are those of all sources, by name; keypoints that a source
      does not have are absent (v = 0) in its instances.
    - Splits of the same name are joined (`val2017` is `val`); the images of a source are in a folder with its name.
    - Mirror pairs, skeletons and σ are joined by keypoint name. Contradictory mirror pairs are an error; of different σ
      the first is used, which is logged.

    Args:
        data: data YAMLs, or annotations of any format that `yolo convert` reads.
        output: new folder; absent or empty.

    Returns:
        The report of the output: numbers of images and instances, and what was skipped or changed.

    Raises:
        UsageError: fewer than two sources.
        DataError: a source cannot be read, or the sources contradict each other; the message explains how to fix it.
        OutputError: `output` is not empty, or cannot be written.
    """
    paths = [expand_user(path) for path in data]
    if len(paths) < 2:
        raise UsageError(f"Give at least two data sets to merge, as in data=a.yaml,b.yaml; got {len(paths)}.")
    repeated = [str(path) for path, count in Counter(map(os.path.realpath, paths)).items() if count > 1]
    if repeated:
        raise UsageError(f"{repeated[0]} is given twice; give different data sets to merge.")
    names = source_names(paths)
    sources = [MergeSource(name, read_annotations(path)) for name, path in zip(names, paths, strict=True)]
    merged = merge_records(sources)
    _warn_of_repeated_images(sources)
    return write_annotations(merged, output, to="yolo")


def merge_records(sources: Sequence[MergeSource]) -> DatasetRecord:
    """Join records; see `merge_datasets`.

    Raises:
        DataError: the sources contradict each other.
    """
    _check_names(sources)
    classes = _same_slots([_merge_class(name, sources) for name in _class_names(sources)])
    issues = IssueLog()
    for source in sources:
        issues.update(source.record.issues)

    def read_images(log: IssueLog) -> Iterator[ImageRecord]:
        for source in sources:
            for image in source.record.images(log):
                name = PurePosixPath(source.name, image.name).as_posix()
                # ids of different sources mean different images
                instances = [replace(instance, id=None) for instance in image.instances]
                yield replace(image, name=name, split=_split_name(image.split), id=None, instances=instances)

    dims = {source.record.attributes.get("kpt_dims", 3) for source in sources}
    attributes = {"kpt_dims": 2} if dims == {2} else {}
    channels = {source.name: source.record.attributes.get("channels", 3) for source in sources}
    if len({*channels.values()}) > 1:
        stated = ", ".join(f"{count} in {name}" for name, count in channels.items())
        raise DataError(
            f"The data sets have images of different channels: {stated}. Set the same `channels:` in their data YAMLs; "
            "with 1, color images are read as gray."
        )
    attributes["channels"] = next(iter(channels.values()))
    return DatasetRecord(classes=tuple(classes), read_images=read_images, attributes=attributes, issues=issues)


def _split_name(split: str) -> str:
    """Return train, val or test for names that start like that (`val2017`); other names unchanged."""
    return next((name for name in ("train", "val", "test") if split.lower().startswith(name)), split)


def source_names(paths: Sequence[Path]) -> list[str]:
    """Return a short, unique name for each source."""
    names: list[str] = []
    used: set[str] = set()
    for path in paths:
        number = 1
        name = dataset_name(path)
        while portable_key(PurePosixPath(name)) in used:
            number += 1
            name = f"{dataset_name(path)}-{number}"
        used.add(portable_key(PurePosixPath(name)))
        names.append(name)
    return names


def _check_names(sources: Sequence[MergeSource]) -> None:
    """Check that keypoints can be matched by name, and warn of names that differ only in spelling."""
    counts: dict[str, set[int]] = {}
    for source in sources:
        templates = [template for template in source.record.classes if template.keypoints]
        if not templates:
            raise DataError(f"{source.name} has no class with keypoints, so it cannot be merged into a pose data set.")
        unnamed = [template for template in templates if _is_unnamed(template)]
        if unnamed:
            counts[source.name] = {len(template.keypoints) for template in templates}
    if counts and (len(counts) < len(sources) or len(set(map(frozenset, counts.values()))) > 1):
        others = ", ".join(source.name for source in sources if source.name not in counts)
        raise DataError(
            f"Keypoints are matched by name, but {' and '.join(counts)} {'has' if len(counts) == 1 else 'have'} no "
            "keypoint names. Add `kpt_names:` to the data YAML"
            + (f"; if the order is the same as in {others}, copy them from there." if others else ".")
        )
    if counts:
        LOGGER.warning("The data sets have no keypoint names: keypoints are matched by their order.")
    _warn_of_spellings(_class_names(sources), "classes", "names")
    keypoints = [name for source in sources for template in source.record.classes for name in template.keypoints]
    _warn_of_spellings(list(dict.fromkeys(keypoints)), "keypoints", "kpt_names")


def _warn_of_repeated_images(sources: Sequence[MergeSource]) -> None:
    """Warn of images with equal content in several sources, first of those in different splits."""
    by_size: dict[int, list[tuple[Path, str, str]]] = defaultdict(list)
    for source in sources:
        for image in source.record.images():
            if image.path is not None and image.path.is_file():
                by_size[image.path.stat().st_size].append((image.path, source.name, _split_name(image.split)))
    repeated: list[list[tuple[Path, str, str]]] = []
    for images in by_size.values():
        by_content: dict[str, list[tuple[Path, str, str]]] = defaultdict(list)
        for image in images if len({name for _, name, _ in images}) > 1 else ():
            by_content[sha256(image[0])].append(image)
        repeated += [group for group in by_content.values() if len({name for _, name, _ in group}) > 1]
    if not repeated:
        return
    leaks = [group for group in repeated if len({split for _, _, split in group}) > 1]
    example = " and ".join(f"{path} ({split})" for path, _, split in (leaks or repeated)[0][:2])
    LOGGER.warning(
        f"{len(repeated)} images occur in several of the data sets"
        + (f", {len(leaks)} of them in different splits, which makes metrics too good" if leaks else "")
        + f": {example}. All are kept: remove them from one of the data sets and merge again."
    )


def _is_unnamed(template: ClassTemplate) -> bool:
    return all(name.rpartition(" ")[2].rpartition("_")[2].isdecimal() for name in template.keypoints) and (
        template.keypoints[0].lower().startswith(("keypoint", "kpt", "point"))
    )


def _warn_of_spellings(names: Sequence[str], what: str, key: str) -> None:
    """Warn of names that differ only in case, separators or the word for a side; they are kept apart."""
    by_letters: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_letters["".join(filter(str.isalnum, with_side_words(name).lower()))].append(name)
    similar = [" and ".join(map(repr, group)) for group in by_letters.values() if len(group) > 1]
    if similar:
        more = f", and {len(similar) - _MAX_LISTED} more" if len(similar) > _MAX_LISTED else ""
        LOGGER.warning(
            f"These {what} differ only in spelling and are kept apart: {', '.join(similar[:_MAX_LISTED])}{more}. If "
            f"they are the same, write them alike in `{key}:` of the data YAMLs and merge again."
        )


def _class_names(sources: Sequence[MergeSource]) -> list[str]:
    return list(dict.fromkeys(template.name for source in sources for template in source.record.classes))


def _merge_class(name: str, sources: Sequence[MergeSource]) -> ClassTemplate:
    """Return the class of this name with the keypoints of all sources."""
    parts = [
        (source.name, template) for source in sources for template in source.record.classes if template.name == name
    ]
    keypoints = tuple(dict.fromkeys(keypoint for _, template in parts for keypoint in template.keypoints))
    skeleton: dict[frozenset[str], tuple[str, str]] = {}
    sigmas: dict[str, tuple[str, float]] = {}
    for source, template in parts:
        for edge in template.skeleton:
            skeleton.setdefault(frozenset(edge), edge)
        for keypoint, sigma in template.sigmas.items():
            origin, known = sigmas.setdefault(keypoint, (source, sigma))
            if abs(known - sigma) > 1e-6:
                LOGGER.warning(
                    f"{name}: the σ of {keypoint} is {known:g} in {origin} and {sigma:g} in {source}; the first is "
                    "used. Edit kpt_oks_sigmas of the merged data YAML if that is wrong."
                )
    missing = [keypoint for keypoint in keypoints if keypoint not in sigmas]
    if sigmas and missing:
        LOGGER.warning(
            f"{name}: σ is not known for {', '.join(missing[:_MAX_LISTED])}{', …' if missing[_MAX_LISTED:] else ''}, "
            "so the merged data YAML has no kpt_oks_sigmas. Add them for meaningful pose metrics."
        )
    return ClassTemplate(
        name=name,
        keypoints=keypoints,
        skeleton=tuple(skeleton.values()),
        mirror=_merge_mirror(name, parts, keypoints),
        sigmas={} if missing else {keypoint: sigma for keypoint, (_, sigma) in sigmas.items()},
    )


def _merge_mirror(
    name: str, parts: Sequence[tuple[str, ClassTemplate]], keypoints: Sequence[str]
) -> tuple[tuple[str, str], ...] | None:
    """Return the mirror pairs of all sources; None where they are not known.

    Raises:
        DataError: two sources give a keypoint different partners.
    """
    partners: dict[str, tuple[str, str]] = {}  # keypoint → (partner, source)
    unknown = False
    for source, template in parts:
        if template.mirror is None:
            unknown = unknown or bool(template.keypoints)
            continue
        own = dict.fromkeys(template.keypoints, "")
        own |= {first: second for pair in template.mirror for first, second in (pair, pair[::-1])}
        for keypoint in template.keypoints:
            partner = own[keypoint] or keypoint
            other, origin = partners.setdefault(keypoint, (partner, source))
            if other != partner:
                raise DataError(
                    f"{name}: in a mirror, {keypoint} becomes {other} according to the flip_idx of {origin}, but "
                    f"{partner} according to that of {source}. Correct one of the data YAMLs and merge again."
                )
    if unknown:
        flip = infer_flip_idx(keypoints)
        if flip is None:
            return None
        partners |= {
            keypoint: (keypoints[flip[index]], "its name")
            for index, keypoint in enumerate(keypoints)
            if keypoint not in partners
        }
    index = {keypoint: position for position, keypoint in enumerate(keypoints)}
    return tuple((first, second) for first, (second, _) in partners.items() if index[first] < index[second])


def _same_slots(classes: Sequence[ClassTemplate]) -> list[ClassTemplate]:
    """Give all classes the same keypoints, mirror pairs and σ, so that every column of a label row is one name.

    Raises:
        DataError: two classes give a keypoint different partners in a mirror.
    """
    templates = [template for template in classes if template.keypoints]
    if len(templates) == 1:
        return list(classes)
    union = tuple(dict.fromkeys(keypoint for template in templates for keypoint in template.keypoints))
    if any(len(template.keypoints) < len(union) for template in templates):
        LOGGER.warning(
            f"The classes have different keypoints: label rows have the {len(union)} keypoints of all classes, and "
            "those of other classes are absent."
        )
    sigmas: dict[str, float] = {}
    for template in templates:
        sigmas = {**template.sigmas, **sigmas}
    if sigmas and len(sigmas) < len(union):
        LOGGER.warning("σ is known for some of the keypoints only, so the merged data YAML has no kpt_oks_sigmas.")
    mirror = _merge_mirror("classes", [(template.name, template) for template in templates], union)
    common = {"keypoints": union, "mirror": mirror, "sigmas": sigmas if len(sigmas) == len(union) else {}}
    return [replace(template, **common) if template.keypoints else template for template in classes]
