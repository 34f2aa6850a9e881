from __future__ import annotations

import json

import numpy as np
import pytest
from track_scenes import POSES, SIZE, detections, frame, line, run

from yolopose.base.errors import UsageError
from yolopose.track import TrackDetections, make_tracker

ALL = ["oks", "bytetrack", "ocsort", "botsort"]
STREET = [line((60, 100), (4, 0)), line((600, 220), (-5, 0)), line((100, 400), (3, -1))]


@pytest.mark.parametrize("name", ALL)
def test_ids_stay_the_same_and_start_at_1(name: str) -> None:
    assert run(make_tracker(name), STREET, 60) == [[1], [2], [3]]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("frames", [range(0, 60, 3), [t for t in range(60) if t % 7 not in (3, 4)]])
def test_dropped_frames_and_strides_change_nothing(name: str, frames: list[int]) -> None:
    assert run(make_tracker(name), STREET, frames) == [[1], [2], [3]]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("gap", [1, 3, 10, 20])
def test_missed_detections(name: str, gap: int) -> None:
    paths = [line((60, 100), (4, 0), range(20, 20 + gap)), line((600, 300), (-4, 0))]
    assert run(make_tracker(name), paths, 60) == [[1], [2]]


@pytest.mark.parametrize("name", ALL)
def test_instance_that_returns_after_the_buffer_is_new(name: str) -> None:
    paths = [line((60, 100), (0, 0), range(20, 60)), line((600, 300), (-2, 0))]
    assert run(make_tracker(name, buffer_seconds=1), paths, 80) == [[1, 3], [2]]
    assert run(make_tracker(name, buffer_seconds=2), paths, 80) == [[1], [2]]


@pytest.mark.parametrize("name", ALL)
def test_buffer_is_a_time(name: str) -> None:
    paths = [line((60, 100), (0, 0), range(20, 60)), line((600, 300), (-2, 0))]
    assert run(make_tracker(name, fps=60), paths, 80, fps=60) == [[1], [2]]  # 40 frames are 2/3 s


def test_crossing_with_poses() -> None:
    """Two instances meet, one is hidden for some frames, and both turn around: boxes alone cannot tell them apart."""
    turn = 30

    def left(t: int) -> tuple[float, float] | None:
        return (100 + 4 * min(t, turn) - 4 * max(t - turn, 0), 200)

    def right(t: int) -> tuple[float, float] | None:
        return None if turn - 3 <= t <= turn + 3 else (340 - 4 * min(t, turn) + 4 * max(t - turn, 0), 200)

    assert run(make_tracker("oks"), [left, right], 60) == [[1], [2]]


@pytest.mark.parametrize("name", ALL)
def test_crossing_paths(name: str) -> None:
    paths = [line((100, 200), (5, 0)), line((400, 200), (-5, 0.4))]
    assert run(make_tracker(name), paths, 60) == [[1], [2]]


@pytest.mark.parametrize("name", ALL)
def test_detection_in_a_single_frame_gets_no_id(name: str) -> None:
    tracker = make_tracker(name)
    for t in range(10):
        centers = [(100 + 3 * t, 100.0), (500.0, 400.0)] if t == 5 else [(100 + 3 * t, 100.0)]
        ids = tracker.update(detections(centers, range(len(centers)))).ids.tolist()
        assert ids == ([1, 0] if t == 5 else [1])
    assert tracker.update(detections([(127, 100), (500, 250)], [0, 1])).ids.tolist() == [1, 0]
    assert tracker.update(detections([(130, 100), (500, 250)], [0, 1])).ids.tolist() == [1, 2]  # no id is lost


@pytest.mark.parametrize("name", ALL)
def test_low_scores_continue_tracks_and_never_start_them(name: str) -> None:
    tracker = make_tracker(name)
    tracker.update(detections([(100, 100)], [0]))
    for t in range(1, 8):
        given = detections([(100 + t, 100), (400, 300)], [0, 1], scores=[0.15, 0.15])
        assert tracker.update(given).ids.tolist() == [1, 0]


def test_class_aware() -> None:
    for aware, ids in ((False, [1, 1]), (True, [1, 0])):
        tracker = make_tracker("oks", class_aware=aware)
        got = [tracker.update(detections([(100, 100)], [0], classes=[c])).ids[0] for c in (0, 1)]
        assert got == ids


def test_max_instances() -> None:
    leaves = line((100, 100), (2, 1), range(20, 100))
    stays = line((500, 300), (-2, 0), range(70, 75))
    returns = line((260, 240), (0, 0), range(60))  # the first one appears somewhere else after 40 frames
    assert run(make_tracker("oks", max_instances=2), [leaves, stays, returns], 100) == [[1], [2], [1]]
    with_false = make_tracker("oks", max_instances=1)
    for t in range(30):
        given = detections([(100 + t, 100), (600, 50)], [0, 1], scores=[0.9, 0.8])
        assert with_false.update(given).ids.tolist() == [1, 0]


@pytest.mark.parametrize("name", ALL)
def test_change_of_the_image_size(name: str) -> None:
    tracker = make_tracker(name)
    tracker.update(detections([(100, 100), (400, 300)], [0, 1]))
    tracker.update(detections([(102, 100), (402, 300)], [0, 1]))
    half = detections([(52, 50), (202, 150)], [0, 1], size=SIZE / 2, shape=(240, 320))
    assert tracker.update(half).ids.tolist() == [1, 2]


@pytest.mark.parametrize("name", ALL)
def test_order_of_detections_does_not_matter(name: str) -> None:
    tracker = make_tracker(name)
    rng = np.random.default_rng(0)
    for t in range(30):
        given, _ = frame(STREET, t)
        order = rng.permutation(3) if t else np.arange(3)
        shuffled = TrackDetections.of(
            given.boxes[order], given.scores[order], given.classes[order], given.keypoints[order], time=given.time
        )
        assert tracker.update(shuffled).ids.tolist() == (order + 1).tolist()


@pytest.mark.parametrize("name", ALL)
def test_times_that_go_back_or_stall(name: str) -> None:
    tracker = make_tracker(name)
    for t, time in enumerate([0, 1 / 30, 2 / 30, 0, 1 / 30, 1 / 30]):  # a stream that is opened again
        assert tracker.update(detections([(100 + 2 * t, 100)], [0], time=time)).ids.tolist() == [1]
    tracker.update(detections([(112, 100)], [0], time=60))  # nothing for a minute: the track has ended
    assert tracker.update(detections([(112, 100)], [0], time=60.03)).ids.tolist() == [2]


@pytest.mark.parametrize("name", ALL)
def test_no_detections_for_a_minute(name: str) -> None:
    tracker = make_tracker(name)
    tracker.update(detections([(100, 100)], [0]))
    for _ in range(1800):
        assert len(tracker.update(detections([])).ids) == 0
    ids = [tracker.update(detections([(100 + t, 100)], [0])).ids.tolist() for t in range(3)]
    assert ids == [[0], [2], [2]]


def test_without_confident_points_boxes_are_compared() -> None:
    tracker = make_tracker("oks")
    for t in range(20):
        given = detections([(100 + 3 * t, 100), (400, 300)], [0, 1])
        assert given.keypoints is not None
        given.keypoints[:, 2:, 2] = 0.1  # two confident points are not enough
        assert tracker.update(given).ids.tolist() == [1, 2]


@pytest.mark.parametrize("name", ALL)
def test_boxes_that_are_empty_or_not_finite_get_no_track(name: str) -> None:
    tracker = make_tracker(name)
    given = detections([(100, 100), (200, 200), (300, 300), (400, 100)], [0, 1, 2, 3])
    given.boxes[1] = np.nan
    given.boxes[2, 2:] = given.boxes[2, :2]
    assert given.keypoints is not None
    given.keypoints[3, 0] = np.inf
    given.scores[0] = np.nan
    assert tracker.update(given).ids.tolist() == [0, 0, 0, 1]


def test_measured_boxes_and_points_are_not_changed() -> None:
    tracker = make_tracker("oks")
    for t in range(5):
        given, _ = frame(STREET, t)
        boxes, points = given.boxes.copy(), given.keypoints.copy()  # type: ignore[union-attr]
        tracker.update(given)
        np.testing.assert_array_equal(given.boxes, boxes)
        np.testing.assert_array_equal(given.keypoints, points)


def test_other_number_of_keypoints_is_an_error() -> None:
    tracker = make_tracker("oks")
    tracker.update(detections([(100, 100)], [0]))
    other = TrackDetections.of([[0, 0, 9, 9]], [0.9], None, np.ones((1, 3, 3)))
    with pytest.raises(UsageError, match="have 3 keypoints, but those of the previous frames have 6"):
        tracker.update(other)
    tracker.reset()
    assert tracker.update(other).ids.tolist() == [1]


@pytest.mark.parametrize(
    ("boxes", "scores", "points"),
    [([[0, 0, 1]], [1], None), ([[0, 0, 1, 1]], [1, 1], None), ([[0, 0, 1, 1]], [1], np.ones((2, 4, 3)))],
)
def test_arrays_of_the_wrong_shape_are_an_error(boxes: list, scores: list, points: np.ndarray | None) -> None:
    with pytest.raises(UsageError, match=r"boxes \(N, 4\)"):
        TrackDetections.of(boxes, scores, None, points)


# -- state -----------------------------------------------------------------------------------------------------------


def noisy(seed: int, count: int = 6, frames: int = 80) -> list[TrackDetections]:
    """Random walks with missed detections and false ones."""
    rng = np.random.default_rng(seed)
    centers = rng.uniform((50, 50), (600, 430), (count, 2))
    velocity = rng.uniform(-4, 4, (count, 2))
    made: list[TrackDetections] = []
    for t in range(frames):
        velocity += rng.normal(0, 0.3, (count, 2))
        centers += velocity
        shown = np.flatnonzero(rng.random(count) > 0.15)
        false = rng.uniform((50, 50), (600, 430), (rng.integers(0, 2), 2))
        at = np.concatenate((centers[shown], false))
        poses = [*shown.tolist(), *rng.integers(0, len(POSES), len(false)).tolist()]
        given = detections(at, poses, scores=rng.uniform(0.1, 1, len(at)), time=t / 25)
        given.boxes[:] += rng.normal(0, 1, given.boxes.shape)
        made.append(given)
    return made


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("at", [0, 1, 40])
def test_saved_state_continues_with_the_same_ids(name: str, at: int) -> None:
    frames = noisy(3)
    whole = make_tracker(name, sigmas=np.full(6, 0.08), fps=25)
    expected = [whole.update(given).ids.tolist() for given in frames]
    first = make_tracker(name, sigmas=np.full(6, 0.08), fps=25)
    got = [first.update(given).ids.tolist() for given in frames[:at]]
    text = json.dumps(first.state_dict())
    second = make_tracker("bytetrack")  # takes over settings, σ and frame rate
    second.load_state_dict(json.loads(text))
    got += [second.update(given).ids.tolist() for given in frames[at:]]
    assert got == expected
    assert max(map(max, filter(None, expected))) >= 6


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.update(format=99),
        lambda state: state.pop("next_id"),
        lambda state: state["tracks"].pop("boxes"),
        lambda state: state["tracks"].update(mean=[[1, 2]]),
        lambda state: state["settings"].update(tracker_typo=1),
        lambda state: state.update(tracks=None),
    ],
)
def test_damaged_state_is_refused(damage: object) -> None:
    tracker = make_tracker("oks")
    tracker.update(detections([(100, 100)], [0]))
    state = tracker.state_dict()
    damage(state)  # type: ignore[operator]
    with pytest.raises(UsageError):
        tracker.load_state_dict(state)
    assert tracker.update(detections([(101, 100)], [0])).ids.tolist() == [1]  # unchanged


def test_two_trackers_at_once_give_the_ids_that_each_gives_alone() -> None:
    scenes = [noisy(1), noisy(2)]
    alone: list[list[list[int]]] = []
    for scene in scenes:
        tracker = make_tracker("oks")
        alone.append([tracker.update(given).ids.tolist() for given in scene])
    trackers = [make_tracker("oks"), make_tracker("oks")]
    both = [[tracker.update(given).ids.tolist() for tracker, given in zip(trackers, pair, strict=True)]
            for pair in zip(*scenes, strict=True)]  # fmt: skip
    assert [list(ids) for ids in zip(*both, strict=True)] == alone


@pytest.mark.slow
def test_long_sequence_needs_constant_memory() -> None:
    import tracemalloc

    tracker = make_tracker("oks")
    frames = noisy(5, frames=400)

    def track_all() -> None:
        for given in frames:
            tracker.update(TrackDetections.of(given.boxes, given.scores, given.classes, given.keypoints))

    tracemalloc.start()
    for _ in range(10):  # the arrays of tracks grow to their final size
        track_all()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(40):
        track_all()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000


def test_second_detection_of_an_instance_starts_no_track() -> None:
    """Boxes of different sizes around the same pose, which non-maximum suppression does not remove."""
    tracker = make_tracker("oks")
    for t in range(20):
        given = detections([(100 + t, 100), (100 + t, 100)], [0, 0], scores=[0.9, 0.8])
        given.boxes[1, 1] += 40  # the lower part of the body: IoU 0.6
        ids = tracker.update(given).ids
        assert set(ids.tolist()) <= {0, 1}, t
    tracker.reset()
    both = detections([(119, 100), (135, 110)], [0, 1], scores=[0.9, 0.8])  # another instance, IoU 0.37
    tracker.update(both)
    assert sorted(tracker.update(both).ids.tolist()) == [1, 2]


@pytest.mark.parametrize("scores", [(0.9, 0.6), (0.6, 0.9)])
def test_second_detection_with_another_pose_starts_no_track(scores: tuple[float, float]) -> None:
    """The detection that continues the track of the instance comes first, even if the other has a higher score."""
    tracker = make_tracker("oks")
    tracker.update(detections([(100, 100)], [0]))
    for t in range(1, 20):
        ids = tracker.update(detections([(100 + t, 100), (106 + t, 104)], [0, 1], scores=scores)).ids  # IoU 0.69
        assert ids.tolist() == [1, 0], t
    apart = [(120, 100), (160, 104)]
    ids = [tracker.update(detections(apart, [0, 1], scores=scores)).ids.tolist() for _ in range(4)]
    assert ids[-1] == [1, 2]  # it was another instance


def test_nominal_sigmas_do_not_make_distant_poses_similar() -> None:
    """Keypoints without a known σ have 1/K: with four points a tolerance of half the size of the animal."""
    tracker = make_tracker("oks", sigmas=np.full(4, 0.25))
    for center, expected in [((100, 100), 1)] * 10 + [((150, 100), 0), ((150, 100), 2)]:  # boxes without an overlap
        given = detections([center], [0])
        assert given.keypoints is not None
        four = TrackDetections.of(given.boxes, given.scores, None, given.keypoints[:, :4])
        assert tracker.update(four).ids.tolist() == [expected]


@pytest.mark.parametrize(("score", "frames"), [(0.9, 2), (0.6, 3), (0.4, 7)])
def test_tracks_with_low_scores_need_more_observations(score: float, frames: int) -> None:
    """The sum of the squared scores reaches 1."""
    tracker = make_tracker("oks")
    tracker.update(detections([(400, 300)], [1]))
    seen = [tracker.update(detections([(100 + t, 100)], [0], scores=[score])).ids[0] for t in range(12)]
    assert seen == [0] * (frames - 1) + [2] * (13 - frames)


def test_tentative_track_that_lacks_only_evidence_may_be_missed_once() -> None:
    tracker = make_tracker("oks")
    tracker.update(detections([(400, 300)], [1]))
    seen: list[int] = []
    for t in (0, 1, 3, 4):
        given = detections([(100, 100)], [0], scores=[0.55], time=t / 30)
        if t == 3:
            tracker.update(detections([(400, 300)], [1], time=2 / 30))
        seen += tracker.update(given).ids.tolist()
    assert seen == [0, 0, 0, 2]
