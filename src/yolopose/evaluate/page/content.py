"""The numbers of the page, as plain values; nothing here is text for HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from yolopose.evaluate.metrics import PoseMetrics
from yolopose.evaluate.page.counts import count_table
from yolopose.evaluate.page.layout import Places, edges_of, example_places, figure_of, person_places
from yolopose.evaluate.record import Record

Json = dict[str, Any]
_KINDS = (("Poses", "pose", "P"), ("Boxes", "box", "B"))
_FIGURES = 6  # drawn at most, where classes have names of their own
_SLICES = ("By", "Part", "Truths", "Box-mAP50-95", "Pose-mAP50-95")


def content(metrics: PoseMetrics, record: Record) -> Json:
    """Return everything that the page shows but the images.

    Args:
        metrics: the scored run.
        record: its record.
    """
    about = record.about
    return plain(
        {
            "title": f"{about['model'] or 'Network'} on {about['data']}, {about['split']}",
            "facts": _facts(record),
            "notes": _notes(record),
            "numbers": _numbers(metrics),
            "classes": metrics_by_class(metrics),
            "coco": about.get("coco", {}),
            "counts": count_table(record, metrics.names),
            "trust": {kind: _trust(metrics, kind) for _, kind, _ in _KINDS},
            "keypoints": _keypoints(metrics, record),
            "errors": _errors(metrics),
            "slices": [{key: row[key] for key in _SLICES} for row in metrics.slices.rows],
        }
    )


def plain(value: Any) -> Any:
    """Return the value as JSON can hold it: numbers that are none become None, others five digits."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value


def _facts(record: Record) -> list[tuple[str, str]]:
    about, options = record.about, record.about["options"]
    size = options["imgsz"]
    conf = 0.001 if options["conf"] is None else options["conf"]
    speed = ", ".join(f"{value:.1f} ms {name}" for name, value in about.get("speed", {}).items() if value)
    found = [
        ("Network", f"{about['model'] or 'without a name'} on {about['device']}"),
        ("Data", f"{about['data']}, split {about['split']}"),
        ("Images", f"{len(record.names):,}"),
        ("Objects", f"{len(record.truth_cls):,}"),
        ("Detections", f"{len(record.score):,} from confidence {conf:g} on"),
        ("Input", f"{size if isinstance(size, int) else ' × '.join(map(str, size))} px, batch {options['batch']}"),
        ("Suppression", f"IoU {options['iou']:g}, {options['max_det']} an image at most"),
    ]
    flags = [name for name in ("half", "augment", "single_cls") if options[name]]
    found += [("With", ", ".join(flags))] if flags else []
    found += [("Speed", f"{speed} an image")] if speed else []
    return [*found, ("Written", f"{about['made'].replace('T', ' ')} by yolopose {about['version']}")]


def _notes(record: Record) -> list[str]:
    notes: list[str] = []
    refused = record.about["refused"]
    if refused:
        some = record.about.get("refused_names", [])  # records of earlier versions have none
        named = f": {', '.join(some)}{' …' if len(some) < refused else ''}" if some else ""
        notes.append(f"{refused} of {len(record.names) + refused} images could not be read and do not count{named}.")
    if not len(record.score):
        notes.append("The network found nothing in any image, so every number is 0.")
    return notes


def _numbers(metrics: PoseMetrics) -> Json:
    found = metrics.intervals
    first = next(iter(found.values()))
    rows: list[Json] = []
    for words, kind, letter in _KINDS:
        metric = metrics.pose if kind == "pose" else metrics.box
        for name in ("mAP50-95", "mAP50"):
            one = found[f"{name}({letter})"]
            rows.append({"kind": words, "name": name, "value": one.value, "low": one.low, "high": one.high})
        rows += [{"kind": words, "name": name, "value": v} for name, v in (("P", metric.mp), ("R", metric.mr))]
    return {"rows": rows, "level": first.level, "draws": first.draws}


def metrics_by_class(metrics: PoseMetrics) -> list[Json]:
    """Return a row for each class that occurs in the truth: images, objects, P, R, mAP50, mAP50-95 of both kinds."""
    return [
        {
            "name": metrics.names[int(index)],
            "images": int(metrics.nt_per_image[index]),
            "objects": int(metrics.nt_per_class[index]),
            "values": metrics.class_result(row),
        }
        for row, index in enumerate(metrics.ap_class_index)
    ]


def _trust(metrics: PoseMetrics, kind: str) -> Json:
    found = metrics.reliability(kind)
    bins = zip(found.count.tolist(), found.confidence.tolist(), found.hit_rate.tolist(), strict=True)
    return {"ece": found.ece, "best_conf": found.best_conf, "best_f1": found.best_f1, "bins": list(bins)}


def _keypoints(metrics: PoseMetrics, record: Record) -> Json:
    scores, groups = metrics.keypoints, list[Json]()
    spec = metrics.spec
    assert spec is not None  # noqa: S101  # the record came with it
    count = spec.keypoints.count
    members: dict[tuple[str, ...], list[int]] = {}
    for index in range(spec.nc):
        members.setdefault(spec.keypoints.keypoint_names(index), []).append(index)
    for number, classes in enumerate(members.values()):
        rows = scores.rows[number * count : (number + 1) * count]
        schema, person = figure_of(spec.keypoints, spec.names, classes[0])
        places: Places | None = None
        if number < _FIGURES:
            among = sum((record.truth_cls == cls for cls in classes), start=record.truth_cls < 0)
            places = person_places() if person else example_places(record, among)
        groups.append(
            {
                "title": ", ".join(spec.classes[index] for index in classes[:5]),
                "names": schema.keypoint_names(classes[0]),
                "places": places,
                "edges": edges_of(schema),
                "example": not person,
                "rows": [{key: value for key, value in row.items() if key != "Keypoint"} for row in rows],
            }
        )
    return {"groups": groups, "paired": scores.paired, "truths": scores.truths}


def _errors(metrics: PoseMetrics) -> Json:
    errors = metrics.errors
    rows = [
        {"name": name, "points": errors.points[name], "cost": errors.cost[name], "cost50": errors.cost50[name]}
        for name in errors.cost
    ]
    return {"rows": rows, "good": errors.points["good"], "total": sum(errors.points.values())}
