"""A small data set on disk, which the tests may damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

MakeSet = Callable[..., Path]
GOOD = {2: "0 .5 .5 .2 .2 .4 .4 .6 .6\n", 3: "0 .5 .5 .2 .2 .4 .4 2 .6 .6 1\n"}


@pytest.fixture
def make_set(tmp_path: Path) -> MakeSet:
    """Write `images` (name → label text, bytes or None) with K = 2 points and return the YAML."""

    def make(
        images: dict[str, str | bytes | None] | None = None, dims: int = 3, extra: str = "", name: str = "set"
    ) -> Path:
        root = tmp_path / name
        for folder in ("images/val", "labels/val"):
            (root / folder).mkdir(parents=True)
        for stem, label in ({"a": GOOD[dims], "b": GOOD[dims]} if images is None else images).items():
            cv2.imwrite(str(root / f"images/val/{stem}.png"), np.full((60, 80, 3), 90, np.uint8))
            if label is not None:
                data = label.encode() if isinstance(label, str) else label
                (root / f"labels/val/{stem}.txt").write_bytes(data)
        yaml = root / "data.yaml"
        yaml.write_text(
            f"path: .\nval: images/val\ntrain: images/val\nkpt_shape: [2, {dims}]\nnames: [one, two]\n"
            f"flip_idx: [1, 0]\n{extra}"
        )
        return yaml

    return make
