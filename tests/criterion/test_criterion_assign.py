"""The assigner against a slow implementation of its definition, and its size and level rules."""

from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from loss_cases import anchor_levels, instance_scene, pixel_anchors

from yolopose.criterion import ONE_TO_ONE, AssignerConfig, Targets, assign, ciou
from yolopose.criterion.candidates import candidate_rectangles, list_pairs
from yolopose.criterion.similarity import keypoint_similarity
from yolopose.geometry import oks


def list_candidates(boxes, levels, min_side, strides=None):
    return list_pairs(candidate_rectangles(boxes, levels, min_side, strides), torch.device("cpu"))


def anchors_in_boxes(*args):
    """Return the box and the anchor of each pair."""
    return list_candidates(*args)[:2]


def slow_assign(scores, boxes, points, targets, min_side):
    """Per image, per instance, over all anchors: {(image, anchor): (instance, weight)}."""
    owners = {}
    for image in range(len(scores)):
        instances = [n for n in range(len(targets)) if int(targets.batch_idx[n]) == image]
        u, t, inside, taken = {}, {}, {}, {}
        for n in instances:
            x1, y1, x2, y2 = targets.boxes[n].tolist()
            w, h = max(x2 - x1, min_side) / 2, max(y2 - y1, min_side) / 2
            cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
            x, y = points.numpy()
            inside[n] = (x > cx - w) & (x < cx + w) & (y > cy - h) & (y < cy + h)
            u[n] = ciou(targets.boxes[n].expand(len(x), 4), boxes[image]).clamp(min=0).numpy() * inside[n]
            t[n] = scores[image, int(targets.classes[n])].numpy() ** 0.5 * u[n] ** 6
            taken[n] = [a for a in np.argsort(-t[n], kind="stable")[:10] if inside[n][a]]
        for anchor in range(points.shape[1]):
            takers = [n for n in instances if anchor in taken[n]]
            if takers:
                containing = [n for n in instances if inside[n][anchor]]
                owners[image, anchor] = max(containing, key=lambda n: u[n][anchor]) if len(takers) > 1 else takers[0]
        for n in instances:
            anchors = [a for (p, a), owner in owners.items() if p == image and owner == n]
            if anchors:
                max_u, max_t = max(u[n][anchors]), max(t[n][anchors])
                owners |= {(image, a): (n, t[n][a] * max_u / (max_t + 1e-9)) for a in anchors}
    return owners


def random_boxes_scene(seed, count, hw, nc=3, batch=3):
    rng = np.random.default_rng(seed)
    points = pixel_anchors(hw)
    scores = torch.from_numpy(rng.uniform(0, 1, (batch, nc, points.shape[1])).astype(np.float32))
    half = rng.uniform(1, 40, (batch, points.shape[1], 2))
    center = points.T.numpy() + rng.normal(0, 4, half.shape)
    boxes = torch.from_numpy(np.concatenate((center - half, center + half), 2).astype(np.float32))
    low = rng.uniform(0, 0.8, (count, 2)) * hw[::-1]
    high = low + rng.uniform(2, 60, (count, 2))
    targets = Targets(
        torch.from_numpy(np.sort(rng.integers(0, batch, count))),
        torch.from_numpy(rng.integers(0, nc, count)),
        torch.from_numpy(np.concatenate((low, high), 1).astype(np.float32)),
        torch.zeros(count, 2, 3),
    )
    return scores, boxes, points, targets


@pytest.mark.parametrize(("seed", "count"), [(0, 1), (1, 8), (2, 40), (3, 120), (4, 0)])
def test_positives_and_weights_match_the_definition(seed, count):
    scores, boxes, points, targets = random_boxes_scene(seed, count, (96, 128))
    result = assign(scores, boxes, list_candidates(targets.boxes, anchor_levels((96, 128)), 16), targets)
    expected = slow_assign(scores, boxes, points, targets, 16)
    columns = torch.stack((result.batch_idx, result.anchor_idx, result.gt_idx), 1)
    rows = [tuple(row) for row in columns[result.mask].tolist()]
    assert len({row[:2] for row in rows}) == len(rows)
    assert {(p, a): n for p, a, n in rows} == {key: value[0] for key, value in expected.items()}
    weights = {row[:2]: w for row, w in zip(rows, result.weight[result.mask].tolist(), strict=True)}
    assert weights == pytest.approx({key: float(value[1]) for key, value in expected.items()}, abs=1e-6)
    assert not result.weight[~result.mask].any()


def test_instance_without_overlapping_prediction_takes_only_the_first_anchors():
    scores, boxes, _, targets = random_boxes_scene(5, 4, (96, 128))
    result = assign(scores, boxes + 1000, list_candidates(targets.boxes, anchor_levels((96, 128)), 16), targets)
    assert all(anchor < 10 for anchor in result.anchor_idx[result.mask].tolist())
    assert not result.weight.any()


def test_small_boxes_are_widened_and_anchors_on_the_edge_are_outside():
    points = pixel_anchors((64, 64))
    boxes = torch.tensor([[30.0, 30.0, 31.0, 31.0], [4.0, 4.0, 28.0, 28.0]])
    gt_idx, anchor_idx = anchors_in_boxes(boxes, anchor_levels((64, 64)), 16)
    widened = points.T[anchor_idx[gt_idx == 0]].tolist()
    assert [p for p in widened if p[1] == 28.0] == [[28.0, 28.0], [36.0, 28.0]]
    inside = points.T[anchor_idx[gt_idx == 1]].tolist()
    assert [4.0, 4.0] not in inside
    assert [12.0, 12.0] in inside


@pytest.mark.parametrize("hw", [(96, 128), (160, 32), (32, 32)])
def test_anchors_in_boxes_match_a_comparison_of_all_pairs(hw):
    rng = np.random.default_rng(3)
    low = rng.integers(-80, 160, (300, 2)) / 2 * rng.choice([1.0, 1.01], (300, 1))  # many edges exactly on a center
    sides = rng.integers(0, 120, (300, 2)) / 2
    boxes = torch.from_numpy(np.concatenate((low, low + sides), 1).astype(np.float32))
    x, y = pixel_anchors(hw)
    x1, y1, x2, y2 = boxes.T[..., None]
    expected = ((x > x1) & (x < x2) & (y > y1) & (y < y2)).nonzero(as_tuple=True)
    assert len(expected[0]) > 100
    for ours, theirs in zip(anchors_in_boxes(boxes, anchor_levels(hw), 0), expected, strict=True):
        assert torch.equal(ours, theirs)


def test_memory_is_bounded_for_hundreds_of_instances():
    hw, batch, count = (640, 640), 4, 1600
    rng = np.random.default_rng(0)
    points = pixel_anchors(hw)
    scores = torch.rand(batch, 1, points.shape[1])
    boxes = torch.cat((points.T - 30, points.T + 30), 1).expand(batch, -1, 4)
    low = torch.from_numpy(rng.uniform(0, 500, (count, 2)).astype(np.float32))
    targets = Targets(
        torch.arange(count) % batch,
        torch.zeros(count, dtype=torch.int64),
        torch.cat((low, low + 80), 1),
        torch.zeros(count, 1, 3),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = assign(scores, boxes, list_candidates(targets.boxes, anchor_levels(hw), 16), targets)
    assert result.mask.sum() > count
    # a dense table of 1600 instances x 8400 anchors takes 51 MiB for each of its dozen values
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 150


def test_levels_follow_instance_size() -> None:
    sizes = [(10, 10), (30, 40), (100, 100), (800, 800), (5, 5)]
    low = torch.tensor([[40.0, 40.0]])
    boxes = torch.cat((low.expand(5, 2), low + torch.tensor(sizes)), 1)
    gt_idx, anchor_idx = anchors_in_boxes(boxes, anchor_levels((640, 640)), 16, (8, 16, 32))
    level = (anchor_idx >= 6400).int() + (anchor_idx >= 6400 + 1600).int()
    assert [sorted(set(level[gt_idx == n].tolist())) for n in range(5)] == [[0], [0, 1], [1, 2], [2], [0]]
    # without an anchor of the finest level a small instance keeps those of the others
    kept = anchors_in_boxes(boxes[:1], anchor_levels((640, 640)), 0, (64, 16, 8))
    assert len(kept[0]) > 0
    for ours, theirs in zip(kept, anchors_in_boxes(boxes[:1], anchor_levels((640, 640)), 0), strict=True):
        assert set(ours.tolist()) <= set(theirs.tolist())


def test_keypoint_similarity_is_oks_and_ciou_without_labeled_keypoints() -> None:
    _, corners, _, targets, xy = instance_scene()
    sigmas = torch.tensor([0.1, 0.2, 0.3])
    anchor_idx = torch.arange(12) * 7
    batch_idx = targets.batch_idx
    similarity = keypoint_similarity(xy, corners, (2 * sigmas).square())
    values = similarity(targets, batch_idx, torch.arange(12), anchor_idx)
    area = 0.53 * (targets.boxes[:, 2:] - targets.boxes[:, :2]).prod(1)
    predicted = xy[batch_idx, :, :, anchor_idx].numpy()
    expected = oks(targets.keypoints.numpy(), predicted, area.numpy(), sigmas.numpy())
    labeled = (targets.keypoints[..., 2] != 0).any(1).numpy()
    np.testing.assert_allclose(values.numpy()[labeled], np.diag(expected)[labeled], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(values[:1], ciou(targets.boxes[:1], corners[0, :1]).clamp(min=0))


def test_one_to_one_keeps_the_best_anchor_of_each_instance() -> None:
    scores, corners, _, targets, xy = instance_scene()
    similarity = keypoint_similarity(xy, corners, torch.full((3,), 0.25))
    pairs = list_candidates(targets.boxes, anchor_levels((96, 128)), 16, (8, 16, 32))
    seven = assign(scores, corners, pairs, targets, [AssignerConfig(topk=7, match_level=True)], similarity)
    one = assign(scores, corners, pairs, targets, [ONE_TO_ONE], similarity)
    owners = one.gt_idx[one.mask].tolist()
    assert sorted(owners) == sorted(set(seven.gt_idx[seven.mask].tolist()))
    for gt_idx, anchor_idx in zip(owners, one.anchor_idx[one.mask].tolist(), strict=True):
        mask = seven.mask & (seven.gt_idx == gt_idx)
        assert seven.anchor_idx[mask][seven.weight[mask].argmax()] == anchor_idx or not seven.weight[mask].any()
    # soft targets are computed after the selection: the remaining anchor has its own u
    row = int(one.weight.argmax())
    indices = tuple(index[row : row + 1] for index in (one.batch_idx, one.gt_idx, one.anchor_idx))
    assert one.weight[row] == pytest.approx(similarity(targets, *indices).item(), rel=1e-3)
