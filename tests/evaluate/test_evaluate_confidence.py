"""Counts at a confidence threshold, against loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluate_runs import RECORD_SPEC, random_run

from yolopose.base.errors import UsageError
from yolopose.evaluate.confidence import count_table, counts_at


@pytest.mark.parametrize("kind", ["box", "pose"])
@pytest.mark.parametrize(
    ("conf", "level", "cls"), [(0.0, 0, None), (0.25, 0, None), (0.5, 4, 1), (0.99, 9, 0), (1.0, 0, None)]
)
def test_counts_by_loops(kind: str, conf: float, level: int, cls: int | None) -> None:
    record = random_run().record
    rows = [row for row in range(len(record.det_score)) if cls is None or record.det_class[row] == cls]
    above = [row for row in rows if float(record.det_score[row]) >= conf]
    num_gt = sum(cls is None or gt_class == cls for gt_class in record.gt_class)
    tp = sum(record.matches(kind)[row, level] >= 0 for row in above)
    counts = counts_at(record, conf, kind, level, cls)
    assert (counts.tp, counts.fp, counts.fn) == (tp, len(above) - tp, num_gt - tp)
    assert counts.recall == pytest.approx(tp / num_gt)
    assert counts.precision == pytest.approx(tp / len(above) if above else 0)


def test_table_agrees_with_counts_at_every_step() -> None:
    record = random_run().record  # scores have two digits, so that they lie on the steps themselves
    table = count_table(record, RECORD_SPEC.names)
    for step in range(0, 1001, 10):
        for kind in ("box", "pose"):
            for cls, histogram in enumerate(table["classes"]):
                above = [row for row, at in enumerate(histogram["step"]) if at >= step]
                counts = counts_at(record, step / 1000, kind, 3, cls)
                assert sum(histogram[kind][3][row] for row in above) == counts.tp
                assert sum(histogram["count"][row] for row in above) == counts.tp + counts.fp
                assert histogram["num_gt"] == counts.tp + counts.fn


def test_many_classes_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    record = random_run().record
    classes = np.random.default_rng(0).integers(0, 900, len(record.det_class)).astype(np.int32)
    record = replace(record, det_class=classes)
    assert len(count_table(record, {})["classes"]) > 100
    monkeypatch.setattr("yolopose.evaluate.confidence._MAX_TABLE_ROWS", 50)
    (histogram,) = count_table(record, {})["classes"]
    assert sum(histogram["count"]) == len(record.det_score)
    assert histogram["num_gt"] == len(record.gt_class)


def test_refuses_unknown_kind() -> None:
    with pytest.raises(UsageError, match="'box' or 'pose'"):
        random_run(images=3).reliability("mask")
