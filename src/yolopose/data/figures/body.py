"""Sample articulated 3-D bodies in random human postures.

Units are body heights. x points to the right of the image, y down, z towards the viewer; a body that is not turned
faces the viewer, so its left side is on the right of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
LEFT, RIGHT = 1, -1
_SIDES = ((LEFT, "left"), (RIGHT, "right"))


@dataclass(frozen=True, slots=True)
class Body:
    """Joints and proportions of a body.

    Attributes:
        joints: (3,) position by name: the 17 COCO keypoints, and `neck`, `pelvis`, `head`, `crown`, `left_hand`,
            `left_toe`, …
        face_direction: (3,) normal of the face.
        chest_direction: (3,) normal of the chest.
        head_radius: radius of the head.
        limb_scale: relative thickness of the limbs, about 1.
    """

    joints: dict[str, Array]
    face_direction: Array
    chest_direction: Array
    head_radius: float
    limb_scale: float


def random_body(rng: np.random.Generator) -> Body:
    """Sample proportions, posture and view of a body; its pelvis is at the origin."""
    limb_scale, shoulder_scale = rng.uniform(0.8, 1.3), rng.uniform(0.85, 1.15)
    arms, legs = rng.uniform(0.9, 1.12, 2)
    lying, sitting = (bool(chance) for chance in rng.random(2) < (0.06, 0.22))
    turn = about_y(_random_heading(rng))
    lean = turn @ about_z(rng.normal(0, 0.08)) @ about_x(rng.normal(0.05, 0.15 if not sitting else 0.3))
    joints: dict[str, Array] = {"pelvis": np.zeros(3)}
    spine = 0.29 * rng.uniform(0.92, 1.08)
    twist = about_y(rng.normal(0, 0.2))
    chest = lean @ twist
    joints["neck"] = lean @ np.array([0, -spine, 0])
    head = 0.065 * rng.uniform(0.9, 1.15)
    nod = chest @ about_y(rng.normal(0, 0.4)) @ about_x(rng.normal(0.05, 0.2)) @ about_z(rng.normal(0, 0.12))
    add_head(joints, nod, head)
    hip_flex = _thigh_angles(rng, sitting)
    for side, name in _SIDES:
        joints[f"{name}_shoulder"] = joints["neck"] + chest @ np.array([side * 0.115 * shoulder_scale, 0.025, 0])
        joints[f"{name}_hip"] = turn @ np.array([side * 0.065 * shoulder_scale, 0, 0])
        _add_arm(joints, name, side, chest, arms, rng)
        _add_leg(joints, name, side, turn, legs, hip_flex[name], rng)
    view = about_x(rng.normal(0.05, 0.1)) @ about_z(rng.choice((-1, 1)) * rng.normal(np.pi / 2, 0.2) if lying else 0.0)
    joints = {name: view @ position for name, position in joints.items()}
    front = np.array([0.0, 0.0, 1.0])
    return Body(joints, view @ nod @ front, view @ chest @ front, head, limb_scale)


def _random_heading(rng: np.random.Generator) -> float:
    """Return radians about the vertical axis: mostly towards the viewer, but from all sides."""
    return rng.normal(0, 0.6) if rng.random() < 0.5 else rng.uniform(-np.pi, np.pi)


def add_head(joints: dict[str, Array], nod: Array, head: float) -> None:
    """Add the joints of the head: `nod` is its (3, 3) rotation, `head` its radius."""
    center = joints["neck"] + nod @ np.array([0, -0.035 - head, 0.01])
    joints["head"], joints["crown"] = center, center + nod @ np.array([0, -head, 0])
    joints["nose"] = center + head * (nod @ np.array([0, 0.15, 1.0]))
    for side, name in _SIDES:
        joints[f"{name}_eye"] = center + head * (nod @ np.array([side * 0.38, -0.15, 0.88]))
        joints[f"{name}_ear"] = center + head * (nod @ np.array([side * 0.97, 0.0, 0.0]))


def _add_arm(
    joints: dict[str, Array], name: str, side: int, frame: Array, size: float, rng: np.random.Generator
) -> None:
    arm_pose = rng.choice(4, p=(0.45, 0.2, 0.2, 0.15))
    raised = (rng.uniform(0.05, 0.5), rng.uniform(0.6, 1.6), rng.uniform(1.9, 2.9), rng.uniform(0.1, 0.8))[arm_pose]
    swing = rng.uniform(-0.4, 1.5)  # 0 is sideways, π/2 is forward
    upper = np.array([side * np.sin(raised) * np.cos(swing), np.cos(raised), np.sin(raised) * np.sin(swing)])
    bend = rng.uniform(0.0, 0.5) if arm_pose == 0 else rng.uniform(0.1, 2.2)
    # the forearm bends forward, and a little up or inwards
    aim = np.array([-side * rng.uniform(0.0, 0.8), -rng.uniform(0.0, 0.8), 1.0])
    joints[f"{name}_elbow"] = joints[f"{name}_shoulder"] + 0.165 * size * (frame @ upper)
    fore = frame @ rotate_towards(upper, aim, bend)
    joints[f"{name}_wrist"] = joints[f"{name}_elbow"] + 0.145 * size * fore
    joints[f"{name}_hand"] = joints[f"{name}_wrist"] + 0.045 * size * fore


def _thigh_angles(rng: np.random.Generator, sitting: bool) -> dict[str, float]:
    """Return by how many radians each thigh is raised forward."""
    if sitting:
        return {name: rng.uniform(1.1, 1.8) for _, name in _SIDES}
    stride = rng.uniform(0, 0.15) if rng.random() < 0.5 else rng.uniform(0.2, 0.9)
    lead = rng.choice((LEFT, RIGHT))
    return {name: lead * side * stride + rng.normal(0, 0.06) for side, name in _SIDES}


def _add_leg(
    joints: dict[str, Array], name: str, side: int, frame: Array, size: float, flex: float, rng: np.random.Generator
) -> None:
    apart = abs(rng.normal(0.06, 0.12))
    thigh = np.array([side * np.sin(apart) * np.cos(flex), np.cos(apart) * np.cos(flex), np.sin(flex)])
    most = 1.9 if flex > 0.9 else 0.9
    bend = rng.uniform(0.6, most) if flex > 0.9 else abs(rng.normal(0, 0.3)) + max(-flex, 0) * 0.5
    shin = rotate_towards(thigh, np.array([0.0, 0.3, -1.0]), min(bend, most))
    joints[f"{name}_knee"] = joints[f"{name}_hip"] + 0.245 * size * (frame @ thigh)
    joints[f"{name}_ankle"] = joints[f"{name}_knee"] + 0.235 * size * (frame @ shin)
    toe = rotate_towards(shin, np.array([side * 0.3, 0.0, 1.0]), rng.uniform(1.1, 1.5))
    joints[f"{name}_toe"] = joints[f"{name}_ankle"] + 0.075 * size * (frame @ toe)


def rotate_towards(first: Array, aim: Array, angle: float) -> Array:
    """Return the unit vector `first` rotated by `angle` radians towards `aim`."""
    across = aim - first * (aim @ first)
    length = float(np.linalg.norm(across))
    if length < 1e-6:
        return first
    return first * np.cos(angle) + across / length * np.sin(angle)


def about_x(angle: float) -> Array:
    """Return the rotation that moves the upper part towards the viewer for positive angles."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, s], [0, -s, c]])


def about_y(angle: float) -> Array:
    """Return the rotation that turns a body to its left for positive angles."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def about_z(angle: float) -> Array:
    """Return the rotation in the image, clockwise for positive angles."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
