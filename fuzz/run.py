"""Fuzz all targets: `python fuzz/run.py --minutes 10 [--seed 0] [--targets labels cli …]`.

Each target runs in a process of its own: the committed corpus, then cases of hypothesis for half of the time, then
atheris, which is guided by coverage, for the other half. Without atheris hypothesis has all of the time. Cases that
fail and the corpus that atheris collects are in `build/fuzz`, the numbers of cases in `build/fuzz/results.jsonl`. The
exit status is 1 if a case fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import time
import traceback
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import harness
from hypothesis import HealthCheck, Phase, given, seed, settings

BUILD = harness.FUZZ.parent / "build" / "fuzz"
_CHUNK = 500  # cases of hypothesis with one seed


def target_names() -> list[str]:
    """Return the names of all targets."""
    return sorted(path.stem.removeprefix("fuzz_") for path in harness.FUZZ.glob("fuzz_*.py"))


def load_target(name: str) -> harness.Target:
    """Return a target by name."""
    return import_module(f"fuzz_{name}").TARGET


def replay(target: harness.Target) -> int:
    """Run the committed cases, and return their number."""
    data = target.seeds()
    for case in data:
        harness.check(target, case)
    return len(data)


def run_hypothesis(target: harness.Target, seconds: float, first_seed: int) -> tuple[int, dict[str, str]]:
    """Run cases of hypothesis.

    Returns:
        The number of cases, and the traceback of each kind of failure by the name of the file of its case.
    """
    count = 0
    failures: dict[str, str] = {}
    end = time.monotonic() + seconds
    number = first_seed
    kinds: set[str] = set()

    def one(data: bytes) -> None:
        nonlocal count
        count += 1
        try:
            harness.check(target, data)
        except (Exception, harness.LimitExceeded) as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} {place.filename}:{place.lineno}"
            if kind not in kinds:
                kinds.add(kind)
                failures[save_failure(target, data)] = f"seed {number}: " + traceback.format_exc()

    options = settings(
        max_examples=_CHUNK, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    while number == first_seed or time.monotonic() < end:
        seed(number)(options(given(harness.cases(target))(one)))()
        number += 1
    return count, failures


def save_failure(target: harness.Target, data: bytes) -> str:
    """Write a case that failed, and return its path."""
    folder = BUILD / "failures" / target.name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / hashlib.sha256(data).hexdigest()[:16]
    path.write_bytes(data)
    return str(path)


def run_atheris(name: str, seconds: float, number: int) -> tuple[int, str]:
    """Run a target under atheris.

    Returns:
        The number of cases, and the end of the output if it failed.
    """
    corpus = BUILD / "corpus" / name
    failures = BUILD / "failures" / name
    corpus.mkdir(parents=True, exist_ok=True)
    failures.mkdir(parents=True, exist_ok=True)
    result = subprocess.run(
        [
            sys.executable, str(harness.FUZZ / f"fuzz_{name}.py"), str(corpus), str(harness.FUZZ / "corpus" / name),
            f"-max_total_time={max(int(seconds), 1)}", f"-seed={number + 1}", "-timeout=60", "-rss_limit_mb=3000",
            "-max_len=8192", f"-artifact_prefix={failures}/", "-print_final_stats=1",
        ],
        capture_output=True, text=True, errors="replace", check=False, timeout=seconds + 300,
    )  # fmt: skip
    output = result.stdout + result.stderr
    executed = re.findall(r"number_of_executed_units: (\d+)", output) or re.findall(r"^#(\d+)\s", output, re.M)
    return int(executed[-1]) if executed else 0, output[-4000:] if result.returncode else ""


def run_target(name: str, seconds: float, number: int) -> dict[str, Any]:
    """Run one target in this process, and return what `results.jsonl` holds."""
    from yolopose.base.log import LOGGER

    LOGGER.setLevel("CRITICAL")
    target = load_target(name)
    has_atheris = find_spec("atheris") is not None
    row: dict[str, Any] = {"target": name, "seed": number, "corpus": replay(target)}
    row["hypothesis"], failures = run_hypothesis(target, seconds / 2 if has_atheris else seconds, number)
    row["failures"] = failures
    if has_atheris:
        row["atheris"], row["atheris_failure"] = run_atheris(name, seconds / 2, number)
    return row


def main() -> int:
    """Run the targets one after another, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--targets", nargs="*", default=target_names())
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLOPOSE_OFFLINE", "1")
    if arguments.one:
        print(json.dumps(run_target(arguments.one, arguments.minutes * 60, arguments.seed)))
        return 0
    seconds = arguments.minutes * 60 / len(arguments.targets)
    total = failed = 0
    for name in arguments.targets:
        command = [
            sys.executable,
            __file__,
            "--one",
            name,
            "--minutes",
            str(seconds / 60),
            "--seed",
            str(arguments.seed),
        ]
        with (BUILD / "stderr.txt").open("a") as messages:  # decoders print there
            result = subprocess.run(command, stdout=subprocess.PIPE, stderr=messages, text=True, check=False)
        try:
            row = json.loads(result.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            row = {"target": name, "seed": arguments.seed, "failures": {"": f"exit status {result.returncode}"}}
        with (BUILD / "results.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        count = row.get("corpus", 0) + row.get("hypothesis", 0) + row.get("atheris", 0)
        texts = [*row["failures"].values(), *filter(None, [row.get("atheris_failure")])]
        total += count
        failed += len(texts)
        print(f"{name:14} {count:9} cases, {len(texts)} failures", flush=True)
        for path, text in [*row["failures"].items(), ("atheris", row.get("atheris_failure"))]:
            if text:
                print(f"--- {path}\n{text}", flush=True)
    print(f"{'total':14} {total:9} cases, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
