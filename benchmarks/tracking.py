"""Compare trackers on the same detections: HOTA, IDF1, MOTA, id switches, fragments and frames per second.

    python benchmarks/tracking.py [--seeds 0,1,2] [--sequences NAME,…] [--trackers oks,bytetrack,…]
        [--package PYTHON] [--reference PYTHON] [--images] [--video DETECTIONS:TRUTH,…]

The sequences are those of `yolopose.data.figures.sequences`: moving figures with known ids, and detections with missed
and false ones. PYTHON are interpreters of environments with the package `trackers` and with the reference package,
whose trackers are measured with their own default settings. `--images` renders the sequences with a moving camera, for
the trackers that compensate it. All trackers are scored on the measured boxes and poses of the detections.

`--video` compares them on videos instead. DETECTIONS is the `predictions.jsonl` of
`yolo pose predict conf=0.1 save_jsonl=True`, TRUTH a track file with the ids of the instances, or `single` for a video
of one animal: then the best detection of each frame is the instance.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from yolopose.data.figures.sequences import SEQUENCES, FigureSequence
from yolopose.data.tracks import Tracks, read_tracks
from yolopose.data.tracks.tracks import NO_ID
from yolopose.evaluate.tracking import evaluate_tracks
from yolopose.track import TrackDetections, make_tracker

OURS = ("oks", "bytetrack", "ocsort", "botsort")
PACKAGE = ("bytetrack", "ocsort", "botsort")
REFERENCE = ("bytetrack", "botsort", "ocsort", "tracktrack")
WORKER = Path(__file__).parent / "tracking_worker.py"
COLUMNS = ("HOTA", "AssA", "DetA", "IDF1", "MOTA", "switches", "fragments")


class Scene:
    """A ground truth with detections, and the files for trackers of other environments."""

    def __init__(self, group: str, gt: Tracks, detections: Tracks, file: Path) -> None:
        self.group = group
        self.gt = gt
        self.detections = detections
        self.frames = list(detections.by_frame())
        self.images: list[np.ndarray] = []
        self.file = file
        offsets = np.cumsum([0, *(len(frame.ids) for frame in self.frames)])
        np.savez(
            file, offsets=offsets, boxes=detections.boxes.astype(np.float32), fps=detections.fps or 30,
            scores=detections.scores.astype(np.float32), classes=detections.classes,
        )  # fmt: skip


def drawn_scene(name: str, seed: int, folder: Path, images: bool) -> Scene:
    """Return a sequence of figures; with images, if its camera moves."""
    made = FigureSequence(name, seed)
    scene = Scene(SEQUENCES[name].group, made.gt, made.detections, folder / f"{name}-{seed}.npz")
    if images and SEQUENCES[name].camera != "static":
        scene.images = [made.render(frame.number) for frame in scene.frames]
        write_video(scene.file.with_suffix(".mp4"), scene.images)
    return scene


def video_scene(detections: str, truth: str, folder: Path) -> Scene:
    """Return the detections of a video; `truth` is a track file or `single`."""
    (predicted,) = read_tracks(detections)
    name = Path(predicted.name).stem
    if truth == "single":
        best = [np.flatnonzero(predicted.frames == number) for number in predicted.frame_numbers]
        rows = [rows[predicted.scores[rows].argmax()] for rows in best if len(rows)]
        gt = predicted.select(np.array(rows))
        gt = replace(gt, ids=np.ones(len(gt), np.int64))
    else:
        (gt,) = read_tracks(truth)
    return Scene(name, gt, predicted, folder / f"{name}.npz")


def write_video(path: Path, images: Sequence[np.ndarray]) -> None:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, images[0].shape[1::-1])
    for image in images:
        writer.write(image)
    writer.release()


def our_ids(scene: Scene, tracker: str) -> tuple[np.ndarray, float]:
    """Return the ids of all detections, and the seconds of the tracker."""
    tracks = make_tracker(tracker, sigmas=scene.detections.sigmas, fps=scene.detections.fps)
    inputs = [
        TrackDetections(
            frame.boxes, frame.scores, frame.classes, frame.keypoints, frame.seconds,
            scene.images[index] if scene.images else None, scene.detections.size,
        )
        for index, frame in enumerate(scene.frames)
    ]  # fmt: skip
    start = time.process_time()
    ids = [tracks.update(given).ids for given in inputs]
    seconds = time.process_time() - start
    joined = np.concatenate(ids)
    return np.where(joined > 0, joined, NO_ID), seconds


def run_other(folder: Path, package: str, tracker: str, python: str) -> float:
    """Run a tracker of another environment on all files of a folder; return the seconds of the tracker."""
    command = [python, str(WORKER), package, tracker, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{package}:{tracker} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def tracked(scene: Scene, ids: np.ndarray) -> Tracks:
    """Return the detections that have an id."""
    return replace(scene.detections, ids=ids).select(ids != NO_ID)


def measure(scenes: Sequence[Scene], row: tuple[str, str], args: argparse.Namespace) -> dict[str, list[Any]]:
    """Return the metrics of one tracker by group, and its frames per second."""
    package, name = row
    by_group: dict[str, list[Any]] = defaultdict(list)
    frames = seconds = 0.0
    if package != "yolopose":
        python = args.package if package == "trackers" else args.reference
        seconds = run_other(scenes[0].file.parent, package, name, python)
    for scene in scenes:
        if package == "yolopose":
            ids, taken = our_ids(scene, name)
        else:
            ids, taken = np.load(scene.file.with_name(f"{scene.file.stem}.{package}-{name}.npy")), 0.0
            ids = np.where(ids >= 0, ids, NO_ID)
        pair = (tracked(scene, ids), scene.gt)
        by_group[scene.group].append(pair)
        by_group["all"].append(pair)
        frames += len(scene.frames)
        seconds += taken
    by_group["speed"] = [frames / seconds]
    return by_group


def report(label: str, by_group: dict[str, list[Any]], similarity: str) -> None:
    """Print one line per group."""
    speed = by_group["speed"][0]
    for group, pairs in by_group.items():
        if group == "speed":
            continue
        sums: dict[str, float] = defaultdict(float)
        metrics = [evaluate_tracks(tracks, gt, similarity).combined.values() for tracks, gt in pairs]
        for values in metrics:
            for column in COLUMNS:
                sums[column] += values[column]
        cells = [
            f"{sums[column]:.0f}" if column in ("switches", "fragments") else f"{100 * sums[column] / len(pairs):.1f}"
            for column in COLUMNS
        ]
        print(f"| {group} | {label} | {' | '.join(cells)} | {speed:.0f} |", flush=True)


def main() -> None:
    """Measure all trackers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--sequences", default=",".join(SEQUENCES))
    parser.add_argument("--trackers", default=",".join(OURS))
    parser.add_argument("--package", help="interpreter of an environment with the package trackers")
    parser.add_argument("--reference", help="interpreter of an environment with the reference package")
    parser.add_argument("--images", action="store_true", help="render sequences with a moving camera")
    parser.add_argument("--video", help="pairs of detections and ground truth of videos, which are tracked instead")
    parser.add_argument("--similarity", default="oks", choices=("box", "oks"))
    args = parser.parse_args()
    rows = [("yolopose", name) for name in args.trackers.split(",") if name]
    rows += [("trackers", name) for name in PACKAGE if args.package]
    rows += [("ultralytics", name) for name in REFERENCE if args.reference]
    with tempfile.TemporaryDirectory() as folder:
        names = args.sequences.split(",")
        if args.video:
            pairs = [pair.rsplit(":", 1) for pair in args.video.split(",")]
            scenes = [video_scene(detections, truth, Path(folder)) for detections, truth in pairs]
        else:
            scenes = [drawn_scene(n, int(s), Path(folder), args.images) for n in names for s in args.seeds.split(",")]
        print(f"{len(scenes)} sequences, {sum(len(scene.frames) for scene in scenes)} frames\n")
        print(f"| group | tracker | {' | '.join(COLUMNS)} | frames/s |\n|{'---|' * (len(COLUMNS) + 3)}")
        for row in rows:
            report(f"{row[0]} {row[1]}", measure(scenes, row, args), args.similarity)


if __name__ == "__main__":
    main()
