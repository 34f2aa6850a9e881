"""Measure three states of visibility, and one network for two classes with different keypoints.

    python benchmarks/keypoint_states.py --data figures-pose.yaml coco-mini.yaml --model yolo11n-pose.pt \\
        --log states.jsonl --seeds 0 1 2 --rows states classes -- epochs=6 imgsz=192 fraction=96

`states` trains each data set with two and with three states, from the same weights, with the same seed: accuracy of
each state, and pose mAP of both, so that the cost of the third state is visible. `classes` merges the first two data
sets into one with two classes, each with its own keypoints, and trains one network on it, and one on each data set;
pose mAP of each class is compared with that of its own network. Options after `--` apply to all runs. Runs are
appended to the log (JSON Lines) and not repeated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from yolopose import YOLO
from yolopose.data.merging import merge_datasets
from yolopose.evaluate import PoseMetrics


def main() -> None:
    """Run what the log does not contain yet and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--model", default="yolo11n-pose.pt")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=("states", "classes"), default=["states", "classes"])
    parser.add_argument("options", nargs="*", help="options of all trainings, after --")
    arguments = parser.parse_args()
    options = dict(option.split("=", 1) for option in arguments.options)
    log = Log(arguments.log, arguments.model, {key: json.loads(value) for key, value in options.items()})
    for seed in arguments.seeds:
        if "states" in arguments.rows:
            for data in arguments.data:
                for states in (2, 3):
                    log.run(f"{Path(data).stem}, {states} states", data, seed, visibility=states)
        if "classes" in arguments.rows:
            first, second = arguments.data[:2]
            with tempfile.TemporaryDirectory() as folder:
                merged = Path(folder) / "merged"
                merge_datasets([first, second], merged)
                log.run("one network", str(merged / "data.yaml"), seed)
            log.run(f"separate: {Path(first).stem}", first, seed)
            log.run(f"separate: {Path(second).stem}", second, seed)
    for name, rows in log.by_name().items():
        values = {key: [row["scores"][key] for row in rows if key in row["scores"]] for key in rows[0]["scores"]}
        text = ", ".join(f"{key} {np.mean(column):.3f} ± {np.std(column):.3f}" for key, column in values.items())
        print(f"{name} ({len(rows)} seeds): {text}")


class Log:
    """Runs in a file of JSON Lines.

    Args:
        path: the file.
        model: weights to start from.
        options: options of all trainings.
    """

    def __init__(self, path: Path, model: str, options: dict[str, Any]) -> None:
        self._path = path
        self._model = model
        self._options = options
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._rows: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def run(self, name: str, data: str, seed: int, **options: Any) -> None:
        """Train and validate, unless the log has this run."""
        if any((row["name"], row["seed"], row["options"]) == (name, seed, self._options) for row in self._rows):
            return
        with tempfile.TemporaryDirectory() as folder:
            settings = {"plots": False, "verbose": False, "device": "cpu", **self._options, **options}
            model = YOLO(self._model)
            model.train(data=data, seed=seed, project=folder, name="run", **settings)
            best = YOLO(Path(folder) / "run" / "weights" / "best.pt")
            imgsz = self._options.get("imgsz", 640)
            metrics = best.val(data=data, imgsz=imgsz, device="cpu", plots=False, verbose=False)
        row = {"name": name, "seed": seed, "options": self._options, "scores": _scores(metrics)}
        self._rows.append(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(row)}\n")
        print(row, flush=True)

    def by_name(self) -> dict[str, list[dict[str, Any]]]:
        """Return the runs of these options by name."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in self._rows:
            if row["options"] == self._options:
                groups.setdefault(row["name"], []).append(row)
        return groups


def _scores(metrics: PoseMetrics) -> dict[str, float]:
    scores = {"pose mAP50-95": float(metrics.pose.map), "box mAP50-95": float(metrics.box.map)}
    if len(metrics.names) > 1:
        for row, cls in enumerate(metrics.ap_class_index.tolist()):
            scores[f"pose mAP50-95 of {metrics.names[cls]}"] = float(metrics.class_result(row)[7])
    if metrics.visibility is not None:
        scores |= metrics.visibility.to_dict()
    return scores


if __name__ == "__main__":
    main()
