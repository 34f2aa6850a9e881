"""Machines, hours, bytes and dollars of a job, computed from measured rates.

    python benchmarks/jobs_cost.py [--images 1e6,1e9] [--rate 7.5] [--image-bytes 155000] [--row-bytes 870] …

Each input is an option; its default is a figure of benchmarks/RESULTS.md or, for prices, an assumption that must be
replaced by the price of the machines that are meant. Nothing else enters: hours are images / (rate × cores ×
efficiency), compute dollars are hours × cores × price of a core hour, requests are one GET per image and one PUT per
shard, and transfers within a region are free. Lost work of interruptions is half a shard each.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Inputs:
    """Inputs of the computation; the help of each is its origin."""

    rate: float = 7.5
    efficiency: float = 0.9
    image_bytes: float = 155_000.0
    row_bytes: float = 870.0
    plan_bytes: float = 2.7
    shard: float = 1000.0
    cores_per_machine: float = 16.0
    core_hour: float = 0.02
    gpu_rate: float = 0.0
    gpu_hour: float = 2.0
    gets: float = 0.4
    puts: float = 5.0
    storage: float = 0.023


ORIGINS = {
    "rate": "images per second of one core (measured: row `folder-onnx`, yolo11n-pose at 640 pixels, 2 cores)",
    "efficiency": "of several workers against one process (aim of the project; jobs_scale.py measures it)",
    "image_bytes": "bytes of an image file (measured: mean of 206 images of COCO)",
    "row_bytes": "bytes of a row in Parquet (measured: 133 images of COCO, 2.7 people each, 17 keypoints)",
    "plan_bytes": "bytes of an input in the plan (measured: 1 000 000 numbered paths)",
    "shard": "images per shard (default of yolo batch)",
    "cores_per_machine": "cores of a machine (choice)",
    "core_hour": "dollars per core hour (assumption: a spot CPU)",
    "gpu_rate": "images per second of one GPU; 0 omits the column (not measured for this network)",
    "gpu_hour": "dollars per GPU hour (assumption)",
    "gets": "dollars per million GET requests (assumption: list price of S3)",
    "puts": "dollars per million PUT requests (assumption: list price of S3)",
    "storage": "dollars per GB and month of results (assumption: list price of S3)",
}


BYTES = ("B", "kB", "MB", "GB", "TB", "PB")


def amount(value: float, units: tuple[str, ...], step: float = 1000.0) -> str:
    """Return a value with the largest unit that fits."""
    index = 0
    while value >= step and index + 1 < len(units):
        value /= step
        index += 1
    return f"{value:.3g} {units[index]}"


def estimate(images: float, inputs: Inputs, hours: float) -> list[tuple[str, str]]:
    """Return the lines of a job that shall take a number of hours."""
    core_hours = images / (inputs.rate * inputs.efficiency) / 3600
    cores = core_hours / hours
    shards = images / inputs.shard
    size = images * inputs.row_bytes
    requests = images * inputs.gets / 1e6 + shards * inputs.puts / 1e6
    machine_rate = inputs.cores_per_machine * inputs.rate * inputs.image_bytes * 8
    lines = [
        ("core hours", f"{core_hours:,.0f}"),
        (
            f"machines of {inputs.cores_per_machine:.0f} cores",
            f"{cores / inputs.cores_per_machine:,.1f} for {hours:g} h",
        ),
        ("compute", f"${core_hours * inputs.core_hour:,.2f}"),
        ("bytes read", amount(images * inputs.image_bytes, BYTES)),
        ("network per machine", amount(machine_rate, ("bit/s", "kbit/s", "Mbit/s", "Gbit/s"))),
        ("requests", f"${requests:,.2f}"),
        ("rows", amount(size, BYTES)),
        ("storage of rows for a month", f"${size / 1e9 * inputs.storage:,.2f}"),
        ("files of rows", f"{shards:,.0f}"),
        ("plan", amount(images * inputs.plan_bytes, BYTES)),
        ("lost per killed worker, mean", f"{inputs.shard / 2 / inputs.rate:.0f} s"),
    ]
    if inputs.gpu_rate:
        gpu_hours = images / (inputs.gpu_rate * inputs.efficiency) / 3600
        lines.append(("on GPUs", f"{gpu_hours:,.1f} GPU hours, ${gpu_hours * inputs.gpu_hour:,.2f}"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="1e6,1e9", help="numbers of images")
    parser.add_argument("--hours", default="1,24", help="duration for each number of images")
    for field in fields(Inputs):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=field.default, help=ORIGINS[field.name])
    options = parser.parse_args()
    inputs = Inputs(**{field.name: getattr(options, field.name) for field in fields(Inputs)})
    print("| input | value | origin |\n|---|---|---|")
    for field in fields(Inputs):
        print(f"| `{field.name}` | {getattr(inputs, field.name):,g} | {ORIGINS[field.name]} |")
    counts = [float(text) for text in options.images.split(",")]
    hours = [float(text) for text in options.hours.split(",")]
    columns = [estimate(count, inputs, hour) for count, hour in zip(counts, hours, strict=True)]
    print(f"\n| job | {' | '.join(f'{count:,.0f} images' for count in counts)} |\n|---|{'---|' * len(counts)}")
    for rows in zip(*columns, strict=True):
        print(f"| {rows[0][0]} | {' | '.join(value for _, value in rows)} |")


if __name__ == "__main__":
    main()
