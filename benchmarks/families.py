"""Milliseconds an image of several networks beside one another, and where an engine spends them.

    python benchmarks/families.py --models yolo11n-pose.yaml yolo26n-pose.yaml --image bus.jpg

Whole calls of `predict` are timed in turn. Then each network is computed alone, the engine's own profiler on, and its
kernels are summed by kind. Weights make no difference to the time of a network, so a YAML does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from yolopose import YOLO
from yolopose.nn.head26 import Pose26

SUFFIXES = {"pt": ".pt", "onnx": ".onnx", "openvino": "_openvino_model"}
ENGINES = tuple(SUFFIXES)
KINDS = {  # by what the engines call their kernels; the first that fits
    "convolution": ("conv", "deconv", "reorder"),
    "activation": ("silu", "sigmoid", "swish", "gelu", "eltwise"),
    "attention": ("matmul", "gemm", "bmm", "softmax", "fullyconnected", "mha", "scaleddot"),
    "top-k, gathering": ("topk", "gather", "reduce", "argmax", "index", "sort", "max_"),
    "joining, pooling, resizing": ("cat", "pool", "upsample", "resize", "interpol", "split", "slice", "copy", "clone"),
}
Parts = Counter[str]


def kind_of(name: str) -> str:
    plain = name.lower().replace("aten::", "").replace("_", "")
    if "pool" in plain:  # "maxpool" is no "max"
        return "joining, pooling, resizing"
    return next((kind for kind, words in KINDS.items() if any(w.replace("_", "") in plain for w in words)), "the rest")


def parts_of_torch(weights: Path, end2end: bool, rounds: int) -> Parts:
    network = YOLO(weights).model.eval().select_output(end2end=end2end).fuse()
    image = torch.rand(1, 3, 640, 640)
    with torch.inference_mode():
        network(image)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            for _ in range(rounds):
                network(image)
    parts: Parts = Counter()
    for event in seen.key_averages():
        parts[kind_of(event.key)] += event.self_cpu_time_total / rounds / 1000
    return parts


def parts_of_onnx(path: Path, rounds: int) -> Parts:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(path.with_suffix(""))
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name, image = session.get_inputs()[0].name, np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
    for _ in range(rounds + 1):  # the first one is left out
        session.run(None, {name: image})
    events = [e for e in json.loads(Path(session.end_profiling()).read_text()) if e["name"].endswith("_kernel_time")]
    parts: Parts = Counter()
    for event in events[len(events) // (rounds + 1) :]:
        parts[kind_of(event["args"]["op_name"])] += event["dur"] / rounds / 1000
    return parts


def parts_of_openvino(folder: Path, rounds: int) -> Parts:
    import openvino

    hints = {"PERF_COUNT": True, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(next(folder.glob("*.xml"))), "CPU", hints)
    request, image = compiled.create_infer_request(), np.random.default_rng(0).random((1, 3, 640, 640), np.float32)
    parts: Parts = Counter()
    for turn in range(rounds + 1):
        request.infer([image])
        for row in request.profiling_info if turn else ():
            parts[kind_of(row.node_type)] += row.real_time.total_seconds() * 1000 / rounds
    return parts


def timed(calls: dict[tuple[str, str], Callable[[], object]], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Milliseconds of each call, in turn, after one that is not counted."""
    found: dict[tuple[str, str], list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                found[name].append((time.perf_counter() - start) * 1000)
    return found


def networks(models: list[str], place: Path) -> Iterator[tuple[str, Path, bool]]:
    """Titles, weights with random numbers, and whether detections are to be final without suppression."""
    for model in models:
        network = YOLO(model)
        for end2end in (False, True)[: 1 + isinstance(network.model.head, Pose26)]:
            title = Path(model).stem + "-end2end" * end2end
            yield title, Path(network.save(place / f"{title}.pt")), end2end


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["yolo11n-pose.yaml", "yolo26n-pose.yaml"])
    parser.add_argument("--image", required=True)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    given = parser.parse_args()
    torch.manual_seed(0)
    calls: dict[tuple[str, str], Callable[[], object]] = {}
    parts: dict[tuple[str, str], Parts] = {}
    with tempfile.TemporaryDirectory() as place:
        for title, weights, end2end in networks(given.models, Path(place)):
            for engine in given.engines:
                file = weights if engine == "pt" else Path(YOLO(weights).export(format=engine, end2end=end2end))
                call = partial(YOLO(file).predict, given.image, imgsz=[640, 640], verbose=False)
                calls[title, engine] = partial(call, end2end=end2end) if engine == "pt" else call
        for name, values in timed(calls, given.rounds).items():
            file = next(Path(place).glob(f"{name[0]}{SUFFIXES[name[1]]}"))
            if name[1] == "pt":
                parts[name] = parts_of_torch(file, "end2end" in name[0], given.rounds)
            else:
                parts[name] = {"onnx": parts_of_onnx, "openvino": parts_of_openvino}[name[1]](file, given.rounds)
            print(f"{name[1]:9}{name[0]:24} {statistics.median(values):6.1f} (least {min(values):6.1f}) ms a call")
    print("\nmilliseconds of kernels, by the engine's own profiler (which takes time itself)")
    for engine in given.engines:
        chosen = {title: part for (title, of), part in parts.items() if of == engine}
        print(f"\n{engine:28}" + "".join(f"{title:>24}" for title in chosen))
        for kind in (*KINDS, "the rest"):
            print(f"{kind:28}" + "".join(f"{part[kind]:24.1f}" for part in chosen.values()))
        print(f"{'together':28}" + "".join(f"{part.total():24.1f}" for part in chosen.values()))


if __name__ == "__main__":
    main()
