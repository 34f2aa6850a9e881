"""Count repetitions of an exercise for each person of a video or webcam.

    python examples/repetitions.py squats.mp4 --joint left_knee            # squats, lunges
    python examples/repetitions.py 0 --joint right_elbow --low 70 --high 150   # curls, push-ups

A repetition is an angle of the joint below --low and then above --high, degrees.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from yolopose import YOLO, Results
from yolopose.base.errors import YoloposeError

MIN_CONFIDENCE = 0.5
NEIGHBORS = {"elbow": ("shoulder", "wrist"), "knee": ("hip", "ankle"), "hip": ("shoulder", "knee")}
"""Joint -> ends of the two limbs that meet there."""


@dataclass
class RepetitionCounter:
    """Count how often an angle falls below `low` and rises above `high` again, degrees."""

    low: float = 100.0
    high: float = 150.0
    count: int = 0
    is_bent: bool = False

    def update(self, angle: float) -> bool:
        """Take the angle of a frame; return whether it completes a repetition."""
        if angle < self.low:
            self.is_bent = True
        elif angle > self.high and self.is_bent:
            self.is_bent = False
            self.count += 1
            return True
        return False


def joint_angle(points: npt.NDArray[np.floating]) -> float:
    """Return the angle at the middle one of three points (3, 2), 0 to 180 degrees."""
    first, second = points[0] - points[1], points[2] - points[1]
    return float(np.degrees(abs(np.arctan2(first[0] * second[1] - first[1] * second[0], first @ second))))


def limb_names(joint: str) -> list[str]:
    """Return the keypoint names of the angle: `left_knee` -> left_hip, left_knee, left_ankle."""
    side, _, name = joint.partition("_")
    first, last = NEIGHBORS[name]
    return [f"{side}_{first}", joint, f"{side}_{last}"]


def count_repetitions(results: Iterable[Results], joint: str, low: float, high: float) -> dict[int, int]:
    """Return the number of repetitions by track id, and print each one."""
    counters: dict[int, RepetitionCounter] = {}
    names = limb_names(joint)
    for result in results:
        for person in result.cpu():
            points = np.array([person.keypoints[name][0] for name in names])
            if points[:, 2].min() < MIN_CONFIDENCE:
                continue  # a keypoint is hidden
            track_id = int(person.boxes.id[0])
            counter = counters.setdefault(track_id, RepetitionCounter(low, high))
            if counter.update(joint_angle(points[:, :2])):
                print(f"person {track_id}: {counter.count}")
    return {track_id: counter.count for track_id, counter in counters.items()}


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    joints = [f"{side}_{name}" for side in ("left", "right") for name in NEIGHBORS]
    parser.add_argument("source", help="camera number, video or stream")
    parser.add_argument("--joint", default="left_knee", choices=joints)
    parser.add_argument("--low", type=float, default=100.0, help="the joint is bent below this angle, degrees")
    parser.add_argument("--high", type=float, default=150.0, help="the joint is straight above this angle, degrees")
    parser.add_argument("--model", default="yolo11n-pose.pt", help="weights or exported file")
    arguments = parser.parse_args()
    try:
        results = YOLO(arguments.model).track(arguments.source, stream=True, smooth=True, verbose=False)
        counts = count_repetitions(results, arguments.joint, arguments.low, arguments.high)
    except YoloposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(", ".join(f"person {track_id}: {count}" for track_id, count in counts.items()) or "nobody was tracked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
