"""What a run keeps: its AP anew, intervals against plain drawing, comparison of runs, its size."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_evaluate_validator import Rectangles, make_data, options

from yolopose.base.errors import DataError, NotFoundError, UsageError
from yolopose.cli import main
from yolopose.data.labels import ImageLabels
from yolopose.evaluate import PoseMetrics, Record, load_record, score_classes, validate
from yolopose.evaluate.accumulate import match_image
from yolopose.evaluate.comparison import compare
from yolopose.evaluate.intervals import draw_weights, drawn_maps, intervals
from yolopose.evaluate.pairs import Pairing
from yolopose.evaluate.ranking import mean_ap
from yolopose.evaluate.record import RecordBuilder
from yolopose.geometry import Letterbox
from yolopose.runtime.nms import Detections
from yolopose.schema import KeypointSchema, PoseSpec

SPEC = PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=5))
BOX = Letterbox((256, 256), (256, 256), 0, 0, (256, 256))


def img(rng: np.random.Generator, noise: float, truths: int = 4, extra: int = 6) -> tuple[Detections, ImageLabels]:
    corner, size = rng.uniform(0, 180, (truths, 2)), rng.uniform(20, 70, (truths, 2))
    boxes = np.concatenate((corner, corner + size), axis=1).astype(np.float32)
    points = np.concatenate((corner[:, None] + rng.random((truths, 5, 2)) * size[:, None], np.ones((truths, 5, 1))), 2)
    classes = rng.integers(0, 2, truths).astype(np.int32)
    found = np.concatenate((boxes + rng.normal(0, noise, boxes.shape), rng.uniform(0, 250, (extra, 4))))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    moved = np.concatenate((points + rng.normal(0, 2 * noise, points.shape), rng.uniform(0, 250, (extra, 5, 3))))
    scores = rng.random(len(found)).round(2).astype(np.float32)
    order = np.argsort(-scores, kind="stable")
    kinds = np.concatenate((classes, rng.integers(0, 2, extra)))
    detections = Detections(
        found[order].astype(np.float32), scores[order], kinds[order].astype(np.int64), moved[order].astype(np.float32)
    )
    return detections, ImageLabels(classes, boxes, points.astype(np.float32))


def made(noise: float = 3, images: int = 30, seed: int = 0) -> tuple[PoseMetrics, Record]:
    """A run on made images; the truths depend on the number of the image alone."""
    metrics, pairing, gathering = PoseMetrics(SPEC.names), Pairing(SPEC), RecordBuilder(5, 10)
    for number in range(images):
        _, truth = img(np.random.default_rng(number), 0, truths=number % 5)
        rng = np.random.default_rng((number, seed))
        found, _ = img(rng, noise)
        if len(truth.classes):
            moved = truth.boxes + rng.normal(0, noise, truth.boxes.shape).astype(np.float32)
            count = min(len(moved), 4)
            found.boxes[:count], found.classes[:count] = moved[:count], truth.classes[:count]
            found.points[:count] = truth.keypoints[:count] + rng.normal(0, noise, (count, 5, 3)).astype(np.float32)
        stats = match_image(found, truth, SPEC.keypoints.oks_sigmas)
        gathering.add(f"{number:03}.jpg", pairing.columns(found, truth, stats, BOX))
        metrics.update_stats({
            "tp": stats.tp, "tp_p": stats.tp_p, "conf": found.scores, "pred_cls": found.classes,
            "target_cls": truth.classes,
        })  # fmt: skip
    metrics.process()
    metrics.keep(gathering.finish(), SPEC)
    assert metrics.record is not None
    return metrics, metrics.record


def chosen_images(record: Record, drawn: np.ndarray) -> tuple[np.ndarray, ...]:
    """Hits by OKS, scores, classes of detections and of truths, of drawn images one after another."""
    found = np.concatenate([np.flatnonzero(record.image == one) for one in drawn])
    truth = np.concatenate([np.flatnonzero(record.truth_image == one) for one in drawn])
    return record.hits("pose")[found], record.score[found], record.cls[found], record.truth_cls[truth]


@pytest.mark.parametrize("seed", range(4))
def test_the_record_gives_the_same_ap(seed: int) -> None:
    metrics, record = made(seed=seed)
    assert 0.1 < metrics.pose.map < 0.9
    np.testing.assert_allclose(mean_ap(record, record.hits("pose")), metrics.pose.all_ap.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(mean_ap(record, record.hits("box")), metrics.box.all_ap.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_a_part_of_the_truths_by_loops(seed: int) -> None:
    _, record = made(seed=seed)
    chosen = np.random.default_rng(seed).random(len(record.truth_cls)) < 0.4
    first = np.searchsorted(record.truth_image, np.arange(len(record.names)))
    expected = []
    for cls in (0, 1):
        count = int((chosen & (record.truth_cls == cls)).sum())
        share = count / int((record.truth_cls == cls).sum())
        rows = sorted(np.flatnonzero(record.cls == cls), key=lambda row: -record.score[row])
        for level in range(10):
            true, seen, curve = 0, 0.0, []
            for row in rows:
                taken = record.pose_hit[row, level]
                good = taken >= 0 and bool(chosen[first[record.image[row]] + taken])
                true, seen = true + good, seen + (good or (taken < 0) * share)
                curve.append((true / count, true / seen if seen else 0.0))
            # the height at a recall is the best precision beyond it
            heights = [max((p for r, p in curve if r > i / 100 + 1e-12), default=0.0) for i in range(101)]
            expected.append((sum(heights) - (heights[0] + heights[-1]) / 2) / 100)
    found = mean_ap(record, record.hits("pose"), chosen, record.pose_hit)
    np.testing.assert_allclose(found, np.array(expected).reshape(2, 10).mean(axis=0), atol=1e-9)


def test_drawn_images_are_scored_as_if_they_were_the_set() -> None:
    _, record = made()
    # no equal scores: the order among copies of one image would be another
    record = replace(record, score=record.score + np.linspace(0, 1e-3, len(record.score), dtype=np.float32))
    weights = draw_weights(30, 20, seed=1)
    assert weights.sum(axis=1).tolist() == [30] * 20
    found = drawn_maps(record, weights)["mAP50-95(P)"]
    for draw in range(20):
        scores = score_classes(*chosen_images(record, np.repeat(np.arange(30), weights[draw])))
        assert found[draw] == pytest.approx(scores.ap.mean(), abs=1e-9)


def test_intervals() -> None:
    metrics, record = made(images=60)
    found = metrics.intervals["mAP50-95(P)"]
    assert found.value == pytest.approx(metrics.pose.map)
    assert found.low < found.value < found.high
    assert found.draws == 1000
    assert intervals(record)["mAP50-95(P)"] == found  # the seed is fixed
    few = intervals(made(images=3)[1])["mAP50-95(P)"]
    assert 0 <= few.low <= few.value <= few.high <= 1
    narrow = intervals(made(images=600)[1], draws=200)["mAP50-95(P)"]
    assert narrow.high - narrow.low < 0.6 * (found.high - found.low)  # a third, but for chance


def test_networks_without_visibility_and_classes_with_names_of_their_own() -> None:
    names = {0: tuple("vwxyz"), 1: tuple("VWXYZ")}
    spec = PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=5, dims=2, names=names))
    metrics, pairing, gathering = PoseMetrics(spec.names), Pairing(spec), RecordBuilder(5, 10)
    for number in range(20):
        found, truth = img(np.random.default_rng(number), 1)
        found = replace(found, points=found.points[..., :2])
        stats = match_image(found, truth, spec.keypoints.oks_sigmas)
        gathering.add(f"{number}.jpg", pairing.columns(found, truth, stats, BOX))
    metrics.keep(gathering.finish(), spec)
    rows = metrics.keypoints.summary()
    assert [row["Keypoint"] for row in rows] == [*(f"a: {name}" for name in "vwxyz"), *(f"b: {c}" for c in "VWXYZ")]
    assert metrics.record is not None
    paired = metrics.record.truth_cls[metrics.record.pair_truth]
    assert [rows[0]["Labeled"], rows[9]["Labeled"]] == [(paired == 0).sum(), (paired == 1).sum()]
    assert np.isnan([row["Visibility"] for row in rows]).all()
    assert np.isnan([row["Inverted"] for row in rows]).all()  # no flip_idx
    assert metrics.errors.points["inversion"] == 0


def test_saved_and_read(tmp_path: Path) -> None:
    _, record = made()
    record.save(tmp_path / "detections.npz")
    back = load_record(tmp_path)
    assert back.names == record.names
    for name in ("image", "score", "pose_hit", "mended", "pair_error", "pair_kind", "truth_crowd"):
        np.testing.assert_array_equal(getattr(back, name), getattr(record, name))


@pytest.mark.parametrize("content", [None, b"", b"PK\3\4 torn", b"no archive at all"])
def test_no_record_or_a_damaged_one(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "detections.npz").write_bytes(content)
    with pytest.raises(NotFoundError if content is None else DataError, match=r"detections\.npz"):
        load_record(tmp_path)


def test_comparison_is_paired() -> None:
    good, bad = made(noise=2)[1], made(noise=6, seed=1)[1]
    found = compare(good, bad, draws=300)
    one = found.differences["mAP50-95(P)"]
    assert one.b < one.a
    assert one.interval.high < 0
    assert one.sure
    same = compare(good, good, draws=50).differences["mAP50-95(P)"].interval
    assert (same.low, same.value, same.high) == (0, 0, 0)
    # images in another order are lined up by name
    order = np.arange(30)[::-1]
    turned = replace(
        good, names=good.names[::-1], image=order[good.image].astype(np.int32),
        truth_image=order[good.truth_image].astype(np.int32),
    )  # fmt: skip
    assert max(abs(one.interval.high) for one in compare(good, turned, draws=50).differences.values()) < 0.02
    assert "mAP50-95(P)" in str(found)
    assert found.to_csv().splitlines()[0] == "Metric,A,B,Difference,Low,High,Sure"


def test_runs_on_different_sets() -> None:
    a = made()[1]
    with pytest.raises(DataError, match="30 and 20 images, 20 of them in both"):
        compare(a, made(images=20)[1])
    with pytest.raises(DataError, match="different labels"):
        compare(a, replace(a, truth_cls=1 - a.truth_cls))


def test_comparison_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_data(tmp_path / "set")
    folders = [str(tmp_path / name) for name in ("first", "second")]
    metrics = [
        validate(Rectangles(shift=shift), options(data, save_txt=True), save_dir=folder)
        for shift, folder in zip((0, 60), folders, strict=True)
    ]
    assert main(["compare", f"a={folders[0]}", f"b={folders[1]}"]) == 0
    shown = capsys.readouterr().out
    assert f"{metrics[1].pose.map - metrics[0].pose.map:+.4f}" in shown
    assert metrics[0].compare(folders[1]).differences["mAP50(P)"].b == pytest.approx(metrics[1].pose.map50)
    assert main(["compare", f"a={folders[0]}"]) == 1
    assert "yolo compare a=" in capsys.readouterr().err
    assert main(["compare", f"a={folders[0]}", f"b={tmp_path / 'none'}"]) == 1
    with pytest.raises(UsageError, match="no record"):
        PoseMetrics({0: "a"}).compare(metrics[0])


@pytest.mark.slow
def test_memory_of_twenty_thousand_images() -> None:
    """At most 200 bytes, and 8 a threshold, for each detection; what is noted of each image stands beside it."""
    spec = PoseSpec(classes=("a", "b"), keypoints=KeypointSchema(count=17))
    images, metrics, pairing, gathering = 20_000, PoseMetrics(spec.names), Pairing(spec), RecordBuilder(17, 10)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(8):
        found, truth = img(rng, 2, truths=5, extra=95)
        found = replace(found, points=np.tile(found.points[:, :1], (1, 17, 1)))
        truth = ImageLabels(truth.classes, truth.boxes, np.tile(truth.keypoints[:, :1], (1, 17, 1)))
        stats = match_image(found, truth, spec.keypoints.oks_sigmas)
        rows.append((found, truth, stats, pairing.columns(found, truth, stats, BOX)))
    tracemalloc.start()
    for number in range(images):
        found, truth, stats, columns = rows[number % 8]
        gathering.add(f"images/val/{number:06}.jpg", columns)
        metrics.update_stats({
            "tp": stats.tp, "tp_p": stats.tp_p, "conf": found.scores.copy(), "pred_cls": found.classes.copy(),
            "target_cls": truth.classes.copy(), "im_name": f"{number:06}.jpg",
        })  # fmt: skip
    metrics.process()
    metrics.clear_stats()
    metrics.keep(gathering.finish(), spec)
    assert metrics.errors.points
    assert metrics.slices.rows
    assert metrics.keypoints.rows
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert gathering.detections == 100 * images
    assert peak < gathering.detections * (200 + 8 * 10)
