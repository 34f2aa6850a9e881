"""Random tracking cases, for the comparison with other evaluators; needs numpy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

NUM_CASES = 50


class Case(NamedTuple):
    """Per frame: ids and (N, 4) boxes x1, y1, x2, y2 of both sides; ids are consecutive from 0."""

    gt_ids: list[npt.NDArray[np.int64]]
    gt_boxes: list[npt.NDArray[np.float64]]
    track_ids: list[npt.NDArray[np.int64]]
    track_boxes: list[npt.NDArray[np.float64]]


def random_case(seed: int) -> Case:
    """Return objects that move, and tracks with noise, misses, switches, false positives and empty frames."""
    rng = np.random.default_rng(seed)
    num_frames = int(rng.integers(1, 40))
    num_gt = int(rng.integers(1, 9)) if seed % 10 else 0
    miss, switch, false = rng.uniform(0, 0.4), rng.uniform(0, 0.15), rng.uniform(0, 1.5)
    noise = rng.uniform(0.01, 0.25)
    silent = seed % 13 == 5  # no tracks at all
    corner, speed = rng.uniform(0, 100, (num_gt, 2)), rng.normal(0, 3, (num_gt, 2))
    side = rng.uniform(15, 40, (num_gt, 2))
    names = np.arange(num_gt)
    next_name = num_gt
    frames: list[tuple[npt.NDArray, ...]] = []
    for _ in range(num_frames):
        corner = corner + speed
        boxes = np.concatenate((corner, corner + side), axis=1)
        is_present = rng.random(num_gt) > 0.2 if rng.random() > 0.1 else np.zeros(num_gt, bool)
        for index in range(num_gt):
            if rng.random() < switch:
                other = int(rng.integers(num_gt))
                names[[index, other]] = names[[other, index]]
            if rng.random() < switch / 2:
                names[index], next_name = next_name, next_name + 1
        is_tracked = is_present & (rng.random(num_gt) > miss) & (rng.random() > 0.05) & (not silent)
        tracked = boxes[is_tracked] + rng.normal(0, noise, (int(is_tracked.sum()), 4)) * np.tile(side[is_tracked], 2)
        tracked[:, 2:] = np.maximum(tracked[:, 2:], tracked[:, :2])
        count = 0 if silent else int(rng.poisson(false))
        extra = rng.uniform(0, 120, (count, 2))
        track_boxes = np.concatenate(
            (tracked, np.concatenate((extra, extra + rng.uniform(10, 40, (count, 2))), axis=1))
        )
        track_names = np.concatenate((names[is_tracked], next_name + np.arange(count)))
        next_name += count
        frames.append((np.flatnonzero(is_present), boxes[is_present], track_names, track_boxes))
    gt_ids, gt_boxes, track_ids, track_boxes_all = (list(column) for column in zip(*frames, strict=True))
    return Case(_consecutive(gt_ids), gt_boxes, _consecutive(track_ids), track_boxes_all)


def _consecutive(ids: list[npt.NDArray]) -> list[npt.NDArray[np.int64]]:
    names = np.unique(np.concatenate(ids))
    return [np.searchsorted(names, frame) for frame in ids]
