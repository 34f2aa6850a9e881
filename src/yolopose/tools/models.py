"""`yolo models`: the networks that ship, how large they are, and what is published about them."""

from __future__ import annotations

from pathlib import Path

from yolopose import zoo
from yolopose.base.settings import load_settings
from yolopose.zoo.networks import NetworkSize, network_sizes

_HEAD = ("network", "parameters", "GFLOPs", "fused: par.", "GFLOPs", "mAP50-95", "mAP50", "CPU ms", "T4 ms", "weights")


def report() -> str:
    """Return the table as text."""
    sizes = network_sizes()
    rows = [_HEAD, *(_row(size) for size in sizes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    table = "\n".join(
        "  ".join(f"{cell:<{width}}" if not column or column == 9 else f"{cell:>{width}}" for column, (cell, width)
                  in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    )  # fmt: skip
    return f"""{table}

Each name + .yaml is a new network (yolo11n-pose.yaml), each name + .pt its public weights.
Sizes are for 1 class and 17 points at 640 x 640, counted; "fused" has the batch norms folded in, as prediction runs it.
mAP and milliseconds are what the publisher of the weights states (COCO val2017, 640; CPU with ONNX, T4 GPU with
TensorRT). They are not measured here: that takes the 1 GB of COCO val2017 and those machines.
    yolo pose val model=yolo11n-pose.pt data=coco-pose.yaml download=True     measures the mAP again
The public weights are under AGPL-3.0, whatever the license of this package is: read it before you pass on what you
make from them. Networks trained from a .yaml carry no license but yours.
Weights are kept in {load_settings().weights_dir}
"""


def _row(size: NetworkSize) -> tuple[str, ...]:
    about = size.published
    stated = (about.map, about.map50, about.cpu_onnx_ms, about.t4_tensorrt_ms) if about else ("-",) * 4
    return (
        size.name, f"{size.parameters / 1e6:.2f} M", f"{size.gflops:.1f}", f"{size.fused_parameters / 1e6:.2f} M",
        f"{size.fused_gflops:.1f}", *map(str, stated), _state(f"{size.name}.pt"),
    )  # fmt: skip


def _state(name: str) -> str:
    """Whether public weights of this name are on this disk, and under which license they stand."""
    there = Path(name).exists() or (Path(load_settings().weights_dir) / name).exists()
    published = zoo.public_weights_url(name) is not None
    return ("here" if there else "downloaded when named") + ", AGPL-3.0" if published or there else "none"
