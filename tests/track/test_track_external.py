"""Trackers of the package `trackers`: a stand-in of its interface, and the real one where it is installed."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from track_scenes import detections, frame, line, run

from yolopose.base.errors import UsageError
from yolopose.track import StreamTrackers, make_tracker

PATHS = [line((60, 100), (4, 0)), line((600, 220), (-5, 0)), line((100, 400), (3, -1))]


class Detections:
    """As `supervision.Detections`."""

    def __init__(self, xyxy: np.ndarray, confidence: np.ndarray, class_id: np.ndarray, data: dict[str, Any]) -> None:
        self.xyxy = xyxy
        self.confidence = confidence
        self.class_id = class_id
        self.data = data
        self.tracker_id: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.xyxy)


class NewestFirst:
    """A tracker with ids that no sequence starts with, in another order, -1 for the last detection."""

    tracker_id = "newest"
    next_id = 100
    seen: list[dict[str, Any]] = []  # noqa: RUF012  # of all objects

    def __init__(self, frame_rate: float = 30.0) -> None:
        self.first = NewestFirst.next_id
        NewestFirst.next_id += 10
        self.seen.append({"frame_rate": frame_rate})

    def update(self, given: Detections, timestamp: float | None = None) -> Detections:
        self.seen.append({"timestamp": timestamp})
        tracked = Detections(given.xyxy[::-1], given.confidence, given.class_id, {"index": given.data["index"][::-1]})
        tracked.tracker_id = np.array([-1, *range(self.first, self.first + len(given) - 1)])
        return tracked


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    package: Any = SimpleNamespace(Newest=NewestFirst, version="1")
    monkeypatch.setitem(sys.modules, "trackers", package)
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=Detections))  # type: ignore[arg-type]
    monkeypatch.setattr(NewestFirst, "seen", [])


def test_ids_and_order(stand_in: None) -> None:
    for _ in range(2):  # another sequence starts with id 1, too
        tracker = make_tracker("trackers:newest", fps=12)
        ids = [tracker.update(detections([(100, 100), (300, 300), (500, 200)], time=t)).ids.tolist() for t in range(2)]
        assert ids == [[2, 1, 0]] * 2
    assert NewestFirst.seen[:3] == [{"frame_rate": 12}, {"timestamp": 0}, {"timestamp": 1}]
    with pytest.raises(UsageError, match="cannot save their state"):
        tracker.state_dict()


def test_unknown_name(stand_in: None) -> None:
    with pytest.raises(UsageError, match="Did you mean 'newest'"):
        StreamTrackers("trackers:newst")


@pytest.mark.skipif(find_spec("trackers") is None, reason="the package trackers is not installed")
@pytest.mark.parametrize("name", ["bytetrack", "ocsort", "botsort"])
def test_real_package(name: str) -> None:
    ours = make_tracker(name, min_hits=2)
    theirs = make_tracker(f"trackers:{name}")
    assert run(ours, PATHS, 60) == run(theirs, PATHS, 60) == [[1], [2], [3]]
    given, _ = frame(PATHS, 59)
    for _ in range(2):  # a stream that is opened again: time starts at 0
        assert theirs.update(replace(given, time=0.0)).ids.tolist() == [1, 2, 3]
