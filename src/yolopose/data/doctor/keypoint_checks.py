"""Checks of keypoints: against their boxes, their visibility, their own statistics, and left/right swaps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from yolopose.data.doctor.findings import Edit, Evidence, Example, check, listing, plural
from yolopose.data.doctor.row_checks import instance_edit, instance_example
from yolopose.data.doctor.shape_sample import ShapeSample, sampled_shapes
from yolopose.data.doctor.shapes import find_swaps, mirror_pairs, point_deviations, robust_location
from yolopose.data.doctor.survey import SplitSurvey, Survey
from yolopose.data.side_names import suggest_flip_idx

# by which a point may lie outside its box, as a share of the longer side of the box; COCO's boxes contain only
# visible points
_MARGIN = 0.1
_HIDDEN_MARGIN = 0.5
_MIN_LABELED = 10  # instances
_CONSTANT = 1e-4  # range of normalized coordinates
_MIN_OUTLIER_COUNT = 30
_OUTLIER_Z = 10.0
_MIN_OUTLIER = 0.8  # distance from the expected position, as a share of the size of the instance
_LIMB_Z = 6.0
_LIMB_RATIO = 2.5
_MIN_LIMB = 0.7  # as a share of the size of the instance
_MAX_LIMB_POINTS = 80  # without a skeleton, all pairs are compared


def _is_labeled(split: SplitSurvey) -> npt.NDArray[np.bool_]:
    points = split.keypoints
    return (points[..., 2] > 0) & ((points[..., 0] != 0) | (points[..., 1] != 0))


@check(
    "box-without-points",
    "warning",
    why="The head predicts keypoints from the region of the box. A box beside its points belongs to another instance, "
    "or one of both is wrong.",
    how="Correct box or points. The fixed copy enlarges the box to contain its points.",
    quick=True,
)
def box_without_points(survey: Survey) -> Iterator[Evidence]:
    """Report labeled keypoints clearly outside the box of their instance."""
    for split in survey.distinct_splits:
        sizes = split.sizes[split.image_index][:, None, ::-1].astype(np.float32)
        centers = split.boxes[:, None, :2]
        half = split.boxes[:, None, 2:] / 2
        outside = (np.abs(split.keypoints[..., :2] - centers) - half) * sizes
        distance = np.where(_is_labeled(split), outside.max(axis=2), -np.inf)
        side = np.maximum((split.boxes[:, 2:] * sizes[:, 0]).max(axis=1), 1e-6)[:, None]
        share = distance / side
        is_hidden = (split.keypoints[..., 2] < 2) & (survey.spec.keypoints.dims == 3)
        is_outside = share > np.where(is_hidden, _HIDDEN_MARGIN, _MARGIN)
        is_box = (split.boxes[:, 2:] > 0).all(axis=1)
        rows = np.flatnonzero(is_outside.any(axis=1) & is_box).tolist()
        share = np.where(is_outside, share, -np.inf)
        if rows:
            yield Evidence(
                count=len(rows),
                title=f"{plural(len(rows), 'instance')} of {split.name} with keypoints outside the box",
                examples=[_outside_example(survey, split, row, share[row]) for row in rows],
                edits=[_enlarge(split, row, is_outside[row]) for row in rows],
            )


def _outside_example(survey: Survey, split: SplitSurvey, row: int, share: npt.NDArray[np.floating]) -> Example:
    keypoint = int(share.argmax())
    names = survey.spec.keypoints.keypoint_names(int(split.classes[row]))
    text = f"{names[keypoint]} is outside by {share[keypoint]:.0%} of the box"
    return instance_example(split, row, text, keypoint, float(share[keypoint]))


def _enlarge(split: SplitSurvey, row: int, outside: npt.NDArray[np.bool_]) -> Edit:
    points = split.keypoints[row][outside, :2].astype(float)
    box = split.boxes[row].astype(float)
    low = np.clip(np.minimum(box[:2] - box[2:] / 2, points.min(axis=0)), 0, 1)
    high = np.clip(np.maximum(box[:2] + box[2:] / 2, points.max(axis=0)), 0, 1)
    values = (*((low + high) / 2).tolist(), *(high - low).tolist())
    return instance_edit(split, row, columns=dict(enumerate(values, 1)), reason="box enlarged to its keypoints")


@check(
    "point-hidden-by-zero",
    "warning",
    why="v = 0 means that a keypoint is not labeled: its coordinates are ignored, so that no loss and no score uses "
    "them. Some tools write 0 for hidden keypoints.",
    how="Set v = 1 if the positions are annotated (hidden keypoints). The fixed copy keeps what training does and sets "
    "the coordinates to 0.",
    quick=True,
)
def point_hidden_by_zero(survey: Survey) -> Iterator[Evidence]:
    """Report coordinates of keypoints with v = 0."""
    if survey.spec.keypoints.dims != 3:
        return
    for split in survey.distinct_splits:
        points = split.keypoints
        hidden = (points[..., 2] == 0) & ((points[..., 0] != 0) | (points[..., 1] != 0))
        places = np.argwhere(hidden)
        if len(places):
            rows = np.unique(places[:, 0])
            yield Evidence(
                count=len(places),
                title=f"{plural(len(places), 'keypoint')} of {split.name} with coordinates but v = 0",
                examples=[_point_example(survey, split, int(row), int(point), "v is 0") for row, point in places[:200]],
                edits=[
                    instance_edit(
                        split,
                        int(row),
                        columns={
                            5 + 3 * k + part: 0.0 for k in np.flatnonzero(hidden[row]).tolist() for part in (0, 1)
                        },
                        reason="coordinates of unlabeled keypoints set to 0",
                    )
                    for row in rows
                ],
            )


def _point_example(survey: Survey, split: SplitSurvey, row: int, keypoint: int, text: str, score: float = 0) -> Example:
    name = survey.spec.keypoints.keypoint_names(int(split.classes[row]))[keypoint]
    return instance_example(split, row, f"{name}: {text}", keypoint, score)


@check(
    "point-at-origin",
    "error",
    why="A visible keypoint at (0, 0) is a missing one: the network learns to place it in the corner of the image.",
    how="Set v = 0 for keypoints that are not annotated.",
    quick=True,
)
def point_at_origin(survey: Survey) -> Iterator[Evidence]:
    """Report keypoints at exactly (0, 0) that count as labeled."""
    for split in survey.distinct_splits:
        points = split.keypoints
        places = np.argwhere((points[..., 2] > 0) & (points[..., 0] == 0) & (points[..., 1] == 0))
        if not len(places):
            continue
        dims = survey.spec.keypoints.dims
        edits = [
            instance_edit(
                split,
                int(row),
                columns={5 + 3 * int(point) + 2: 0.0} if dims == 3 else {5 + 2 * int(point) + i: -1.0 for i in (0, 1)},
                reason="keypoint at (0, 0) marked as not labeled",
            )
            for row, point in places
        ]
        yield Evidence(
            count=len(places),
            title=f"{plural(len(places), 'keypoint')} of {split.name} labeled at (0, 0)",
            examples=[
                _point_example(survey, split, int(row), int(point), "labeled at (0, 0)") for row, point in places[:200]
            ],
            edits=edits,
        )


@check(
    "point-visibility",
    "notice",
    why="v is 0, 1 or 2. Other values, such as the confidences of a network, count as labeled wherever they are above "
    "0, even 0.01.",
    how="Set v = 0 below a confidence of your choice and 2 above it.",
)
def point_visibility(survey: Survey) -> Iterator[Evidence]:
    """Report visibilities other than 0, 1 and 2."""
    if survey.spec.keypoints.dims != 3:
        return
    for split in survey.distinct_splits:
        places = np.argwhere(~np.isin(split.keypoints[..., 2], (0, 1, 2)))
        if len(places):
            yield Evidence(
                count=len(places),
                title=f"{plural(len(places), 'keypoint')} of {split.name} with v other than 0, 1, 2",
                examples=[
                    _point_example(survey, split, int(row), int(k), f"v is {split.keypoints[row, k, 2]:g}")
                    for row, k in places[:200]
                ],
            )


@check(
    "point-never",
    "warning",
    why="The network cannot learn a keypoint without labels; its predictions are random.",
    how="Label it, or remove it from `kpt_shape`.",
    quick=True,
    needs_all=True,
)
def point_never(survey: Survey) -> Iterator[Evidence]:
    """Report keypoints that no training instance has labeled, and those that only validation has."""
    split = survey.split("train") or (survey.splits[0] if survey.splits else None)
    if split is None or len(split.classes) < _MIN_LABELED:
        return
    never = np.flatnonzero(~_is_labeled(split).any(axis=0)).tolist()
    if never:
        names = survey.spec.keypoints.keypoint_names(0)
        noun = "keypoint is" if len(never) == 1 else "keypoints are"
        yield Evidence(
            count=len(never),
            title=f"{len(never)} {noun} never labeled in {split.name}: {listing(names[k] for k in never)}",
            examples=[Example(text=f"{names[k]}: 0 of {len(split.classes)} instances", keypoint=k) for k in never],
        )


@check(
    "point-constant",
    "warning",
    why="A keypoint with the same coordinates everywhere is a placeholder, which the network learns instead of a "
    "position.",
    how="Label it, or set v = 0.",
    quick=True,
)
def point_constant(survey: Survey) -> Iterator[Evidence]:
    """Report keypoints whose coordinates, in the image or in the box, are the same in all instances."""
    for split in survey.distinct_splits:
        labeled = _is_labeled(split)
        sizes = np.maximum(split.boxes[:, None, 2:], 1e-6)
        relative = (split.keypoints[..., :2] - split.boxes[:, None, :2]) / sizes
        for k in range(survey.spec.keypoints.count):
            rows = np.flatnonzero(labeled[:, k])
            if len(rows) < _MIN_LABELED:
                continue
            in_image = np.ptp(split.keypoints[rows, k, :2], axis=0).max()
            in_box = np.ptp(relative[rows, k], axis=0).max()
            if min(in_image, in_box) < _CONSTANT:
                name = survey.spec.keypoints.keypoint_names(0)[k]
                place = "image" if in_image <= in_box else "box"
                yield Evidence(
                    count=len(rows),
                    title=f"{name} has the same position in the {place} in all {len(rows)} instances of {split.name}",
                    examples=[_point_example(survey, split, int(row), k, "constant") for row in rows[:50]],
                )


@check(
    "left-right-swap",
    "error",
    why="A swapped instance teaches the network that left is right.",
    how="Look at them and exchange left and right. The fixed copy does that for the instances listed.",
    quick=True,
)
def left_right_swap(survey: Survey) -> Iterator[Evidence]:
    """Report instances that resemble the others much better with left and right exchanged."""
    schema = survey.spec.keypoints
    pairs = mirror_pairs(schema.flip_idx)
    if not pairs and schema.names:
        pairs = mirror_pairs(suggest_flip_idx(schema.keypoint_names(0)))
    sample = sampled_shapes(survey)
    swaps = find_swaps(sample.points, sample.labeled, sample.scales, pairs)
    splits = survey.distinct_splits
    names = schema.keypoint_names(0)
    for number, split in enumerate(splits):
        chosen = [swap for swap in swaps if sample.split[swap.instance] == number]
        if not chosen:
            continue
        rows = {swap.instance: int(sample.rows[swap.instance]) for swap in chosen}
        yield Evidence(
            count=len(chosen),
            title=f"left and right are probably swapped in {plural(len(chosen), 'instance')} of {split.name}"
            + (f" (of {len(sample.rows)} examined)" if sample.is_part else ""),
            examples=[
                instance_example(
                    split,
                    rows[swap.instance],
                    f"{listing((f'{names[a]} ↔ {names[b]}' for a, b in swap.pairs), 3)}",
                    swap.pairs[0][0],
                    swap.gain,
                )
                for swap in chosen
            ],
            edits=[_swap_edit(survey, split, rows[swap.instance], swap.pairs) for swap in chosen],
        )


def _swap_edit(survey: Survey, split: SplitSurvey, row: int, pairs: tuple[tuple[int, int], ...]) -> Edit:
    dims = survey.spec.keypoints.dims
    points = split.keypoints[row].astype(float)
    points[points[:, 2] == 0, :2] = 0 if dims == 3 else -1
    columns: dict[int, float] = {}
    for a, b in pairs:
        for target, source in ((a, b), (b, a)):
            columns |= {5 + dims * target + part: float(points[source, part]) for part in range(dims)}
    return instance_edit(split, row, columns=columns, reason="left and right exchanged")


@check(
    "point-outlier",
    "warning",
    why="A keypoint far from its place in similar instances is often a slip, or a point of another instance.",
    how="Look at them, and move or remove the wrong ones.",
)
def point_outlier(survey: Survey) -> Iterator[Evidence]:
    """Report the keypoint of an instance that is far from where similar instances have it, by robust z."""
    sample = sampled_shapes(survey)
    if len(sample.rows) < _MIN_OUTLIER_COUNT:
        return
    deviations = point_deviations(sample.points, sample.labeled, sample.scales)
    scores = np.zeros(deviations.shape)
    for k in range(deviations.shape[1]):
        known = np.isfinite(deviations[:, k])
        if known.sum() >= _MIN_OUTLIER_COUNT:
            middle, spread = robust_location(deviations[known, k])
            scores[known, k] = (deviations[known, k] - middle) / max(spread, 0.02)
    outliers = (scores > _OUTLIER_Z) & (np.nan_to_num(deviations) > _MIN_OUTLIER)
    worst = np.where(outliers, scores, 0).argmax(axis=1)
    # one wrong point shifts the alignment of all: only the worst of an instance is reported
    rows = np.flatnonzero(outliers.any(axis=1)).tolist()
    places = [(row, int(worst[row]), float(scores[row, worst[row]])) for row in rows]
    yield from _sample_evidence(
        survey, sample, places, "keypoint is far from where similar instances have it",
        "keypoints are far from where similar instances have them", "robust z {:.0f}",
    )  # fmt: skip


def _sample_evidence(
    survey: Survey, sample: ShapeSample, places: list[tuple[int, int, float]], one: str, many: str, text: str
) -> Iterator[Evidence]:
    for number, split in enumerate(survey.distinct_splits):
        chosen = [place for place in places if sample.split[place[0]] == number]
        if chosen:
            yield Evidence(
                count=len(chosen),
                title=f"{split.name}: {plural(len(chosen), one, many)}",
                examples=[
                    _point_example(survey, split, int(sample.rows[row]), k, text.format(score), score)
                    for row, k, score in chosen
                ],
            )


@check(
    "limb-outlier",
    "warning",
    why="A limb several times longer than usual joins points of two instances, or one of its points is wrong.",
    how="Look at them, and move or remove the wrong ones.",
)
def limb_outlier(survey: Survey) -> Iterator[Evidence]:
    """Report limbs that are much longer, relative to their instance, than in other instances."""
    sample = sampled_shapes(survey)
    if len(sample.rows) < _MIN_OUTLIER_COUNT:
        return
    size = np.maximum(sample.scales, 1e-6)
    places: list[tuple[int, int, float]] = []
    for a, b in _limbs(survey, sample):
        rows = np.flatnonzero(sample.labeled[:, a] & sample.labeled[:, b])
        if len(rows) < _MIN_OUTLIER_COUNT:
            continue
        length = np.abs(sample.points[rows, a] - sample.points[rows, b]) / size[rows]
        logs = np.log(np.maximum(length, 1e-3))
        middle, spread = robust_location(logs)
        score = (logs - middle) / max(spread, 0.1)
        typical = float(np.exp(middle))
        is_outlier = (score > _LIMB_Z) & (length > _LIMB_RATIO * typical) & (length > _MIN_LIMB)
        places += [(int(rows[i]), b, float(length[i] / typical)) for i in np.flatnonzero(is_outlier)]
    longest: dict[tuple[int, int], float] = {}
    for row, k, score in places:
        longest[row, k] = max(longest.get((row, k), 0.0), score)
    yield from _sample_evidence(
        survey, sample, [(row, k, score) for (row, k), score in longest.items()], "limb is much longer than usual",
        "limbs are much longer than usual", "limb {:.1f} times as long as usual",
    )  # fmt: skip


def _limbs(survey: Survey, sample: ShapeSample) -> list[tuple[int, int]]:
    """Return the edges of the skeleton, or for each keypoint the one at the smallest median distance."""
    schema = survey.spec.keypoints
    if schema.skeleton:
        return list(schema.skeleton)
    edges: set[tuple[int, int]] = set()
    if schema.count > _MAX_LIMB_POINTS:
        return []
    for a in range(schema.count):
        distances = np.full(schema.count, np.inf)
        for b in range(schema.count):
            both = sample.labeled[:, a] & sample.labeled[:, b]
            if a != b and both.sum() >= _MIN_OUTLIER_COUNT:
                relative = np.abs(sample.points[both, a] - sample.points[both, b]) / np.maximum(
                    sample.scales[both], 1e-6
                )
                distances[b] = np.median(relative)
        if np.isfinite(distances).any():
            b = int(distances.argmin())
            edges.add((min(a, b), max(a, b)))
    return sorted(edges)
