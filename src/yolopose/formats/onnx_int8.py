"""8-bit ONNX: weights and sums in 8 bits, each between a pair of operators that say by which scale (QDQ)."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.formats.calibration import Calibration, last_steps


def quantised(model: Any, calibration: Calibration) -> Any:
    """Returns an ONNX graph of 32 bits as one of 8.

    Args:
        model: `onnx.ModelProto`; its nodes get names where they have none.
        calibration: pictures that the ranges are taken from.
    """
    library: Any = import_module("onnxruntime.quantization")
    graph = model.graph
    for number, node in enumerate(graph.node):
        node.name = node.name or f"node_{number}"
    # its note that the graph is simple already, so that it asks for no preparation
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    nodes = [(node.name, node.op_type == "Conv", node.input, node.output) for node in graph.node]
    with TemporaryDirectory() as folder:
        target = Path(folder) / "int8.onnx"
        library.quantize_static(
            model,
            str(target),
            _reader(library, calibration, graph.input[0].name),
            quant_format=library.QuantFormat.QDQ,
            per_channel=True,
            activation_type=library.QuantType.QUInt8,
            weight_type=library.QuantType.QInt8,
            nodes_to_exclude=last_steps(nodes),
        )
        return import_module("onnx").load(str(target))


def _reader(library: Any, calibration: Calibration, name: str) -> Any:
    """The pictures as onnxruntime asks for them."""
    inputs = iter(calibration)

    class Reader(library.CalibrationDataReader):
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            found = next(inputs, None)
            return None if found is None else {name: found}

    return Reader()
