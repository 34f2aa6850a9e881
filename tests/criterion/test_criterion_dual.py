"""The losses of the two branches against the golden cases, their assignment, their shares and their limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from yolopose.criterion import MANY, SINGLE, DualCriterion, Gains, Rule, Targets, assign, build_criterion, ciou
from yolopose.criterion.assign import suiting
from yolopose.criterion.rle import point_weights, rle_loss
from yolopose.criterion.similarity import by_points
from yolopose.geometry import oks
from yolopose.nn import RealNVP, anchor_points, build_network
from yolopose.nn.head import HeadOutput, level_centers
from yolopose.schema import COCO_PERSON_SIGMAS, KeypointSchema, PoseSpec

CASES = {"o2m": ((17, 3), COCO_PERSON_SIGMAS, MANY), "o2o": ((4, 3), [0.25] * 4, SINGLE)}
STRIDES = (8, 16, 32)


def shapes_of(hw):
    return tuple((hw[0] // s, hw[1] // s) for s in STRIDES)


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_as_golden(shared: Path, name: str) -> None:
    golden = np.load(shared / "fixtures" / "loss26.npz")
    shape, sigmas, rule = CASES[name]
    case = {key.removeprefix(f"{name}."): golden[key] for key in golden.files if key.startswith(f"{name}.")}
    hw = tuple(int(side) for side in case["hw"])
    flow = RealNVP()
    flow.load_state_dict({key[5:]: torch.tensor(value) for key, value in case.items() if key.startswith("flow.")})
    raw = {key: torch.tensor(case[key], requires_grad=True) for key in ("boxes", "scores", "kpts", "kpts_sigma")}
    output = HeadOutput(raw["boxes"], raw["scores"], raw["kpts"], shapes_of(hw), raw["kpts_sigma"])
    labels = (torch.tensor(case[key]) for key in ("batch_idx", "cls", "bboxes", "keypoints"))
    targets = Targets.from_normalized(*labels, hw)
    terms = DualCriterion(shape, STRIDES, sigmas, flow).branch(output, targets, rule)
    assert terms.names == ("box", "pose", "kobj", "cls", "l1", "rle")
    for term, value in terms.named().items():
        assert value == pytest.approx(float(case[f"item.{term}_loss"]), rel=1e-4), term
    assert terms.total.item() == pytest.approx(float(case["total"]), rel=1e-4)
    terms.total.backward()
    for key, value in raw.items():
        expected = case[f"grad_{key.removeprefix('kpts_')}"]
        limit = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(value.grad.numpy(), expected, rtol=1e-3, atol=limit, err_msg=key)


def scene(seed: int = 0, count: int = 12, hw: tuple[int, int] = (96, 128), points: int = 3):
    rng = np.random.default_rng(seed)
    centers, sizes = anchor_points(shapes_of(hw), STRIDES)
    cells = centers * sizes
    low = rng.uniform(0, 0.8, (count, 2)) * hw[::-1]
    side = np.exp(rng.uniform(1, 5, (count, 2)))
    truth = np.concatenate((low, low + side), 1)
    keypoints = np.concatenate((low[:, None] + rng.uniform(0, 1, (count, points, 2)) * side[:, None],
                                rng.integers(0, 3, (count, points, 1))), 2)  # fmt: skip
    keypoints[0, :, 2] = 0
    targets = Targets(
        torch.arange(count) % 2,
        torch.zeros(count, dtype=torch.int64),
        torch.from_numpy(truth).float(),
        torch.from_numpy(keypoints).float(),
    )
    scores = torch.from_numpy(rng.uniform(0.01, 1, (2, 1, cells.shape[1]))).float()
    xy = cells[None, None] + torch.from_numpy(rng.normal(0, 15, (2, points, 2, cells.shape[1]))).float()
    corners = torch.cat((cells.T - 10, cells.T + 10), 1).expand(2, -1, 4)
    return scores, corners, cells, sizes, targets, xy


def test_levels_suit_sizes() -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 30, 40], [0, 0, 100, 100], [0, 0, 800, 800], [0, 0, 5, 5]]).float()
    strides = torch.tensor([8.0, 16.0, 32.0])
    target, cell = torch.arange(5).repeat_interleave(3), torch.arange(3).repeat(5)
    suits = suiting(boxes, target, cell, strides).view(5, 3)
    assert suits.int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 0]]
    # the smallest one has no cell of the finest level: it keeps what it has
    few = (target != 4) | (cell != 0)
    assert suiting(boxes, target[few], cell[few], strides)[-2:].tolist() == [True, True]


def test_likeness_is_the_oks_of_validation_and_overlap_without_points() -> None:
    _, corners, _, _, targets, xy = scene()
    sigmas = torch.tensor([0.1, 0.2, 0.3])
    cell = torch.arange(12) * 7
    image = targets.batch_idx
    found = by_points(xy, corners, (2 * sigmas).square())(targets, image, torch.arange(12), cell)
    area = 0.53 * (targets.boxes[:, 2:] - targets.boxes[:, :2]).prod(1)
    points = xy[image, :, :, cell].numpy()
    wanted = oks(targets.keypoints.numpy(), points, area.numpy(), sigmas.numpy())
    labeled = (targets.keypoints[..., 2] != 0).any(1).numpy()
    np.testing.assert_allclose(found.numpy()[labeled], np.diag(wanted)[labeled], rtol=1e-4, atol=1e-6)
    overlap = ciou(targets.boxes[:1], corners[0, :1]).clamp(min=0)
    torch.testing.assert_close(found[:1], overlap)


def test_single_rule_leaves_each_object_its_best_cell() -> None:
    scores, corners, _, sizes, targets, xy = scene()
    levels = level_centers(shapes_of((96, 128)), STRIDES)
    likeness = by_points(xy, corners, torch.full((3,), 0.25))
    common = {"smallest": 16, "strides": sizes, "likeness": likeness}
    seven = assign(scores, corners, levels, targets, rule=Rule(topk=7, gated=True), **common)
    one = assign(scores, corners, levels, targets, rule=SINGLE, **common)
    owners = one.target[one.mask].tolist()
    assert sorted(owners) == sorted(set(seven.target[seven.mask].tolist()))
    for target, cell in zip(owners, one.cell[one.mask].tolist(), strict=True):
        mine = seven.mask & (seven.target == target)
        assert seven.cell[mine][seven.weight[mine].argmax()] == cell or not seven.weight[mine].any()
    # soft targets are made after the choice: the one that is left has its own u
    row = int(one.weight.argmax())
    part = tuple(index[row : row + 1] for index in (one.image, one.target, one.cell))
    assert one.weight[row] == pytest.approx(likeness(targets, *part).item(), rel=1e-3)


def test_shares_of_the_branches_move_over_the_run() -> None:
    criterion = DualCriterion((3, 3), STRIDES, [0.1] * 3, RealNVP())
    shares = []
    for epoch in range(5):
        criterion.begin_epoch(epoch, 5)
        shares.append(criterion.share)
    assert shares == pytest.approx([0.8, 0.625, 0.45, 0.275, 0.1])
    criterion.begin_epoch(0, 1)
    assert criterion.share == 0.8


def tiny(head: str = "Pose26"):
    """A network of strides 8, 16 and 32."""
    torch.manual_seed(0)
    backbone = [[-1, 1, "Conv", [8, 3, 4]], *([-1, 1, "Conv", [16, 3, 2]] for _ in range(3))]
    values = {"nc": 1, "kpt_shape": [3, 3], "backbone": backbone}
    return build_network(values | {"head": [[[1, 2, 3], 1, head, ["nc", "kpt_shape"]]]})


@pytest.fixture(scope="module")
def network():
    return tiny()


def test_total_is_the_weighted_sum_and_all_weights_learn(network) -> None:
    spec = PoseSpec(classes=("a",), keypoints=KeypointSchema(count=3, dims=3))
    targets = scene(3)[4]
    criterion = build_criterion(network, spec)
    output = network(torch.rand(2, 3, 96, 128))
    terms = criterion(output, targets)
    many = criterion.branch(output, targets, MANY)
    single = criterion.branch(output.one2one, targets, SINGLE)
    torch.testing.assert_close(terms.total, 0.8 * many.total + 0.2 * single.total)
    torch.testing.assert_close(terms.items, single.items)
    terms.total.backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert still == []
    assert network.head.flow_model.s[0][0].weight.grad.abs().sum() > 0
    network.zero_grad()


def test_gains_and_options_reach_their_terms(network) -> None:
    spec = PoseSpec(classes=("a",), keypoints=KeypointSchema(count=3, dims=3))
    with torch.no_grad():
        output = network(torch.rand(2, 3, 96, 128))
    targets = scene(3)[4]
    plain = build_criterion(network, spec)(output, targets).named()
    other = build_criterion(network, spec, Gains(rle=2.0, dfl=3.0))(output, targets).named()
    assert other == pytest.approx({**plain, "rle": 2 * plain["rle"], "l1": 2 * plain["l1"]})
    assert build_criterion(network, spec, assigner="box")(output, targets).named() != pytest.approx(plain)


def test_older_heads_assign_by_points_when_asked() -> None:
    spec = PoseSpec(classes=("a",), keypoints=KeypointSchema(count=3, dims=3))
    old = tiny("Pose")
    with torch.no_grad():
        output = old(torch.rand(2, 3, 96, 128))
    found = [build_criterion(old, spec, assigner=name)(output, scene(3)[4]).named() for name in (None, "box", "oks")]
    assert found[0] == found[1]
    assert found[2]["box"] != found[0]["box"]


def test_without_objects_only_the_class_loss_is_left(network) -> None:
    spec = PoseSpec(classes=("a",), keypoints=KeypointSchema(count=3, dims=3))
    none = Targets(*(torch.zeros(0, dtype=torch.int64) for _ in range(2)), torch.zeros(0, 4), torch.zeros(0, 3, 3))
    terms = build_criterion(network, spec)(network(torch.rand(2, 3, 96, 128)), none)
    named = terms.named()
    assert named.pop("cls") > 0
    assert set(named.values()) == {0.0}
    terms.total.backward()
    assert all(p.grad is not None for p in network.parameters())
    network.zero_grad()


ANY = st.floats(width=32) | st.sampled_from([0.0, 1e-38, -1e38, 90.0, -104.0, 1e30, -1e-20])
NUMBERS = arrays(np.float32, (3, 2, 2), elements=ANY)


def flow_of_weights(spread: float) -> RealNVP:
    torch.manual_seed(0)
    flow = RealNVP()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return flow


FLOWS = flow_of_weights(0.0), flow_of_weights(1.0)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (3, 2, 2), elements=ANY),
    arrays(np.float32, (3, 2, 2), elements=ANY),
    st.booleans(),
    st.booleans(),
)
def test_rle_is_never_below_zero_and_never_no_number(error, logits, trained, gather) -> None:
    flow = FLOWS[trained]
    flow.zero_grad()
    given_error = torch.from_numpy(error).requires_grad_()
    given_logits = torch.from_numpy(logits).requires_grad_()
    labeled = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    loss = rle_loss(given_error, given_logits, labeled, torch.ones(2), flow.log_density, gather=gather)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss >= 0
    for value in (given_error, given_logits, *flow.parameters()):
        assert torch.isfinite(value.grad).all()
    assert not given_error.grad[1, 0].any()  # not labeled


def test_rle_of_a_flow_that_bends_nothing_by_hand() -> None:
    flow = RealNVP()
    for parameter in flow.parameters():
        torch.nn.init.zeros_(parameter)
    error, logits = torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[0.0, 2.0]]])
    sigma = torch.sigmoid(logits)[0, 0].double().numpy()
    residual = error[0, 0].numpy() / sigma
    density = -(residual**2).sum() / 2 - np.log(2 * np.pi)
    wanted = sum(2 * np.log(s) + np.log(2) + abs(r) - density for s, r in zip(sigma, residual, strict=True))
    for gather in (False, True):
        found = rle_loss(error, logits, torch.ones(1, 1), torch.ones(1), flow.log_density, gather=gather)
        assert found.item() == pytest.approx(float(wanted), rel=1e-5)


def test_points_of_a_person_have_weights() -> None:
    assert point_weights(17).tolist() == pytest.approx(
        [1] * 7 + [1.2] * 2 + [1.5] * 2 + [1] * 2 + [1.2] * 2 + [1.5] * 2
    )
    assert point_weights(4).tolist() == [1] * 4
