"""Sony's IMX500: ONNX to 8-bit numbers and the archive that goes onto the sensor; and what runs the 8-bit graph."""

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
        job: `source`, an ONNX file; `target`, a folder; `calibration`, a file of uint8 images (N, 1, 3, H, W).

    Returns:
        `files`: names of what was written.
    """
    np, torch = import_module("numpy"), _torch()
    mct: Any = import_module("model_compression_toolkit")
    imgs = np.load(job["calibration"], mmap_mode="r")

    def shown() -> Any:
        for batch in imgs:
            yield [(batch / np.float32(255)).astype(np.float32)]

    network = _network(torch, job["source"])
    capabilities = mct.get_target_platform_capabilities("pytorch", "imx500")
    quantized, _ = mct.ptq.pytorch_post_training_quantization(
        in_module=network, representative_data_gen=shown, target_platform_capabilities=capabilities
    )
    graph = Path(job["target"]) / "quantized.onnx"
    export = torch.onnx.export
    torch.onnx.export = lambda *args, **named: export(*args, **{**named, "dynamo": False})  # it names no exporter
    mct.exporter.pytorch_export_model(quantized, save_model_path=str(graph), repr_dataset=shown)
    program = Path(sys.executable).parent / "imxconv-pt"
    command = [str(program), "-i", str(graph), "-o", "sensor", "--no-input-persistency", "--overwrite-output"]
    subprocess.run(command, check=True)  # noqa: S603  # of the toolchain
    shutil.copyfile("sensor/packerOut.zip", Path(job["target"]) / "packerOut.zip")
    return {"files": sorted(path.name for path in Path(job["target"]).iterdir())}


def _torch() -> Any:
    """Import torch so that torchvision loads beside it, whose operators are of another build and are not used."""
    torch: Any = import_module("torch")
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch._kept = library  # its definitions go with it
    return torch


def _network(torch: Any, source: str) -> Any:
    """An ONNX graph of the few operators that the networks have, as a module of torch that its quantizer can follow."""
    onnx: Any = import_module("onnx")
    model = onnx.load(source)
    values = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            values[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    root, graph = torch.nn.Module(), torch.fx.Graph()
    found = {model.graph.input[0].name: graph.placeholder("images")}
    squashed = _squashed(model.graph.node)
    for place, node in enumerate(model.graph.node):
        if node.op_type == "Constant" or node.output[0] in squashed:
            continue
        made = _Step(torch, root, graph, f"step{place}", node, found, values, squashed).made()
        found.update(zip(node.output, made if isinstance(made, list) else [made], strict=True))
    graph.output(tuple(found[output.name] for output in model.graph.output))
    return torch.fx.GraphModule(root, graph).eval()


def _squashed(nodes: Any) -> set[str]:
    """Sigmoids that only the product with what they are of reads: the two are SiLU."""
    readers: dict[str, list[Any]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found: set[str] = set()
    for node in nodes:
        after = readers.get(node.output[0], [])
        product = node.op_type == "Sigmoid" and len(after) == 1 and after[0].op_type == "Mul"
        if product and sorted(after[0].input) == sorted((node.input[0], node.output[0])):
            found.add(node.output[0])
    return found


class _Step:
    """One operator on its way into a graph of torch.fx.

    Args:
        torch: the library.
        root: keeps the modules of the graph.
        graph: where the step is put.
        name: of the step.
        node: the operator.
        found: steps by the names of what they give.
        values: constants by their names.
        squashed: see `_squashed`.
    """

    def __init__(
        self, torch: Any, root: Any, graph: Any, name: str, node: Any, found: dict[str, Any], values: dict[str, Any],
        squashed: set[str],
    ) -> None:  # fmt: skip
        self.torch, self.root, self.graph, self.name, self.node = torch, root, graph, name, node
        helper: Any = import_module("onnx.helper")
        self.settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        names = [name for name in node.input if name not in squashed]
        self.silu = len(names) < len(node.input)
        self.given: list[Any] = [found.get(name) for name in names]
        self.fixed: list[Any] = [values.get(name) for name in names]

    def made(self) -> Any:
        """Put it there; a list for an operator of several results."""
        if self.node.op_type == "Slice":
            return self._slice()
        torch, kind = self.torch, "SiLU" if self.silu else self.node.op_type
        settings = self.settings
        modules = {
            "Conv": self._convolution,
            "SiLU": torch.nn.SiLU,
            "Sigmoid": torch.nn.Sigmoid,
            "Softmax": lambda: torch.nn.Softmax(dim=settings["axis"]),
            "MaxPool": lambda: torch.nn.MaxPool2d(
                settings["kernel_shape"], settings.get("strides"), settings.get("pads", [0])[0]
            ),
            "Resize": lambda: torch.nn.Upsample(scale_factor=float(self.fixed[2][2]), mode="nearest"),
        }
        if kind in modules:
            self.root.add_module(self.name, modules[kind]())
            return self.graph.call_module(self.name, (self.given[0],))
        calls = {
            "Concat": lambda: (torch.cat, (self.given, settings["axis"])),
            "Add": lambda: (operator.add, (self._value(0), self._value(1))),
            "Mul": lambda: (operator.mul, (self._value(0), self._value(1))),
            "MatMul": lambda: (torch.matmul, tuple(self.given)),
            "Reshape": lambda: (torch.reshape, (self.given[0], tuple(int(side) for side in self.fixed[1]))),
            "Transpose": lambda: (torch.permute, (self.given[0], tuple(settings["perm"]))),
            "ReduceSum": lambda: (torch.sum, (self.given[0], int(self.fixed[1][0]))),
            "Split": lambda: (torch.split, (self.given[0], [int(x) for x in self.fixed[1]], settings["axis"])),
        }
        if kind not in calls:
            raise ValueError(f"the operator {kind} is not known here")
        function, arguments = calls[kind]()
        step = self.graph.call_function(function, arguments)
        if kind != "Split":
            return step
        return [self.graph.call_function(operator.getitem, (step, place)) for place in range(len(self.node.output))]

    def _slice(self) -> Any:
        starts, ends, axes = (self.fixed[place].tolist() for place in (1, 2, 3))
        cut = [slice(None)] * (max(axes) + 1)
        for axis, start, end in zip(axes, starts, ends, strict=True):
            cut[axis] = slice(start, min(end, 2**31))
        return self.graph.call_function(operator.getitem, (self.given[0], tuple(cut)))

    def _value(self, place: int) -> Any:
        if self.given[place] is not None:
            return self.given[place]
        value = self.fixed[place]
        if value.size == 1:
            return float(value.reshape(-1)[0])
        name = f"{self.name}_value{place}"
        self.root.register_buffer(name, self.torch.from_numpy(value.copy()))
        return self.graph.get_attr(name)

    def _convolution(self) -> Any:
        weight, bias = self.fixed[1], self.fixed[2] if len(self.fixed) > 2 else None
        groups, pads = self.settings.get("group", 1), self.settings.get("pads", [0, 0, 0, 0])
        conv = self.torch.nn.Conv2d(
            weight.shape[1] * groups, weight.shape[0], weight.shape[2:], self.settings.get("strides", [1, 1]),
            (pads[0], pads[1]), self.settings.get("dilations", [1, 1]), groups, bias is not None,
        )  # fmt: skip
        conv.weight.data = self.torch.from_numpy(weight.copy())
        if bias is not None:
            conv.bias.data = self.torch.from_numpy(bias.copy())
        return conv


def serve(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Open the 8-bit graph, whose scaling is computed in Python, value by value: some seconds for an image.

    Args:
        job: `path` of the folder.

    Returns:
        Nothing of itself; and what computes.
    """
    runtime: Any = import_module("onnxruntime")
    runtime.set_default_logger_severity(3)
    _torch()
    options = import_module("mct_quantizers").get_ort_session_options()
    graph = str(Path(job["path"]) / "quantized.onnx")
    session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]
    return {}, lambda images: session.run(names, {given: images})
