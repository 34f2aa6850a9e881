"""What the page is told of its network: `model.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolopose.config import PredictOptions
from yolopose.results.palette import WHITE, Color, color_for, drawing_schema, keypoint_colors, text_color_on
from yolopose.schema import ModelMetadata

_CONF = 0.25  # as in prediction
_LOWEST = 0.01  # of the page's slider


def about_page(metadata: ModelMetadata, bits: int, stem: str) -> dict[str, Any]:
    """Return names, colors, sizes and thresholds as plain values.

    Args:
        metadata: the record of the file.
        bits: of its numbers, 8, 16 or 32.
        stem: name of the export, for a network without one.
    """
    spec, inside = metadata.spec, metadata.args.get("nms")
    rules = inside if isinstance(inside, Mapping) else {}
    schema = drawing_schema(spec.keypoints, spec.keypoints.count, spec.names)
    paints = keypoint_colors(schema.keypoint_names(0), schema.skeleton)
    floor = max(_LOWEST, float(rules.get("conf", 0)))
    return {
        "name": metadata.name or stem,
        "license": metadata.license,
        "imgsz": list(metadata.imgsz),
        "stride": metadata.stride,
        "dynamic": metadata.dynamic,
        "end2end": metadata.end2end,
        "bits": bits,
        "kpt_shape": list(spec.keypoints.shape),
        "classes": [
            {
                "name": name,
                "color": _hex(color_for(index)),
                "ink": _hex(text_color_on(color_for(index), WHITE)),
                "points": list(schema.keypoint_names(index)),
            }
            for index, name in spec.names.items()
        ],
        "points": [_hex(paint) for paint in paints.points],
        "limbs": [[*edge, _hex(paint)] for edge, paint in zip(schema.skeleton, paints.edges, strict=True)],
        "floor": floor,
        "conf": max(_CONF, floor),
        "iou": PredictOptions.iou,
        "max_det": int(rules.get("max_det", PredictOptions.max_det)),
    }


def _hex(paint: Color) -> str:
    blue, green, red = paint
    return f"#{red:02x}{green:02x}{blue:02x}"
