"""Web page: a folder with the network as ONNX, onnxruntime-web and a page, for any static web server.

The files in `parts/` are served unchanged. The page sends nothing: its Content-Security-Policy allows no other server.
Here, the ONNX file in the folder is run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from yolopose.config import PREDICT_CONF, PredictOptions
from yolopose.formats import onnx
from yolopose.formats.metadata import find_file
from yolopose.formats.protocol import ExportJob, ExportReport
from yolopose.formats.web.onnxruntime_web import fetch_runtime, package_name, runtime_files
from yolopose.results.palette import WHITE, Color, color_for, drawing_schema, keypoint_colors, text_color_on
from yolopose.schema import ModelMetadata

__all__ = ["export", "fetch_runtime", "load", "page_metadata"]

_NETWORK = "model.onnx"
_SUFFIX = "_web_page"
_LICENSE = "onnxruntime-web-LICENSE.txt"
_MIN_CONF = 0.01  # of the page's slider


def load(path: Path, device: object = None, half: bool = False) -> onnx.OnnxRuntime:
    """Open the ONNX file in the folder; see `Format.load`."""
    return onnx.load(find_file(path, ".onnx", "the network"), device, half)


def export(job: ExportJob, path: Path) -> ExportReport:
    """Write the folder of a page; see `Format.export`.

    Raises:
        DependencyError: onnxruntime-web is not available, and its download was not requested.
        DownloadError: it cannot be downloaded.
        NotFoundError: it is not where `web_runtime` points.
        UsageError: `web_runtime` points to another version.
    """
    runtime = runtime_files(job.settings.web_runtime)
    report = onnx.export(job, path / _NETWORK)
    (path / "runtime").mkdir()
    for name, content in runtime.items():
        # servers that do not know .mjs send a media type that browsers refuse for scripts
        (path / "runtime" / name.replace(".mjs", ".js")).write_bytes(content)
    for part in (files("yolopose.formats.web") / "parts").iterdir():
        target = path / "runtime" / "LICENSE.txt" if part.name == _LICENSE else path / part.name
        target.write_bytes(part.read_bytes())
    values = page_metadata(job.metadata, job.bits, path.name.removesuffix(_SUFFIX))
    (path / "model.json").write_text(json.dumps({"file": _NETWORK, **values}, ensure_ascii=False), encoding="utf-8")
    usage = "\nOpen:      python -m http.server --directory {path} 8000   and visit http://localhost:8000"
    return ExportReport(f"{report.summary}, with {package_name()}", usage=usage)


def page_metadata(metadata: ModelMetadata, bits: int, stem: str) -> dict[str, Any]:
    """Return what the page reads from `model.json`: names, colors, sizes and thresholds.

    Args:
        metadata: metadata of the file.
        bits: precision of the file: 8, 16 or 32.
        stem: name of the export, for a network without a name.
    """
    spec = metadata.spec
    nms = metadata.args.get("nms")
    rules = nms if isinstance(nms, Mapping) else {}
    schema = drawing_schema(spec.keypoints, spec.keypoints.count, spec.names)
    colors = keypoint_colors(schema.keypoint_names(0), schema.skeleton)
    min_conf = max(_MIN_CONF, float(rules.get("conf", 0)))
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
        "points": [_hex(color) for color in colors.points],
        "limbs": [[*edge, _hex(color)] for edge, color in zip(schema.skeleton, colors.edges, strict=True)],
        "floor": min_conf,
        "conf": max(PREDICT_CONF, min_conf),
        "iou": PredictOptions.iou,
        "max_det": int(rules.get("max_det", PredictOptions.max_det)),
    }


def _hex(color: Color) -> str:
    blue, green, red = color
    return f"#{red:02x}{green:02x}{blue:02x}"
