"""Checks of files: unreadable images, orphans, equal and nearly equal images, frames of one video in two splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolopose.data.doctor.findings import Edit, Evidence, Example, check, listing, plural
from yolopose.data.doctor.image_hash import equal_groups, hamming, near_groups
from yolopose.data.doctor.sigmas import instance_scale
from yolopose.data.doctor.survey import SplitSurvey, Survey
from yolopose.data.paths import label_path
from yolopose.geometry import box_iou, cxcywh_to_xyxy

_FRAME = re.compile(r"^(.*?)(\d+)$")
_MIN_FRAMES = 5  # of a video, in both splits together
_MIN_NEIGHBORS = 10
_MAX_FRAME_DISTANCE = 6  # median bits between neighboring frames of one video
_MISSING_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ImagePool:
    """The images of all distinct splits in one sequence.

    Attributes:
        splits: the splits.
        starts: index of the first image of each split, and the number of all images.
    """

    splits: Sequence[SplitSurvey]
    starts: npt.NDArray[np.int64]

    def locate(self, index: int) -> tuple[SplitSurvey, int]:
        """Return the split of an image, and its index there."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.splits[number], index - int(self.starts[number])

    def file(self, index: int) -> Path:
        """Return the file of an image."""
        split, image = self.locate(index)
        return split.files[image]


def pool_images(survey: Survey) -> ImagePool:
    """Return all images whose pixels were read."""
    splits = [split for split in survey.distinct_splits if split.hashes is not None]
    return ImagePool(splits, np.cumsum([0, *(len(split.files) for split in splits)]))


@check(
    "image-unreadable",
    "error",
    why="Training skips these images; some decoders return them partly gray.",
    how="Copy them again from their source, or remove them.",
)
def image_unreadable(survey: Survey) -> Iterator[Evidence]:
    """Report images that are missing, do not decode or are too small."""
    for split in survey.distinct_splits:
        if split.bad_images:
            kinds = listing(sorted({bad.kind for bad in split.bad_images}))
            yield Evidence(
                count=len(split.bad_images),
                title=f"{plural(len(split.bad_images), 'image')} of {split.name} cannot be used ({kinds})",
                examples=[
                    Example(text=bad.reason, split=split.name, image=bad.image, file=split.files[bad.image])
                    for bad in split.bad_images
                ],
                edits=[
                    Edit(split=split.name, image=bad.image, row=None, drop=True, reason=f"image {bad.kind}")
                    for bad in split.bad_images
                ],
            )


@check(
    "label-orphan",
    "warning",
    why="A label file whose image is missing is never read: its annotations are lost without a message.",
    how="Add the images, correct the file names (same path, `images` instead of `labels`), or remove the label files.",
)
def label_orphan(survey: Survey) -> Iterator[Evidence]:
    """Report label files without an image."""
    for split in survey.splits:
        if split.orphans:
            yield Evidence(
                count=len(split.orphans),
                title=f"{plural(len(split.orphans), 'label file')} without an image beside those of {split.name}",
                examples=[Example(text="no image has this name", file=path) for path in split.orphans],
                how=None,
            )


@check(
    "image-unlabeled",
    "notice",
    why="An image without a label file counts as one without instances: the network learns that nothing is there.",
    how="Label them, write empty label files to confirm that they contain nothing, or remove them.",
)
def image_unlabeled(survey: Survey) -> Iterator[Evidence]:
    """Report images without a label file."""
    for split in survey.distinct_splits:
        missing = np.flatnonzero(~split.has_labels)
        if len(missing):
            share = len(missing) / len(split.files)
            yield Evidence(
                count=len(missing),
                title=f"{plural(len(missing), 'image')} of {split.name} without a label file ({share:.0%})",
                severity="warning" if share > _MISSING_SHARE or share == 1 else None,
                examples=[
                    Example(
                        text=f"expected {label_path(split.files[image])}",
                        split=split.name,
                        image=int(image),
                        file=split.files[image],
                    )
                    for image in missing[:200]
                ],
            )


def equal_images(survey: Survey) -> list[npt.NDArray[np.int64]]:
    """Return groups of files with equal contents, as indices into `pool_images`."""
    if "equal" not in survey.memo:
        pool = pool_images(survey)
        digests = [split.digests for split in pool.splits if split.digests is not None]
        survey.memo["equal"] = equal_groups(np.concatenate(digests)) if digests else []
    return survey.memo["equal"]


def near_images(survey: Survey) -> list[npt.NDArray[np.int64]]:
    """Return groups of nearly equal images, of which equal files take part once, as indices into `pool_images`."""
    if "near" not in survey.memo:
        pool = pool_images(survey)
        if not pool.splits:
            return []
        usable = np.concatenate([(split.sizes > 0).all(axis=1) for split in pool.splits])
        hashes = np.concatenate([split.hashes for split in pool.splits if split.hashes is not None])
        thumbs = np.concatenate([split.thumbs for split in pool.splits if split.thumbs is not None])
        for group in equal_images(survey):
            splits = [pool.locate(int(index))[0].name for index in group]
            first = {name: index for index, name in reversed(list(zip(group.tolist(), splits, strict=True)))}
            usable[[index for index in group.tolist() if index not in first.values()]] = False
        survey.memo["near"] = near_groups(hashes, thumbs, usable)
    return survey.memo["near"]


@check(
    "image-repeated",
    "warning",
    why="Copies of an image have more weight than others, and copies with other labels contradict each other.",
    how="Keep one of them, with the right labels.",
)
def image_repeated(survey: Survey) -> Iterator[Evidence]:
    """Report files of equal contents within a split; those with different labels on their own."""
    pool = pool_images(survey)
    copies: list[tuple[int, int]] = []
    for group in equal_images(survey):
        first: dict[str, int] = {}
        for index in group.tolist():
            split, _ = pool.locate(index)
            original = first.setdefault(split.name, index)
            if original != index:
                copies.append((index, original))
    _collect_repeats(survey, pool)
    for differs, title, severity in ((False, "copies of other images", None), (True, "with other labels", None)):
        chosen = [(a, b) for a, b in copies if _labels_differ(pool, a, b) == differs]
        if not chosen:
            continue
        examples: list[Example] = []
        edits: list[Edit] = []
        for index, original in chosen:
            split, image = pool.locate(index)
            text = f"equals {pool.file(original).name}" + (", with other labels" if differs else "")
            original_file = pool.file(original)
            examples.append(
                Example(text=text, split=split.name, image=image, file=split.files[image], other=original_file)
            )
            edits.append(Edit(split=split.name, image=image, row=None, drop=True, reason=text))
        noun = plural(len(chosen), "image is a copy", "images are copies")
        yield Evidence(
            count=len(chosen),
            title=f"{noun} of another one of the split{', ' + title if differs else ''}",
            severity=severity,
            examples=examples,
            edits=[] if differs else edits,
        )


def _labels_differ(pool: ImagePool, first: int, second: int) -> bool:
    (split_a, a), (split_b, b) = pool.locate(first), pool.locate(second)
    rows_a = slice(int(split_a.offsets[a]), int(split_a.offsets[a + 1]))
    rows_b = slice(int(split_b.offsets[b]), int(split_b.offsets[b + 1]))
    table_a = np.concatenate((split_a.boxes[rows_a], split_a.keypoints[rows_a].reshape(-1, split_a.keypoints[0].size)
                              if len(split_a.keypoints) else np.zeros((0, 0))), axis=1)  # fmt: skip
    table_b = np.concatenate((split_b.boxes[rows_b], split_b.keypoints[rows_b].reshape(-1, split_b.keypoints[0].size)
                              if len(split_b.keypoints) else np.zeros((0, 0))), axis=1)  # fmt: skip
    return table_a.shape != table_b.shape or not np.allclose(table_a, table_b, atol=1e-4)


@check(
    "image-near",
    "notice",
    why="Nearly equal images add little to the training; of many, the network learns this one scene.",
    how="Keep one of each group, or every n-th frame of a video.",
)
def image_near(survey: Survey) -> Iterator[Evidence]:
    """Report nearly equal images within a split."""
    pool = pool_images(survey)
    by_split: dict[str, list[Example]] = defaultdict(list)
    for group in near_images(survey):
        members: dict[str, list[int]] = defaultdict(list)
        for index in group.tolist():
            members[pool.locate(index)[0].name].append(index)
        for name, indices in members.items():
            for index in indices[1:]:
                split, image = pool.locate(index)
                other = pool.file(indices[0])
                text = f"nearly equals {other.name}"
                by_split[name].append(Example(text=text, split=name, image=image, file=split.files[image], other=other))
    for name, examples in by_split.items():
        title = plural(len(examples), "image nearly equals", "images nearly equal")
        yield Evidence(count=len(examples), title=f"{title} another one of {name}", examples=examples)


@check(
    "split-leak",
    "error",
    why="The network is evaluated on images that it was trained on, so that its scores are too high.",
    how="Remove the copies from the training images.",
)
def split_leak(survey: Survey) -> Iterator[Evidence]:
    """Report equal and nearly equal images in different splits; the fixed copy drops equal ones from training."""
    pool = pool_images(survey)
    for groups, is_equal in ((equal_images(survey), True), (near_images(survey), False)):
        pairs: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
        for group in groups:
            first: dict[str, int] = {}
            for index in group.tolist():
                name = pool.locate(index)[0].name
                other = next((n for n in first if n != name), None)
                if other is not None and pool.file(first[other]) != pool.file(index):
                    pairs[other, name].append((first[other], index))
                first.setdefault(name, index)
        for (other, name), members in pairs.items():
            verb = plural(len(members), "image equals", "images equal")
            verb = verb if is_equal else verb.replace("equal", "nearly equal")
            yield Evidence(
                count=len(members),
                title=f"{name}: {verb} {'one' if len(members) == 1 else 'some'} of {other}",
                severity="error" if is_equal else "warning",
                examples=[_leak_example(pool, a, b, is_equal) for a, b in members],
                edits=[_leak_edit(pool, a, b) for a, b in dict(members).items()] if is_equal else [],
                values={"splits": [other, name]},
            )


def _leak_example(pool: ImagePool, first: int, second: int, is_equal: bool) -> Example:
    split, image = pool.locate(second)
    other, _ = pool.locate(first)
    text = f"{'equals' if is_equal else 'nearly equals'} {pool.file(first).name} of {other.name}"
    return Example(text=text, split=split.name, image=image, file=split.files[image], other=pool.file(first))


def _leak_edit(pool: ImagePool, first: int, second: int) -> Edit:
    split, image = pool.locate(first)
    return Edit(split=split.name, image=image, row=None, drop=True, reason=f"equals {pool.file(second).name}")


@check(
    "video-in-splits",
    "warning",
    why="Neighboring frames of a video are almost equal: scores on some of them, after training on others, do not show "
    "how the network does on a new video.",
    how="Put all frames of a video into one split.",
    quick=True,
)
def video_in_splits(survey: Survey) -> Iterator[Evidence]:
    """Report videos, recognized by numbered file names, with frames in several splits."""
    splits = survey.distinct_splits
    videos: dict[str, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for split in splits:
        for image, file in enumerate(split.files):
            match = _FRAME.match(file.stem)
            if match:
                videos[_video_name(file, match[1], split.name)][split.name].append((int(match[2]), image))
    shared = {
        name: frames
        for name, frames in videos.items()
        if len(frames) > 1 and sum(map(len, frames.values())) >= _MIN_FRAMES
    }
    has_several = len([name for name in videos if re.search("[A-Za-z]", name)]) > 1
    by_name = [name for name in shared if has_several and re.search("[A-Za-z]", name)]
    by_hash = [name for name in shared if name not in by_name and _is_video(survey, shared[name])]
    for names, how_known in ((by_name, "file names"), (by_hash, "file names and images")):
        if names:
            counts = [sum(map(len, shared[name].values())) for name in names]
            yield Evidence(
                count=len(names),
                title=f"frames of {plural(len(names), 'video')} are in several splits, by their {how_known}",
                examples=[
                    _video_example(survey, name, shared[name], count) for name, count in zip(names, counts, strict=True)
                ],
            )


def _video_name(file: Path, prefix: str, split: str) -> str:
    """Return folder below the split and prefix, so that `cam1/0001` and `cam2/0001` are different videos."""
    parts = list(file.parent.parts)
    names = {split, "images", "train", "val", "valid", "test"}
    cut = max((index for index, part in enumerate(parts) if part in names), default=len(parts) - 1)
    return "/".join([*parts[cut + 1 :], prefix])


def _video_example(survey: Survey, name: str, frames: dict[str, list[tuple[int, int]]], count: int) -> Example:
    split_name = list(frames)[-1]
    image = frames[split_name][0][1]
    split = survey.split(split_name)
    parts = ", ".join(f"{len(numbers)} in {split_name}" for split_name, numbers in frames.items())
    file = split.files[image] if split else None
    return Example(text=f"{name or 'numbered files'}…: {parts}", split=split_name, image=image, file=file, score=count)


def _is_video(survey: Survey, frames: dict[str, list[tuple[int, int]]]) -> bool:
    """Return whether frames with neighboring numbers in different splits are much more alike than others."""
    hashes: list[np.uint64] = []
    keys: list[tuple[int, str]] = []
    for name, numbers in frames.items():
        split = survey.split(name)
        if split is None or split.hashes is None:
            return False
        for number, image in numbers:
            keys.append((number, name))
            hashes.append(split.hashes[image])
    order = sorted(range(len(keys)), key=keys.__getitem__)
    values = np.array([hashes[index] for index in order], dtype=np.uint64)
    crossing = np.array(
        [keys[a][1] != keys[b][1] and keys[a][0] != keys[b][0] for a, b in pairwise(order)],
        dtype=np.bool_,
    )
    if crossing.sum() < _MIN_NEIGHBORS:
        return False
    near = np.median(hamming(values[1:][crossing], values[:-1][crossing]))
    far = np.median(hamming(values, np.roll(values, len(values) // 2)))
    return bool(near <= _MAX_FRAME_DISTANCE and near <= 0.5 * far)


def _collect_repeats(survey: Survey, pool: ImagePool) -> None:
    """Store distances between the annotations of equal images, from which σ is measured."""
    distances: list[npt.NDArray[np.float64]] = []
    for group in [*equal_images(survey), *near_images(survey)]:
        for index in group[1:].tolist():
            if _labels_differ(pool, int(group[0]), index):
                distances += _repeat_distances(pool, int(group[0]), index)
    if distances:
        survey.memo["repeats"] = np.stack(distances)


def _repeat_distances(pool: ImagePool, first: int, second: int) -> list[npt.NDArray[np.float64]]:
    (split_a, a), (split_b, b) = pool.locate(first), pool.locate(second)
    rows_a = np.arange(split_a.offsets[a], split_a.offsets[a + 1])
    rows_b = np.arange(split_b.offsets[b], split_b.offsets[b + 1])
    if not len(rows_a) or not len(rows_b):
        return []
    iou = box_iou(cxcywh_to_xyxy(split_a.boxes[rows_a]), cxcywh_to_xyxy(split_b.boxes[rows_b]))
    size = split_a.sizes[a][::-1].astype(np.float64)
    result: list[npt.NDArray[np.float64]] = []
    for row, column in enumerate(iou.argmax(axis=1).tolist()):
        if iou[row, column] < 0.5:
            continue
        ours, theirs = split_a.keypoints[rows_a[row]], split_b.keypoints[rows_b[column]]
        distance = np.linalg.norm((ours[:, :2] - theirs[:, :2]) * size, axis=1)
        width, height = split_a.boxes[rows_a[row], 2:] * size
        scale = float(instance_scale(np.array(width), np.array(height)))
        both = (ours[:, 2] > 0) & (theirs[:, 2] > 0)
        result.append(np.where(both, distance / max(scale, 1e-6), np.nan))
    return result
