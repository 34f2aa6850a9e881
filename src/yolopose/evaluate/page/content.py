"""The scores that the page shows, as JSON values; none of them is HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from yolopose.evaluate.confidence import count_table
from yolopose.evaluate.diagnostics import classes_by_keypoints
from yolopose.evaluate.matching import BoolArray
from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.record import RunRecord, dequantize
from yolopose.results.palette import drawing_schema
from yolopose.schema import COCO_PERSON_NAMES, KeypointSchema

Json = dict[str, Any]
Positions = list[list[float] | None]

_KINDS = (("Poses", "pose", "P"), ("Boxes", "box", "B"))
_MAX_FIGURES = 6  # where classes have their own keypoint names
_MAX_EXAMPLES = 500  # ground truths among which an example is chosen
# front view, with an enlarged head so that its keypoints do not overlap; the person's left is on the viewer's right
_PERSON = {
    "nose": (50, 40), "left_eye": (63, 24), "right_eye": (37, 24), "left_ear": (80, 34), "right_ear": (20, 34),
    "left_shoulder": (76, 66), "right_shoulder": (24, 66), "left_elbow": (92, 98), "right_elbow": (8, 98),
    "left_wrist": (100, 132), "right_wrist": (0, 132), "left_hip": (66, 132), "right_hip": (34, 132),
    "left_knee": (70, 172), "right_knee": (30, 172), "left_ankle": (72, 212), "right_ankle": (28, 212),
}  # fmt: skip


def page_content(metrics: PoseMetrics) -> Json:
    """Return everything that the page shows except the images."""
    record = metrics.record
    info = record.run_info
    return to_json_values(
        {
            "title": f"{info['model'] or 'Network'} on {info['data']}, {info['split']}",
            "facts": _facts(record),
            "notes": _notes(record),
            "scores": _scores(metrics),
            "pixels": _pixels(metrics),
            "visibility": None if metrics.visibility is None else metrics.visibility.summary(),
            "classes": _class_scores(metrics),
            "coco": info.get("coco", {}),
            "counts": count_table(record, metrics.names),
            "calibration": {kind: _calibration(metrics, kind) for _, kind, _ in _KINDS},
            "keypoints": _keypoints(metrics),
            "errors": _errors(metrics),
            "slices": metrics.slices.rows,
        }
    )


def to_json_values(value: Any) -> Any:
    """Return values that JSON can hold: NaN and infinity become None, other floats get five digits."""
    if isinstance(value, Mapping):
        return {str(key): to_json_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json_values(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value


def embedded_json(value: Any) -> str:
    """Return ASCII JSON without `<`, `>` and `&`, which is safe inside a `<script>` element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    info, options = record.run_info, record.run_info["options"]
    height, width = options["imgsz"]
    rect = ", rectangular batches" if options["rect"] else ""
    facts = [
        ("Network", f"{info['model'] or 'unnamed'} on {info['device']}"),
        ("Data", f"{info['data']}, split {info['split']}"),
        ("Images", f"{len(record.image_names):,}"),
        ("Instances", f"{len(record.gt_class):,}"),
        ("Detections", f"{len(record.det_score):,} with confidence above {options['conf']:g}"),
        ("Input", f"{height} × {width} px{rect}, batch {options['batch']}"),
        ("NMS", f"IoU {options['iou']:g}, at most {options['max_det']} detections per image"),
    ]
    flags = [name for name in ("half", "augment", "single_cls") if options[name]]
    if flags:
        facts.append(("Options", ", ".join(flags)))
    speed = ", ".join(f"{value:.1f} ms {name}" for name, value in info.get("speed", {}).items() if value)
    if speed:
        facts.append(("Speed", f"{speed} per image"))
    return [*facts, ("Created", f"{info['created'].replace('T', ' ')} by yolopose {info['version']}")]


def _notes(record: RunRecord) -> list[str]:
    notes: list[str] = []
    refused, names = record.run_info["refused"], record.run_info["refused_names"]
    if refused:
        listed = f": {', '.join(names)}{' …' if len(names) < refused else ''}"
        total = len(record.image_names) + refused
        notes.append(f"{refused} of {total} images could not be read and do not count{listed}.")
    if not len(record.det_score):
        notes.append("The network detected nothing in any image, so that every score is 0.")
    return notes


def _scores(metrics: PoseMetrics) -> Json:
    intervals = metrics.intervals
    first = next(iter(intervals.values()))
    rows: list[Json] = []
    for title, kind, letter in _KINDS:
        metric = metrics.pose if kind == "pose" else metrics.box
        for name in ("mAP50-95", "mAP50"):
            interval = intervals[f"{name}({letter})"]
            row = {"kind": title, "name": name, "value": interval.value, "low": interval.low, "high": interval.high}
            rows.append(row)
        rows.append({"kind": title, "name": "Precision", "value": metric.mp})
        rows.append({"kind": title, "name": "Recall", "value": metric.mr})
    return {"rows": rows, "level": first.level, "draws": first.draws}


def _pixels(metrics: PoseMetrics) -> Json | None:
    """Return the keypoint errors in pixels; None if no keypoint is labeled."""
    errors = metrics.pixels
    if not errors.num_labeled:
        return None
    interval = metrics.intervals.get("pixels/mean")
    pck: list[Json] = []
    for limit, share in errors.pck.items():
        ends = metrics.intervals[f"pixels/PCK@{limit}px"]
        pck.append({"name": f"PCK@{limit}px", "value": share, "low": ends.low, "high": ends.high})
    return {
        "mean": errors.mean,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "median": errors.median,
        "rmse": errors.rmse,
        "share": errors.mean_share,
        "pck": pck,
        "labeled": errors.num_labeled,
        "undetected": errors.undetected,
    }


def _class_scores(metrics: PoseMetrics) -> list[Json]:
    """Return counts, and P, R, mAP50, mAP50-95 of boxes, then of poses, of each class of the ground truth."""
    return [
        {
            "name": metrics.names[cls],
            "images": int(metrics.nt_per_image[cls]),
            "instances": int(metrics.nt_per_class[cls]),
            "values": metrics.class_result(row),
        }
        for row, cls in enumerate(metrics.ap_class_index.tolist())
    ]


def _calibration(metrics: PoseMetrics, kind: str) -> Json:
    curve = metrics.reliability(kind)
    bins = zip(curve.count.tolist(), curve.confidence.tolist(), curve.hit_rate.tolist(), strict=True)
    return {"ece": curve.ece, "bins": list(bins)}


def _errors(metrics: PoseMetrics) -> Json:
    errors = metrics.errors
    rows = [
        {"name": name, "points": errors.points[name], "cost": cost, "cost50": errors.cost50[name]}
        for name, cost in errors.cost.items()
    ]
    return {"rows": rows, "good": errors.points["good"], "total": sum(errors.points.values())}


def _keypoints(metrics: PoseMetrics) -> Json:
    record, spec, table = metrics.record, metrics.spec, metrics.keypoints
    groups: list[Json] = []
    start = 0
    for number, ((_, points), members) in enumerate(classes_by_keypoints(spec).items()):
        rows = table.rows[start : start + len(points)]
        start += len(points)
        schema, is_person = figure_schema(spec.keypoints, spec.names, members[0])
        positions: Positions | None = None
        if is_person:
            positions = [list(map(float, _PERSON[name])) for name in COCO_PERSON_NAMES]
        elif number < _MAX_FIGURES:
            positions = example_positions(record, np.isin(record.gt_class, members))
        groups.append(
            {
                "title": ", ".join(spec.classes[index] for index in members[:5]),
                "names": [schema.keypoint_names(members[0])[point] for point in points],
                "positions": None if positions is None else [positions[point] for point in points],
                "edges": [[points.index(a), points.index(b)] for a, b in schema.skeleton if {a, b} <= set(points)],
                "is_example": not is_person,
                "rows": [{key: value for key, value in row.items() if key != "Keypoint"} for row in rows],
            }
        )
    return {"groups": groups, "num_pairs": table.num_pairs, "num_gt": table.num_gt}


def figure_schema(schema: KeypointSchema, class_names: dict[int, str], cls: int) -> tuple[KeypointSchema, bool]:
    """Return keypoint names and edges for drawing a class, and whether it is a person with COCO's 17 keypoints."""
    drawn = drawing_schema(schema, schema.count, class_names)
    is_person = drawn.keypoint_names(cls) == COCO_PERSON_NAMES
    if is_person and not drawn.skeleton:
        drawn = KeypointSchema.coco_person()
    return drawn, is_person


def example_positions(record: RunRecord, selected: BoolArray) -> Positions:
    """Return x and y of the keypoints of an example: the ground truth with the most and the best separated keypoints.

    Its unlabeled keypoints are placed at their mean position in other ground truths; None if they are never labeled.

    Args:
        record: the run.
        selected: (N,) the ground truths to choose from.
    """
    rows = np.flatnonzero(selected)
    num_labeled = record.gt_labeled[rows]
    rows = rows[np.argsort(-num_labeled, kind="stable")][:_MAX_EXAMPLES]
    if not len(rows):
        return [None] * record.gt_visibility.shape[1]
    labeled = record.gt_visibility[rows] != 0
    sizes = record.image_size[record.gt_image[rows]]
    points = np.stack([dequantize(record.gt_keypoints[row], size) for row, size in zip(rows, sizes, strict=True)])
    boxes = np.stack([dequantize(record.gt_box[row], size) for row, size in zip(rows, sizes, strict=True)])
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    complete = labeled.sum(axis=1) == labeled.sum(axis=1).max()
    separations = [_separation(points[i, labeled[i]], sides[i]) if complete[i] else -1.0 for i in range(len(rows))]
    best = int(np.argmax(separations))
    # positions as shares of the box, so that instances of different size can be averaged
    shares = np.where(labeled[..., None], (points - boxes[:, None, :2]) / sides[:, None], np.nan)
    known = labeled.any(axis=0)
    mean = np.zeros(shares.shape[1:])
    mean[known] = np.nanmean(shares[:, known], axis=0)
    example = np.where(labeled[best][:, None], shares[best], mean) * sides[best] / sides[best].max() * 200
    return [position if ok else None for position, ok in zip(example.round(1).tolist(), known.tolist(), strict=True)]


def _separation(points: npt.NDArray[Any], side: npt.NDArray[Any]) -> float:
    """Return the mean distance of each keypoint from its nearest one, as a share of the box diagonal."""
    if len(points) < 2:
        return 0.0
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    return float(distances.min(axis=1).mean() / np.linalg.norm(side))
