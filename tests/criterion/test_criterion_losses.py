"""The losses against the golden cases, and where there is nothing to learn from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from yolopose.criterion import TERMS, Gains, PoseCriterion, Targets
from yolopose.nn.head import HeadOutput
from yolopose.schema import COCO_PERSON_SIGMAS

CASES = {
    "person": ((17, 3), COCO_PERSON_SIGMAS),
    "multi": ((4, 3), [0.25] * 4),
    "xy_only": ((5, 2), [0.2] * 5),
    "sigmas": ((4, 3), [0.05, 0.1, 0.2, 0.4]),
}
STRIDES = (8, 16, 32)


def head_output(case, hw):
    tensors = [torch.tensor(case[name], requires_grad=True) for name in ("boxes", "scores", "kpts")]
    return HeadOutput(*tensors, tuple((hw[0] // s, hw[1] // s) for s in STRIDES))


def random_output(hw, nc=1, values=51, batch=2, seed=0):
    cells = sum((hw[0] // s) * (hw[1] // s) for s in STRIDES)
    rng = np.random.default_rng(seed)
    sizes = {"boxes": 64, "scores": nc, "kpts": values}
    return head_output(
        {name: rng.normal(size=(batch, n, cells)).astype(np.float32) for name, n in sizes.items()}, hw=hw
    )


def random_targets(count, hw, batch, points=17, nc=1, seed=1):
    rng = np.random.default_rng(seed)
    center = rng.uniform(0.1, 0.9, (count, 2))
    boxes = np.concatenate((center, rng.uniform(0.02, 0.2, (count, 2))), 1)
    keypoints = np.concatenate((rng.uniform(0, 1, (count, points, 2)), rng.integers(0, 3, (count, points, 1))), 2)
    return Targets.from_normalized(
        torch.from_numpy(np.sort(rng.integers(0, batch, count))),
        torch.from_numpy(rng.integers(0, nc, count)),
        torch.from_numpy(boxes).float(),
        torch.from_numpy(keypoints).float(),
        hw,
    )


@pytest.fixture(scope="module")
def golden(shared: Path):
    return np.load(shared / "fixtures" / "loss.npz")


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_as_golden(golden, name):
    kpt_shape, sigmas = CASES[name]
    case = {key.removeprefix(f"{name}."): golden[key] for key in golden.files if key.startswith(f"{name}.")}
    hw = tuple(int(side) for side in case["hw"])
    output = head_output(case, hw)
    labels = (torch.tensor(case[key]) for key in ("batch_idx", "cls", "bboxes", "keypoints"))
    terms = PoseCriterion(kpt_shape, STRIDES, sigmas)(output, Targets.from_normalized(*labels, hw))
    for term in TERMS:
        assert terms.named()[term] == pytest.approx(float(case[f"item.{term}_loss"]), rel=1e-4), term
    assert terms.total.item() == pytest.approx(float(case["total"]), rel=1e-4)
    terms.total.backward()
    for key in ("boxes", "scores", "kpts"):
        expected = case[f"grad_{key}"]
        found = getattr(output, key).grad.numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max() * 1e-2, err_msg=key)


def test_gains_scale_their_terms_alone():
    hw = (96, 128)
    output, targets = random_output(hw), random_targets(6, hw, 2)
    plain = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS)(output, targets).named()
    doubled = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS, Gains(pose=24.0))(output, targets).named()
    assert doubled == pytest.approx({**plain, "pose": 2 * plain["pose"]})


def test_class_weights_weigh_the_class_loss():
    hw = (96, 128)
    output, targets = random_output(hw, nc=2), random_targets(6, hw, 2, nc=2)
    values = [
        PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS, class_weights=weights)(output, targets).named()["cls"]
        for weights in (None, (1, 0), (0, 1))
    ]
    assert values[0] == pytest.approx(values[1] + values[2])
    assert min(values) > 0


@pytest.mark.parametrize("kpt_shape", [(17, 3), (5, 2)])
def test_without_objects_only_the_class_loss_is_left_and_all_outputs_stay_in_the_graph(kpt_shape):
    count, dims = kpt_shape
    output = random_output((96, 128), values=count * dims)
    criterion = PoseCriterion(kpt_shape, STRIDES, [0.1] * count)
    terms = criterion(output, random_targets(0, (96, 128), 2, points=count))
    named = terms.named()
    assert named.pop("cls") == pytest.approx(0.5 * torch.nn.functional.softplus(output.scores).sum().item(), rel=1e-5)
    assert set(named.values()) == {0.0}
    terms.total.backward()
    assert output.boxes.grad.abs().max() == output.kpts.grad.abs().max() == 0


def test_object_without_labeled_points_costs_no_pose_loss():
    hw = (96, 128)
    targets = random_targets(4, hw, 2)
    bare = Targets(targets.batch_idx, targets.classes, targets.boxes, torch.zeros_like(targets.keypoints))
    named = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS)(random_output(hw), bare).named()
    assert named["pose"] == 0
    assert named["kobj"] > 0
    assert named["box"] > 0


def test_sixteen_bits_are_computed_in_float32():
    hw = (96, 128)
    output, targets = random_output(hw), random_targets(5, hw, 2)
    halves = HeadOutput(*(getattr(output, key).bfloat16() for key in ("boxes", "scores", "kpts")), output.shapes)
    terms = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS)(halves, targets)
    assert terms.total.dtype == torch.float32
    terms.total.backward()
    assert torch.isfinite(output.boxes.grad).all()
