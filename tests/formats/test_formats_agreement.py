from __future__ import annotations

import numpy as np
import pytest

from yolopose.formats.agreement import Agreement, compare_anchors, compare_best, compare_detections
from yolopose.schema import KeypointSchema, ModelMetadata, PoseSpec

ABOUT = ModelMetadata(spec=PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=1, dims=3)))


def cells(scores: list[float]) -> np.ndarray:
    """(1, 4+2+3, A): every cell at its own place, the score in the second class."""
    raw = np.zeros((1, 9, len(scores)), np.float32)
    raw[:, :4], raw[:, 5], raw[:, 6:8] = 10 * np.arange(len(scores)), scores, 5
    return raw


def rows(scores: list[float]) -> np.ndarray:
    """(1, N, 6+3): the same as finished detections of class 1."""
    raw = cells(scores)
    return np.concatenate((raw[:, :4], raw[:, 5:6], np.ones_like(raw[:, :1]), raw[:, 6:]), 1).transpose(0, 2, 1).copy()


def test_differences_of_anchors() -> None:
    theirs, mine = cells([0.8, 0.1]), cells([0.7, 0.1])
    mine[0, 2, 0] += 3
    mine[0, 7, 1] += 2
    mine[0, 8, 1] += 0.4  # visibility is not a position
    found = compare_anchors(mine, theirs, ABOUT)
    assert (found.box, found.score, found.point) == pytest.approx((3, 0.1, 2))
    mine[0, 0, 1] = np.nan
    assert not compare_anchors(mine, theirs, ABOUT).within(1e9, 1)
    assert not compare_anchors(mine, theirs, ABOUT, 0.25).within(1e9, 1)


@pytest.mark.parametrize(("mine_too", "counts"), [(0.05, False), (0.5, True)])
def test_background_boxes_are_not_compared(mine_too: float, counts: bool) -> None:
    """Unless the file takes it for something."""
    for make, compare in ((cells, compare_anchors), (rows, compare_best)):
        theirs, mine = make([0.8, 0.1, 0.01]), make([0.8, mine_too, 0.01])
        view = mine[0, :, 1] if make is cells else mine[0, 1]
        view[0] += 3
        assert compare(mine, theirs, ABOUT).box == 3
        found = compare(mine, theirs, ABOUT, 0.25)
        assert found.box == (3 if counts else 0)
        assert found.score == pytest.approx(abs(mine_too - 0.1))


def test_rows_close_to_the_last_score_are_not_compared() -> None:
    """Of a network that has learned nothing every score is the same; others than its own best are as good."""
    theirs, mine = rows([0.8, 0.0104, 0.01]), rows([0.8, 0.0103, 0.01])
    mine[0, 1:, :4] += 50
    assert compare_best(mine, theirs, ABOUT).box == 0
    assert compare_best(mine[:, 1:], theirs[:, 1:], ABOUT).empty
    mine[0, 1, 4] = 0.5
    assert not compare_best(mine[:, 1:], theirs[:, 1:], ABOUT).within(1e9, 0.1)


def test_missing_detections_are_infinitely_different() -> None:
    one, both = rows([0.8, 0.0]), rows([0.8, 0.1])
    for least, missing in ((0.0, True), (0.25, False)):
        for mine, theirs in ((one, both), (both, one)):
            found = compare_detections(mine, theirs, ABOUT, 0.01, 0.0, least)
            assert (found.box > 1) == missing
    other = rows([0.8])
    other[..., 5] = 0
    assert compare_detections(other, one, ABOUT, 0.01, 0.0) == Agreement(np.inf, np.inf, np.inf)
    assert compare_detections(one * 0, one * 0, ABOUT, 0.01, 0.0, 0.25).empty
