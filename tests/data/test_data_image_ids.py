from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolopose.data.image_ids import ImageIds, image_ids, relative_names


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000000139.jpg", "bus.jpg"], [139, "bus"]),
        (["1.jpg", "0001.jpg"], ["1.jpg", "0001.jpg"]),
        (["c1/0001.jpg", "c2/0001.jpg"], ["c1/0001", "c2/0001"]),
        (["c1/0001.jpg", "c2/0001.jpg", "c2/2.png"], ["c1/0001", "c2/0001", 2]),
        (["a/x/1.jpg", "b/x/1.jpg"], ["a/x/1", "b/x/1"]),
        (["a.jpg", "a.png"], ["a.jpg", "a.png"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg_2", "a.png", "a.jpg"]),
        (["٣.jpg", "9" * 30 + ".jpg", "²"], ["٣", "9" * 30, "²"]),
    ],
)
def test_ids_are_unique_and_numbers_where_possible(names: list[str], ids: list[int | str]) -> None:
    files = [Path("/set/images/val") / name for name in names]
    assert list(image_ids(files).values()) == ids
    assert list(image_ids([*files, *files]).values()) == ids
    assert len(set(relative_names(files).values())) == len(names)


@pytest.mark.parametrize("seed", range(20))
def test_ids_of_random_names_are_unique(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = ["1", "01", "001", "1_2", "a", "a.jpg", "A", "1.png"]
    files = list({
        Path("/r", *rng.choice(parts, rng.integers(1, 4)), f"{rng.choice(parts)}.{rng.choice(['jpg', 'png'])}")
        for _ in range(60)
    })  # fmt: skip
    ids = image_ids(files)
    assert len(set(ids.values())) == len(files)
    ids = ImageIds()
    names = [str(rng.choice(parts)) for _ in range(50)]
    assert len({ids.add(name) for name in names}) == 50
