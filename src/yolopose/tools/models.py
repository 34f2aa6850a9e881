"""`yolo models`: table of the shipped networks, their sizes and published results."""

from __future__ import annotations

from pathlib import Path

from yolopose import zoo
from yolopose.base.settings import load_settings

_HEADER = (
    "network",
    "parameters",
    "GFLOPs",
    "fused: par.",
    "GFLOPs",
    "mAP50-95",
    "mAP50",
    "CPU ms",
    "T4 ms",
    "weights",
)
_LEFT_ALIGNED = (0, 9)


def models_report() -> str:
    """Return the table as text."""
    rows = [_HEADER, *(_row(size) for size in zoo.network_sizes())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = "\n".join(_format_row(row, widths) for row in rows)
    return f"""{table}

Each name + .yaml is a new network (yolo11n-pose.yaml), each name + .pt its public weights.
Sizes are counted for 1 class and 17 keypoints at 640 x 640; "fused" has the batch norms folded in, as in prediction.
mAP and milliseconds are stated by the publisher of the weights (COCO val2017, 640; CPU with ONNX, T4 GPU with TensorRT)
and were not measured here: that needs the 1 GB of COCO val2017 and these machines.
    yolo pose val model=yolo11n-pose.pt data=coco-pose.yaml download=True     measures the mAP
The public weights are licensed under AGPL-3.0, independently of the license of this package: read it before you
distribute anything made with them. Networks trained from a .yaml carry only your license.
Weights folder: {load_settings().weights_dir}
"""


def _format_row(row: tuple[str, ...], widths: list[int]) -> str:
    columns = (
        f"{text:<{width}}" if index in _LEFT_ALIGNED else f"{text:>{width}}"
        for index, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(columns).rstrip()


def _row(size: zoo.NetworkSize) -> tuple[str, ...]:
    results = size.published
    stated = (results.map, results.map50, results.cpu_onnx_ms, results.t4_tensorrt_ms or "-") if results else ("-",) * 4
    return (
        size.name,
        f"{size.parameters / 1e6:.2f} M",
        f"{size.gflops:.1f}",
        f"{size.fused_parameters / 1e6:.2f} M",
        f"{size.fused_gflops:.1f}",
        *map(str, stated),
        _weights_state(f"{size.name}.pt"),
    )


def _weights_state(name: str) -> str:
    """Return whether public weights with this name exist and are on this machine, and their license."""
    is_local = Path(name).exists() or (Path(load_settings().weights_dir) / name).exists()
    is_published = zoo.public_weights_url(name) is not None
    if not (is_local or is_published):
        return "none"
    return f"{'on this machine' if is_local else 'downloaded on use'}, {zoo.public_weights_license()}"
