"""8-bit OpenVINO: weights and sums in 8 bits, by NNCF, the quantiser of OpenVINO's maker."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import Any

from yolopose.formats.calibration import Calibration, last_steps
from yolopose.formats.reporting import unreported

_WEIGHTED = ("Convolution", "GroupConvolution")


@cache
def library() -> Any:
    """Imports NNCF so that it reports to nobody; see `yolopose.formats.openvino.library`."""
    with unreported():
        return import_module("nncf")


def quantised(model: Any, calibration: Calibration) -> Any:
    """Returns an OpenVINO graph of 32 bits as one of 8.

    Args:
        model: `openvino.Model`.
        calibration: pictures that the ranges are taken from.
    """
    nncf = library()
    logging.getLogger("nncf").setLevel(logging.ERROR)
    nodes = [
        (
            node.get_friendly_name(),
            node.get_type_name() in _WEIGHTED,
            [given.get_source_output().get_node().get_friendly_name() for given in node.inputs()],
            [node.get_friendly_name()],
        )
        for node in model.get_ordered_ops()
    ]
    return nncf.quantize(
        model,
        nncf.Dataset(calibration),
        preset=nncf.QuantizationPreset.MIXED,  # SiLU gives more above 0 than below it
        subset_size=len(calibration),
        ignored_scope=nncf.IgnoredScope(names=last_steps(nodes), validate=False),
    )
