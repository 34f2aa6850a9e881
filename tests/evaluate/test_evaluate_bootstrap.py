"""Bootstrap intervals and the comparison of runs, against sets made of the resampled images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluate_runs import RectangleRuntime, make_rectangles, random_run, val_options

from yolopose.base.errors import DataError, UsageError
from yolopose.cli import main
from yolopose.evaluate import Metric, PoseMetrics, validate
from yolopose.evaluate.bootstrap import compare, intervals, resample_images, resampled_maps


def test_resamples_are_scored_like_a_data_set() -> None:
    record = random_run().record
    # distinct scores: among copies of an image, equal scores would be ordered differently
    offsets = np.linspace(0, 1e-3, len(record.det_score), dtype=np.float32)
    record = replace(record, det_score=record.det_score + offsets)
    weights = resample_images(30, 20, seed=1)
    assert weights.sum(axis=1).tolist() == [30] * 20
    maps = resampled_maps(record, weights)["mAP50-95(P)"]
    for draw in range(20):
        images = np.repeat(np.arange(30), weights[draw])
        rows = np.concatenate([np.flatnonzero(record.det_image == image) for image in images])
        gt_rows = np.concatenate([np.flatnonzero(record.gt_image == image) for image in images])
        metric = Metric(2)
        hits = record.hits("pose")[rows]
        metric.update(hits, record.det_score[rows], record.det_class[rows], record.gt_class[gt_rows])
        assert maps[draw] == pytest.approx(metric.map, abs=1e-9)


def test_intervals() -> None:
    metrics = random_run(images=60)
    interval = metrics.intervals["mAP50-95(P)"]
    assert interval.value == pytest.approx(metrics.pose.map)
    assert interval.low < interval.value < interval.high
    assert interval.draws == 1000
    assert intervals(metrics.record)["mAP50-95(P)"] == interval  # the seed is fixed
    few = intervals(random_run(images=3).record)["mAP50-95(P)"]
    assert 0 <= few.low <= few.value <= few.high <= 1
    many = intervals(random_run(images=600).record, draws=200)["mAP50-95(P)"]
    assert many.high - many.low < 0.6 * (interval.high - interval.low)  # about 1/√10


def test_comparison_is_paired() -> None:
    good, bad = random_run(noise=2).record, random_run(noise=6, seed=1).record
    comparison = compare(good, bad, draws=300)
    difference = comparison.differences["mAP50-95(P)"]
    assert difference.b < difference.a
    assert difference.interval.high < 0
    assert difference.significant
    same = compare(good, good, draws=50).differences["mAP50-95(P)"].interval
    assert (same.low, same.value, same.high) == (0, 0, 0)
    assert "mAP50-95(P)" in str(comparison)
    assert comparison.to_csv().splitlines()[0] == "Metric,A,B,Difference,Low,High,Significant"


def test_comparison_matches_images_by_name() -> None:
    record = random_run(noise=2).record
    order = np.arange(30)[::-1]
    reversed_record = replace(
        record,
        image_names=record.image_names[::-1],
        det_image=order[record.det_image].astype(np.int32),
        gt_image=order[record.gt_image].astype(np.int32),
    )
    differences = compare(record, reversed_record, draws=50).differences
    assert max(abs(difference.interval.high) for difference in differences.values()) < 0.02


def test_refuses_to_compare_different_sets() -> None:
    record = random_run().record
    with pytest.raises(DataError, match="30 and 20 images, 20 of them in both"):
        compare(record, random_run(images=20).record)
    with pytest.raises(DataError, match="different labels"):
        compare(record, replace(record, gt_class=1 - record.gt_class))


def test_comparison_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_rectangles(tmp_path / "set")
    folders = [str(tmp_path / name) for name in ("first", "second")]
    metrics = [
        validate(RectangleRuntime(shift=shift), val_options(data, save_txt=True), save_dir=folder)
        for shift, folder in zip((0, 60), folders, strict=True)
    ]
    assert main(["compare", f"a={folders[0]}", f"b={folders[1]}"]) == 0
    assert f"{metrics[1].pose.map - metrics[0].pose.map:+.4f}" in capsys.readouterr().out
    assert metrics[0].compare(folders[1]).differences["mAP50(P)"].b == pytest.approx(metrics[1].pose.map50)
    assert main(["compare", f"a={folders[0]}"]) == 1
    assert "yolo compare a=" in capsys.readouterr().err
    assert main(["compare", f"a={folders[0]}", f"b={tmp_path / 'none'}"]) == 1
    with pytest.raises(UsageError, match="no record"):
        PoseMetrics({0: "a"}).compare(metrics[0])
