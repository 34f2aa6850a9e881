"""Small ONNX graphs with random weights that have the inputs and outputs of networks of other packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_POOLED = 4  # side of the features


class GraphBuilder:
    """Collects nodes and weights; `save` writes the model."""

    def __init__(self, shape: tuple[int | str, ...], name: str = "input", seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, values: np.ndarray) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def features(self, side: tuple[int, int]) -> str:
        """(B, 48) means of patches of the image, about 0…1."""
        kernel = [side[0] // _POOLED, side[1] // _POOLED]
        pooled = self.node("AveragePool", "input", kernel_shape=kernel, strides=kernel)
        return self.node("Mul", self.node("Flatten", pooled), self.weight(np.float32(1 / 255)))

    def linear(self, features: str, *shape: int, scale: float = 4.0) -> str:
        """A random linear map of the features, as (B, *shape)."""
        weights = self.rng.normal(0, scale / np.sqrt(48), (48, int(np.prod(shape)))).astype(np.float32)
        flat = self.node("MatMul", features, self.weight(weights))
        return self.node("Reshape", flat, self.weight(np.array([-1, *shape], np.int64)))

    def save(self, path: Path, outputs: dict[str, tuple[str, tuple[int | str, ...]]], **types: int) -> Path:
        """Write the model; `outputs` has the value and shape by name."""
        for name, (value, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        infos = [
            helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), shape)
            for name, (_, shape) in outputs.items()
        ]
        graph = helper.make_graph(self.nodes, "graph", self.inputs, infos, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))
        return path


def rtmo(path: Path, side: int = 96, rows: int = 30, count: int = 17, seed: int = 0) -> Path:
    """RTMO: random boxes of which many overlap."""
    graph = GraphBuilder((1, 3, side, side), seed=seed)
    features = graph.features((side, side))
    values = graph.node("Sigmoid", graph.linear(features, rows, 5))
    # x1, y1, width, height, score -> x1, y1, x2, y2, score
    corners = np.eye(5, dtype=np.float32)
    corners[0, 2] = corners[1, 3] = 1
    corners[:4] *= side / 2
    dets = graph.node("MatMul", values, graph.weight(corners))
    points = graph.node("Sigmoid", graph.linear(features, rows, count, 3))
    points = graph.node("Mul", points, graph.weight(np.array([side, side, 1], np.float32)))
    return graph.save(path, {"dets": (dets, (1, rows, 5)), "keypoints": (points, (1, rows, count, 3))})


def simcc(path: Path, side: tuple[int, int] = (64, 48), count: int = 17, batch: int | str = "batch") -> Path:
    """RTMPose: two bins per pixel."""
    graph = GraphBuilder((batch, 3, *side))
    features = graph.features(side)
    bins = 2 * side[1], 2 * side[0]
    outputs = {
        f"simcc_{axis}": (graph.linear(features, count, bins[index]), (batch, count, bins[index]))
        for index, axis in enumerate("xy")
    }
    return graph.save(path, outputs)


def heat_maps(path: Path, side: tuple[int, int] = (64, 48), count: int = 17) -> Path:
    """ViTPose: heat maps at a quarter of the input, each a peak at a random position."""
    graph = GraphBuilder(("batch", 3, *side))
    height, width = side[0] // 4, side[1] // 4
    squares: list[str] = []
    for axis, length in (("x", width), ("y", height)):
        center = graph.node("Sigmoid", graph.linear(graph.features(side), count, 1, 1))
        center = graph.node("Mul", center, graph.weight(np.float32(length - 1)))
        grid = np.arange(length, dtype=np.float32).reshape((1, 1, 1, -1) if axis == "x" else (1, 1, -1, 1))
        offset = graph.node("Sub", graph.weight(grid), center)
        squares.append(graph.node("Mul", offset, offset))
    exponent = graph.node("Mul", graph.node("Add", *squares), graph.weight(np.float32(-1 / 8)))  # σ = 2 pixels
    return graph.save(path, {"output": (graph.node("Exp", exponent), ("batch", count, height, width))})


def constant(path: Path, shape: tuple[int | str, ...], outputs: dict[str, np.ndarray], sizes: bool = False) -> Path:
    """Return the given outputs for any image; with `sizes`, there is a second input for the size of the image."""
    graph = GraphBuilder(shape, "images")
    zero = graph.node("Mul", graph.node("ReduceMean", "images", keepdims=0), graph.weight(np.float32(0)))
    if sizes:
        graph.inputs.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, (1, 2)))
    values: dict[str, tuple[str, tuple[int | str, ...]]] = {}
    types: dict[str, int] = {}
    for name, array in outputs.items():
        value = graph.weight(array)
        if array.dtype == np.float32:
            value = graph.node("Add", value, zero)
        if sizes and name == "keypoints":  # shares of the image, as in DETRPose
            size = graph.node("Cast", "orig_target_sizes", to=TensorProto.FLOAT)
            value = graph.node("Mul", value, size)
        values[name] = value, array.shape
        types[name] = TensorProto.FLOAT if array.dtype == np.float32 else TensorProto.INT64
    return graph.save(path, values, **types)
