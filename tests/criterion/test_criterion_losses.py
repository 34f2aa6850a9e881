"""Losses of both kinds of heads: golden values, parts of a batch, images without instances, finite values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from loss_cases import STRIDES, head_output, random_output, random_targets, tiny_network

from yolopose.config import LossOptions
from yolopose.criterion import (
    ONE_TO_MANY,
    ONE_TO_ONE,
    AssignerConfig,
    Criterion,
    DualCriterion,
    LossTerms,
    PoseCriterion,
    Targets,
    build_criterion,
)
from yolopose.criterion.assign import Assignment
from yolopose.criterion.terms import keypoint_loss, rle_loss, rle_weights, visibility_loss
from yolopose.nn import RealNVP
from yolopose.nn.head import HeadOutput
from yolopose.schema import COCO_PERSON_SIGMAS, KeypointSchema, PoseSpec

CASES = {
    "person": ((17, 3), COCO_PERSON_SIGMAS),
    "multi": ((4, 3), [0.25] * 4),
    "xy_only": ((5, 2), [0.2] * 5),
    "sigmas": ((4, 3), [0.05, 0.1, 0.2, 0.4]),
}
DUAL_CASES = {"o2m": ((17, 3), COCO_PERSON_SIGMAS, ONE_TO_MANY), "o2o": ((4, 3), [0.25] * 4, ONE_TO_ONE)}
HW = (96, 128)
FIXTURES = Path(__file__).parents[1] / "fixtures"
SPEC = PoseSpec(classes=("a",), keypoints=KeypointSchema(count=3, dims=3))


def keep_golden_terms(criterion: Criterion, case: Mapping[str, np.ndarray]) -> None:
    """Set the gains of terms without a golden value to 0, so that total and gradients do not depend on them."""
    criterion._gains *= torch.tensor([f"item.{term}_loss" in case for term in criterion.terms])


def check_golden(folder: Path, files: Sequence[str], name: str, compute: Callable[..., LossTerms]) -> None:
    """Compare terms, total and gradients with those in a golden case."""
    values = {key: value for file in files for key, value in np.load(folder / file).items()}
    case = {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
    hw = tuple(int(side) for side in case["hw"])
    output = head_output(case, hw)
    labels = (torch.tensor(case[key]) for key in ("batch_idx", "cls", "bboxes", "keypoints"))
    terms = compute(output, Targets.from_normalized(*labels, hw), case)
    golden = {key: float(value) for key, value in case.items() if key.startswith("item.") or key == "total"}
    losses = {f"item.{term}_loss": value for term, value in terms.to_dict().items()} | {"total": terms.total.item()}
    assert {key: losses[key] for key in golden} == pytest.approx(golden, rel=1e-4)
    terms.total.backward()
    for key in ("boxes", "scores", "kpts", "sigma"):
        if f"grad_{key}" in case:
            expected = case[f"grad_{key}"]
            found = getattr(output, "sigmas" if key == "sigma" else key).grad.numpy()
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max(), err_msg=key)


def branch_losses(criterion: DualCriterion, output: HeadOutput, targets: Targets, config: AssignerConfig) -> LossTerms:
    prepared = criterion.prepare(targets, output.shapes, len(output.scores), torch.device("cpu"), [config])
    values = criterion._normalize(criterion._sums([output], prepared, [config]))[:, 0]
    return LossTerms(values.sum() * len(output.scores), criterion.terms, values.detach())


@pytest.mark.parametrize("name", CASES)
def test_losses_match_golden(name: str, request: pytest.FixtureRequest) -> None:
    kpt_shape, sigmas = CASES[name]
    local = name == "multi"
    folder = FIXTURES if local else request.getfixturevalue("shared") / "fixtures"
    files = ("loss.npz", "loss_boxes.npz") if local else ("loss.npz",)

    def compute(output: HeadOutput, targets: Targets, case: dict[str, np.ndarray]) -> LossTerms:
        criterion = PoseCriterion(kpt_shape, STRIDES, sigmas)
        keep_golden_terms(criterion, case)
        return criterion(output, targets)

    check_golden(folder, files, name, compute)


@pytest.mark.parametrize(("name", "excerpt"), [("o2m", False), ("o2o", False), ("o2o", True)])
def test_losses_of_one_branch_match_golden(name: str, excerpt: bool, request: pytest.FixtureRequest) -> None:
    """The excerpt has neither the weights of the flow nor what depends on them."""
    shape, sigmas, config = DUAL_CASES[name]

    def compute(output: HeadOutput, targets: Targets, case: dict[str, np.ndarray]) -> LossTerms:
        flow = RealNVP()
        weights = {key[5:]: torch.tensor(value) for key, value in case.items() if key.startswith("flow.")}
        if not excerpt:
            flow.load_state_dict(weights)
        criterion = DualCriterion(shape, STRIDES, sigmas, flow)
        keep_golden_terms(criterion, case)
        return branch_losses(criterion, output, targets, config)

    folder = FIXTURES if excerpt else request.getfixturevalue("shared") / "fixtures"
    check_golden(folder, ("loss26.npz",), name, compute)


# --- parts of a batch


def pose_case() -> tuple[Criterion, HeadOutput, list[torch.Tensor]]:
    output = random_output(HW, values=9, batch=4)
    return PoseCriterion((3, 3), STRIDES, [0.1, 0.2, 0.3]), output, [output.boxes, output.scores, output.kpts]


def dual_case(likely: bool = False) -> tuple[Criterion, HeadOutput, list[torch.Tensor]]:
    """With `likely` the flow's density is so large that the likelihood of the whole batch exceeds 1."""
    many, one = (random_output(HW, values=9, batch=4, seed=seed, sigmas=3) for seed in (0, 5))
    torch.manual_seed(3)
    flow = RealNVP()
    if likely:
        flow.log_density = lambda residuals: residuals.sum(1) * 0.1 + 1e4  # type: ignore[method-assign]
    raw = [value for branch in (many, one) for value in (branch.boxes, branch.scores, branch.kpts, branch.sigmas)]
    output = HeadOutput(many.boxes, many.scores, many.kpts, many.shapes, many.sigmas, one)
    criterion = DualCriterion((3, 3), STRIDES, [0.1, 0.2, 0.3], flow)
    return criterion, output, [*(value for value in raw if value is not None), *flow.parameters()]


def take_images(output: HeadOutput, images: slice) -> HeadOutput:
    values = [getattr(output, name)[images] for name in ("boxes", "scores", "kpts")]
    sigmas = None if output.sigmas is None else output.sigmas[images]
    one2one = None if output.one2one is None else take_images(output.one2one, images)
    return HeadOutput(*values, output.shapes, sigmas, one2one)


def take_targets(targets: Targets, images: slice) -> Targets:
    mask = (targets.batch_idx >= images.start) & (targets.batch_idx < images.stop)
    return Targets(targets.batch_idx[mask] - images.start, *(
        value[mask] for value in (targets.classes, targets.boxes, targets.keypoints)
    ))  # fmt: skip


def losses_of_parts(criterion: Criterion, output: HeadOutput, targets: Targets, parts: list[slice]) -> list[LossTerms]:
    """Compute the losses of parts of a batch; the first pass only records what each part adds to the sums."""
    counts: list[torch.Tensor] = []
    results: list[LossTerms] = []

    def record(values: torch.Tensor) -> torch.Tensor:
        counts.append(values.clone())
        return values

    for reduce_fn in (record, lambda values: values.copy_(torch.stack(counts).sum(0))):
        results = []
        for part in parts:
            if part.stop > part.start:
                results.append(criterion(take_images(output, part), take_targets(targets, part), reduce_fn))
            else:
                results.append(criterion.empty(torch.device("cpu"), reduce_fn))
    assert {len(values) for values in counts} == {criterion.num_counts}
    return results


@pytest.mark.parametrize("make_case", [pose_case, dual_case, lambda: dual_case(likely=True)], ids=["v8", "26", "rle=0"])
@pytest.mark.parametrize("parts", [[slice(0, 2), slice(2, 4)], [slice(0, 3), slice(3, 4), slice(4, 4)]], ids=len)
def test_losses_and_gradients_of_parts_sum_to_those_of_the_batch(make_case, parts) -> None:
    criterion, output, leaves = make_case()
    targets = random_targets(9, HW, 4, points=3)
    whole = criterion(output, targets)
    expected = torch.autograd.grad(whole.total, leaves, allow_unused=True)
    shares = losses_of_parts(criterion, output, targets, parts)
    total = torch.stack([share.total for share in shares]).sum()
    torch.testing.assert_close(total, whole.total, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(torch.stack([share.values for share in shares]).sum(0), whole.values)
    for ours, theirs in zip(torch.autograd.grad(total, leaves, allow_unused=True), expected, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_the_sign_of_rle_is_that_of_the_whole_batch() -> None:
    """A part whose own likelihood exceeds 1 still adds its negative share where the batch's loss is positive."""
    criterion, output, _ = dual_case()
    targets = random_targets(9, HW, 4, points=3)
    offset = criterion(output, targets).to_dict()["rle"]
    density = criterion._flow.log_density
    criterion._flow.log_density = lambda residuals: density(residuals) + 0.49 * offset
    whole = criterion(output, targets).to_dict()["rle"]
    parts = [slice(image, image + 1) for image in range(4)]
    shares = [share.to_dict()["rle"] for share in losses_of_parts(criterion, output, targets, parts)]
    assert whole > 0 > min(shares)
    assert sum(shares) == pytest.approx(whole, rel=1e-4)


# --- options


def test_gains_scale_only_their_terms() -> None:
    output, targets = random_output(HW), random_targets(6, HW, 2)
    plain = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS)(output, targets).to_dict()
    doubled = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS, LossOptions(pose=24.0))(output, targets).to_dict()
    assert doubled == pytest.approx({**plain, "pose": 2 * plain["pose"]})


def test_gains_of_the_dual_head_and_its_assigner() -> None:
    network = tiny_network()
    with torch.no_grad():
        output = network(torch.rand(2, 3, *HW))
    targets = random_targets(6, HW, 2, points=3)
    plain = build_criterion(network, SPEC)(output, targets).to_dict()
    other = build_criterion(network, SPEC, LossOptions(rle=2.0, dfl=3.0))(output, targets).to_dict()
    assert other == pytest.approx({**plain, "rle": 2 * plain["rle"], "l1": 2 * plain["l1"]})
    assert build_criterion(network, SPEC, assigner="box")(output, targets).to_dict() != pytest.approx(plain)


def test_heads_with_one_branch_assign_by_oks_on_request() -> None:
    network = tiny_network("Pose")
    with torch.no_grad():
        output = network(torch.rand(2, 3, *HW))
    targets = random_targets(9, HW, 2, points=3)
    default, box, oks = (
        build_criterion(network, SPEC, assigner=name)(output, targets).to_dict() for name in (None, "box", "oks")
    )
    assert default == box
    assert oks["box"] != box["box"]


def test_class_weights_weigh_the_class_loss() -> None:
    output, targets = random_output(HW, nc=2), random_targets(6, HW, 2, nc=2)
    values = [
        PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS, class_weights=weights)(output, targets).to_dict()["cls"]
        for weights in (None, (1, 0), (0, 1))
    ]
    assert values[0] == pytest.approx(values[1] + values[2])
    assert min(values) > 0


# --- special inputs


@pytest.mark.parametrize("kpt_shape", [(17, 3), (5, 2)])
def test_without_instances_only_the_class_loss_remains_and_all_outputs_have_gradients(kpt_shape) -> None:
    count, dims = kpt_shape
    output = random_output(HW, values=count * dims)
    terms = PoseCriterion(kpt_shape, STRIDES, [0.1] * count)(output, random_targets(0, HW, 2, points=count))
    values = terms.to_dict()
    assert values.pop("cls") == pytest.approx(0.5 * torch.nn.functional.softplus(output.scores).sum().item(), rel=1e-5)
    assert set(values.values()) == {0.0}
    terms.total.backward()
    assert output.boxes.grad.abs().max() == output.kpts.grad.abs().max() == 0


def test_dual_head_without_instances_still_reaches_every_weight() -> None:
    network = tiny_network()
    terms = build_criterion(network, SPEC)(network(torch.rand(2, 3, *HW)), random_targets(0, HW, 2, points=3))
    values = terms.to_dict()
    assert values.pop("cls") > 0
    assert set(values.values()) == {0.0}
    terms.total.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_instance_without_labeled_keypoints_has_no_pose_loss() -> None:
    targets = random_targets(4, HW, 2)
    unlabeled = Targets(targets.batch_idx, targets.classes, targets.boxes, torch.zeros_like(targets.keypoints))
    values = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS)(random_output(HW), unlabeled).to_dict()
    assert values["pose"] == 0
    assert values["kobj"] > 0
    assert values["box"] > 0


def test_half_precision_outputs_are_computed_in_float32() -> None:
    output, targets = random_output(HW), random_targets(5, HW, 2)
    halves = HeadOutput(*(getattr(output, key).bfloat16() for key in ("boxes", "scores", "kpts")), output.shapes)
    terms = PoseCriterion((17, 3), STRIDES, COCO_PERSON_SIGMAS)(halves, targets)
    assert terms.total.dtype == torch.float32
    terms.total.backward()
    assert torch.isfinite(output.boxes.grad).all()


# --- two branches


def test_branch_weights_change_over_the_run() -> None:
    criterion = DualCriterion((3, 3), STRIDES, [0.1] * 3, RealNVP())
    weights = []
    for epoch in range(5):
        criterion.begin_epoch(epoch, 5)
        weights.append(criterion.o2m_weight)
    assert weights == pytest.approx([0.8, 0.625, 0.45, 0.275, 0.1])
    criterion.begin_epoch(0, 1)
    assert criterion.o2m_weight == 0.8


def test_total_is_the_weighted_sum_of_the_branches_and_trains_every_weight() -> None:
    network = tiny_network()
    targets = random_targets(9, HW, 2, points=3)
    criterion = build_criterion(network, SPEC)
    output = network(torch.rand(2, 3, *HW))
    terms = criterion(output, targets)
    many = branch_losses(criterion, output, targets, ONE_TO_MANY)
    one = branch_losses(criterion, output.one2one, targets, ONE_TO_ONE)
    torch.testing.assert_close(terms.total, 0.8 * many.total + 0.2 * one.total)
    assert terms.to_dict() == pytest.approx(one.to_dict(), rel=1e-5)
    terms.total.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or not torch.isfinite(grad).all()] == []
    assert network.head.flow_model.s[0][0].weight.grad.abs().sum() > 0


# --- RLE

ANY_FLOAT = st.floats(width=32) | st.sampled_from([0.0, 1e-38, -1e38, 90.0, -104.0, 1e30, -1e-20])
PAIRS = arrays(np.float32, (3, 2, 2), elements=ANY_FLOAT)


def make_flow(std: float) -> RealNVP:
    torch.manual_seed(0)
    flow = RealNVP()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return flow


FLOWS = make_flow(0.0), make_flow(1.0)


@settings(max_examples=40, deadline=None)
@given(PAIRS, PAIRS, st.booleans(), st.booleans())
def test_rle_is_finite_for_any_input(error, logits, trained, gather) -> None:
    flow = FLOWS[trained]
    flow.zero_grad()
    errors = torch.from_numpy(error).requires_grad_()
    sigmas = torch.from_numpy(logits).requires_grad_()
    labeled = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    total, count = rle_loss(errors, sigmas, labeled, torch.ones(2), flow.log_density, gather=gather)
    total, count = total.sum(), count.sum()
    (total / count.clamp(min=1)).backward()
    assert torch.isfinite(total)
    assert 0 <= count <= 4
    for value in (errors, sigmas, *flow.parameters()):
        assert torch.isfinite(value.grad).all()
    assert not errors.grad[1, 0].any()  # not labeled


@pytest.mark.parametrize("gather", [False, True])
def test_rle_by_hand(gather: bool) -> None:
    """With all weights 0 the flow is the standard normal distribution."""
    error, logits = torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[0.0, 2.0]]])
    sigma = torch.sigmoid(logits)[0, 0].double().numpy()
    residual = error[0, 0].numpy() / sigma
    density = -(residual**2).sum() / 2 - np.log(2 * np.pi)
    expected = sum(2 * np.log(s) + np.log(2) + abs(r) - density for s, r in zip(sigma, residual, strict=True))
    total, count = rle_loss(error, logits, torch.ones(1, 1), torch.ones(1), make_flow(0.0).log_density, gather=gather)
    assert (total.item(), count.item()) == (pytest.approx(float(expected), rel=1e-5), 1)


def test_rle_is_never_below_zero() -> None:
    criterion, output, leaves = dual_case(likely=True)
    terms = criterion(output, random_targets(9, HW, 4, points=3))
    assert terms.to_dict()["rle"] == 0
    sigma_gradient = torch.autograd.grad(terms.total, leaves[3])[0]
    assert not sigma_gradient.any()


def test_rle_weights_of_a_person() -> None:
    expected = [1] * 7 + [1.2] * 2 + [1.5] * 2 + [1] * 2 + [1.2] * 2 + [1.5] * 2
    assert rle_weights(17).tolist() == pytest.approx(expected)
    assert rle_weights(4).tolist() == [1] * 4


@pytest.mark.parametrize("distance", [0.5, 20.0, 2000.0])
def test_l1_keypoint_loss_pulls_at_every_distance(distance: float) -> None:
    # one instance of 40 × 90 pixels (side 60), two keypoints, the second not labeled; stride 8
    boxes = torch.tensor([[10.0, 20.0, 50.0, 110.0]])
    labels = torch.tensor([[[30.0, 40.0, 2.0], [0.0, 0.0, 0.0]]])
    targets = Targets(torch.zeros(1).long(), torch.zeros(1).long(), boxes, labels)
    index = torch.zeros(1).long()
    assigned = Assignment(torch.ones(1).bool(), index, index, index, torch.ones(1))
    points = (labels[..., :2] / 8 + torch.tensor([distance / 8, 0.0])).requires_grad_()
    variance = (2 * torch.tensor([0.25, 0.25])).square()
    plain = keypoint_loss(points, torch.tensor([8.0]), variance, assigned, targets)[0].item()
    loss, *_ = keypoint_loss(points, torch.tensor([8.0]), variance, assigned, targets, l1_gain=1.5)
    # one of two keypoints is labeled, so it counts twice
    assert loss.item() - plain == pytest.approx(2 * 1.5 * distance / 60, rel=1e-4)
    loss.backward()
    oks_gradient = 2 * distance / (0.25 * 60**2) * math.exp(-(distance**2) / (2 * 0.25 * 60**2))
    assert points.grad[0, 0, 0].item() == pytest.approx(8 * (oks_gradient + 2 * 1.5 / 60), rel=1e-4)


def test_three_states_are_the_cross_entropy_of_their_probabilities() -> None:
    torch.manual_seed(0)
    rows = torch.tensor([True, True, False, True])
    index = torch.zeros(4, dtype=torch.int64)
    assigned = Assignment(rows, index, index, index, torch.ones(4))
    logits, states, v = torch.randn(4, 5), torch.randn(4, 5), torch.randint(0, 3, (4, 5))
    loss = visibility_loss(logits, (v != 0).float(), assigned, states=states, hidden=(v == 1).float())
    labeled, visible = logits.sigmoid(), states.sigmoid()
    probs = torch.stack((1 - labeled, labeled * (1 - visible), labeled * visible), -1)
    expected = -probs.log().gather(-1, v[..., None])[..., 0].sum(1) * rows
    torch.testing.assert_close(loss, expected)
