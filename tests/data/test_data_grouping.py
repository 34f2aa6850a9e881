from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolopose.base.errors import UsageError
from yolopose.data.grouping import ImageGroups, detect_groups, groups_by_pattern


def partition(groups: ImageGroups) -> list[list[int]]:
    """Return the images of each group."""
    return [np.flatnonzero(groups.group_idx == index).tolist() for index in range(len(groups))]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["walk_0001.png", "walk_0002.png", "run_1.png"], [[0, 1], [2]]),
        (["img0001.png", "img0002.png"], [[0, 1]]),
        (["000000000139.jpg", "000000000785.jpg"], [[0], [1]]),
        (["2024-05-01.jpg", "2024-05-02.jpg"], [[0], [1]]),
        (["a_jpg.rf.0123456789abcdef.jpg", "a_jpg.rf.fedcba9876543210.jpg", "b_jpg.rf.00112233.jpg"], [[0, 1], [2]]),
        (["v1-3_png.rf.0123456789abcdef.jpg", "v1-4_png.rf.fedcba9876543210.jpg"], [[0, 1]]),
        (["bus.jpg", "zidane.jpg"], [[0], [1]]),
        (["cam1/0001.jpg", "cam1/0002.jpg", "cam2/0001.jpg"], [[0, 1], [2]]),
        (["images/train/m_1.jpg", "images/val/m_2.jpg"], [[0, 1]]),
        (["images/train2017/000000000139.jpg", "images/val2017/000000000785.jpg"], [[0], [1]]),
        (["cam1/m_1.jpg", "cam2/m_1.jpg"], [[0], [1]]),
        (["train/walk/m_1.jpg", "val/walk/m_2.jpg", "val/run/m_3.jpg"], [[0, 1], [2]]),
        (["cam1/images/m_1.jpg", "cam2/images/m_1.jpg"], [[0], [1]]),
        (["coco/000000000139.jpg", "coco/000000000785.jpg"], [[0], [1]]),
    ],
)
def test_groups_follow_from_names_and_folders(names: list[str], expected: list[list[int]]) -> None:
    files = [Path("/data", *(() if "/" in name else ("images",)), name) for name in names]
    assert partition(detect_groups(files)) == expected


def test_runs_are_consecutive_and_keep_copies_together() -> None:
    numbers = [*range(20), 7, 7]  # two more copies of frame 7
    files = [Path(f"/images/w_{number}_jpg.rf.{index:032x}.jpg") for index, number in enumerate(numbers)]
    runs = detect_groups(files).cut(6)
    assert max(runs.sizes) <= 8
    assert len(runs) == 4
    for members in partition(runs):
        values = sorted({numbers[image] for image in members})
        assert values == list(range(values[0], values[-1] + 1))
    assert len({int(runs.group_idx[image]) for image in (7, 20, 21)}) == 1


def test_small_groups_are_not_cut() -> None:
    groups = detect_groups([Path(f"/images/{name}.png") for name in ("a_1", "a_2", "b_1")])
    assert groups.cut(2).names == groups.names


def test_pattern_decides_by_its_first_group(caplog: pytest.LogCaptureFixture) -> None:
    files = [Path(f"/x/{name}.png") for name in ("v1_cat_3", "v1_dog_4", "v2_cat_3", "other")]
    assert partition(groups_by_pattern(files, r"(v\d)_")) == [[0, 1], [2], [3]]
    assert partition(groups_by_pattern(files[:3], r"cat|dog")) == [[0, 2], [1]]


@pytest.mark.parametrize(("pattern", "message"), [("(", "not a valid regular expression"), ("nosuch", "matches none")])
def test_bad_patterns_are_explained(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        groups_by_pattern([Path("/x/a.png")], pattern)
