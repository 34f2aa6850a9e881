"""Paths of the figures and of the camera in a sequence, in pixels of the world: the view of a camera at rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """The way of one figure.

    Attributes:
        positions: (T, 2) x, y of the pelvis.
        heights: (T,) body height.
        depths: (T,) figures with a larger value are nearer and hide the others.
    """

    positions: Floats
    heights: Floats
    depths: Floats


@dataclass(frozen=True, slots=True)
class Field:
    """Where and for how long figures move.

    Attributes:
        frames: T, number of frames.
        fps: frames per second.
        size: (height, width) of the image.
        count: number of figures.
    """

    frames: int
    fps: float
    size: tuple[int, int]
    count: int


Scenario = Callable[[np.random.Generator, Field], list[Path]]


def crossing(rng: np.random.Generator, field: Field) -> list[Path]:
    """Pairs that walk towards each other at nearly the same depth and meet in the middle of the sequence."""
    height, width = field.size
    paths: list[Path] = []
    for index in range(field.count):
        pair = index // 2
        body = height * (0.36 + 0.04 * rng.uniform(-1, 1))
        level = height * (0.42 + 0.22 * (pair + 0.5) / ((field.count + 1) // 2)) + rng.uniform(-6, 6)
        sign = 1 if index % 2 else -1
        speed = rng.uniform(0.85, 1.15) * width / field.frames
        meeting = width * rng.uniform(0.4, 0.6) if index % 2 == 0 else paths[-1].positions[field.frames // 2, 0]
        time = np.arange(field.frames) - field.frames / 2
        x = meeting + sign * speed * time
        y = level + rng.uniform(-0.02, 0.02) * time
        paths.append(_path(np.stack((x, y), axis=1), body))
    return paths


def crowd(rng: np.random.Generator, field: Field) -> list[Path]:
    """Figures that walk between random points of the image and sometimes stop."""
    height, width = field.size
    paths: list[Path] = []
    for _ in range(field.count):
        body = height * rng.uniform(0.26, 0.4)
        points = [rng.uniform((0.05 * width, 0.35 * height), (0.95 * width, 0.7 * height))]
        speed = body * rng.uniform(0.6, 1.3) / field.fps
        positions: list[Floats] = []
        while len(positions) < field.frames:
            target = rng.uniform((0.05 * width, 0.35 * height), (0.95 * width, 0.7 * height))
            step = (target - points[-1]) * (1.0, 0.5)  # more to the side than in depth
            target = points[-1] + step
            steps = max(int(np.linalg.norm(step) / speed), 1)
            positions += list(np.linspace(points[-1], target, steps, endpoint=False))
            if rng.random() < 0.3:
                positions += [target] * int(rng.uniform(0.2, 1.0) * field.fps)
            points.append(target)
        paths.append(_path(_smooth(np.array(positions[: field.frames]), field.fps), body))
    return paths


def reentry(rng: np.random.Generator, field: Field) -> list[Path]:
    """Figures that leave the image at a side and come back after one to two seconds."""
    height, width = field.size
    paths: list[Path] = []
    for index in range(field.count):
        body = height * rng.uniform(0.3, 0.4)
        level = height * (0.38 + 0.3 * (index + 0.5) / field.count)
        away = 0.5 * body + rng.uniform(0.3, 0.8) * body  # distance beyond the side
        center, reach = width / 2, width / 2 + away
        period = 4 * reach / (body * rng.uniform(1.3, 1.8))  # seconds to cross twice
        phase = rng.uniform(0, 1) + np.arange(field.frames) / field.fps / period
        x = center + reach * (4 * np.abs(phase % 1 - 0.5) - 1)
        y = np.full(field.frames, level)
        paths.append(_path(_smooth(np.stack((x, y), axis=1), field.fps), body))
    return paths


def dance(rng: np.random.Generator, field: Field) -> list[Path]:
    """Figures close together that swing and turn around common centers and change places."""
    height, width = field.size
    paths: list[Path] = []
    time = np.arange(field.frames) / field.fps
    for index in range(field.count):
        body = height * rng.uniform(0.34, 0.4)
        center = width * (index // 2 + 1) / (field.count // 2 + 1.0)
        rate, phase = rng.uniform(0.35, 0.6), np.pi * (index % 2) + rng.uniform(-0.3, 0.3)
        angle = 2 * np.pi * rate * time + phase + 0.6 * np.sin(2 * np.pi * 0.23 * time + rng.uniform(0, 6))
        x = center + 0.55 * body * np.cos(angle) + 0.15 * body * np.sin(2 * np.pi * 0.9 * time + rng.uniform(0, 6))
        y = 0.5 * height + 0.08 * body * np.sin(angle)
        paths.append(_path(np.stack((x, y), axis=1), body))
    return paths


def following(rng: np.random.Generator, field: Field) -> list[Path]:
    """Columns of figures that follow each other closely, overtake and fall back."""
    height, width = field.size
    paths: list[Path] = []
    time = np.arange(field.frames)
    for index in range(field.count):
        column, place = index % 2, index // 2
        body = height * rng.uniform(0.34, 0.4)
        sign = 1 if column else -1
        speed = 0.8 * width / field.frames
        start = width * (0.1 if column else 0.9) - sign * place * 0.32 * body
        wave = 0.28 * body * np.sin(2 * np.pi * time / field.frames * rng.uniform(1.0, 2.0) + rng.uniform(0, 6))
        x = start + sign * (speed * time + wave)
        y = height * (0.42 + 0.16 * column) + rng.uniform(-8, 8) + 0 * time
        paths.append(_path(np.stack((x, y), axis=1), body))
    return paths


SCENARIOS: dict[str, Scenario] = {
    "crossing": crossing,
    "crowd": crowd,
    "reentry": reentry,
    "dance": dance,
    "following": following,
}
"""Movements of figures by name."""


def _path(positions: npt.NDArray[np.floating[Any]], body: float) -> Path:
    """Return the path of a figure of constant height; a lower position in the image is nearer."""
    count = len(positions)
    positions = positions.astype(np.float64)
    return Path(positions, np.full(count, body), positions[:, 1] + 0.5 * body)


def _smooth(positions: Floats, fps: float) -> Floats:
    """Round the corners of a path over a third of a second."""
    half = max(int(fps / 6), 1)
    padded = np.pad(positions, ((half, half), (0, 0)), mode="edge")
    kernel = np.hanning(2 * half + 3)[1:-1]
    columns = [np.convolve(padded[:, axis], kernel / kernel.sum(), mode="valid") for axis in (0, 1)]
    return np.stack(columns, axis=1).real.astype(np.float64)


def camera_path(kind: str, rng: np.random.Generator, field: Field) -> Floats:
    """Return the (T, 3, 3) transforms from the world to the image.

    Args:
        kind: `static`, `pan` (swings to the sides, with a shaking hand) or `zoom` (in and out).
        rng: source of amplitudes and phases.
        field: number of frames, rate and size.
    """
    height, width = field.size
    time = np.arange(field.frames) / field.fps
    zoom = np.ones(field.frames)
    shift = np.zeros((field.frames, 2))
    if kind == "pan":
        shift[:, 0] = 0.22 * width * np.sin(2 * np.pi * rng.uniform(0.18, 0.28) * time + rng.uniform(0, 6))
        shift[:, 1] = 0.04 * height * np.sin(2 * np.pi * 0.35 * time + rng.uniform(0, 6))
        shift += _smooth(rng.normal(0, 0.02 * width, (field.frames, 2)), 18)
    elif kind == "zoom":
        zoom = np.exp(0.3 * np.sin(2 * np.pi * rng.uniform(0.2, 0.3) * time + rng.uniform(0, 6)))
    transforms = np.tile(np.eye(3), (field.frames, 1, 1))
    transforms[:, 0, 0] = transforms[:, 1, 1] = zoom
    center = np.array([width / 2, height / 2])
    transforms[:, :2, 2] = center - zoom[:, None] * center + shift
    return transforms
