"""Track the detections of files with the trackers of another package, in an environment that has it.

    PYTHON benchmarks/tracking_worker.py PACKAGE TRACKER FOLDER

PACKAGE is `trackers` or `ultralytics`, TRACKER one of its trackers (`bytetrack`), which is used with its own default
settings. Each NAME.npz of FOLDER holds `offsets` (F + 1) of the frames, `boxes` (N, 4), `scores` and `classes` (N,),
and `fps`. NAME.PACKAGE-TRACKER.npy receives the (N,) track id of each detection, -1 without one. The seconds that the
tracker took are printed. Trackers that compensate camera motion read the frames of NAME.mp4, if it exists.
"""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Frame = dict[str, Any]
Update = Callable[[Frame], np.ndarray]


def trackers_update(name: str, fps: float) -> Update:
    """One of the package `trackers`."""
    import supervision as sv
    import trackers

    classes = [value for value in vars(trackers).values() if isinstance(value, type)]
    tracker_class = next(value for value in classes if getattr(value, "tracker_id", None) == name)
    options = {"frame_rate": fps} if "frame_rate" in inspect.signature(tracker_class).parameters else {}
    tracker = tracker_class(**options)
    has_frame = "frame" in inspect.signature(tracker.update).parameters

    def update(frame: Frame) -> np.ndarray:
        detections = sv.Detections(
            xyxy=frame["boxes"],
            confidence=frame["scores"],
            class_id=frame["classes"],
            data={"index": np.arange(len(frame["boxes"]))},
        )
        ids = np.full(len(frame["boxes"]), -1)
        extra = {"frame": frame["image"]} if has_frame and frame["image"] is not None else {}
        tracked = tracker.update(detections, **extra)
        if tracked.tracker_id is not None and len(tracked):
            ids[tracked.data["index"].astype(int)] = tracked.tracker_id
        return ids

    return update


def ultralytics_update(name: str, fps: float) -> Update:
    """One of the reference package, with its own settings."""
    from ultralytics import trackers
    from ultralytics.engine.results import Boxes
    from ultralytics.utils import YAML, IterableSimpleNamespace
    from ultralytics.utils.checks import check_yaml

    settings = IterableSimpleNamespace(**YAML.load(check_yaml(f"{name}.yaml")))
    class_names = {"bytetrack": "BYTETracker", "botsort": "BOTSORT"}
    known = {key.lower(): value for key, value in vars(sys.modules["ultralytics.trackers"]).items()}
    tracker_class = getattr(trackers, class_names.get(name, ""), None) or known.get(name) or known[f"{name}er"]
    options = {"frame_rate": fps} if "frame_rate" in inspect.signature(tracker_class).parameters else {}
    tracker = tracker_class(args=settings, **options)

    def update(frame: Frame) -> np.ndarray:
        data = np.column_stack((frame["boxes"], frame["scores"], frame["classes"])).astype(np.float32)
        ids = np.full(len(data), -1)
        image = np.zeros((720, 1280, 3), np.uint8) if frame["image"] is None else frame["image"]
        tracked = tracker.update(Boxes(data, image.shape[:2]), image)
        if len(tracked):
            ids[tracked[:, -1].astype(int)] = tracked[:, 4].astype(int)
        return ids

    return update


def track_file(path: Path, package: str, name: str) -> float:
    """Track one file and return the seconds that the tracker took."""
    data = dict(np.load(path))
    update = {"trackers": trackers_update, "ultralytics": ultralytics_update}[package](name, float(data["fps"]))
    capture: Any = None
    if path.with_suffix(".mp4").exists():
        import cv2

        capture = cv2.VideoCapture(str(path.with_suffix(".mp4")))
    ids: list[np.ndarray] = []
    seconds = 0.0
    for start, end in zip(data["offsets"][:-1], data["offsets"][1:], strict=True):
        frame: Frame = {key: data[key][start:end] for key in ("boxes", "scores", "classes")}
        frame["image"] = capture.read()[1] if capture is not None else None
        began = time.process_time()
        ids.append(update(frame))
        seconds += time.process_time() - began
    np.save(path.with_name(f"{path.stem}.{package}-{name}.npy"), np.concatenate(ids))
    return seconds


def main() -> None:
    """Track all files."""
    if len(sys.argv) != 4:
        print(f"usage: {__doc__}")
        raise SystemExit(0)
    package, name, folder = sys.argv[1:]
    print(sum(track_file(path, package, name) for path in sorted(Path(folder).glob("*.npz"))))


if __name__ == "__main__":
    main()
