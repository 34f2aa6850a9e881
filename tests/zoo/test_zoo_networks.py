"""The table of networks against the networks themselves, and against the golden sizes."""

import json

import pytest
import torch

from yolopose import zoo
from yolopose.nn import build_network
from yolopose.zoo import network_sizes

SIZES = {size.name: size for size in network_sizes()}


@pytest.mark.parametrize("name", SIZES)
def test_table_agrees_with_the_networks(name):
    with torch.device("meta"):
        network = build_network(f"{name}.yaml", nc=1)
    size = SIZES[name]
    counted = network.info(verbose=False)
    assert (counted.layers, counted.parameters) == (size.layers, size.parameters)
    assert round(counted.gflops, 3) == size.gflops
    fused = network.eval().fuse().info(verbose=False)
    assert (fused.layers, fused.parameters) == (size.fused_layers, size.fused_parameters)
    assert round(fused.gflops, 3) == size.fused_gflops


def test_table_has_every_family_and_scale():
    families = [name.removesuffix("-pose.yaml") for name in zoo.model_yaml_names()]
    assert set(SIZES) == {f"{family}{scale}-pose" for family in families for scale in "nsmlx"}


def test_table_agrees_with_golden_sizes(shared):
    golden = json.loads((shared / "fixtures/model_sizes.json").read_text())
    known = [name for name in SIZES if name in golden]
    assert known
    for name in known:
        assert SIZES[name].parameters == golden[name].get("params_nc1", golden[name]["params"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("yolov11n-pose", "yolo11n-pose"),
        ("yolo8n-pose", "yolov8n-pose"),
        ("yolo-v8s", "yolov8s-pose"),
        ("yolo11", "yolo11n-pose"),
        ("YOLO11m-seg", "yolo11m-pose"),
        ("yolo11-pose", "yolo11n-pose"),
        ("yolo11n-pose", None),
        ("yolo5n", None),
        ("best", None),
    ],
)
def test_suggests_model_names(name: str, meant: str | None) -> None:
    assert zoo.suggest_model_name(name) == meant
