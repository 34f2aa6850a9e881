"""Sequences of moving figures with known ids, for tests and comparisons of trackers.

A sequence depends on its name and seed only. Its detections come from a simulated detector and are the same for every
tracker; frames can be rendered for camera-motion compensation and films.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from yolopose.base.errors import OutputError, UsageError, did_you_mean
from yolopose.base.files import atomic_folder, atomic_path
from yolopose.data.figures.background import draw_background, noisy_color
from yolopose.data.figures.body import Body
from yolopose.data.figures.detector import Detections, SimulatedDetector, VisibleFigure
from yolopose.data.figures.movement import SCENARIOS, Field, camera_path
from yolopose.data.figures.paint import OCCLUDER_ID, Figure, Image, decode_part_id, dress, paint, part_id
from yolopose.data.figures.scene import (
    MIN_BOX_SIDE,
    MIN_VISIBLE_SHARE,
    IdMap,
    figure_box,
    keypoint_visibility,
    visible_share,
)
from yolopose.data.figures.walking import Walker, random_walker, walking_body
from yolopose.data.tracks import Tracks, write_tracks
from yolopose.data.tracks.tracks import NO_ID
from yolopose.schema import KeypointSchema

Floats = npt.NDArray[np.float64]

VERSION = 1
"""Version of the sequences; a change that alters a sequence increments it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceSpec:
    """A kind of sequence.

    Attributes:
        group: what it tests: `crossing`, `crowd`, ….
        scenario: movement of the figures, a key of `movement.SCENARIOS`.
        count: number of figures.
        frames: number of frames.
        fps: frames per second.
        size: (height, width), pixels.
        camera: `static`, `pan` or `zoom`.
        posts: number of foreground objects.
        missed: probability that a visible figure is not detected.
        false_positives: mean number of false detections per frame.
    """

    group: str
    scenario: str
    count: int
    frames: int = 150
    fps: float = 30.0
    size: tuple[int, int] = (360, 640)
    camera: str = "static"
    posts: int = 0
    missed: float = 0.03
    false_positives: float = 0.1


SEQUENCES: dict[str, SequenceSpec] = {
    "crossing-2": SequenceSpec(group="crossing", scenario="crossing", count=2),
    "crossing-4": SequenceSpec(group="crossing", scenario="crossing", count=4),
    "crossing-8": SequenceSpec(group="crossing", scenario="crossing", count=8),
    "crowd-6": SequenceSpec(group="crowd", scenario="crowd", count=6),
    "crowd-12": SequenceSpec(group="crowd", scenario="crowd", count=12),
    "crowd-20": SequenceSpec(group="crowd", scenario="crowd", count=20),
    "occlusion-4": SequenceSpec(group="occlusion", scenario="crossing", count=4, posts=2),
    "occlusion-8": SequenceSpec(group="occlusion", scenario="crowd", count=8, posts=3),
    "reentry-4": SequenceSpec(group="reentry", scenario="reentry", count=4, frames=240),
    "reentry-6": SequenceSpec(group="reentry", scenario="reentry", count=6, frames=240),
    "pan-6": SequenceSpec(group="pan", scenario="crowd", count=6, camera="pan"),
    "zoom-6": SequenceSpec(group="pan", scenario="crowd", count=6, camera="zoom"),
    "low_fps-6": SequenceSpec(group="low_fps", scenario="crowd", count=6, fps=6.0, frames=75),
    "low_fps-4": SequenceSpec(group="low_fps", scenario="crossing", count=4, fps=6.0, frames=40),
    "false_positives-6": SequenceSpec(group="false_positives", scenario="crowd", count=6, false_positives=2.0),
    "missed-6": SequenceSpec(group="missed", scenario="crowd", count=6, missed=0.3),
    "dance-4": SequenceSpec(group="dance", scenario="dance", count=4),
    "dance-8": SequenceSpec(group="dance", scenario="dance", count=8),
    "following-6": SequenceSpec(group="following", scenario="following", count=6),
}
"""Kinds of sequences by name."""


@dataclass(frozen=True, slots=True, eq=False)
class SequenceFrame:
    """One painted frame.

    Attributes:
        image: (H, W, 3) BGR.
        id_map: (H, W) visible part of each pixel, see `paint.part_id`; the number of a figure is its index below.
        figures: the figures, far to near.
        track_ids: their ids, from 1.
    """

    image: Image
    id_map: IdMap
    figures: tuple[Figure, ...]
    track_ids: tuple[int, ...]


class FigureSequence:
    """A sequence of moving figures.

    Args:
        name: a key of `SEQUENCES`.
        seed: 0 or more.
        spec: the kind of sequence; that of the name by default.

    Raises:
        UsageError: an unknown name, or a negative seed.
    """

    def __init__(self, name: str, seed: int = 0, spec: SequenceSpec | None = None) -> None:
        if spec is None and name not in SEQUENCES:
            raise UsageError(
                f"{name!r} is not a sequence.{did_you_mean(name, SEQUENCES)} Known: {', '.join(SEQUENCES)}."
            )
        if seed < 0:
            raise UsageError(f"seed={seed!r} is not possible: it is an integer from 0.")
        self.name = f"{name}-s{seed}"
        self.spec = SEQUENCES[name] if spec is None else spec
        # crc32 and not hash(), which differs from process to process
        seeds = np.random.SeedSequence((VERSION, zlib.crc32(name.encode()), seed)).spawn(4)
        self._background_seed, self._detector_seed = seeds[1], seeds[2]
        self._noise_seed = int(seeds[3].generate_state(1)[0])
        rng = np.random.default_rng(seeds[0])
        field = Field(self.spec.frames, self.spec.fps, self.spec.size, self.spec.count)
        self._paths = SCENARIOS[self.spec.scenario](rng, field)
        self._walkers = [random_walker(rng) for _ in self._paths]
        self._camera = camera_path(self.spec.camera, rng, field)
        self._posts = _random_posts(rng, field, self.spec.posts)
        self._motion = [
            _Gait(walker, path.positions, path.heights, self.spec.fps)
            for walker, path in zip(self._walkers, self._paths, strict=True)
        ]

    def render(self, number: int) -> Image:
        """Return the (H, W, 3) BGR image of a frame.

        Args:
            number: from 1.

        Raises:
            UsageError: the frame does not exist.
        """
        if not 1 <= number <= self.spec.frames:
            raise UsageError(f"Frame {number} does not exist: {self.name} has the frames 1 to {self.spec.frames}.")
        height, width = self.spec.size
        world, margin = self._background
        shift = np.array([[1.0, 0, -margin], [0, 1, -margin], [0, 0, 1]])
        matrix = (self._camera[number - 1] @ shift)[:2]
        canvas = cv2.warpAffine(world, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
        image = self._paint(number, np.asarray(canvas, dtype=np.uint8)).image
        rng = np.random.default_rng((self._noise_seed, number))
        noise = rng.normal(0, 3, (height, width, 1))
        return np.clip(image + noise, 0, 255).astype(np.uint8)

    @property
    def gt(self) -> Tracks:
        """Ground truth: figures of which at least 15 % are visible; keypoints have v = 2, 1 (hidden) or 0 (outside)."""
        return self._simulated[0]

    @property
    def detections(self) -> Tracks:
        """Detections of the simulated detector, without ids."""
        return self._simulated[1]

    @cached_property
    def _background(self) -> tuple[Image, int]:
        """World image and its margin around the view of a camera at rest, pixels."""
        height, width = self.spec.size
        margin = 0 if self.spec.camera == "static" else width // 3
        rng = np.random.default_rng(self._background_seed)
        return draw_background(rng, (height + 2 * margin, width + 2 * margin)), margin

    @cached_property
    def _simulated(self) -> tuple[Tracks, Tracks]:
        detector = SimulatedDetector(
            np.random.default_rng(self._detector_seed),
            self.spec.size,
            missed=self.spec.missed,
            false_positives=self.spec.false_positives,
        )
        visible_figures: list[list[VisibleFigure]] = []
        detections: list[Detections] = []
        scratch = np.zeros((*self.spec.size, 3), dtype=np.uint8)
        for number in range(1, self.spec.frames + 1):
            visible = _visible_figures(self._paint(number, scratch))
            visible_figures.append(visible)
            detections.append(detector.detect(visible))
        return self._gt_tracks(visible_figures), self._detection_tracks(detections)

    def _gt_tracks(self, frames: list[list[VisibleFigure]]) -> Tracks:
        rows = [(number, figure) for number, figures in enumerate(frames, 1) for figure in figures]
        rows = [(number, figure) for number, figure in rows if figure.share >= MIN_VISIBLE_SHARE]
        return self._tracks(
            [number for number, _ in rows],
            np.array([figure.track_id for _, figure in rows], dtype=np.int64),
            np.array([figure.box for _, figure in rows]),
            np.ones(len(rows)),
            np.array([figure.keypoints for _, figure in rows]),
        )

    def _detection_tracks(self, frames: list[Detections]) -> Tracks:
        numbers = [number for number, frame in enumerate(frames, 1) for _ in frame.scores]
        return self._tracks(
            numbers,
            np.full(len(numbers), NO_ID, dtype=np.int64),
            np.concatenate([frame.boxes for frame in frames]),
            np.concatenate([frame.scores for frame in frames]),
            np.concatenate([frame.keypoints for frame in frames]),
        )

    def _tracks(
        self, numbers: list[int], ids: npt.NDArray[np.int64], boxes: Floats, scores: Floats, keypoints: Floats
    ) -> Tracks:
        return Tracks.build(
            frames=numbers,
            ids=ids,
            boxes=boxes.reshape(-1, 4),
            scores=scores,
            keypoints=keypoints.reshape(-1, 17, 3),
            frame_numbers=np.arange(1, self.spec.frames + 1),
            name=self.name,
            fps=self.spec.fps,
            size=self.spec.size,
            class_names={0: "person"},
            schema=KeypointSchema.coco_person(),
        )

    def _paint(self, number: int, canvas: Image) -> SequenceFrame:
        """Paint the figures and the foreground objects of a frame onto an image, which is changed."""
        time = number - 1
        camera = self._camera[time]
        zoom = float(camera[0, 0])
        id_map = np.zeros(canvas.shape[:2], dtype=np.int32)
        order = sorted(range(len(self._paths)), key=lambda index: float(self._paths[index].depths[time]))
        figures: list[Figure] = []
        for rank, index in enumerate(order):
            path, walker = self._paths[index], self._walkers[index]
            body = self._motion[index].body(time)
            position = camera[:2, :2] @ path.positions[time] + camera[:2, 2]
            figure = dress(body, zoom * path.heights[time], position, np.random.default_rng(walker.clothes_seed))
            # the last random values of `dress` depend on the number of visible parts
            figure = replace(figure, outline_strength=0.25, highlight_offset=np.zeros(2), highlight_strength=0.15)
            paint(canvas, id_map, figure, rank)
            figures.append(figure)
        for corners, color in self._posts:
            outline = corners @ camera[:2, :2].T + camera[:2, 2]
            mask = np.zeros(canvas.shape[:2], dtype=np.uint8)
            cv2.fillConvexPoly(mask, np.rint(outline).astype(np.int32), 1)
            canvas[mask > 0] = color
            id_map[mask > 0] = OCCLUDER_ID
        return SequenceFrame(canvas, id_map, tuple(figures), tuple(index + 1 for index in order))


class _Gait:
    """Phase, effort and heading of a figure along its path."""

    def __init__(self, walker: Walker, positions: Floats, heights: Floats, fps: float) -> None:
        velocity = np.gradient(positions, axis=0) * fps / heights[:, None]  # body heights per second
        speed = np.hypot(velocity[:, 0], 2 * velocity[:, 1])
        self._walker = walker
        self._phase = 2 * np.pi * walker.strides_per_height * np.cumsum(speed) / fps
        self._effort = np.clip(speed / 0.5, 0, 1)
        self._heading = _headings(velocity, speed, fps)

    def body(self, time: int) -> Body:
        """Return the posture in a frame."""
        return walking_body(
            self._walker, float(self._heading[time]), float(self._phase[time]), float(self._effort[time])
        )


def _headings(velocity: Floats, speed: Floats, fps: float) -> Floats:
    """Return the (T,) direction in which a figure looks; it turns with at most 1.5 turns per second."""
    target = np.arctan2(velocity[:, 0], 2 * velocity[:, 1] + 0.15)
    headings = np.zeros(len(target))
    moving = np.flatnonzero(speed > 0.1)
    heading = float(target[moving[0]]) if len(moving) else 0.0
    limit = 3 * np.pi / fps
    for time in range(len(target)):
        if speed[time] > 0.1:
            turn = (target[time] - heading + np.pi) % (2 * np.pi) - np.pi
            heading += float(np.clip(turn, -limit, limit))
        headings[time] = heading
    return headings


def _random_posts(rng: np.random.Generator, field: Field, count: int) -> list[tuple[Floats, Image]]:
    """Return the (4, 2) corners and the color of foreground objects, spread over the width of the image."""
    height, width = field.size
    posts: list[tuple[Floats, Image]] = []
    for index in range(count):
        center = width * (index + 0.5 + rng.uniform(-0.2, 0.2)) / count
        half = width * rng.uniform(0.03, 0.06)
        corners = [(center - half, 0), (center + half, 0), (center + half, height), (center - half, height)]
        posts.append((np.array(corners, dtype=np.float64), noisy_color(rng, 1)[0]))
    return posts


def _visible_figures(frame: SequenceFrame) -> list[VisibleFigure]:
    """Return the figures of a frame that are large enough, with what is visible of them."""
    height, width = frame.id_map.shape
    visible: list[VisibleFigure] = []
    for number, (figure, track_id) in enumerate(zip(frame.figures, frame.track_ids, strict=True)):
        box = figure_box(figure, width, height)
        if min(box[2] - box[0], box[3] - box[1]) < MIN_BOX_SIDE:
            continue
        share = min(visible_share(figure, number, frame.id_map), 1.0)
        visibility = keypoint_visibility(figure, number, frame.id_map)
        points = np.column_stack((figure.keypoints * (visibility > 0)[:, None], visibility)).astype(np.float64)
        window, front = _visible_box(frame, number, box)
        visible.append(
            VisibleFigure(track_id, share, box, window, points, None if front is None else frame.track_ids[front])
        )
    return visible


def _visible_box(frame: SequenceFrame, number: int, box: Floats) -> tuple[Floats, int | None]:
    """Return the box of the visible part of a figure, and the number of the figure that hides most of its box."""
    x1, y1 = np.floor(box[:2]).astype(int)
    x2, y2 = np.ceil(box[2:]).astype(int)
    window = frame.id_map[y1:y2, x1:x2]
    rows, columns = np.nonzero((window >= part_id(number, 0)) & (window < part_id(number + 1, 0)))
    others = window[(window >= part_id(number + 1, 0)) & (window < OCCLUDER_ID)]
    numbers = [decode_part_id(int(value))[0] for value in np.unique(others)]
    front = None
    if numbers:
        counts = {other: int(((others >= part_id(other, 0)) & (others < part_id(other + 1, 0))).sum())
                  for other in set(numbers)}  # fmt: skip
        front = max(counts, key=lambda other: (counts[other], -other))
    if not len(rows):
        return box.copy(), front
    bounds = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], dtype=np.float64)
    return np.clip(bounds + np.array([x1, y1, x1, y1]), np.tile(box[:2], 2), np.tile(box[2:], 2)), front


def sequence_names(group: str | None = None) -> list[str]:
    """Return the names of the sequences of a group, or of all."""
    return [name for name, spec in SEQUENCES.items() if group in (None, spec.group)]


def write_sequences(
    folder: str | Path, names: Sequence[str] | None = None, seeds: Sequence[int] = (0, 1, 2), *, video: bool = False
) -> list[Path]:
    """Write ground truth and detections of sequences, unless they exist in this version.

    Args:
        folder: parent of one folder per sequence, `NAME-sSEED` with `gt.jsonl`, `detections.jsonl` and `frames.mp4`.
        names: names of sequences; all by default.
        seeds: seeds of each.
        video: whether to write the frames.

    Returns:
        The folders.

    Raises:
        UsageError: an unknown name.
        OutputError: they cannot be written.
    """
    folders: list[Path] = []
    for name in sequence_names() if names is None else names:
        for seed in seeds:
            sequence = FigureSequence(name, seed)
            target = Path(folder) / f"v{VERSION}" / sequence.name
            for file, attribute in (("detections.jsonl", "detections"), ("gt.jsonl", "gt")):
                if not (target / file).exists():
                    write_tracks(target / file, getattr(sequence, attribute))
            if video and not (target / "frames.mp4").exists():
                write_frames(target / "frames.mp4", sequence)
            folders.append(target)
    return folders


def frames(sequence: FigureSequence) -> Iterator[Image]:
    """Yield the images of all frames."""
    return (sequence.render(number) for number in range(1, sequence.spec.frames + 1))


def write_frames(path: str | Path, sequence: FigureSequence) -> Path:
    """Write the frames of a sequence as a video (`.mp4`, `.avi`), or as PNG images into a folder (without a suffix).

    Raises:
        OutputError: it cannot be written.
    """
    if not Path(path).suffix:
        with atomic_folder(path) as folder:
            for number, image in enumerate(frames(sequence), 1):
                encoded, data = cv2.imencode(".png", image)
                if not encoded:  # pragma: no cover - OpenCV without PNG
                    raise OutputError(f"This build of OpenCV cannot write PNG images to {path}.")
                (folder / f"{number:06d}.png").write_bytes(data.tobytes())
        return Path(path)
    height, width = sequence.spec.size
    with atomic_path(path) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), sequence.spec.fps, (width, height))
        if not writer.isOpened():
            raise OutputError(f"This build of OpenCV cannot write the video {path}.")
        for image in frames(sequence):
            writer.write(image)
        writer.release()
    return Path(path)
