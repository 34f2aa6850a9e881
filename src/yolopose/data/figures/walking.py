"""Bodies that walk: proportions that stay, and a posture for each phase of the stride."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolopose.data.figures.body import LEFT, RIGHT, Array, Body, about_x, about_y, add_head, rotate_towards

_SIDES = ((LEFT, "left"), (RIGHT, "right"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Walker:
    """Proportions and habits of a person; lengths are in body heights, angles in radians.

    Attributes:
        limb_scale: relative thickness of the limbs.
        shoulder_scale: relative width of the shoulders.
        arms: relative length of the arms.
        legs: relative length of the legs.
        spine: length of the spine.
        head: radius of the head.
        stride: amplitude of the thighs.
        arm_swing: amplitude of the arms.
        elbow: bend of the elbows.
        strides_per_height: strides per distance of one body height.
        clothes_seed: seed of the colors.
    """

    limb_scale: float
    shoulder_scale: float
    arms: float
    legs: float
    spine: float
    head: float
    stride: float
    arm_swing: float
    elbow: float
    strides_per_height: float
    clothes_seed: int


def random_walker(rng: np.random.Generator) -> Walker:
    """Sample a person."""
    return Walker(
        limb_scale=rng.uniform(0.8, 1.3),
        shoulder_scale=rng.uniform(0.85, 1.15),
        arms=rng.uniform(0.9, 1.12),
        legs=rng.uniform(0.9, 1.12),
        spine=0.29 * rng.uniform(0.92, 1.08),
        head=0.065 * rng.uniform(0.9, 1.15),
        stride=rng.uniform(0.3, 0.55),
        arm_swing=rng.uniform(0.2, 0.6),
        elbow=rng.uniform(0.15, 0.9),
        strides_per_height=rng.uniform(0.9, 1.2),
        clothes_seed=int(rng.integers(2**31)),
    )


def walking_body(walker: Walker, heading: float, phase: float, effort: float) -> Body:
    """Return the posture of a person at one moment; the pelvis is at the origin.

    Args:
        walker: the person.
        heading: direction of the walk: 0 towards the viewer, π/2 to the right of the image.
        phase: phase of the stride, radians.
        effort: amplitude of the movement, 0 (standing) to 1.
    """
    turn = about_y(heading)
    lean = turn @ about_x(0.06 * effort)
    swing = effort * np.sin(phase)
    chest = lean @ about_y(0.15 * swing)
    joints: dict[str, Array] = {"pelvis": np.zeros(3), "neck": lean @ np.array([0, -walker.spine, 0])}
    nod = lean @ about_x(0.05)
    add_head(joints, nod, walker.head)
    for side, name in _SIDES:
        shoulder = np.array([side * 0.115 * walker.shoulder_scale, 0.025, 0])
        joints[f"{name}_shoulder"] = joints["neck"] + chest @ shoulder
        joints[f"{name}_hip"] = turn @ np.array([side * 0.065 * walker.shoulder_scale, 0, 0])
        _add_arm(joints, name, side, chest, walker, -side * swing)
        _add_leg(joints, name, side, turn, walker, side * swing, effort * np.cos(phase) * side)
    front = np.array([0.0, 0.0, 1.0])
    return Body(joints, nod @ front, chest @ front, walker.head, walker.limb_scale)


def _add_arm(joints: dict[str, Array], name: str, side: int, frame: Array, walker: Walker, swing: float) -> None:
    """Add the joints of an arm; `swing` is -1 (behind) to 1 (in front)."""
    angle = walker.arm_swing * swing
    upper = np.array([0.12 * side, np.cos(angle), np.sin(angle)])
    upper /= np.linalg.norm(upper)
    fore = rotate_towards(upper, np.array([-0.1 * side, 0.0, 1.0]), walker.elbow)
    elbow = joints[f"{name}_shoulder"] + 0.165 * walker.arms * (frame @ upper)
    wrist = elbow + 0.145 * walker.arms * (frame @ fore)
    joints[f"{name}_elbow"], joints[f"{name}_wrist"] = elbow, wrist
    joints[f"{name}_hand"] = wrist + 0.045 * walker.arms * (frame @ fore)


def _add_leg(
    joints: dict[str, Array], name: str, side: int, frame: Array, walker: Walker, swing: float, lift: float
) -> None:
    """Add the joints of a leg; `swing` is -1 (behind) to 1 (in front), and the knee bends while `lift` is positive."""
    angle = walker.stride * swing
    thigh = np.array([0.05 * side, np.cos(angle), np.sin(angle)])
    thigh /= np.linalg.norm(thigh)
    shin = rotate_towards(thigh, np.array([0.0, 0.3, -1.0]), 0.08 + 0.8 * max(lift, 0.0))
    knee = joints[f"{name}_hip"] + 0.245 * walker.legs * (frame @ thigh)
    ankle = knee + 0.235 * walker.legs * (frame @ shin)
    joints[f"{name}_knee"], joints[f"{name}_ankle"] = knee, ankle
    toe = rotate_towards(shin, np.array([side * 0.3, 0.0, 1.0]), 1.3)
    joints[f"{name}_toe"] = ankle + 0.075 * walker.legs * (frame @ toe)
