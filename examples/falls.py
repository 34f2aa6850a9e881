"""Print an alarm if a person has fallen: the trunk was upright and then stays nearly horizontal.

    python examples/falls.py rtsp://camera/stream --seconds 3

An example, not a safety device: networks miss people, and a single camera does not see who lies behind the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose import YOLO, Results
from yolopose.base.errors import YoloposeError

MIN_CONFIDENCE = 0.5
UPRIGHT, LYING = 35.0, 60.0  # degrees between trunk and vertical
TRUNK = ["left_shoulder", "right_shoulder", "left_hip", "right_hip"]


@dataclass
class FallDetector:
    """State of one person.

    Attributes:
        hold_seconds: how long the trunk must be horizontal.
        was_upright: whether the person stood or sat before.
        lying_since: time at which the trunk became horizontal, seconds; None if it is not.
        has_alarm: whether the alarm was raised since the person was upright.
    """

    hold_seconds: float = 2.0
    was_upright: bool = False
    lying_since: float | None = None
    has_alarm: bool = False

    def update(self, angle: float, seconds: float) -> bool:
        """Take the angle of the trunk to the vertical, degrees, at a time; return whether an alarm begins."""
        if angle < UPRIGHT:
            self.was_upright, self.lying_since, self.has_alarm = True, None, False
        elif angle > LYING and self.was_upright:
            self.lying_since = seconds if self.lying_since is None else self.lying_since
            if seconds - self.lying_since >= self.hold_seconds and not self.has_alarm:
                self.has_alarm = True
                return True
        else:
            self.lying_since = None
        return False


def trunk_angle(points: npt.NDArray[np.floating]) -> float:
    """Return the angle between trunk and vertical of both shoulders and both hips (4, 2), 0 to 90 degrees."""
    across, down = points[2:].mean(axis=0) - points[:2].mean(axis=0)
    return float(np.degrees(np.arctan2(abs(across), abs(down))))


def find_falls(results: Iterable[Results], hold_seconds: float) -> Iterator[tuple[int, float]]:
    """Yield track id and time in seconds of each fall."""
    people: dict[int, FallDetector] = {}
    for number, result in enumerate(results):
        seconds = result.frame.seconds if result.frame and result.frame.seconds is not None else number / 25
        for person in result.cpu():
            points = np.array([person.keypoints[name][0] for name in TRUNK])
            if points[:, 2].min() < MIN_CONFIDENCE:
                continue
            track_id = int(person.boxes.id[0])
            detector = people.setdefault(track_id, FallDetector(hold_seconds))
            if detector.update(trunk_angle(points[:, :2]), seconds):
                yield track_id, seconds


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="camera number, video or stream")
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the trunk must be horizontal")
    parser.add_argument("--model", default="yolo11n-pose.pt", help="weights or exported file")
    arguments = parser.parse_args()
    count = 0
    try:
        results = YOLO(arguments.model).track(arguments.source, stream=True, smooth=True, verbose=False)
        for track_id, seconds in find_falls(results, arguments.seconds):
            count += 1
            print(f"\aperson {track_id} has fallen, {seconds:.1f} s after the start", flush=True)
    except YoloposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{count} falls")
    return 0


if __name__ == "__main__":
    sys.exit(main())
