"""A clean data set of drawn figures, and a copy with one planted fault per image."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from yolopose.base.yamlfile import read_yaml, to_yaml
from yolopose.data.dataset import shipped_datasets
from yolopose.data.figures import FiguresSpec, write_figures
from yolopose.schema import KeypointSchema

NUM_TRAIN, NUM_VAL = 64, 24
PLANTED_FROM = 10  # images 10, 11, … of train have the faults

Rows = list[list[float]]
Faults = dict[str, tuple[str, str, int | None]]


def write_clean(root: Path) -> Path:
    """Draw the set and return its YAML."""
    assert "figures-pose.yaml" in shipped_datasets()
    write_figures(root, FiguresSpec(train=NUM_TRAIN, val=NUM_VAL, size=256, seed=5))
    (root / "figures.json").unlink()
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": {0: "person"}}
    content |= {key: value for key, value in KeypointSchema.coco_person().to_dict().items() if value is not None}
    (root / "data.yaml").write_text(to_yaml(content))
    return root / "data.yaml"


def label_of(root: Path, index: int, split: str = "train") -> Path:
    return root / f"labels/{split}/{index:06d}.txt"


def image_of(root: Path, index: int, split: str = "train") -> Path:
    return root / f"images/{split}/{index:06d}.jpg"


def read(path: Path) -> Rows:
    return [[float(value) for value in line.split()] for line in path.read_text().splitlines() if line.strip()]


def write(path: Path, rows: list[list[object]] | Rows) -> None:
    path.write_text("".join(" ".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in row) + "\n"
                            for row in rows))  # fmt: skip


def edit_row(path: Path, change: Callable[[list[float]], list[object] | None], row: int = 0) -> None:
    rows = read(path)
    rows[row] = change(rows[row])  # type: ignore[call-overload]
    write(path, rows)


def set_value(column: int, value: object) -> Callable[[list[float]], list[object] | None]:
    return lambda row: [*row[:column], value, *row[column + 1 :]]


def whole_figures(root: Path) -> list[tuple[int, int]]:
    """Return (image, row) of large, complete figures that face the viewer, one per image."""
    places: list[tuple[int, int]] = []
    for index in range(NUM_TRAIN):
        for number, row in enumerate(read(label_of(root, index))):
            points = np.array(row[5:]).reshape(-1, 3)
            wide = points[5, 0] - points[6, 0] > 0.25 * row[3] and points[11, 0] - points[12, 0] > 0.12 * row[3]
            eyes = points[1, 0] > points[2, 0]
            if (points[:, 2] > 0).all() and row[4] > 0.4 and wide and eyes:
                places.append((index, number))
                break
    return places


def swap_points(*pairs: tuple[int, int]) -> Callable[[list[float]], list[object] | None]:
    def change(row: list[float]) -> list[object]:
        points = np.array(row[5:]).reshape(-1, 3)
        for a, b in pairs:
            points[[a, b]] = points[[b, a]]
        return [*row[:5], *points.reshape(-1).tolist()]

    return change


def plant(root: Path) -> Faults:
    """Spoil the set; return fault → (id of the check, stem of the image or label file, row or None)."""
    faults: Faults = {}
    swapped_image, swapped_row = whole_figures(root)[-1]
    free = iter(
        index
        for index in range(PLANTED_FROM, NUM_TRAIN)
        if index != swapped_image and len(read(label_of(root, index))) >= 1
    )

    def next_image(name: str, check: str, row: int | None) -> int:
        index = next(free)
        faults[name] = (check, f"{index:06d}", row)
        return index

    def row_fault(name: str, check: str, change: Callable[[list[float]], list[object] | None]) -> None:
        edit_row(label_of(root, next_image(name, check, 1)), change)

    # files
    image = image_of(root, next_image("cut short", "image-unreadable", None))
    image.write_bytes(image.read_bytes()[:900])
    image_of(root, next_image("not an image", "image-unreadable", None)).write_bytes(b"hello")
    small = image_of(root, next_image("too small", "image-unreadable", None))
    cv2.imwrite(str(small), np.zeros((5, 5, 3), np.uint8))
    (root / "labels/train/lost.txt").write_text(label_of(root, 0).read_text())
    faults["orphan label"] = ("label-orphan", "lost", None)
    label_of(root, next_image("no label", "image-unlabeled", None)).unlink()
    shutil.copy(image_of(root, 0), root / "images/train/copy.jpg")
    shutil.copy(label_of(root, 0), root / "labels/train/copy.txt")
    faults["copy"] = ("image-repeated", "copy", None)
    shutil.copy(image_of(root, 1), root / "images/val/leak.jpg")
    shutil.copy(label_of(root, 1), root / "labels/val/leak.txt")
    faults["copy in val"] = ("split-leak", "leak", None)
    for split, source, name, check in (
        ("train", 2, "recoded", "image-near"), ("val", 3, "recodedleak", "split-leak"),
    ):  # fmt: skip
        pixels = cv2.imread(str(image_of(root, source)))
        cv2.imwrite(str(root / f"images/{split}/{name}.jpg"), pixels, [cv2.IMWRITE_JPEG_QUALITY, 70])
        shutil.copy(label_of(root, source), root / f"labels/{split}/{name}.txt")
        faults[name] = (check, name, None)
    # rows
    row_fault("ragged", "row-length", lambda row: row[:-2])
    row_fault(
        "K×2", "row-length", lambda row: [*row[:5], *np.array(row[5:]).reshape(-1, 3)[:, :2].reshape(-1).tolist()]
    )
    row_fault("box only", "row-length", lambda row: row[:5])
    row_fault("not a number", "row-value", set_value(2, "abc"))
    row_fault("NaN", "row-value", set_value(5, "nan"))
    row_fault("wrong class", "row-value", set_value(0, 7))
    row_fault("far outside", "row-value", set_value(1, 3.5))
    row_fault("negative", "row-value", set_value(3, -0.2))
    index = next_image("pixels", "row-value", 1)
    height, width = cv2.imread(str(image_of(root, index))).shape[:2]
    edit_row(label_of(root, index), lambda row: _in_pixels(row, width, height))
    label_of(root, next_image("UTF-16", "row-value", 1)).write_bytes("0 .5 .5 .2 .2".encode("utf-16"))
    index = next_image("repeated row", "row-repeated", len(read(label_of(root, 0))))
    rows = read(label_of(root, index))
    faults["repeated row"] = ("row-repeated", f"{index:06d}", len(rows) + 1)
    write(label_of(root, index), [*rows, rows[0]])
    index = next_image("labeled twice", "instance-twice", None)
    rows = read(label_of(root, index))
    faults["labeled twice"] = ("instance-twice", f"{index:06d}", len(rows) + 1)
    write(label_of(root, index), [*rows, [rows[0][0], rows[0][1] + 0.001, *rows[0][2:]]])
    row_fault("empty box", "box-empty", set_value(3, 0))
    index = next_image("box elsewhere", "box-without-points", 1)
    edit_row(label_of(root, index), lambda row: [row[0], 0.05 if row[1] > 0.5 else 0.95, row[2], 0.08, 0.08, *row[5:]])
    row_fault("v = 0", "point-hidden-by-zero", lambda row: _hide(row))
    row_fault("origin", "point-at-origin", lambda row: [*row[:5], 0, 0, 2, *row[8:]])
    row_fault("confidence", "point-visibility", lambda row: _confidence(row))
    edit_row(label_of(root, swapped_image), swap_points((5, 6)), swapped_row)
    faults["swapped shoulders"] = ("left-right-swap", f"{swapped_image:06d}", swapped_row + 1)
    # data YAML
    content = read_yaml(root / "data.yaml", "data YAML", ValueError)
    content["flip_idx"] = list(range(17))
    content["names"] = {0: "person", 1: "ghost"}
    (root / "data.yaml").write_text(to_yaml(content))
    faults["identity"] = ("flip-identity", "", None)
    faults["absent class"] = ("class-balance", "", None)
    return faults


def _in_pixels(row: list[float], width: int, height: int) -> list[object]:
    points = np.array(row[5:]).reshape(-1, 3) * [width, height, 1]
    return [row[0], row[1] * width, row[2] * height, row[3] * width, row[4] * height, *points.reshape(-1).tolist()]


def _hide(row: list[float]) -> list[object]:
    points = np.array(row[5:]).reshape(-1, 3)
    points[np.flatnonzero(points[:, 2])[0], 2] = 0
    return [*row[:5], *points.reshape(-1).tolist()]


def _confidence(row: list[float]) -> list[object]:
    points = np.array(row[5:]).reshape(-1, 3)
    points[np.flatnonzero(points[:, 2])[0], 2] = 0.37
    return [*row[:5], *points.reshape(-1).tolist()]


def plant_outlier(root: Path) -> Faults:
    """Move the nose of a large figure to its feet."""
    image, number = whole_figures(root)[0]
    edit_row(label_of(root, image), lambda row: [*row[:5], row[11 + 3 * 13], row[12 + 3 * 13], *row[7:]], number)
    fault = f"{image:06d}", number + 1
    return {"nose at the feet": ("point-outlier", *fault), "long neck": ("limb-outlier", *fault)}


def plant_limb(root: Path) -> Faults:
    """Exchange the left wrist and the left ankle of a large figure, both of which move much anyway."""
    image, number = whole_figures(root)[0]
    edit_row(label_of(root, image), swap_points((9, 15)), number)
    return {"wrist and ankle": ("limb-outlier", f"{image:06d}", number + 1)}


def plant_constant(root: Path) -> Faults:
    """Put the nose of the figures of 10 images of val at one place of their boxes; others have none.

    A finding lists 50 places. The eyes are removed, since their limbs to the nose would be reported.
    """
    faults: Faults = {}
    for index in range(NUM_VAL):
        path = label_of(root, index, "val")
        rows = read(path)
        if index >= 10:
            write(path, [[*row[:5], 0, 0, 0, *row[8:]] for row in rows])
            continue
        write(path, [[*row[:5], row[1], row[2] - 0.4 * row[4], 2.0, *[0.0] * 6, *row[14:]] for row in rows])
        faults |= {f"{index}, {number}": ("point-constant", path.stem, number + 1) for number in range(len(rows))}
    return faults


def plant_never(root: Path) -> Faults:
    """Remove the nose of all training figures."""
    for index in range(NUM_TRAIN):
        write(label_of(root, index), [[*row[:5], 0, 0, 0, *row[8:]] for row in read(label_of(root, index))])
    return {"no nose": ("point-never", "", None)}


def plant_flip(check: str, change: Callable[[list[int]], list[int] | None]) -> Callable[[Path], Faults]:
    """Return a function that changes `flip_idx` of the data YAML; None removes it."""

    def plant_in(root: Path) -> Faults:
        content = read_yaml(root / "data.yaml", "data YAML", ValueError)
        flip_idx = change(list(content.pop("flip_idx")))
        content["kpt_oks_sigmas"] = [0.05] * 17
        content["kpt_names"] = {0: [f"{name}_" for name in content["kpt_names"][0]]}
        (root / "data.yaml").write_text(to_yaml(content | ({"flip_idx": flip_idx} if flip_idx else {})))
        return {check: (check, "", None)}

    return plant_in


SINGLE: dict[str, Callable[[Path], Faults]] = {
    "point-outlier": plant_outlier,
    "limb-outlier": plant_limb,
    "point-constant": plant_constant,
    "point-never": plant_never,
    "flip-missing": plant_flip("flip-missing", lambda flip_idx: None),
    "flip-not-involution": plant_flip("flip-not-involution", lambda flip_idx: [1, 2, 0, *flip_idx[3:]]),
    "flip-against-names": plant_flip("flip-against-names", lambda flip_idx: [0, 1, 2, *flip_idx[3:]]),
}
"""Faults that change what other checks expect: each is planted into a copy of its own."""
