"""The network's modes: training outputs, decoding, folding, tracing, start values, information."""

from __future__ import annotations

import copy
import logging
import math
import pickle
import weakref

import pytest
import torch
from nn_golden import fill, image
from torch import nn

from yolopose.base.errors import ModelError, UsageError
from yolopose.nn import HeadOutput, PoseModel, anchor_points, build_network, decode_boxes, decode_keypoints
from yolopose.schema import KeypointSchema, PoseSpec

NAMES = ["yolo11n-pose.yaml", "yolov8n-pose.yaml", "yolo12n-pose.yaml", "yolo26n-pose.yaml"]


def filled(name: str = "yolo11n-pose.yaml", nc: int = 1) -> PoseModel:
    model = build_network(name, nc=nc)
    fill(model)
    return model.eval()


@pytest.mark.parametrize("name", NAMES)
def test_training_mode_gives_raw_outputs_and_gradients_reach_every_weight(name: str) -> None:
    model = build_network(name, nc=2, kpt_shape=(5, 2))
    output = model(torch.rand(2, 3, 64, 96))
    assert isinstance(output, HeadOutput)
    cells = 8 * 12 + 4 * 6 + 2 * 3
    assert output.shapes == ((8, 12), (4, 6), (2, 3))
    assert output.boxes.shape == (2, 4 * model.head.reg_max, cells)
    assert output.scores.shape == (2, 2, cells)
    assert output.kpts.shape == (2, 10, cells)
    both = [output] if output.one2one is None else [output, output.one2one]
    values = [value for one in both for value in (one.boxes, one.scores, one.kpts, one.sigmas) if value is not None]
    sum(value.square().mean() for value in values).backward()
    fixed = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    if "yolo26" in name:
        assert output.sigmas.shape == output.one2one.sigmas.shape == (2, 10, cells)
        assert all(".flow_model." in key for key in fixed)  # the losses go through it, not the network
    else:
        assert fixed == [f"model.{len(model.model) - 1}.dfl.conv.weight"]


def test_the_branch_for_single_answers_teaches_itself_alone() -> None:
    model = build_network("yolo26n-pose.yaml", nc=1)
    single = model(torch.rand(1, 3, 64, 64)).one2one
    (single.boxes.sum() + single.scores.sum() + single.kpts.sum() + single.sigmas.sum()).backward()
    taught = {key.split(".")[2] for key, parameter in model.named_parameters() if parameter.grad is not None}
    assert taught == {f"one2one_{name}" for name in ("cv2", "cv3", "cv4", "cv4_kpts", "cv4_sigma")}


def test_outputs_then_decode_is_what_evaluation_gives() -> None:
    model = filled()
    with torch.inference_mode():
        output = model.outputs(image())
        torch.testing.assert_close(model.head.decode(output), model(image()), rtol=0, atol=0)


def test_anchors_remembered_in_inference_mode_serve_training() -> None:
    model = filled()
    with torch.inference_mode():
        model(image())
    model.head.decode(model.outputs(image())).sum().backward()
    assert not any("anchor" in key for key in model.state_dict())


def test_remembered_anchors_stay_few() -> None:
    head = filled().head
    for width in range(1, 40):
        head.anchors(((1, width), (1, 1), (1, 1)), torch.device("cpu"))
    assert len(head._anchors) <= 16


def test_decoding_by_hand() -> None:
    points, strides = anchor_points(((1, 2), (1, 1)), (8, 16))
    assert points.tolist() == [[0.5, 1.5, 0.5], [0.5, 0.5, 0.5]]
    assert strides.tolist() == [8, 8, 16]
    sides = torch.tensor([1.0, 0.0, 3.0, 2.0]).view(1, 4, 1).expand(1, 4, 3)  # left, top, right, bottom
    assert decode_boxes(sides, points, strides)[0, :, 1].tolist() == [20, 12, 32, 16]
    raw = torch.tensor([0.25, -0.5, 0.0]).view(1, 3, 1).expand(1, 3, 3)
    assert decode_keypoints(raw, points, strides, 3)[0, 0, :, 1].tolist() == [12, -8, 0.5]


def filled26(end2end: bool = False, uncertainty: bool = False, nc: int = 3) -> PoseModel:
    model = build_network("yolo26n-pose.yaml", nc=nc, kpt_shape=(4, 3))
    fill(model)
    return model.eval().select_output(end2end, uncertainty)


def test_finished_detections_are_the_best_pairs_of_cell_and_class() -> None:
    torch.manual_seed(0)
    model, image = filled26(end2end=True, uncertainty=True), torch.rand(2, 3, 96, 160)
    with torch.no_grad():
        raw = model.outputs(image).one2one
        found = model(image)
        model.select_output(False, True)
        cells = model.head.decode(raw)  # the same branch, all of its cells
    assert found.shape == (2, 300, 6 + 12 + 8)
    for rows, all_cells in zip(found, cells, strict=True):
        scores = all_cells[4:7]
        near = scores.amax(0).sort(descending=True).values[299]
        among = scores[:, scores.amax(0) >= near]
        torch.testing.assert_close(rows[:, 4], among.flatten().sort(descending=True).values[:300], rtol=0, atol=1e-6)
        for row in rows[::17]:
            cell = (scores[int(row[5])] - row[4]).abs() < 1e-6
            x, y, w, h = all_cells[:4]
            boxes = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            whole = torch.cat((boxes, all_cells[7:]))[:, cell]
            same = torch.cat((row[:4], row[6:]))
            assert (whole - same[:, None]).abs().amax(0).min() < 1e-3


def test_a_image_of_few_cells_has_rows_of_score_zero() -> None:
    model = filled26(end2end=True, nc=1)
    with torch.no_grad():
        found = model(torch.rand(1, 3, 64, 64))[0]
    assert found.shape == (300, 18)
    assert (found[:84, 4] > 0).all()
    assert not found[84:, 4].any()


def test_sigma_is_given_in_pixels_behind_the_points() -> None:
    plain, sure = filled26(), filled26(uncertainty=True)
    with torch.no_grad():
        raw, found = sure.outputs(image()), sure(image())
        torch.testing.assert_close(found[:, :19], plain(image()), rtol=0, atol=0)
    _, strides = sure.head.anchors(raw.shapes, found.device)
    torch.testing.assert_close(found[:, 19:], raw.sigmas.sigmoid() * strides)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(sure).fuse()(image()), found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("end2end", [False, True])
def test_fuse_keeps_the_branch_in_use(end2end: bool) -> None:
    model = filled26(end2end)
    with torch.no_grad():
        before, whole, reduced = model(image()), copy.deepcopy(model).fuse(keep_branches=True), model.fuse()
        order = [out[0, :, 4].argsort() if end2end else slice(None) for out in (before, reduced(image()))]
        for after in (whole, reduced):
            assert (after(image()) - before).abs().amax() < (200 if end2end else 0.01)  # near-tied rows change places
        del order
    assert whole.has_all_branches
    assert not reduced.has_all_branches
    assert all(key.startswith("one2one_") == end2end for key in dict(reduced.head.named_children()) if "cv" in key
               and getattr(reduced.head, key) is not None)  # fmt: skip
    assert whole.outputs(image()).sigmas is not None
    with pytest.raises(ModelError, match="open the weights again"):
        reduced.select_output(not end2end)
    with pytest.raises(ModelError, match="open the weights again"):
        reduced.select_output(end2end, True)


@pytest.mark.parametrize("wish", [{"end2end": True}, {"uncertainty": True}])
def test_older_heads_know_neither_branch_nor_sigma(wish: dict[str, bool]) -> None:
    with torch.device("meta"), pytest.raises(UsageError, match=r"needs a network with the head Pose26.*yolo11n-pose"):
        build_network("yolo11n-pose.yaml").select_output(**wish)


@pytest.mark.parametrize("name", NAMES)
def test_fuse_keeps_outputs_and_is_idempotent(name: str) -> None:
    model = filled(name)
    with torch.no_grad():
        before = model(image())
        assert not model.is_fused
        assert model.fuse() is model
        assert model.is_fused
        model.fuse()
        after = model(image())
    assert ((after - before).abs() <= 1e-4 * before.abs().amax(2, keepdim=True)).all()


def test_fuse_refuses_training_mode() -> None:
    with pytest.raises(ModelError, match="eval"):
        build_network(NAMES[0]).fuse()


def test_a_trace_goes_with_other_sizes() -> None:
    model = filled().fuse()
    with torch.no_grad():
        traced = torch.jit.trace(model, torch.rand(1, 3, 64, 64))
        torch.testing.assert_close(traced(image()), model(image()))


def test_half_precision_networks_decode_in_float32() -> None:
    model = filled()
    with torch.no_grad():
        want = model(image())
        got = model.to(torch.bfloat16)(image().bfloat16())
    assert got.dtype == torch.float32
    assert (got[:, :2] - want[:, :2]).abs().max() < 2  # pixels
    rounded = got[:, :2].bfloat16().float()
    assert (rounded != got[:, :2]).any()  # positions are finer than 16 bits could hold


def test_copies_and_pickles_give_the_same() -> None:
    model = filled()
    with torch.no_grad():
        want = model(image())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(twin(image()), want, rtol=0, atol=0)


def test_weights_move_into_a_network_without_memory() -> None:
    model = filled()
    with torch.device("meta"):
        empty = build_network(model.yaml, spec=model.spec)
    empty.load_state_dict(model.state_dict(), assign=True)
    with torch.no_grad():
        torch.testing.assert_close(empty.eval()(image()), model(image()), rtol=0, atol=0)
    assert not empty.head.dfl.conv.weight.requires_grad


def test_start_values() -> None:
    model = build_network("yolo11n-pose.yaml", nc=3)
    for stride, box, cls in zip(model.stride, model.head.cv2, model.head.cv3, strict=True):
        assert (box[-1].bias == 2).all()
        torch.testing.assert_close(cls[-1].bias, torch.full((3,), math.log(5 / 3 / (640 / stride) ** 2)))
    assert model.head.dfl.conv.weight.flatten().tolist() == list(range(16))
    first = model.model[0]
    assert first.conv.weight.abs().max() <= 1 / math.sqrt(27)
    assert first.conv.weight.std().item() == pytest.approx(1 / math.sqrt(3 * 27), rel=0.1)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all((norm.eps, norm.momentum) == (1e-3, 0.03) for norm in norms)
    assert all((norm.weight == 1).all() and (norm.running_var == 1).all() for norm in norms)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert model.training


def test_start_values_of_the_newer_families() -> None:
    model = build_network("yolo12l-pose.yaml", nc=3)
    block = model.model[8]
    assert (block.gamma == 0.01).all()
    spread = block.m[0][0].mlp[0].conv.weight
    assert spread.std().item() == pytest.approx(0.02, rel=0.05)
    flow = build_network("yolo26n-pose.yaml").head.flow_model
    assert flow.mask.tolist() == [[0, 1], [1, 0]] * 3
    assert flow.cov.tolist() == [[1, 0], [0, 1]]
    points = torch.randn(50, 2)
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    for net in (*flow.s, *flow.t):
        assert net[2].weight.std().item() == pytest.approx(0.00125, rel=0.05)
        net[4].bias.data.zero_()
    torch.testing.assert_close(flow.log_density(points), normal.log_prob(points), atol=0.01, rtol=0.01)


def test_the_flow_is_a_density() -> None:
    torch.manual_seed(3)
    flow = build_network("yolo26n-pose.yaml").head.flow_model
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    line = torch.linspace(-12, 12, 241)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        assert (flow.log_density(grid).exp().sum() * 0.01).item() == pytest.approx(1, abs=0.02)


def test_names_and_keypoints_come_from_the_yaml_or_the_spec() -> None:
    with torch.device("meta"):
        person = build_network("yolov8n-pose.yaml")
        plain = build_network("yolo11s-pose.yaml", nc=2, kpt_shape=[4, 2])
        spec = PoseSpec(classes=("mouse",), keypoints=KeypointSchema(count=4, dims=3))
        mouse = build_network("yolo11s-pose.yaml", nc=7, spec=spec)
    assert person.names == {0: "person"}
    assert person.spec.keypoints == KeypointSchema.coco_person()
    assert plain.names == {0: "class0", 1: "class1"}
    assert (plain.head.nc, plain.head.kpt_shape, plain.name) == (2, (4, 2), "yolo11s-pose")
    assert (mouse.names, mouse.spec, mouse.head.nc) == ({0: "mouse"}, spec, 1)
    assert (mouse.yaml["nc"], mouse.yaml["kpt_shape"]) == (1, [4, 3])


def test_info_logs_the_table_and_counts_other_sizes(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("yolopose")
    logger.addHandler(caplog.handler)
    try:
        model = build_network("yolo11n-pose.yaml")
        info = model.info(detailed=True)
    finally:
        logger.removeHandler(caplog.handler)
    assert "2,908,507 parameters" in caplog.text
    assert "C2PSA" in caplog.text
    assert len(caplog.text.splitlines()) == 26  # head line, 24 rows, summary
    small = model.info(verbose=False, imgsz=(320, 640))
    assert 0.45 < small.gflops / info.gflops < 0.5  # attention shrinks faster than the area
    assert model.training


def test_maps_are_freed_after_their_last_use() -> None:
    model = build_network("yolo11n-pose.yaml")
    made: dict[int, weakref.ref[torch.Tensor]] = {}
    for index, block in enumerate(model.model):
        block.register_forward_hook(lambda _, __, output, index=index: made.update({index: weakref.ref(output)}))
    alive: list[int] = []
    last_concat = model.model[21]
    last_concat.register_forward_pre_hook(
        lambda *_: alive.extend(index for index, ref in made.items() if ref() is not None)
    )
    with torch.no_grad():
        model.features(torch.rand(1, 3, 64, 64))
    assert alive == [10, 16, 19, 20]


TINY = {
    "nc": 1,
    "kpt_shape": [3, 3],
    "backbone": [
        [-1, 1, "Conv", [16, 3, 4]],
        [-1, 1, "C3k2", [16, True]],
        [-1, 1, "Conv", [32, 3, 2]],
        [-1, 1, "SPPF", [32, 5]],
        [-1, 1, "C2PSA", [32]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 1], 1, "Concat", [1]],
        [-1, 1, "C2f", [16]],
        [[7, 4], 1, "Pose", ["nc", "kpt_shape"]],
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("head", ["Pose", "Pose26"])
def test_compile_and_export_take_the_graph_whole(head: str) -> None:
    values = copy.deepcopy(TINY)
    values["head"][-1][2] = head
    model = build_network(values).eval()
    height, width = (8 * torch.export.Dim(name, min=2, max=40) for name in ("h", "w"))
    sizes = ({2: height, 3: width},)
    with torch.no_grad():
        want = model(image())
        program = torch.export.export(model, (torch.rand(1, 3, 64, 48),), dynamic_shapes=sizes, strict=False)
        torch.testing.assert_close(program.module()(image()), want)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(image()), want)
    output = torch.compile(model.train(), backend="eager", fullgraph=True)(torch.rand(2, 3, 64, 64))
    assert isinstance(output, HeadOutput)
    output.boxes.sum().backward()
    assert model.model[0].conv.weight.grad is not None
