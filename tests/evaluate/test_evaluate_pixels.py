"""Keypoint errors in pixels: which detection counts, against a count by loops and images made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from evaluate_runs import LETTERBOX, RECORD_SPEC, random_image, random_run

from yolopose.data.labels import ImageLabels
from yolopose.evaluate import PIXEL_KEYS, PixelErrors, PoseMetrics, RecordBuilder, RunRecord
from yolopose.evaluate.bootstrap import compare, resample_images
from yolopose.evaluate.console import detail_lines, pixel_lines
from yolopose.evaluate.pixels import PIXEL_LIMITS, resampled_pixels
from yolopose.geometry import Letterbox, box_iou
from yolopose.runtime.nms import Detections

BOXES = np.array([[20, 20, 80, 100], [120, 20, 180, 100]], np.float32)
POINTS = np.stack([np.linspace(box[:2] + 5, box[2:] - 5, 5) for box in BOXES])


def labels(count: int, visibility: float = 2) -> ImageLabels:
    keypoints = np.concatenate((POINTS, np.full((2, 5, 1), visibility)), axis=2).astype(np.float32)
    return ImageLabels(np.zeros(count, np.int32), BOXES[:count], keypoints[:count])


def detected(*rows: tuple[int, float, float]) -> Detections:
    """Detections of instance i with a score, whose box and keypoints are moved to the right."""
    index = [row[0] for row in rows]
    shift = np.array([row[2] for row in rows], np.float32).reshape(-1, 1)
    points = np.concatenate((POINTS[index] + shift[:, None] * [1, 0], np.ones((len(rows), 5, 1))), 2)
    scores = np.array([row[1] for row in rows], np.float32)
    boxes = (BOXES[index] + shift * [1, 0, 1, 0]).astype(np.float32)
    return Detections(boxes, scores, np.zeros(len(rows), np.int64), points.astype(np.float32))


def record(*images: tuple[Detections, ImageLabels], letterbox: Letterbox = LETTERBOX) -> RunRecord:
    builder = RecordBuilder(RECORD_SPEC)
    for number, (detections, gt) in enumerate(images):
        builder.add(f"{number}.jpg", detections, gt, letterbox)
    return builder.finish()


@pytest.mark.parametrize(
    ("rows", "gt", "distances"),
    [
        pytest.param([(0, 0.9, 3.0)], labels(1), [3.0] * 5, id="matched"),
        pytest.param([(0, 0.9, 70.0), (0, 0.5, 1.0)], labels(1), [70.0] * 5, id="the-best-one-wherever-it-is"),
        pytest.param([(0, 0.02, 70.0)], labels(1), [70.0] * 5, id="even-with-little-confidence"),
        pytest.param([(0, 0.9, 3.0)], labels(1, visibility=1), [3.0] * 5, id="hidden-keypoints-count"),
        pytest.param([(0, 0.9, 3.0)], labels(1, visibility=0), [], id="unlabeled-ones-do-not"),
        pytest.param([], labels(1), [], id="nothing-detected"),
        pytest.param([(0, 0.9, 70.0), (0, 0.5, 1.0)], labels(2), [1.0] * 5, id="by-overlap-among-several"),
        pytest.param([(1, 0.9, 2.0), (0, 0.5, 1.0)], labels(2), [1.0] * 5 + [2.0] * 5, id="one-for-each"),
    ],
)
def test_detection_that_counts(rows: list, gt: ImageLabels, distances: list[float]) -> None:
    errors = PixelErrors.from_record(record((detected(*rows), gt)))
    measured = errors.distance[~np.isnan(errors.distance)]
    assert sorted(measured.tolist()) == pytest.approx(distances, abs=0.02)
    num_labeled = int((gt.keypoints[..., 2] > 0).sum())
    assert (errors.num_labeled, errors.undetected) == (num_labeled, num_labeled - len(distances))


def test_values_by_hand() -> None:
    errors = PixelErrors.from_record(
        record((detected((0, 0.9, 3.0)), labels(1)), (detected((0, 0.9, 9.0)), labels(1)), (detected(), labels(1)))
    )
    assert (errors.mean, errors.median) == pytest.approx((6, 6), abs=1e-3)
    assert errors.rmse == pytest.approx(((9 + 81) / 2) ** 0.5, abs=1e-3)
    assert (errors.mean_share, errors.median_share) == pytest.approx((0.06, 0.06), abs=1e-4)  # a box of 60 x 80
    assert errors.pck == pytest.approx({2: 0, 5: 1 / 3, 10: 2 / 3})  # undetected keypoints are wrong
    assert (errors.num_labeled, errors.undetected) == (15, 5)
    part = errors.select(np.array([1]), 4)
    assert (part.mean, part.num_labeled) == (pytest.approx(9, abs=1e-3), 1)
    assert str(errors).endswith("PCK@2px 0.000, @5px 0.333, @10px 0.667; 5 of 15 keypoints undetected")


def test_distances_are_in_pixels_of_the_original_image() -> None:
    letterbox = Letterbox((128, 1024), (256, 256), 0, 0, (256, 256))  # a quarter of the width, twice the height
    for rows in ([(0, 0.9, 3.0)], [(0, 0.9, 50.0)]):  # matched by box, and not
        errors = PixelErrors.from_record(record((detected(*rows), labels(1)), letterbox=letterbox))
        assert errors.mean == pytest.approx(4 * rows[0][2], abs=0.1)
        assert errors.diagonal.tolist() == pytest.approx([np.hypot(240, 40)], abs=0.1)


def count_by_loops(images: list[tuple[Detections, ImageLabels]]) -> list[float]:
    distances: list[float] = []
    for found, gt in images:
        iou = box_iou(gt.boxes, found.boxes)
        free = set(range(len(gt.classes)))
        pairs: dict[int, int] = {}
        for row in range(len(found)):
            suiting = [i for i in free if gt.classes[i] == found.classes[row] and iou[i, row] >= 0.5]
            if suiting:
                best = max(suiting, key=lambda i: iou[i, row])
                free.remove(best)
                pairs[best] = row
        if len(gt.classes) == 1 and len(found):
            pairs = {0: 0}
        for i, row in pairs.items():
            difference = found.points[row, :, :2] - gt.keypoints[i, :, :2]
            distances += np.hypot(*difference.T).tolist()
    return sorted(distances)


def test_equals_a_count_by_loops() -> None:
    images = [random_image(np.random.default_rng(index), 3, num_gt=index % 4) for index in range(40)]
    for found, _ in images:  # stored keypoints lie inside the image
        found.points[..., :2] = found.points[..., :2].clip(0, 256)
    errors = PixelErrors.from_record(record(*images))
    measured = np.sort(errors.distance[~np.isnan(errors.distance)])
    expected = count_by_loops(images)
    assert len(expected) > 200
    assert measured.tolist() == pytest.approx(expected, abs=0.02)


def test_table_of_keypoints_adds_up() -> None:
    metrics = random_run(noise=15, images=40)
    rows = metrics.keypoints.rows
    errors = metrics.pixels
    assert sum(row["Undetected"] for row in rows) == errors.undetected > 0
    assert np.mean([row["PCK@5px"] for row in rows]) == pytest.approx(errors.pck[5])  # all keypoints are labeled
    measured = (~np.isnan(errors.distance)).sum(axis=0)
    assert np.average([row["Mean"] for row in rows], weights=measured) == pytest.approx(errors.mean)


def test_resamples_are_measured_like_a_data_set() -> None:
    images = [random_image(np.random.default_rng(index), 3, num_gt=index % 3) for index in range(12)]
    weights = resample_images(12, 6, seed=0)
    values = resampled_pixels(record(*images), weights)
    for draw in range(6):
        drawn = record(*(images[index] for index in np.repeat(np.arange(12), weights[draw])))
        errors = PixelErrors.from_record(drawn)
        assert values["pixels/mean"][draw] == pytest.approx(errors.mean, rel=1e-6)
        assert values["pixels/PCK@5px"][draw] == pytest.approx(errors.pck[5])


def test_intervals_and_comparison() -> None:
    good, bad = random_run(noise=2), random_run(noise=6, seed=1)
    interval = good.intervals["pixels/mean"]
    assert interval.value == pytest.approx(good.pixels.mean)
    assert interval.low < interval.value < interval.high
    assert interval.high > 1  # pixels, not a share
    comparison = compare(good.record, bad.record, draws=200)
    difference = comparison.differences["pixels/mean"]
    assert (difference.a, difference.b) == pytest.approx((good.pixels.mean, bad.pixels.mean))
    assert difference.interval.low > 0
    assert comparison.differences["pixels/PCK@5px"].interval.high < 0
    assert f"{good.pixels.undetected} (A) and {bad.pixels.undetected} (B) are undetected" in str(comparison)


def test_results_have_the_values_after_the_public_ones() -> None:
    metrics = random_run()
    assert list(metrics.results_dict)[-len(PIXEL_KEYS) - 1 :] == ["fitness", *PIXEL_KEYS]
    assert metrics.results_dict["pixels/median"] == metrics.pixels.median
    assert ("pixels/mean", "pixels/median", *(f"pixels/PCK@{limit}px" for limit in PIXEL_LIMITS)) == PIXEL_KEYS
    assert pixel_lines(metrics) == [f"Keypoint error: {metrics.pixels}"]
    assert "pixels/mean" in detail_lines(metrics)[0]


@pytest.mark.parametrize(
    ("rows", "gt", "keys"),
    [([], labels(1), PIXEL_KEYS[2:]), ([(0, 0.9, 1.0)], labels(1, visibility=0), ()), ([], labels(0), ())],
    ids=["nothing-detected", "nothing-labeled", "no-instance"],
)
def test_values_that_are_not_measured_are_omitted(rows: list, gt: ImageLabels, keys: tuple[str, ...]) -> None:
    metrics = PoseMetrics(RECORD_SPEC.names)
    metrics.set_record(record((detected(*rows), gt)), RECORD_SPEC)
    assert list(metrics.results_dict)[9:] == list(keys)
    assert len(pixel_lines(metrics)) == bool(keys)
    assert set(metrics.intervals) >= set(keys)
    assert not {*PIXEL_KEYS} - set(keys) & set(metrics.intervals)
    comparison = compare(metrics.record, metrics.record, draws=20)
    assert not np.isnan([difference.interval.value for difference in comparison.differences.values()]).any()


def test_keypoints_of_a_diverged_network_are_undetected() -> None:
    found = detected((0, 0.9, 3.0))
    found.points[0, 2] = np.nan
    errors = PixelErrors.from_record(record((found, labels(1))))
    assert errors.undetected == 1
    assert errors.mean == pytest.approx(3, abs=1e-3)


def test_order_of_the_images_does_not_matter() -> None:
    run = random_run().record
    order = np.arange(len(run.image_names))[::-1]
    reversed_run = replace(
        run,
        image_names=run.image_names[::-1],
        image_size=run.image_size[::-1],
        det_image=order[run.det_image].astype(np.int32),
        gt_image=order[run.gt_image].astype(np.int32),
    )
    np.testing.assert_array_equal(PixelErrors.from_record(reversed_run).distance, PixelErrors.from_record(run).distance)
