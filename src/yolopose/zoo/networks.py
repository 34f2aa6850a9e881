"""The networks that ship, with their sizes and what is published about their public weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from yolopose.base.yamlfile import read_yaml


@dataclass(frozen=True, slots=True)
class PublishedResults:
    """What the publisher of the weights states for COCO val2017 at 640; nothing of it is measured here.

    Attributes:
        map: mAP50-95 of the poses, per cent.
        map50: mAP50 of the poses, per cent.
        cpu_onnx_ms: milliseconds per image with ONNX on a CPU.
        t4_tensorrt_ms: milliseconds per image with TensorRT on a T4 GPU.
    """

    map: float
    map50: float
    cpu_onnx_ms: float
    t4_tensorrt_ms: float


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """A network with 1 class and 17 points, for an image of 640 x 640.

    Attributes:
        name: `yolo11n-pose`.
        layers: modules without submodules.
        parameters: numbers that it holds.
        gflops: 10⁹ operations.
        fused_layers: layers with the batch norms folded into the convolutions.
        fused_parameters: parameters so.
        fused_gflops: 10⁹ operations so.
        published: of the public weights; None where nothing is known.
    """

    name: str
    layers: int
    parameters: int
    gflops: float
    fused_layers: int
    fused_parameters: int
    fused_gflops: float
    published: PublishedResults | None


def network_sizes() -> list[NetworkSize]:
    """Return the table, families together and small before large."""
    table = read_yaml(Path(__file__).with_name("networks.yaml"), "table of networks")
    published = {name: PublishedResults(**numbers) for name, numbers in table["published"].items()}
    return [
        NetworkSize(name=name, published=published.get(name), **numbers) for name, numbers in table["networks"].items()
    ]
