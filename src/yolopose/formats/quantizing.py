"""8-bit numbers for ONNX and OpenVINO, each by the quantizer of its own maker; ranges are taken from images."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.formats.calibration import Calibration, outer_steps
from yolopose.formats.reporting import telemetry_disabled

# a range is the mean of those of the images, each counting by this share beside all before it: a single bright spot
# does not spoil it
_SHARE = 0.05


def quantized_onnx(model: Any, calibration: Calibration) -> Any:
    """Return an ONNX graph of 32 bits as one of 8: each sum stands between operators that say by which scale (QDQ).

    Args:
        model: `onnx.ModelProto`; its nodes get names where they have none.
        calibration: images that the ranges are taken from.
    """
    library: Any = import_module("onnxruntime.quantization")
    graph = model.graph
    for number, node in enumerate(graph.node):
        node.name = node.name or f"node_{number}"
    # its own mark of a graph that needs no simplifying before, without which it logs two warnings
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
            nodes_to_exclude=outer_steps(nodes),
            extra_options={"CalibMovingAverage": True, "CalibMovingAverageConstant": _SHARE},
        )
        return import_module("onnx").load(str(target))


def _reader(library: Any, calibration: Calibration, name: str) -> Any:
    """The images as onnxruntime asks for them."""
    inputs = iter(calibration)

    class Reader(library.CalibrationDataReader):
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            found = next(inputs, None)
            return None if found is None else {name: found}

    return Reader()


@cache
def library() -> Any:
    """Import NNCF so that it reports to nobody; see `yolopose.formats.openvino.library`."""
    with telemetry_disabled():
        found = import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return found


def quantized_openvino(model: Any, calibration: Calibration) -> Any:
    """Return an OpenVINO graph of 32 bits as one of 8.

    Args:
        model: `openvino.Model`.
        calibration: images that the ranges are taken from.
    """

    def name(node: Any) -> str:
        return str(node.get_friendly_name())

    nodes = [
        (
            name(node),
            node.get_type_name() in ("Convolution", "GroupConvolution"),
            [name(given.get_source_output().get_node()) for given in node.inputs()],
            [name(node)],
        )
        for node in model.get_ordered_ops()
    ]
    nncf = library()
    return nncf.quantize(
        model,
        nncf.Dataset(calibration),
        preset=nncf.QuantizationPreset.MIXED,  # SiLU gives more above 0 than below it
        subset_size=len(calibration),
        ignored_scope=nncf.IgnoredScope(names=outer_steps(nodes), validate=False),
    )
