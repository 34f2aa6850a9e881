"""`yolo models`: tables of the shipped networks and of those of other packages, with license and published results."""

from __future__ import annotations

from pathlib import Path

from yolopose import zoo
from yolopose.base.errors import UsageError
from yolopose.base.settings import load_settings
from yolopose.foreign.table import ForeignModel, foreign_models

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


def models_report(license_name: object = None) -> str:
    """Return the tables as text.

    Args:
        license_name: list only networks with weights under this license; `permissive` for those that permit commercial
            use and redistribution; None for all.

    Raises:
        UsageError: no weights have such a license.
    """
    wanted = None if license_name is None else str(license_name).strip().lower()
    rows = [row for row in foreign_models() if wanted is None or _has_license(row, wanted)]
    own = wanted is None or wanted == zoo.public_weights_license().lower()
    if not rows and not own:
        known = sorted({zoo.public_weights_license(), *(row.license for row in foreign_models())})
        raise UsageError(f"license={license_name} matches no network: use permissive, {', '.join(known)}.")
    parts = ([_own_report()] if own else []) + ([_foreign_report(rows)] if rows else [])
    return "\n".join([*parts, f"Weights folder: {load_settings().weights_dir}"])


def _has_license(row: ForeignModel, wanted: str) -> bool:
    return row.permissive if wanted == "permissive" else row.license.lower().startswith(wanted)


def _own_report() -> str:
    table = _table([_HEADER, *(_row(size) for size in zoo.network_sizes())], _LEFT_ALIGNED)
    return f"""{table}

Each name + .yaml is a new network (yolo11n-pose.yaml), each name + .pt its public weights.
Sizes are counted for 1 class and 17 keypoints at 640 x 640; "fused" has the batch norms folded in, as in prediction.
mAP and milliseconds are stated by the publisher of the weights (COCO val2017, 640; CPU with ONNX, T4 GPU with TensorRT)
and were not measured here: that needs the 1 GB of COCO val2017 and these machines.
    yolo pose val model=yolo11n-pose.pt data=coco-pose.yaml download=True     measures the mAP
The public weights are licensed under AGPL-3.0, independently of the license of this package: read it before you
distribute anything made with them. Networks trained from a .yaml carry only your license.
"""


def _foreign_report(rows: list[ForeignModel]) -> str:
    lines: list[str] = []
    for family in dict.fromkeys(row.family for row in rows):
        members = [row for row in rows if row.family == family]
        lines += ["", f"{family}: {members[0].source}", f"  training data: {members[0].data}"]
        lines += [f"  {line}" for line in _table([_foreign_row(row) for row in members], (0, 3, 4, 5)).splitlines()]
    return f"""Networks of other packages, run as they are by yolopose (predict, track, label, val, benchmark)
name, keypoints, input, published AP, license of the weights, file{chr(10).join(lines)}

AP is stated by the projects and was not measured here. A file is downloaded only when its name is used, as in
    yolo pose predict model=rtmo-s source=image.jpg
Top-down networks need boxes: detector=rtmo-t, or given_boxes=. The license is that of the weights; the terms of the
training data are a separate question (docs/license.md).
"""


def _foreign_row(row: ForeignModel) -> tuple[str, ...]:
    ap = "-" if row.ap is None else f"{row.ap:.1f} ({row.ap_of})"
    name = f"{row.name}{row.suffix}"
    is_local = Path(name).exists() or (Path(load_settings().weights_dir) / name).exists()
    state = "on this machine" if is_local else "downloaded on use" if row.url else "to be exported by you"
    return row.name, str(row.count), row.imgsz, ap, row.license, state


def _table(rows: list[tuple[str, ...]], left: tuple[int, ...]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_format_row(row, widths, left) for row in rows)


def _format_row(row: tuple[str, ...], widths: list[int], left: tuple[int, ...]) -> str:
    columns = (
        f"{text:<{width}}" if index in left else f"{text:>{width}}"
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
