"""Modes of a network: training outputs, decoding, fusing, tracing, initialization, information."""

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
def test_training_mode_returns_raw_outputs_and_every_weight_has_a_gradient(name: str) -> None:
    model = build_network(name, nc=2, kpt_shape=(5, 2))
    output = model(torch.rand(2, 3, 64, 96))
    assert isinstance(output, HeadOutput)
    anchors = 8 * 12 + 4 * 6 + 2 * 3
    assert output.shapes == ((8, 12), (4, 6), (2, 3))
    assert output.boxes.shape == (2, 4 * model.head.reg_max, anchors)
    assert output.scores.shape == (2, 2, anchors)
    assert output.kpts.shape == (2, 10, anchors)
    both = [output] if output.one2one is None else [output, output.one2one]
    values = [value for one in both for value in (one.boxes, one.scores, one.kpts, one.sigmas) if value is not None]
    sum(value.square().mean() for value in values).backward()
    fixed = [key for key, parameter in model.named_parameters() if parameter.grad is None]
    if "yolo26" in name:
        assert output.sigmas.shape == output.one2one.sigmas.shape == (2, 10, anchors)
        assert all(".flow_model." in key for key in fixed)  # only the losses use it
    else:
        assert fixed == [f"model.{len(model.model) - 1}.dfl.conv.weight"]


def test_one_to_one_branch_trains_only_itself() -> None:
    model = build_network("yolo26n-pose.yaml", nc=1)
    one2one = model(torch.rand(1, 3, 64, 64)).one2one
    sum(value.sum() for value in (one2one.boxes, one2one.scores, one2one.kpts, one2one.sigmas)).backward()
    trained = {key.split(".")[2] for key, parameter in model.named_parameters() if parameter.grad is not None}
    assert trained == {f"one2one_{name}" for name in ("cv2", "cv3", "cv4", "cv4_kpts", "cv4_sigma")}


def test_outputs_and_decode_equal_evaluation_mode() -> None:
    model = filled()
    with torch.inference_mode():
        output = model.outputs(image())
        torch.testing.assert_close(model.head.decode(output), model(image()), rtol=0, atol=0)


def test_anchors_cached_in_inference_mode_work_in_training() -> None:
    model = filled()
    with torch.inference_mode():
        model(image())
    model.head.decode(model.outputs(image())).sum().backward()
    assert not any("anchor" in key for key in model.state_dict())


def test_anchor_cache_is_bounded() -> None:
    head = filled().head
    for width in range(1, 40):
        head.anchors(((1, width), (1, 1), (1, 1)), torch.device("cpu"))
    assert len(head._anchor_cache) <= 16


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


def test_final_detections_are_the_best_pairs_of_anchor_and_class() -> None:
    torch.manual_seed(0)
    model, image = filled26(end2end=True, uncertainty=True), torch.rand(2, 3, 96, 160)
    with torch.no_grad():
        raw = model.outputs(image).one2one
        found = model(image)
        model.select_output(False, True)
        anchors = model.head.decode(raw)  # all anchors of the same branch
    assert found.shape == (2, 300, 6 + 12 + 8)
    for rows, decoded in zip(found, anchors, strict=True):
        scores = decoded[4:7]
        near = scores.amax(0).sort(descending=True).values[299]
        among = scores[:, scores.amax(0) >= near]
        torch.testing.assert_close(rows[:, 4], among.flatten().sort(descending=True).values[:300], rtol=0, atol=1e-6)
        for row in rows[::17]:
            anchor = (scores[int(row[5])] - row[4]).abs() < 1e-6
            x, y, w, h = decoded[:4]
            boxes = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
            whole = torch.cat((boxes, decoded[7:]))[:, anchor]
            same = torch.cat((row[:4], row[6:]))
            assert (whole - same[:, None]).abs().amax(0).min() < 1e-3


def test_image_with_few_anchors_is_padded_with_score_zero() -> None:
    model = filled26(end2end=True, nc=1)
    with torch.no_grad():
        found = model(torch.rand(1, 3, 64, 64))[0]
    assert found.shape == (300, 18)
    assert (found[:84, 4] > 0).all()
    assert not found[84:, 4].any()


def test_sigma_follows_the_keypoints_in_pixels() -> None:
    plain, uncertain = filled26(), filled26(uncertainty=True)
    with torch.no_grad():
        raw, found = uncertain.outputs(image()), uncertain(image())
        torch.testing.assert_close(found[:, :19], plain(image()), rtol=0, atol=0)
    _, strides = uncertain.head.anchors(raw.shapes, found.device)
    torch.testing.assert_close(found[:, 19:], raw.sigmas.sigmoid() * strides)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(uncertain).fuse()(image()), found, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("end2end", [False, True])
def test_fuse_keeps_the_selected_branch(end2end: bool) -> None:
    model = filled26(end2end)
    with torch.no_grad():
        before, fused, pruned = model(image())[0], copy.deepcopy(model).fuse(keep_branches=True), model.fuse()
        for after in (fused(image())[0], pruned(image())[0]):
            # final detections with nearly equal scores may change places, so each row is compared with the nearest
            distance = (before[:, None] - after[None]).abs().amax(2).amin(1) if end2end else (before - after).abs()
            assert distance.max() < 0.01
    assert fused.has_all_branches
    assert not pruned.has_all_branches
    present = [name for name, module in pruned.head.named_children() if "cv" in name and module is not None]
    assert all(name.startswith("one2one_") == end2end for name in present)
    assert fused.outputs(image()).sigmas is not None
    with pytest.raises(ModelError, match="load the weights again"):
        pruned.select_output(not end2end)
    with pytest.raises(ModelError, match="load the weights again"):
        pruned.select_output(end2end, True)


@pytest.mark.parametrize("options", [{"end2end": True}, {"uncertainty": True}])
def test_heads_with_one_branch_have_neither_end2end_nor_sigma(options: dict[str, bool]) -> None:
    with torch.device("meta"), pytest.raises(UsageError, match=r"needs a network with the head Pose26.*yolo11n-pose"):
        build_network("yolo11n-pose.yaml").select_output(**options)


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


def test_trace_supports_other_sizes() -> None:
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
    assert (rounded != got[:, :2]).any()  # positions are finer than 16 bits can represent


def test_copies_and_pickles_are_equal() -> None:
    model = filled()
    with torch.no_grad():
        want = model(image())
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(twin(image()), want, rtol=0, atol=0)


def test_weights_are_assigned_to_a_network_on_meta() -> None:
    model = filled()
    with torch.device("meta"):
        empty = build_network(model.yaml, spec=model.spec)
    empty.load_state_dict(model.state_dict(), assign=True)
    with torch.no_grad():
        torch.testing.assert_close(empty.eval()(image()), model(image()), rtol=0, atol=0)
    assert not empty.head.dfl.conv.weight.requires_grad


def test_initialization() -> None:
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


def test_initialization_of_newer_families() -> None:
    model = build_network("yolo12l-pose.yaml", nc=3)
    block = model.model[8]
    assert (block.gamma == 0.01).all()
    weight = block.m[0][0].mlp[0].conv.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.05)
    flow = build_network("yolo26n-pose.yaml").head.flow_model
    assert flow.mask.tolist() == [[0, 1], [1, 0]] * 3
    assert flow.cov.tolist() == [[1, 0], [0, 1]]
    points = torch.randn(50, 2)
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
    for net in (*flow.s, *flow.t):
        assert net[2].weight.std().item() == pytest.approx(0.00125, rel=0.05)
        net[4].bias.data.zero_()
    torch.testing.assert_close(flow.log_density(points), normal.log_prob(points), atol=0.01, rtol=0.01)


def test_density_of_the_flow_integrates_to_one() -> None:
    torch.manual_seed(3)
    flow = build_network("yolo26n-pose.yaml").head.flow_model
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    line = torch.linspace(-12, 12, 241)
    grid = torch.cartesian_prod(line, line)
    with torch.no_grad():
        assert (flow.log_density(grid).exp().sum() * 0.01).item() == pytest.approx(1, abs=0.02)


def test_names_and_keypoints_from_yaml_or_spec() -> None:
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
    assert len(caplog.text.splitlines()) == 26  # header, 24 layers, summary
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
def test_compile_and_export_capture_the_full_graph(head: str) -> None:
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
