"""The assignment against a plain, slow form of its definition."""

import resource

import numpy as np
import pytest
import torch

from yolopose.criterion import Targets, assign, ciou
from yolopose.criterion.assign import inside
from yolopose.nn.head import anchor_points, level_centers


def cells(hw, strides=(8, 16, 32)):
    points, sizes = anchor_points(tuple((hw[0] // s, hw[1] // s) for s in strides), strides)
    return points * sizes


def levels(hw, strides=(8, 16, 32)):
    return level_centers(tuple((hw[0] // s, hw[1] // s) for s in strides), strides)


def slow_assign(scores, boxes, points, targets, smallest):
    """Per image, per object, over all cells: {(image, cell): (object, weight)}."""
    owned = {}
    for image in range(len(scores)):
        mine = [n for n in range(len(targets)) if int(targets.batch_idx[n]) == image]
        u, t, candidate, taken = {}, {}, {}, {}
        for n in mine:
            x1, y1, x2, y2 = targets.boxes[n].tolist()
            w, h = max(x2 - x1, smallest) / 2, max(y2 - y1, smallest) / 2
            cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
            x, y = points.numpy()
            candidate[n] = (x > cx - w) & (x < cx + w) & (y > cy - h) & (y < cy + h)
            overlap = ciou(targets.boxes[n].expand(len(x), 4), boxes[image]).clamp(min=0).numpy()
            u[n] = overlap * candidate[n]
            t[n] = scores[image, int(targets.classes[n])].numpy() ** 0.5 * u[n] ** 6
            best = np.argsort(-t[n], kind="stable")[:10]
            taken[n] = [a for a in best if candidate[n][a]]
        for cell in range(points.shape[1]):
            takers = [n for n in mine if cell in taken[n]]
            if takers:
                inside_all = [n for n in mine if candidate[n][cell]]
                owned[image, cell] = max(inside_all, key=lambda n: u[n][cell]) if len(takers) > 1 else takers[0]
        for n in mine:
            held = [a for (p, a), owner in owned.items() if p == image and owner == n]
            if held:
                most_u, most_t = max(u[n][held]), max(t[n][held])
                owned |= {(image, a): (n, t[n][a] * most_u / (most_t + 1e-9)) for a in held}
    return owned


def scene(seed, count, hw, nc=3, batch=3):
    rng = np.random.default_rng(seed)
    points = cells(hw)
    scores = torch.from_numpy(rng.uniform(0, 1, (batch, nc, points.shape[1])).astype(np.float32))
    half = rng.uniform(1, 40, (batch, points.shape[1], 2))
    near = points.T.numpy() + rng.normal(0, 4, half.shape)
    boxes = torch.from_numpy(np.concatenate((near - half, near + half), 2).astype(np.float32))
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
def test_same_positives_and_weights_as_the_definition(seed, count):
    scores, boxes, points, targets = scene(seed, count, (96, 128))
    found = assign(scores, boxes, levels((96, 128)), targets, smallest=16)
    expected = slow_assign(scores, boxes, points, targets, 16)
    rows = [tuple(row) for row in torch.stack((found.image, found.cell, found.target), 1)[found.mask].tolist()]
    assert len({row[:2] for row in rows}) == len(rows)
    assert {(p, a): n for p, a, n in rows} == {key: value[0] for key, value in expected.items()}
    weights = {row[:2]: w for row, w in zip(rows, found.weight[found.mask].tolist(), strict=True)}
    assert weights == pytest.approx({key: float(value[1]) for key, value in expected.items()}, abs=1e-6)
    assert not found.weight[~found.mask].any()


def test_an_object_that_no_prediction_overlaps_takes_no_cell_far_from_the_corner():
    scores, boxes, _, targets = scene(5, 4, (96, 128))
    away = assign(scores, boxes + 1000, levels((96, 128)), targets, smallest=16)
    assert all(cell < 10 for cell in away.cell[away.mask].tolist())
    assert not away.weight.any()


def test_small_boxes_are_widened_and_the_edge_is_outside():
    points = cells((64, 64))
    small = torch.tensor([[30.0, 30.0, 31.0, 31.0], [4.0, 4.0, 28.0, 28.0]])
    box, cell = inside(small, levels((64, 64)), 16)
    found = points.T[cell[box == 0]].tolist()
    assert [p for p in found if p[1] == 28.0] == [[28.0, 28.0], [36.0, 28.0]]
    assert [4.0, 4.0] not in points.T[cell[box == 1]].tolist()
    assert [12.0, 12.0] in points.T[cell[box == 1]].tolist()


@pytest.mark.parametrize("hw", [(96, 128), (160, 32), (32, 32)])
def test_the_pairs_are_those_of_every_comparison(hw):
    rng = np.random.default_rng(3)
    low = rng.integers(-80, 160, (300, 2)) / 2 * rng.choice([1.0, 1.01], (300, 1))  # many edges on a center, some off
    sides = rng.integers(0, 120, (300, 2)) / 2
    boxes = torch.from_numpy(np.concatenate((low, low + sides), 1).astype(np.float32))
    x, y = cells(hw)
    x1, y1, x2, y2 = boxes.T[..., None]
    expected = ((x > x1) & (x < x2) & (y > y1) & (y < y2)).nonzero(as_tuple=True)
    assert len(expected[0]) > 100
    for one, two in zip(inside(boxes, levels(hw), 0), expected, strict=True):
        assert torch.equal(one, two)


def test_memory_is_bounded_for_hundreds_of_objects():
    hw, batch, count = (640, 640), 4, 1600
    rng = np.random.default_rng(0)
    points = cells(hw)
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
    found = assign(scores, boxes, levels(hw), targets, smallest=16)
    assert found.mask.sum() > count
    # a dense table of this scene, 1600 objects x 8400 cells, takes 51 MiB for each of its dozen numbers
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 150
