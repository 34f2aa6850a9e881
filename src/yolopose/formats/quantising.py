"""8-bit numbers for ONNX and OpenVINO, by NNCF: ranges from pictures, and biases that make up for the rounding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.formats.calibration import Calibration, last_steps
from yolopose.formats.reporting import unreported

Input = npt.NDArray[np.float32]
Node = tuple[str, bool, Iterable[str], Iterable[str]]


@cache
def library() -> Any:
    """Imports NNCF so that it reports to nobody; see `yolopose.formats.openvino.library`."""
    with unreported():
        found = import_module("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return found


def quantised_onnx(model: Any, calibration: Calibration) -> Any:
    """Returns an ONNX graph of 32 bits as one of 8.

    Args:
        model: `onnx.ModelProto`; its nodes get names where they have none.
        calibration: pictures that the ranges are taken from.
    """
    graph = model.graph
    for number, node in enumerate(graph.node):
        node.name = node.name or f"node_{number}"
    nodes = [(node.name, node.op_type == "Conv", node.input, node.output) for node in graph.node]
    name = graph.input[0].name
    return _quantised(model, calibration, nodes, lambda picture: {name: picture})


def quantised_openvino(model: Any, calibration: Calibration) -> Any:
    """Returns an OpenVINO graph of 32 bits as one of 8.

    Args:
        model: `openvino.Model`.
        calibration: pictures that the ranges are taken from.
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
    return _quantised(model, calibration, nodes, lambda picture: picture)


def _quantised(model: Any, calibration: Calibration, nodes: Sequence[Node], given: Callable[[Input], Any]) -> Any:
    nncf = library()
    return nncf.quantize(
        model,
        nncf.Dataset(calibration, given),
        preset=nncf.QuantizationPreset.MIXED,  # SiLU gives more above 0 than below it
        subset_size=len(calibration),
        ignored_scope=nncf.IgnoredScope(names=last_steps(nodes), validate=False),
    )
