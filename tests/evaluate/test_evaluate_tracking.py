"""Tracking scores equal those of TrackEval and of `trackers`; examples by hand; what cannot be evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tracking_cases import NUM_CASES, Case, random_case

from yolopose.base.errors import DataError, UsageError
from yolopose.data.tracks import Tracks, write_tracks
from yolopose.evaluate.tracking import (
    Association,
    associate,
    clear_scores,
    evaluate_tracks,
    hota_scores,
    identity_scores,
    jitter,
    point_error,
)
from yolopose.evaluate.tracking.scores import ClearScores, HotaScores, IdentityScores, combine
from yolopose.geometry import oks

pytest.importorskip("scipy")
FIXTURES = Path(__file__).parents[1] / "fixtures"
SCORES = json.loads((FIXTURES / "tracking_scores.json").read_text())
TOLERANCE = 1e-9


def to_tracks(ids: list[np.ndarray], boxes: list[np.ndarray]) -> Tracks:
    return Tracks.build(
        frames=np.repeat(np.arange(len(ids)) + 1, [len(frame) for frame in ids]),
        ids=np.concatenate(ids) + 1,
        boxes=np.concatenate(boxes),
        frame_numbers=np.arange(len(ids)) + 1,
    )


def sides(case: Case) -> tuple[Tracks, Tracks]:
    return to_tracks(case.track_ids, case.track_boxes), to_tracks(case.gt_ids, case.gt_boxes)


Triple = tuple[HotaScores, ClearScores, IdentityScores]


def all_scores(association: Association) -> Triple:
    return hota_scores(association), clear_scores(association), identity_scores(association)


def named(scores: Triple) -> dict[str, Any]:
    """Return the scores under the names of TrackEval."""
    hota, clear, identity = scores
    return {
        "HOTA": hota.hota_alpha,
        "DetA": hota.deta_alpha,
        "AssA": hota.assa_alpha,
        "LocA": hota.loca_alpha,
        "DetRe": hota.detre,
        "DetPr": hota.detpr,
        "AssRe": hota.assre,
        "AssPr": hota.asspr,
        "MOTA": clear.mota,
        "MOTP": clear.motp,
        "IDSW": clear.switches,
        "Frag": clear.fragments,
        "MT": clear.mostly_tracked,
        "PT": clear.partly_tracked,
        "ML": clear.mostly_lost,
        "CLR_TP": clear.tp,
        "CLR_FP": clear.fp,
        "CLR_FN": clear.fn,
        "IDF1": identity.idf1,
        "IDP": identity.idp,
        "IDR": identity.idr,
        "IDTP": identity.tp,
        "IDFP": identity.fp,
        "IDFN": identity.fn,
    }


def assert_equal(scores: Triple, expected: dict[str, Any]) -> None:
    ours = named(scores)
    for name, value in expected.items():
        mine = np.asarray(ours[name])
        theirs = np.asarray(value)
        if mine.shape != theirs.shape:  # one of both is a mean over the thresholds
            mine, theirs = mine.mean(), theirs.mean()
        np.testing.assert_allclose(mine, theirs, atol=TOLERANCE, rtol=0, err_msg=name)


@pytest.mark.parametrize("seed", range(NUM_CASES))
@pytest.mark.parametrize("evaluator", ["trackeval", "trackers"])
def test_random_cases(seed: int, evaluator: str) -> None:
    tracks, gt = sides(random_case(seed))
    assert_equal(all_scores(associate(tracks, gt)), SCORES["cases"][seed][evaluator])


def test_random_cases_are_not_trivial() -> None:
    hota = [np.mean(case["trackeval"]["HOTA"]) for case in SCORES["cases"]]
    assert sum(0.1 < value < 0.95 for value in hota) > 30
    assert sum(case["trackeval"]["IDSW"] > 3 for case in SCORES["cases"]) > 20
    assert any(not len(np.concatenate(random_case(seed).gt_ids)) for seed in range(NUM_CASES))
    assert any(not len(np.concatenate(random_case(seed).track_ids)) for seed in range(NUM_CASES))


def test_combined_sequences() -> None:
    scores = [all_scores(associate(*sides(random_case(seed)))) for seed in range(NUM_CASES)]
    hota, clear, identity = (list(column) for column in zip(*scores, strict=True))
    assert_equal((combine(hota), combine(clear), combine(identity)), SCORES["combined"])


@pytest.mark.parametrize("kind", ["box", "oks"])
def test_made_sequences(kind: str) -> None:
    arrays = np.load(FIXTURES / "tracking_sequences.npz")
    scores: list[Triple] = []
    for index, expected in enumerate(SCORES[kind]["sequences"]):
        lengths = arrays[f"{index}_lengths"]
        parts = np.split(arrays[f"{index}_{kind}"].astype(np.float64), np.cumsum(lengths.prod(axis=1))[:-1])
        gt_ids, track_ids = arrays[f"{index}_gt_ids"], arrays[f"{index}_track_ids"]
        association = Association(
            np.split(gt_ids, np.cumsum(lengths[:, 0])[:-1]),
            np.split(track_ids, np.cumsum(lengths[:, 1])[:-1]),
            [part.reshape(*shape) for part, shape in zip(parts, lengths, strict=True)],
            int(gt_ids.max()) + 1,
            int(track_ids.max()) + 1,
        )
        scores.append(all_scores(association))
        for values in expected.values():
            assert_equal(scores[-1], values)
    hota, clear, identity = (list(column) for column in zip(*scores, strict=True))
    assert_equal((combine(hota), combine(clear), combine(identity)), SCORES[kind]["combined"])


def make_pose_tracks(num_frames: int = 10, ids: tuple[int, ...] = (1, 2), shift: float = 0.0) -> Tracks:
    """Instances at rest, 100 px apart, of four points each."""
    frames, names, boxes, points = [], [], [], []
    for number in range(1, num_frames + 1):
        for index, track_id in enumerate(ids):
            x = 100.0 * index
            frames.append(number)
            names.append(track_id)
            boxes.append([x, 0, x + 50, 80])
            points.append([[x + 10 + shift, 10, 2], [x + 40 + shift, 10, 2], [x + 10, 70, 1], [x + 40, 70, 0]])
    return Tracks.build(frames=frames, ids=names, boxes=boxes, keypoints=points, frame_numbers=range(1, num_frames + 1))


@pytest.mark.parametrize("kind", ["box", "oks"])
def test_perfect_tracks(kind: str) -> None:
    gt = make_pose_tracks()
    metrics = evaluate_tracks(make_pose_tracks(ids=(8, 3)), gt, kind)
    assert (metrics.hota, metrics.deta, metrics.assa, metrics.idf1, metrics.mota) == pytest.approx((1, 1, 1, 1, 1))
    assert (metrics.switches, metrics.fragments) == (0, 0)
    if kind == "oks":
        assert metrics.combined.jitter == 0
        assert metrics.combined.point_error == 0


def test_ids_that_change_places_once() -> None:
    """After half of the frames both ids have changed: 2 switches, IDF1 1/2, AssA 1/3."""
    gt, tracks = make_pose_tracks(10), make_pose_tracks(10)
    tracks.ids[10:] = 3 - tracks.ids[10:]
    metrics = evaluate_tracks(tracks, gt)
    assert metrics.switches == 2
    assert metrics.idf1 == pytest.approx(0.5)
    assert metrics.mota == pytest.approx(1 - 2 / 20)
    assert metrics.assa == pytest.approx(1 / 3)
    assert metrics.hota == pytest.approx(np.sqrt(1 / 3))


def test_an_interruption_is_a_fragment() -> None:
    gt = make_pose_tracks(9, ids=(1,))
    tracks = gt.select(~np.isin(gt.frames, (4, 5)))
    other = make_pose_tracks(9, ids=(1, 2))
    both_gt = other
    both = other.select((other.ids == 2) | ~np.isin(other.frames, (4, 5)))
    assert evaluate_tracks(both, both_gt).fragments == 1
    # frames without any track do not interrupt, as in TrackEval
    assert evaluate_tracks(tracks, gt).fragments == 0
    assert evaluate_tracks(tracks, gt).combined.clear.fn == 2


def test_oks_similarity() -> None:
    gt, tracks = make_pose_tracks(1), make_pose_tracks(1, shift=5.0)
    sigmas = np.array([0.05, 0.1, 0.05, 0.05])
    pairs = associate(tracks, gt, "oks", sigmas=sigmas).similarity[0]
    area = np.full(2, 0.53 * 50 * 80)
    np.testing.assert_allclose(pairs, oks(gt.keypoints, tracks.keypoints, area, sigmas))
    by_hand = np.mean([np.exp(-25 / (2 * (2 * s) ** 2 * 0.53 * 4000)) for s in (0.05, 0.1)] + [1.0])
    assert pairs[0, 0] == pytest.approx(by_hand)


def test_jitter_and_point_error_by_hand() -> None:
    gt = make_pose_tracks(5, ids=(1,))
    tracks = make_pose_tracks(5, ids=(1,))
    tracks.keypoints[2, 0, 0] += 3
    sigmas = np.full(4, 0.1)
    unit = 2 * 0.1 * np.sqrt(0.53 * 50 * 80)
    # accelerations of the point: 3, 6, 3; the other two visible points rest, the fourth is not labeled
    assert jitter(tracks, sigmas) == pytest.approx((3 + 6 + 3) / 9 / unit)
    assert point_error(tracks, gt, sigmas=sigmas) == pytest.approx(3 / 15 / unit)
    assert np.isnan(jitter(tracks.select(slice(0, 2)), sigmas))


def test_jitter_ignores_gaps_and_supports_a_frame_stride() -> None:
    tracks = make_pose_tracks(6, ids=(1,))
    tracks.keypoints[:, :, 0] += np.array([0, 0, 0, 50, 50, 50])[:, None]
    with_gap = tracks.select(tracks.frames != 3)
    assert jitter(with_gap) == 0
    assert jitter(tracks) > 0
    strided = Tracks.build(
        frames=tracks.frames * 5, ids=tracks.ids, boxes=tracks.boxes, keypoints=tracks.keypoints,
        frame_numbers=tracks.frame_numbers * 5,
    )  # fmt: skip
    assert jitter(strided) == pytest.approx(jitter(tracks))


def test_videos_are_matched_by_name(tmp_path: Path) -> None:
    for folder, ids in (("gt", (1, 2)), ("tracks", (5, 6))):
        for name in ("a", "b"):
            write_tracks(tmp_path / folder / f"{name}.txt", make_pose_tracks(ids=ids))
    metrics = evaluate_tracks(tmp_path / "tracks", tmp_path / "gt")
    assert [video.name for video in metrics.videos] == ["a", "b"]
    assert metrics.combined.clear.tp == 40
    table = metrics.table().splitlines()
    assert [row.split()[0] for row in table] == ["HOTA", "a", "b", "COMBINED"]
    assert table[1].split()[1] == "100.00"
    parsed = json.loads(metrics.to_json())
    assert parsed["combined"]["HOTA"] == pytest.approx(1)
    assert parsed["combined"]["jitter"] is None
    assert len(parsed["curves"]["HOTA"]) == len(parsed["alphas"]) == 19
    assert metrics.summary()[0]["video"] == "a"
    (tmp_path / "gt/b.txt").rename(tmp_path / "gt/c.txt")
    with pytest.raises(DataError, match="'b' is missing in the ground truth"):
        evaluate_tracks(tmp_path / "tracks", tmp_path / "gt")


def test_stride_evaluates_every_nth_frame() -> None:
    gt = make_pose_tracks(10)
    tracks = gt.select((gt.frames - 1) % 3 == 0)
    assert evaluate_tracks(tracks, gt).combined.clear.fn == 12
    metrics = evaluate_tracks(tracks, gt, "oks", stride=3)
    assert metrics.hota == pytest.approx(1)
    assert metrics.combined.clear.frames == 4


def test_instances_without_ids_are_ignored() -> None:
    tracks = make_pose_tracks()
    tracks.ids[::2] = -1
    assert evaluate_tracks(tracks, make_pose_tracks()).combined.clear.tp == 10


@pytest.mark.parametrize(
    ("tracks", "gt", "values", "error", "message"),
    [
        (make_pose_tracks(ids=(-1, -1)), make_pose_tracks(), {}, DataError, "have no track ids"),
        (
            make_pose_tracks(12),
            make_pose_tracks(10),
            {},
            DataError,
            "in frame 11, which the ground truth does not have",
        ),
        (make_pose_tracks(), make_pose_tracks(), {"similarity": "iou"}, UsageError, "one of box, oks"),
        (make_pose_tracks(), make_pose_tracks(), {"threshold": 0}, UsageError, "threshold=0"),
        (make_pose_tracks(), make_pose_tracks(), {"stride": 0}, UsageError, "stride=0"),
        (make_pose_tracks(), make_pose_tracks(), {"similarity": "oks", "sigmas": [1, 2]}, DataError, "4 positive σ"),
        (
            make_pose_tracks(),
            Tracks.build(frames=[1], ids=[1], boxes=[[0, 0, 1, 1]], frame_numbers=range(1, 11)),
            {"similarity": "oks"},
            DataError,
            "the tracks have 4, the ground truth has 0",
        ),
    ],
)
def test_what_cannot_be_evaluated(
    tracks: Tracks, gt: Tracks, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate_tracks(tracks, gt, **values)


def test_empty_sides() -> None:
    gt = make_pose_tracks()
    none = gt.select(slice(0, 0))
    assert evaluate_tracks(none, gt, "oks").hota == 0
    assert evaluate_tracks(none, gt).combined.clear.mostly_lost == 2
    assert evaluate_tracks(gt, none).combined.clear.fp == 20
    assert evaluate_tracks(none, none).mota == 0
