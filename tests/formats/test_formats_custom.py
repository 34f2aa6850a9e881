"""Custom networks, with other classes and keypoints than a person, in every format.

The images are labeled with what the network finds on them, so it measures well without having learned anything, and
a file that computes something else does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from few_images import SMALL
from yolopose import YOLO
from yolopose.base.errors import DependencyError
from yolopose.formats.registry import Format, formats

torch = pytest.importorskip("torch")

KINDS: dict[str, dict[str, Any]] = {
    "32 bits": {},
    "16 bits": {"half": True},
    "8 bits": {"int8": True, "split": "train"},
    "suppressed": {"nms": True, "conf": 0.001},
}
LEAST = {"32 bits": 0.99, "16 bits": 0.95, "8 bits": 0.25, "suppressed": 0.99}
"""Share of the mAP50-95 of torch that a file must have; weights that learned nothing bear 8 bits badly."""


@dataclass(frozen=True)
class Own:
    """A network and the data set that it measures well on."""

    model: YOLO
    data: str


def network(folder: Path, nc: int, points: tuple[int, int]) -> YOLO:
    """Random, with scores all over 0…1, and boxes of some cells."""
    file = folder / "own-pose.yaml"
    text = SMALL.replace("nc: 3", f"nc: {nc}").replace("[5, 2]", str(list(points)))
    file.write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    model = YOLO(file)
    for branch in model.model.head.cv3:
        torch.nn.init.normal_(branch[-1].weight, std=2)
        torch.nn.init.zeros_(branch[-1].bias)
    for branch in model.model.head.cv2:
        torch.nn.init.normal_(branch[-1].weight, std=0.5)
        branch[-1].bias.data = -0.6 * torch.arange(16.0).repeat(4)
    model.model.eval()
    return model


def label(model: YOLO, folder: Path, points: tuple[int, int]) -> Path:
    """Write images with a few blobs each, and what the network is surest of on all of them as their labels."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(6):
            image = np.full((64, 64, 3), rng.integers(0, 256, 3), np.uint8)
            for _ in range(4):
                x, y, radius = (int(value) for value in rng.integers((0, 0, 4), (64, 64, 20)))
                cv2.circle(image, (x, y), radius, rng.integers(0, 256, 3).tolist(), -1)
            cv2.imwrite(str(folder / "images" / split / f"{number}.png"), image)
    files = sorted(folder.rglob("*.png"))
    found = model(files, imgsz=64, conf=0.001, verbose=False)
    least = sorted(score for one in found for score in one.boxes.conf.tolist())[-8 * len(files)]
    for file, one in zip(files, found, strict=True):
        best = one[one.boxes.conf >= least]
        rows = [
            [int(cls), *box, *(value for point in keypoints for value in (*point, 2)[: points[1]])]
            for cls, box, keypoints in zip(
                best.boxes.cls, best.boxes.xywhn.tolist(), best.keypoints.xyn.tolist(), strict=True
            )
        ]
        text = "\n".join(" ".join(map(str, row)) for row in rows)
        (folder / "labels" / file.parent.name / f"{file.stem}.txt").write_text(text)
    names = [f"class{index}" for index in range(len(model.names))]
    file = folder / "own.yaml"
    file.write_text(f"path: .\ntrain: images/train\nval: images/val\nkpt_shape: {list(points)}\nnames: {names}\n")
    return file


@pytest.fixture(scope="module", params=[(1, (4, 3)), (2, (3, 2))], ids=["1 class, 4×3", "2 classes, 3×2"])
def own(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Own:
    folder = tmp_path_factory.mktemp("own")
    nc, points = request.param
    model = network(folder, nc, points)
    return Own(model, str(label(model, folder / "data", points)))


def kinds_of(row: Format) -> list[str]:
    return [kind for kind, options in KINDS.items() if set(options) - {"split", "conf"} <= set(row.info.options)]


def measured(model: YOLO, own: Own) -> tuple[float, float]:
    found = model.val(data=own.data, imgsz=64, rect=False, conf=0.001, plots=False, verbose=False, device="cpu")
    return float(found.box.map), float(found.pose.map)


ROWS = [row for row in formats() if row.info.exportable and row.info.runs_here and row.info.verified]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("row", "kind"), [pytest.param(row, kind, id=f"{row.info.name}, {kind}") for row in ROWS for kind in kinds_of(row)]
)
def test_accuracy_equals_that_of_the_network(row: Format, kind: str, own: Own) -> None:
    options = KINDS[kind]
    expected = measured(own.model, own)
    assert expected[0] > 0.4
    assert expected[1] > 0.9
    data = {"data": own.data} if {"int8", "nms"} & set(options) else {}
    try:
        file = YOLO(own.model.export(format=row.info.name, imgsz=64, verbose=False, **options, **data))
    except DependencyError as error:  # packages, a toolchain, or what computes in the browser
        pytest.skip(str(error))
    assert file.names == own.model.names
    found = measured(file, own)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine >= LEAST[kind] * theirs
