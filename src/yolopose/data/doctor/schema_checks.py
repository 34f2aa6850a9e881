"""Checks of the data YAML: splits, flip indices against names and geometry, σ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from yolopose.data.doctor.findings import Evidence, Example, check, listing, plural
from yolopose.data.doctor.shape_sample import sampled_shapes
from yolopose.data.doctor.shapes import infer_mirror
from yolopose.data.doctor.sigmas import SigmaSuggestion, effect_table, suggest_from_repeats, suggest_from_scatter
from yolopose.data.doctor.survey import Survey
from yolopose.data.side_names import is_near_or_off, mirror_name, sided_names, suggest_flip_idx
from yolopose.schema import COCO_PERSON_NAMES, KeypointSchema

_MIN_SYMMETRIC = 10  # instances from which a suggested `flip_idx` is shown
_MIN_SIGMA_CHANGE = 1.5  # factor by which a suggested σ must differ from the one in use, for any keypoint


@check(
    "split-unusable",
    "error",
    why="A split without images cannot be trained on or evaluated.",
    how="Correct `path:` and the entry of the split in the data YAML, or add the images.",
)
def split_unusable(survey: Survey) -> Iterator[Evidence]:
    """Report splits whose images cannot be listed, and a data set without train or val."""
    for split in survey.splits:
        if split.error:
            yield Evidence(count=1, title=f"{split.name}: {split.error.rstrip('.')}")
    missing = [name for name in ("train", "val") if survey.split(name) is None]
    for name in missing:
        yield Evidence(
            count=1,
            title=f"the data YAML has no `{name}:` entry",
            severity="warning",
            how=f"Add `{name}: images/{name}`" + ("; set images apart for it." if name == "val" else "."),
        )


@check(
    "split-overlap",
    "warning",
    why="Scores on images that the network was trained on say nothing about new images.",
    how="Give each split its own images: `yolo data split data=…` divides them.",
    quick=True,
    needs_all=True,
)
def split_overlap(survey: Survey) -> Iterator[Evidence]:
    """Report images that are listed in two splits, or twice in one."""
    for index, first in enumerate(survey.splits):
        paths = {str(path): number for number, path in enumerate(first.files)}
        repeated = len(first.files) - len(paths)
        if repeated:
            yield Evidence(
                count=repeated,
                title=f"{plural(repeated, 'image')} listed more than once in {first.name}",
                how="Remove the repetitions from the list of images, or the folder that another one contains.",
            )
        for second in survey.splits[index + 1 :]:
            common = [number for number, path in enumerate(second.files) if str(path) in paths]
            if common:
                examples = [
                    Example(text=f"also in {first.name}", split=second.name, image=number, file=second.files[number])
                    for number in common[:200]
                ]
                what = "all images" if len(common) == len(second.files) else plural(len(common), "image")
                yield Evidence(
                    count=len(common), title=f"{what} of {second.name} are also in {first.name}", examples=examples
                )


def _class_names(survey: Survey) -> list[tuple[str, ...]]:
    schema = survey.spec.keypoints
    return list(dict.fromkeys(schema.keypoint_names(index) for index in range(survey.spec.nc))) if schema.names else []


def _suggestion(survey: Survey) -> tuple[int, ...] | None:
    """Return the `flip_idx` that the names of all classes agree on."""
    guesses = {suggest_flip_idx(names) for names in _class_names(survey)}
    return guesses.pop() if len(guesses) == 1 else None


def _describe_swapped(flip_idx: Sequence[int], names: Sequence[str]) -> str:
    pairs = [f"{names[a]} ↔ {names[b]}" for a, b in enumerate(flip_idx) if a < b]
    return listing(pairs, 4)


@check(
    "flip-missing",
    "warning",
    why="Without `flip_idx`, training does not mirror images: half of the usual variation is lost.",
    how="Add `flip_idx` to the data YAML: entry i is the keypoint that keypoint i becomes in a mirrored image.",
)
def flip_missing(survey: Survey) -> Iterator[Evidence]:
    """Report a data YAML without `flip_idx`."""
    if survey.spec.keypoints.flip_idx is not None or survey.spec.keypoints.count < 2:
        return
    guess = _suggestion(survey) or _geometric_mirror(survey)
    if guess:
        yield Evidence(
            count=1,
            title="`flip_idx` is missing; names or shapes suggest one",
            how=f"Add `flip_idx: {list(guess)}`.",
            yaml={"flip_idx": list(guess)} if _suggestion(survey) else {},
            values={"flip_idx": list(guess)},
        )
    else:
        yield Evidence(count=1, title="`flip_idx` is missing")


@check(
    "flip-not-involution",
    "error",
    why="Mirroring an image twice must restore every keypoint; otherwise mirrored images are labeled wrong.",
    how="Correct `flip_idx`: if entry a is b, entry b is a.",
)
def flip_not_involution(survey: Survey) -> Iterator[Evidence]:
    """Report a `flip_idx` that is not its own inverse."""
    flip_idx = survey.spec.keypoints.flip_idx
    if flip_idx is None:
        return
    wrong = [index for index, partner in enumerate(flip_idx) if flip_idx[partner] != index]
    if wrong:
        names = survey.spec.keypoints.keypoint_names(0)
        guess = _suggestion(survey)
        yield Evidence(
            count=len(wrong),
            title=f"`flip_idx` is not its own inverse for {listing(names[index] for index in wrong)}",
            examples=[
                Example(
                    text=f"{names[index]} → {names[flip_idx[index]]} → {names[flip_idx[flip_idx[index]]]}",
                    keypoint=index,
                )
                for index in wrong
            ],
            how=f"Replace it by `flip_idx: {list(guess)}`, which the names suggest." if guess else None,
            yaml={"flip_idx": list(guess)} if guess else {},
        )


@check(
    "flip-against-names",
    "error",
    why="Mirror augmentation mixes up left and right, so that the network learns both as one.",
    how="Correct `flip_idx` in the data YAML, or the names.",
)
def flip_against_names(survey: Survey) -> Iterator[Evidence]:
    """Report names with sides that `flip_idx` does not exchange; an identity is reported by `flip-identity`."""
    flip_idx = survey.spec.keypoints.flip_idx
    if flip_idx is None or _is_identity(flip_idx) or any(flip_idx[flip_idx[i]] != i for i in range(len(flip_idx))):
        return
    for names in _class_names(survey):
        indices = {name.lower(): index for index, name in enumerate(names)}
        expected = [indices.get(mirror_name(name), -1) for name in names]
        wrong = [i for i, partner in enumerate(expected) if partner >= 0 and flip_idx[i] != partner]
        if wrong:
            guess = suggest_flip_idx(names)
            yield Evidence(
                count=len(wrong),
                title=f"`flip_idx` contradicts the names of {listing(names[i] for i in wrong)}",
                examples=[
                    Example(text=f"{names[i]} → {names[flip_idx[i]]}, expected {names[expected[i]]}", keypoint=i)
                    for i in wrong
                ],
                how=f"Replace it by `flip_idx: {list(guess)}`." if guess else None,
                yaml={"flip_idx": list(guess)} if guess else {},
            )


@check(
    "flip-identity",
    "error",
    why="`flip_idx` is 0, 1, 2, …: every keypoint stays what it is in a mirrored image. If keypoints have sides, "
    "mirror augmentation labels the left one as the right one in half of the training images.",
    how="If no keypoint has a partner on the other side (one hand, one wing), keep it. Otherwise exchange the partners "
    "in `flip_idx`, or set fliplr=0.",
    quick=True,
)
def flip_identity(survey: Survey) -> Iterator[Evidence]:
    """Report an identity; as an error if names have sides, as a notice if nothing contradicts it."""
    schema = survey.spec.keypoints
    if schema.flip_idx is None or schema.count < 2 or not _is_identity(schema.flip_idx):
        return
    sided = [name for names in _class_names(survey) for name in sided_names(names)]
    guess = _suggestion(survey)
    if sided:
        certain = not any(is_near_or_off(name) for name in sided)
        names = _class_names(survey)[0]
        pairs = f" ({_describe_swapped(guess, names)})" if guess else ""
        yield Evidence(
            count=len(sided),
            title=f"`flip_idx` is the identity, but {plural(len(sided), 'keypoint name')} have sides: {listing(sided)}",
            severity="error" if certain else "warning",
            how=f"Replace it by `flip_idx: {list(guess)}`{pairs}, or set fliplr=0." if guess else None,
            yaml={"flip_idx": list(guess)} if guess and certain else {},
            values={"flip_idx": list(guess) if guess else None},
        )
        return
    mirror = _geometric_mirror(survey)
    if mirror:
        exchanged = sum(index != partner for index, partner in enumerate(mirror))
        yield Evidence(
            count=exchanged,
            title=f"`flip_idx` is the identity, but the shapes are symmetric: {exchanged} of {schema.count} keypoints "
            "have a partner on the other side",
            severity="warning",
            how=f"Check and use `flip_idx: {list(mirror)}`, which the shapes suggest, or set fliplr=0."
            if len(sampled_shapes(survey).rows) >= _MIN_SYMMETRIC
            else None,
            values={"flip_idx": list(mirror)},
        )
        return
    yield Evidence(
        count=1,
        title=f"`flip_idx` is the identity for {schema.count} keypoints whose names have no sides",
        severity="notice",
    )


def _is_identity(flip_idx: Sequence[int]) -> bool:
    return list(flip_idx) == list(range(len(flip_idx)))


def _geometric_mirror(survey: Survey) -> tuple[int, ...] | None:
    sample = sampled_shapes(survey)
    return infer_mirror(sample.points, sample.labeled)


@check(
    "sigma-default",
    "notice",
    why="OKS divides distances by σ: a σ that is too large makes every pose look right, one that is too small none. "
    "The pose mAP of two runs can only be compared with the same σ.",
    how="Set `kpt_oks_sigmas` in the data YAML once, before the first training that you compare.",
)
def sigma_default(survey: Survey) -> Iterator[Evidence]:
    """Report σ that nobody chose: those of a COCO person for other keypoints, or 1/K; suggest others."""
    schema = survey.spec.keypoints
    if schema.sigmas is not None or _is_coco_person(survey):
        return
    suggestion = suggest_sigmas(survey)
    current = schema.oks_sigmas
    is_person = schema.shape == (17, 3)
    what = "those of a COCO person" if is_person else f"1/K = {1 / schema.count:.3f}"
    values: dict[str, object] = {"current": [round(float(s), 4) for s in current], "current_map": effect_table(current)}
    how = None
    if suggestion:
        ratio = np.maximum(np.array(suggestion.sigmas) / current, current / np.array(suggestion.sigmas))
        if ratio.max() < _MIN_SIGMA_CHANGE:
            return
        origin = (
            "measured from repeated annotations" if suggestion.source == "repeated" else "from the scatter of poses"
        )
        values |= {"suggested": list(suggestion.sigmas), "suggested_map": effect_table(suggestion.sigmas)}
        how = (
            f"Set `kpt_oks_sigmas: {list(suggestion.sigmas)}` ({origin}, {plural(suggestion.count, 'instance')}). "
            f"{_describe_effect(current, suggestion)}"
        )
    yield Evidence(
        count=schema.count,
        title=f"OKS uses default σ, {what}, for all {schema.count} keypoints",
        how=how,
        values=values,
    )


def _describe_effect(current: object, suggestion: SigmaSuggestion) -> str:
    before, after = effect_table(current), effect_table(suggestion.sigmas)  # type: ignore[arg-type]
    parts = [f"{error} of its size: {before[error]:g} now, {after[error]:g} with these" for error in before]
    return f"Pose mAP50-95 if every keypoint of an instance is off by {'; by '.join(parts)}."


def _is_coco_person(survey: Survey) -> bool:
    schema = survey.spec.keypoints
    names = set(_class_names(survey))
    coco = KeypointSchema.coco_person()
    return schema.shape == coco.shape and (
        names == {COCO_PERSON_NAMES} or (not names and schema.flip_idx in (None, coco.flip_idx))
    )


def suggest_sigmas(survey: Survey) -> SigmaSuggestion | None:
    """Suggest σ from repeated annotations if there are any, otherwise from the scatter of shapes."""
    repeats = survey.memo.get("repeats")  # filled by the check of equal images
    measured = suggest_from_repeats(repeats) if repeats is not None else None
    if measured:
        return measured
    sample = sampled_shapes(survey)
    return suggest_from_scatter(sample.points, sample.labeled, sample.scales)
