"""Sony IMX500: quantize an ONNX graph and pack it for the sensor; run the 8-bit graph."""

from __future__ import annotations

import operator
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Write the 8-bit graph (`quantized.onnx`) and the archive (`packerOut.zip`).

    Args:
        job: `source`, an ONNX file; `target`, a folder; `calibration`, a file of uint8 images (N, 1, C, H, W).

    Returns:
        `files`: names of the written files.
    """
    np: Any = import_module("numpy")
    torch = _import_torch()
    mct: Any = import_module("model_compression_toolkit")
    images = np.load(job["calibration"], mmap_mode="r")

    def representative_data() -> Any:
        for batch in images:
            yield [(batch / np.float32(255)).astype(np.float32)]

    network = _to_torch(torch, job["source"])
    capabilities = mct.get_target_platform_capabilities("pytorch", "imx500")
    quantized, _ = mct.ptq.pytorch_post_training_quantization(
        in_module=network, representative_data_gen=representative_data, target_platform_capabilities=capabilities
    )
    graph = Path(job["target"]) / "quantized.onnx"
    export = torch.onnx.export
    torch.onnx.export = lambda *args, **named: export(
        *args, **{**named, "dynamo": False}
    )  # the toolkit does not select the exporter, and torch's default fails
    mct.exporter.pytorch_export_model(quantized, save_model_path=str(graph), repr_dataset=representative_data)
    program = Path(sys.executable).parent / "imxconv-pt"
    command = [str(program), "-i", str(graph), "-o", "sensor", "--no-input-persistency", "--overwrite-output"]
    subprocess.run(command, check=True)  # noqa: S603  # a program of the toolchain
    shutil.copyfile("sensor/packerOut.zip", Path(job["target"]) / "packerOut.zip")
    return {"files": sorted(path.name for path in Path(job["target"]).iterdir())}


def _import_torch() -> Any:
    """Import torch, and declare operators of torchvision, which is of another build and would fail to import."""
    torch: Any = import_module("torch")
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch._yolopose_library = library  # definitions are removed with the object
    return torch


def _to_torch(torch: Any, source: str) -> Any:
    """Convert an ONNX graph with the operators of the networks to a torch.fx module, which the quantizer can trace."""
    onnx: Any = import_module("onnx")
    model = onnx.load(source)
    values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    root = torch.nn.Module()
    graph = torch.fx.Graph()
    steps = {model.graph.input[0].name: graph.placeholder("images")}
    silu = _silu_sigmoids(model.graph.node)
    for index, node in enumerate(model.graph.node):
        if node.op_type == "Constant" or node.output[0] in silu:
            continue
        step = _Step(torch, root, graph, f"step{index}", node, steps, values, silu).add()
        steps.update(zip(node.output, step if isinstance(step, list) else [step], strict=True))
    graph.output(tuple(steps[output.name] for output in model.graph.output))
    return torch.fx.GraphModule(root, graph).eval()


def _silu_sigmoids(nodes: Any) -> set[str]:
    """Return outputs of sigmoids that are only multiplied by their input: the two operators are SiLU."""
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs: set[str] = set()
    for node in nodes:
        next_nodes = readers.get(node.output[0], [])
        is_product = node.op_type == "Sigmoid" and len(next_nodes) == 1 and next_nodes[0].op_type == "Mul"
        if is_product and sorted(next_nodes[0].input) == sorted((node.input[0], node.output[0])):
            outputs.add(node.output[0])
    return outputs


class _Step:
    """One operator of ONNX as a step of a torch.fx graph.

    Args:
        torch: the library.
        root: module that holds the modules of the graph.
        graph: the graph.
        name: name of the step.
        node: the operator.
        steps: earlier steps by the names of their outputs.
        values: constants by name.
        silu: see `_silu_sigmoids`.
    """

    def __init__(
        self,
        torch: Any,
        root: Any,
        graph: Any,
        name: str,
        node: Any,
        steps: dict[str, Any],
        values: dict[str, Any],
        silu: set[str],
    ) -> None:
        self.torch = torch
        self.root = root
        self.graph = graph
        self.name = name
        self.node = node
        helper: Any = import_module("onnx.helper")
        self.attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        names = [name for name in node.input if name not in silu]
        self.is_silu = len(names) < len(node.input)
        self.inputs: list[Any] = [steps.get(name) for name in names]
        self.constants: list[Any] = [values.get(name) for name in names]

    def add(self) -> Any:
        """Add the step and return it; a list for an operator with several outputs."""
        if self.node.op_type == "Slice":
            return self._slice()
        torch = self.torch
        kind = "SiLU" if self.is_silu else self.node.op_type
        attributes = self.attributes
        modules = {
            "Conv": self._convolution,
            "SiLU": torch.nn.SiLU,
            "Sigmoid": torch.nn.Sigmoid,
            "Softmax": lambda: torch.nn.Softmax(dim=attributes["axis"]),
            "MaxPool": lambda: torch.nn.MaxPool2d(
                attributes["kernel_shape"], attributes.get("strides"), attributes.get("pads", [0])[0]
            ),
            "Resize": lambda: torch.nn.Upsample(scale_factor=float(self.constants[2][2]), mode="nearest"),
        }
        if kind in modules:
            self.root.add_module(self.name, modules[kind]())
            return self.graph.call_module(self.name, (self.inputs[0],))
        calls = {
            "Concat": lambda: (torch.cat, (self.inputs, attributes["axis"])),
            "Add": lambda: (operator.add, (self._value(0), self._value(1))),
            "Mul": lambda: (operator.mul, (self._value(0), self._value(1))),
            "MatMul": lambda: (torch.matmul, tuple(self.inputs)),
            "Reshape": lambda: (torch.reshape, (self.inputs[0], tuple(int(side) for side in self.constants[1]))),
            "Transpose": lambda: (torch.permute, (self.inputs[0], tuple(attributes["perm"]))),
            "ReduceSum": lambda: (torch.sum, (self.inputs[0], int(self.constants[1][0]))),
            "Split": lambda: (torch.split, (self.inputs[0], [int(x) for x in self.constants[1]], attributes["axis"])),
        }
        if kind not in calls:
            raise ValueError(f"the operator {kind} is not supported")
        function, arguments = calls[kind]()
        step = self.graph.call_function(function, arguments)
        if kind != "Split":
            return step
        return [self.graph.call_function(operator.getitem, (step, index)) for index in range(len(self.node.output))]

    def _slice(self) -> Any:
        starts, ends, axes = (self.constants[index].tolist() for index in (1, 2, 3))
        slices = [slice(None)] * (max(axes) + 1)
        for axis, start, end in zip(axes, starts, ends, strict=True):
            slices[axis] = slice(start, min(end, 2**31))
        return self.graph.call_function(operator.getitem, (self.inputs[0], tuple(slices)))

    def _value(self, index: int) -> Any:
        if self.inputs[index] is not None:
            return self.inputs[index]
        value = self.constants[index]
        if value.size == 1:
            return float(value.reshape(-1)[0])
        name = f"{self.name}_value{index}"
        self.root.register_buffer(name, self.torch.from_numpy(value.copy()))
        return self.graph.get_attr(name)

    def _convolution(self) -> Any:
        weight = self.constants[1]
        bias = self.constants[2] if len(self.constants) > 2 else None
        groups = self.attributes.get("group", 1)
        pads = self.attributes.get("pads", [0, 0, 0, 0])
        conv = self.torch.nn.Conv2d(
            weight.shape[1] * groups,
            weight.shape[0],
            weight.shape[2:],
            self.attributes.get("strides", [1, 1]),
            (pads[0], pads[1]),
            self.attributes.get("dilations", [1, 1]),
            groups,
            bias is not None,
        )
        conv.weight.data = self.torch.from_numpy(weight.copy())
        if bias is not None:
            conv.bias.data = self.torch.from_numpy(bias.copy())
        return conv


def serve(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Open the 8-bit graph; its scaling is computed in Python, value by value, which takes seconds per image.

    Args:
        job: `path` of the folder.

    Returns:
        Empty `info`, and the function that computes.
    """
    runtime: Any = import_module("onnxruntime")
    runtime.set_default_logger_severity(3)
    _import_torch()
    options = import_module("mct_quantizers").get_ort_session_options()
    graph = str(Path(job["path"]) / "quantized.onnx")
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]
    return {}, lambda images: session.run(names, {name: images})
