"""Write tests/fixtures/tracking_scores.json: scores of TrackEval and of `trackers` on the cases of the tests.

Both clash with opencv-python-headless, so they run in an environment of their own. First the similarities of made
sequences are stored in the environment of yolopose, then the scores are computed in the other:

    python tools/tracking_fixture.py sequences
    pip install trackeval trackers && python tools/tracking_fixture.py scores
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "evaluate"))

from tracking_cases import NUM_CASES, random_case  # noqa: E402  # a module of the tests

OUTPUT = ROOT / "tests" / "fixtures" / "tracking_scores.json"
SEQUENCES = ROOT / "tests" / "fixtures" / "tracking_sequences.npz"
NAMES = ("crossing-4", "crowd-6", "reentry-4", "dance-4", "false_positives-6")
FIELDS = {
    "HOTA": ("HOTA", "DetA", "AssA", "LocA", "DetRe", "DetPr", "AssRe", "AssPr"),
    "CLEAR": ("MOTA", "MOTP", "IDSW", "Frag", "MT", "PT", "ML", "CLR_TP", "CLR_FP", "CLR_FN"),
    "Identity": ("IDF1", "IDP", "IDR", "IDTP", "IDFP", "IDFN"),
}


def to_data(gt_ids: list[Any], track_ids: list[Any], similarity: list[Any]) -> dict[str, Any]:
    """Return a sequence in the form of TrackEval."""
    return {
        "num_timesteps": len(gt_ids),
        "gt_ids": gt_ids,
        "tracker_ids": track_ids,
        "similarity_scores": similarity,
        "num_gt_dets": sum(map(len, gt_ids)),
        "num_tracker_dets": sum(map(len, track_ids)),
        "num_gt_ids": len(np.unique(np.concatenate(gt_ids))),
        "num_tracker_ids": len(np.unique(np.concatenate(track_ids))),
    }


def to_plain(results: dict[str, Any]) -> dict[str, Any]:
    """Return the compared fields; HOTA for each threshold."""
    names = [name for fields in FIELDS.values() for name in fields]
    return {name: np.asarray(results[name], dtype=float).round(13).tolist() for name in names}


def with_trackeval(sequences: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the scores of each sequence and of all together."""
    import trackeval

    config = {"PRINT_CONFIG": False}
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(config), trackeval.metrics.Identity(config)]
    separate: list[dict[str, Any]] = [{} for _ in sequences]
    combined: dict[str, Any] = {}
    for metric in metrics:
        results = {str(index): metric.eval_sequence(data) for index, data in enumerate(sequences)}
        for index, result in enumerate(results.values()):
            separate[index].update(result)
        combined.update(metric.combine_sequences(results))
    return [to_plain(result) for result in separate], to_plain(combined)


def with_trackers(data: dict[str, Any]) -> dict[str, float]:
    """Return the scores of `trackers`; those of HOTA are means over the thresholds."""
    from trackers.eval import compute_clear_metrics, compute_hota_metrics, compute_identity_metrics

    sides = data["gt_ids"], data["tracker_ids"], data["similarity_scores"]
    results = {**compute_hota_metrics(*sides), **compute_clear_metrics(*sides), **compute_identity_metrics(*sides)}
    return {
        name: round(float(np.mean(results[name])), 13)
        for fields in FIELDS.values()
        for name in fields
        if name in results
    }


def stored_sequences() -> dict[str, list[dict[str, Any]]]:
    """Return the similarities of the made sequences, which the tests compute again."""
    arrays = np.load(SEQUENCES)
    result: dict[str, list[dict[str, Any]]] = {"box": [], "oks": []}
    for index in range(int(arrays["count"])):
        for kind, sequences in result.items():
            lengths = arrays[f"{index}_lengths"]
            gt_ids = np.split(arrays[f"{index}_gt_ids"], np.cumsum(lengths[:, 0])[:-1])
            track_ids = np.split(arrays[f"{index}_track_ids"], np.cumsum(lengths[:, 1])[:-1])
            flat = np.split(arrays[f"{index}_{kind}"].astype(float), np.cumsum(lengths.prod(axis=1))[:-1])
            pairs = [part.reshape(*shape) for part, shape in zip(flat, lengths, strict=True)]
            sequences.append(to_data(gt_ids, track_ids, pairs))
    return result


def store_sequences() -> None:
    """Write the ids and similarities of short made sequences with a simple tracker that takes the largest IoU."""
    from dataclasses import replace

    from yolopose.data.figures.sequences import SEQUENCES as SPECS
    from yolopose.data.figures.sequences import FigureSequence
    from yolopose.evaluate.tracking import associate

    arrays: dict[str, Any] = {"count": len(NAMES)}
    for index, name in enumerate(NAMES):
        sequence = FigureSequence(name, 0, replace(SPECS[name], frames=60))
        tracks = link(sequence.detections)
        for kind in ("box", "oks"):
            pairs = associate(tracks, sequence.gt, kind)
            arrays[f"{index}_{kind}"] = np.concatenate([part.ravel() for part in pairs.similarity]).astype(np.float32)
            arrays[f"{index}_lengths"] = np.array([part.shape for part in pairs.similarity])
            arrays[f"{index}_gt_ids"] = np.concatenate(pairs.gt_ids)
            arrays[f"{index}_track_ids"] = np.concatenate(pairs.track_ids)
    np.savez_compressed(SEQUENCES, **arrays)
    print(f"Wrote {SEQUENCES}")


def link(detections: Any) -> Any:
    """Return detections with ids: that of the box in the previous frame with the largest IoU above 0.3."""
    from dataclasses import replace

    from yolopose.geometry import box_iou

    ids = np.zeros(len(detections), dtype=np.int64)
    last_ids, last_boxes, next_id = np.zeros(0, np.int64), np.zeros((0, 4)), 1
    for number in detections.frame_numbers.tolist():
        rows = np.flatnonzero(detections.frames == number)
        iou = box_iou(detections.boxes[rows], last_boxes)
        for row in range(len(rows)):
            best = int(iou[row].argmax()) if iou.shape[1] else -1
            if best >= 0 and iou[row, best] > 0.3:
                ids[rows[row]] = last_ids[best]
                iou[:, best] = 0
            else:
                ids[rows[row]], next_id = next_id, next_id + 1
        last_ids, last_boxes = ids[rows], detections.boxes[rows]
    return replace(detections, ids=ids)


def write_scores() -> None:
    """Write the scores."""
    from trackeval.datasets._base_dataset import _BaseDataset

    cases = []
    for seed in range(NUM_CASES):
        case = random_case(seed)
        similarity = [
            _BaseDataset._calculate_box_ious(gt, tracks, box_format="x0y0x1y1")
            for gt, tracks in zip(case.gt_boxes, case.track_boxes, strict=True)
        ]
        cases.append(to_data(case.gt_ids, case.track_ids, similarity))
    separate, combined = with_trackeval(cases)
    fixture: dict[str, Any] = {
        "cases": [
            {"trackeval": row, "trackers": with_trackers(case)} for row, case in zip(separate, cases, strict=True)
        ],
        "combined": combined,
    }
    for kind, sequences in stored_sequences().items():
        rows, together = with_trackeval(sequences)
        fixture[kind] = {
            "sequences": [
                {"trackeval": row, "trackers": with_trackers(data)} for row, data in zip(rows, sequences, strict=True)
            ],
            "combined": together,
        }
    OUTPUT.write_text(json.dumps(fixture, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"Wrote {OUTPUT}: {NUM_CASES} cases")


if __name__ == "__main__":
    COMMANDS = {"sequences": store_sequences, "scores": write_scores}
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(__doc__)
    COMMANDS[sys.argv[1]]()
