"""Every pair of formats: what both can hold arrives."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from convert_records import assert_same, random_record, values

from yolopose.data.convert import convert, read_annotations, write_annotations
from yolopose.data.convert.protocol import Feature, ReadOptions
from yolopose.data.convert.record import DatasetRecord
from yolopose.data.convert.registry import format_names, get_format

# the exports of Roboflow rename images; they have tests of their own
NAMES = [name for name in format_names() if not get_format(name).extra and not name.startswith("roboflow")]


def held_values(record: DatasetRecord, features: frozenset[Feature]) -> dict[str, list[dict[str, Any]]]:
    """Return the instances by image name, each with what formats of these features can hold, in a fixed order."""
    held: dict[str, list[dict[str, Any]]] = {}
    for key, instances in values(record).items():
        rows: list[dict[str, Any]] = []
        for instance in instances:
            if not instance["points"]:
                continue
            hidden = Feature.HIDDEN in features
            row = {"points": {n: (x, y, v if hidden else 2) for n, (x, y, v) in instance["points"].items()}}
            row |= {"box": instance["box"]} if Feature.BOX in features else {}
            row |= {"area": instance["area"]} if Feature.AREA in features else {}
            rows.append(row)
        if rows:
            held[key.rpartition("/")[0].partition("/")[2] + key.rpartition("/")[2]] = sorted(
                rows, key=lambda row: [round(x, 2) for point in row["points"].values() for x in point]
            )
    return dict(sorted(held.items()))


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(NAMES, 2)))
def test_a_pair_of_formats(tmp_path: Path, first: str, second: str) -> None:
    record = random_record(tmp_path, 3)
    images = tmp_path / "images"
    options = ReadOptions(images=images)
    features = get_format(first).capabilities & get_format(second).capabilities
    for image in record.images():  # a format without crowds skips them, or makes instances of them
        if Feature.CROWD not in features:
            image.instances = [instance for instance in image.instances if not instance.crowd]
    write_annotations(record, tmp_path / "1", to=first, verbose=False)
    convert(tmp_path / "1", tmp_path / "2", to=second, source_format=first, images=images, verbose=False)
    back = read_annotations(tmp_path / "2", source_format=second, options=options)
    assert held_values(record, features)
    assert_same(held_values(back, features), held_values(record, features), 1e-4)
