"""Building networks from YAML: names and scales, supported content, and the error for each invalid content."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from yolopose.base.errors import ModelError, NotFoundError
from yolopose.nn import Pose26, PoseModel, build_network
from yolopose.nn.registry import parse_activation
from yolopose.zoo import model_yaml_names, model_yaml_path


def built(*args: Any, **kwargs: Any) -> PoseModel:
    with torch.device("meta"):
        return build_network(*args, **kwargs)


def content(name: str = "yolo11-pose.yaml") -> dict[str, Any]:
    path = model_yaml_path(name)
    assert path is not None
    return yaml.safe_load(path.read_text())


def small() -> dict[str, Any]:
    """Strides 4 and 8, no scales."""
    return {
        "nc": 1,
        "kpt_shape": [3, 2],
        "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [16, 3, 2]], [-1, 1, "Conv", [32, 3, 2]]],
        "head": [[-1, 2, "C2f", [32, True]], [[1, 3], 1, "Pose", ["nc", "kpt_shape"]]],
    }


# --- names and scales


def test_all_families_are_shipped() -> None:
    assert model_yaml_names() == ["yolo11-pose.yaml", "yolo12-pose.yaml", "yolo26-pose.yaml", "yolov8-pose.yaml"]
    assert model_yaml_path("yolo11n-pose.yaml") is None
    assert model_yaml_path("../models/yolo11-pose.yaml") is None


@pytest.mark.parametrize(
    ("asked", "name", "width"),
    [("yolo11s-pose.yaml", "yolo11s-pose", 32), ("yolov8m-pose", "yolov8m-pose", 48)],
)
def test_letter_in_the_name_selects_the_scale(asked: str, name: str, width: int) -> None:
    model = built(asked)
    assert (model.name, model.yaml["scale"]) == (name, name[6])
    assert model.model[0].conv.out_channels == width


def test_without_a_letter_the_first_scale_is_used_and_logged(capsys: pytest.CaptureFixture[str]) -> None:
    assert built("yolo11-pose.yaml").name == "yolo11n-pose"
    assert "scale 'n'" in capsys.readouterr().out


@pytest.mark.parametrize("kwargs", [{"source": "yolo11z-pose.yaml"}, {"source": "yolo11n-pose.yaml", "scale": "q"}])
def test_unknown_letter_lists_the_scales(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="n, s, m, l, x"):
        built(**kwargs)


@pytest.mark.parametrize("name", ["yolo8n-pose.yaml", "yolo11n-poze.yaml", "folder/yolo11n-pose.yaml"])
def test_unknown_name_lists_the_shipped_yamls(name: str) -> None:
    with pytest.raises(NotFoundError, match=r"yolo11-pose\.yaml"):
        built(name)


def test_weights_file_is_refused() -> None:
    with pytest.raises(ModelError, match="weights file"):
        built("yolo11n-pose.pt")


def test_local_file_and_exact_name_take_precedence(tmp_path: Path) -> None:
    shipped = model_yaml_path("yolo11-pose.yaml")
    assert shipped is not None
    shutil.copy(shipped, tmp_path / "my-yolo11-pose.yaml")
    model = built(tmp_path / "my-yolo11s-pose.yaml")
    assert (model.name, model.model[0].conv.out_channels) == ("my-yolo11s-pose", 32)
    own = content() | {"scales": {"s": [0.5, 0.125, 1024]}}
    (tmp_path / "my-yolo11s-pose.yaml").write_text(yaml.safe_dump(own))
    assert built(tmp_path / "my-yolo11s-pose.yaml").model[0].conv.out_channels == 8


def test_letter_needs_scales(tmp_path: Path) -> None:
    (tmp_path / "yolo11-pose.yaml").write_text(yaml.safe_dump(small()))
    assert built(tmp_path / "yolo11-pose.yaml").name == "yolo11-pose"
    with pytest.raises(ModelError, match="no `scales`"):
        built(tmp_path / "yolo11s-pose.yaml")
    with pytest.raises(ModelError, match="no `scales`"):
        built(tmp_path / "yolo11-pose.yaml", scale="s")


# --- supported content


def test_network_can_be_built_again_from_its_yaml() -> None:
    model = built("yolo11m-pose.yaml", nc=2, kpt_shape=(4, 3))
    again = built(yaml.safe_load(yaml.safe_dump(model.yaml)))
    assert (again.name, again.yaml) == (model.name, model.yaml)
    assert [(k, v.shape) for k, v in again.state_dict().items()] == [
        (k, v.shape) for k, v in model.state_dict().items()
    ]


@pytest.mark.parametrize("channels", [{"ch": 3}, {"channels": 3}])
def test_yaml_of_a_public_checkpoint(channels: dict[str, int]) -> None:
    values = content() | {"nc": 1, "scale": "s", "yaml_file": "C:\\x\\yolo11s-pose.yaml", **channels}
    values["head"][0][3] = ["None", 2, "nearest"]
    before = copy.deepcopy(values)
    model = built(values)
    assert (model.name, sum(p.numel() for p in model.parameters())) == ("yolo11s-pose", 9_918_238)
    assert values == before


def test_values_in_the_head_layer_are_defaults() -> None:
    values = small()
    values["head"][1] = [[1, 3], 1, "Pose", [4, [5, 3]]]
    del values["nc"], values["kpt_shape"]
    assert (built(values).head.nc, built(values).head.kpt_shape) == (4, (5, 3))
    model = built(values, nc=2, kpt_shape=(3, 2))
    assert (model.head.nc, model.head.kpt_shape, model.spec.nc) == (2, (3, 2), 2)
    assert built(model.yaml).head.nc == 2


def test_yaml_without_scales() -> None:
    model = built(small())
    assert model.stride == (4, 8)
    assert [len(model.model[3].m), model.model[0].conv.out_channels] == [2, 16]
    assert not hasattr(model.head.cv3[0][0], "0")  # the plain class branch: the network has no C3k2


def test_repeats_of_plain_modules_stack() -> None:
    values = small()
    values["backbone"][1] = [-1, 2, "Conv", [24, 3]]
    model = built(values)
    assert [block.conv.in_channels for block in model.model[1]] == [16, 24]
    assert "model.1.1.conv.weight" in model.state_dict()


@pytest.mark.parametrize(
    "block",
    [
        ["C3", [32]],
        ["C3k", [32]],
        ["Bottleneck", [32, True, 1, [3, 1]]],
        ["DWConv", [32, 3]],
        ["C3k2", [32, True, None, False, 2]],
        ["A2C2f", [32, True, 2, True, 1.5, 1.0]],
        ["A2C2f", [32, False, -1]],
    ],
)
def test_other_blocks(block: list[Any]) -> None:
    values = small()
    values["head"][0] = [-1, 1, *block]
    assert built(values)(torch.rand(1, 3, 32, 32, device="meta")).shapes == ((8, 8), (4, 4))


def test_backbone_with_the_head_of_another_family() -> None:
    values = content()
    values["head"][-1][2] = "Pose26"
    model = built(values | {"yaml_file": "yolo11n-pose.yaml"}, nc=2, kpt_shape=(4, 2))
    assert isinstance(model.head, Pose26)
    assert model.head.cv3[0][0][0].conv.groups == 64  # the depth-wise class branch
    assert model.model[9].cv1.conv.out_channels == 128  # the backbone is unchanged
    assert built(model.yaml).state_dict().keys() == model.state_dict().keys()
    plain = built(small() | {"head": HEAD26})
    assert plain.head.cv3[0][0].conv.kernel_size == (3, 3)


def test_more_input_channels() -> None:
    model = built(small() | {"ch": 4})
    assert model.model[0].conv.in_channels == 4
    assert model.info(verbose=False).gflops > 0


@pytest.mark.parametrize(
    ("text", "kind"),
    [("nn.ReLU()", nn.ReLU), ("SiLU", nn.SiLU), ("torch.nn.ReLU6(inplace=True)", nn.ReLU6), ("nn.GELU()", nn.GELU)],
)
def test_activation_names(text: str, kind: type[nn.Module]) -> None:
    model = built(small() | {"activation": text})
    used = [module.act for module in model.modules() if hasattr(module, "act")]
    assert {type(act) for act in used} == {kind}


def test_leaky_slope() -> None:
    for text, slope in (("nn.LeakyReLU(0.1)", 0.1), ("LeakyReLU(negative_slope=0.2, inplace=True)", 0.2)):
        act = parse_activation(text)
        assert isinstance(act, nn.LeakyReLU)
        assert act.negative_slope == slope


# --- invalid content


def put(part: str, index: int, layer: Any) -> Callable[[dict[str, Any]], None]:
    return lambda values: values[part].__setitem__(index, layer)


def key(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.__setitem__(name, value)


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.pop(name)


BAD_LAYERS = {
    "unknown module": (put("backbone", 1, [-1, 1, "Konv", [16, 3, 2]]), r"layer 1 .*unknown module 'Konv'.*'Conv'"),
    "module not text": (put("backbone", 1, [-1, 1, 7, [16]]), "layer 1 .*unknown module 7"),
    "code as a name": (put("backbone", 1, [-1, 1, "__import__('os')", [16]]), "unknown module"),
    "module a list": (put("backbone", 1, [-1, 1, ["Conv"], [16]]), "unknown module"),
    "part of a block": (put("backbone", 1, [-1, 1, "AAttn", [16]]), "layer 1 .*'AAttn' cannot be built.*not a layer"),
    "A2C2f channels": (put("head", 0, [-1, 1, "A2C2f", [80]]), "layer 3 .*heads of 32"),
    "negative area": (put("head", 0, [-1, 1, "A2C2f", [64, True, -2]]), "area must be an integer -1"),
    "other task": (put("head", 1, [[1, 3], 1, "Detect", ["nc"]]), "head of another task"),
    "no head": (put("head", 1, [-1, 1, "Conv", [16]]), "last layer, and only the last, must be a head"),
    "two heads": (put("head", 0, [[1], 1, "Pose", ["nc", "kpt_shape"]]), "only the last, must be a head"),
    "head missing": (drop("head"), "`head` must be a list"),
    "backbone empty": (key("backbone", []), "`backbone` must be a list"),
    "short layer": (put("backbone", 1, [-1, 1, "Conv"]), r"layer 1 .*must be \[from"),
    "layer not a list": (put("backbone", 1, "Conv"), r"layer 1 .*must be \[from"),
    "forward reference": (put("backbone", 1, [3, 1, "Conv", [16]]), "layer 1 .*`from` 3 is not built yet"),
    "itself as input": (put("backbone", 1, [1, 1, "Conv", [16]]), "not built yet"),
    "before the first": (put("backbone", 1, [-2, 1, "Conv", [16]]), "before the first layer"),
    "first not image": (put("backbone", 0, [0, 1, "Conv", [16]]), "layer 0 .*must be -1"),
    "from text": (put("backbone", 1, ["a", 1, "Conv", [16]]), "`from` must be"),
    "from True": (put("backbone", 1, [True, 1, "Conv", [16]]), "`from` must be"),
    "from empty": (put("head", 1, [[], 1, "Pose", ["nc", "kpt_shape"]]), "`from` must be"),
    "two inputs": (put("head", 0, [[1, 2], 1, "Conv", [16]]), "reads one map"),
    "repeats zero": (put("backbone", 1, [-1, 0, "Conv", [16]]), "repeats must be"),
    "repeats text": (put("backbone", 1, [-1, "2", "Conv", [16]]), "repeats must be"),
    "repeats huge": (put("backbone", 1, [-1, 10**9, "Conv", [16]]), "repeats must be"),
    "args not a list": (put("backbone", 1, [-1, 1, "Conv", 16]), "arguments must be a list"),
    "no args": (put("backbone", 1, [-1, 1, "Conv", []]), r"Conv takes \[channels, k, s, g, d\]"),
    "too many args": (put("backbone", 1, [-1, 1, "Conv", [16, 3, 2, 1, 1, 1]]), "got 6 arguments"),
    "channels float": (put("backbone", 1, [-1, 1, "Conv", [16.5]]), "channels must be"),
    "channels text": (put("backbone", 1, [-1, 1, "Conv", ["exit()"]]), "channels must be"),
    "channels huge": (put("backbone", 1, [-1, 1, "Conv", [10**12]]), "channels must be"),
    "kernel zero": (put("backbone", 1, [-1, 1, "Conv", [16, 0]]), "k must be an integer"),
    "flag a number": (put("head", 0, [-1, 1, "C2f", [16, 1]]), "shortcut must be True or False"),
    "share negative": (put("head", 0, [-1, 1, "C3k2", [16, False, -1]]), "e must be a number above 0"),
    "share nan": (put("head", 0, [-1, 1, "C3k2", [16, False, float("nan")]]), "e must be a number above 0"),
    "no hidden channels": (put("head", 0, [-1, 1, "C2f", [16, True, 1, 0.01]]), "layer 3 .*is impossible"),
    "groups": (put("backbone", 1, [-1, 1, "Conv", [16, 3, 1, 3]]), "layer 1 .*in 3 groups"),
    "C2PSA channels": (put("head", 0, [-1, 1, "C2PSA", [64]]), "layer 3 .*got 32 and 64"),
    "pool even": (put("head", 0, [-1, 1, "SPPF", [32, 4]]), "k must be an odd"),
    "concat sizes": (put("head", 0, [[-1, 1], 1, "Concat", [1]]), r"layer 3 .*\(32, 128, 128\), \(16, 256.*do not"),
    "concat dim": (put("head", 0, [[-1, 1], 1, "Concat", [2]]), "Concat"),
    "upsample": (put("head", 0, [-1, 1, "nn.Upsample", [None, 10**6, "nearest"]]), "nn.Upsample takes"),
    "upsample mode": (put("head", 0, [-1, 1, "nn.Upsample", [None, 2, "lanczos"]]), "nn.Upsample takes"),
    "head args": (put("head", 1, [[1, 3], 1, "Pose", ["nc"]]), "arguments \\[nc, kpt_shape\\]"),
    "head repeats": (put("head", 1, [[1, 3], 2, "Pose", ["nc", "kpt_shape"]]), "head has 1 repeat"),
    "stride": (put("backbone", 0, [-1, 1, "Conv", [16, 3, 3]]), "layer 1, which the head reads"),
    "parameters": (put("backbone", 2, [-1, 9, "Conv", [16384, 63]]), "layer 2 .*at most 500,000,000"),
    "many blocks": (put("backbone", 2, [-1, 2000, "Conv", [8]]), "more than 2000 blocks"),
}  # fmt: skip

HEAD26 = [[-1, 1, "C2f", [32]], [[1, 3], 1, "Pose26", ["nc", "kpt_shape"]]]

BAD_KEYS = {
    "nc zero": (key("nc", 0), "nc must be"),
    "nc text": (key("nc", "exit()"), "nc must be"),
    "nc huge": (key("nc", 10**9), "nc must be"),
    "nc missing": (drop("nc"), "`nc` is missing"),
    "nc twice": (put("head", 1, [[1, 3], 1, "Pose", [5, "kpt_shape"]]), "`nc` is 1, but the last layer has 5"),
    "kpt_shape missing": (drop("kpt_shape"), "`kpt_shape` is missing"),
    "kpt_shape dims": (key("kpt_shape", [3, 4]), "kpt_shape"),
    "kpt_shape text": (key("kpt_shape", "17x3"), "kpt_shape"),
    "kpt_shape huge": (key("kpt_shape", [10**7, 3]), "K from 1 to 10000"),
    "activation": (key("activation", "nn.RelU()"), "activation 'nn.RelU\\(\\)' is not supported.*'ReLU'"),
    "activation code": (key("activation", "__import__('os').system('x')"), "not supported"),
    "activation number": (key("activation", 3), "not supported"),
    "activation args": (key("activation", "nn.ReLU(3)"), "no arguments"),
    "leaky args": (key("activation", "nn.LeakyReLU(exit)"), "one slope"),
    "input channels": (key("ch", 0), "channels of the image"),
    "reg_max": (key("reg_max", 1000), "reg_max must be"),
    "end2end": (key("end2end", True), "YOLO26"),
    "end2end off": (lambda v: v.update(end2end=False, head=HEAD26), "Pose26 always has both branches"),
    "reg_max of 26": (lambda v: v.update(reg_max=16, head=HEAD26), "reg_max is 1; got 16"),
    "scales not a mapping": (key("scales", [1, 2]), "scales must map"),
    "scale short": (key("scales", {"n": [1, 2]}), "must be \\[depth, width"),
    "scale negative": (key("scales", {"n": [1, -1, 64]}), "positive numbers"),
    "scale huge": (key("scales", {"n": [10**6, 1, 64]}), "must not exceed"),
}  # fmt: skip


@pytest.mark.parametrize("case", [*BAD_LAYERS, *BAD_KEYS])
def test_invalid_content_is_refused_with_file_and_reason(case: str, tmp_path: Path) -> None:
    change, text = (BAD_LAYERS | BAD_KEYS)[case]
    values = small()
    change(values)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match=r"mine\.yaml") as caught:
        build_network(path)
    assert caught.match(text)


@pytest.mark.parametrize("text", ["- a\n", "a: [\n", "a: !!python/object/apply:os.getcwd []\n"])
def test_file_that_is_not_a_mapping(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"mine\.yaml"):
        build_network(path)
