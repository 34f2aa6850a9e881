"""A run that is killed over and over, in processes of its own: `python kill_and_resume.py ROOT HOW NUMBER`.

HOW is a number of kills at random moments, with NUMBER as the seed; or `every`: one kill at each moment at which a file
begins, is renamed and is there, each NUMBER-th of them; or `drawn`: likewise with the images of a run.

Torch is loaded once, and each life of a run is a fork that trains, or goes on where there is something to go on with.
Prints as JSON the folders of the runs, the first of them unbroken, and the number of kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure  # what a life would load else  # noqa: F401
import torch
import torch._dynamo
from train_worlds import FAST, make_world

import yolopose.evaluate.plots
import yolopose.train  # noqa: F401
from yolopose import YOLO

OPTIONS = {
    **FAST, "epochs": 6, "nbs": 12, "save_period": 2, "patience": 1, "exist_ok": True, "mosaic": 0.0,
    "warmup_epochs": 0, "lr0": 0.002,
}  # fmt: skip
# a start that has learned something, so that fitness, and with it best.pt, comes and goes in the runs
TAUGHT = {"name": "taught", "epochs": 12, "nbs": 4, "patience": 0, "save_period": -1, "lr0": 0.01, "warmup_epochs": 3}


def live(model: Path, options: dict[str, Any], before: Callable[[], object] | None = None) -> int:
    """Start a life; returns its process."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        torch.set_num_threads(1)
        if before:
            before()
        last = Path(options["project"]) / options["name"] / "weights/last.pt"
        if last.is_file():
            YOLO(last).train(resume=True)
        else:
            YOLO(model).train(**options)
        code = 0
    except Exception as error:  # a finished run has nothing to resume
        code = 0 if "is finished" in str(error) else 1
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(code)


def ends(pid: int, within: float = 120) -> bool:
    """Whether a life ends by itself, well, within so many seconds; else it is killed."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return False
            assert os.WEXITSTATUS(status) == 0
            return True
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def count_moments(at: int | None, note: Path) -> None:
    """Count the moments at which files begin, are written and are renamed; the process dies at one of them."""
    passed = 0

    def moment() -> None:
        nonlocal passed
        if passed == at:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1
        note.write_text(str(passed))

    make, replace = tempfile.mkstemp, os.replace

    def made(*args: Any, **named: Any) -> Any:
        found = make(*args, **named)
        moment()
        return found

    def replaced(*args: Any, **named: Any) -> None:
        moment()
        replace(*args, **named)
        moment()

    tempfile.mkstemp, os.replace = made, replaced


def main(root: Path, how: str, number: int) -> None:
    data, model = make_world(root / "blocks")
    options = {**OPTIONS, "data": str(data), "project": str(root / "runs"), "plots": how == "drawn"}
    names, kills, note = ["whole"], 0, root / "moments"
    assert ends(live(model, {**options, **TAUGHT}))
    model = root / "runs/taught/weights/best.pt"
    start = time.monotonic()
    assert ends(live(model, {**options, "name": "whole"}, lambda: count_moments(None, note)))
    length = time.monotonic() - start
    if not how.isdigit():
        for at in range(0, int(note.read_text()), number):
            names.append(f"killed{at}")
            kills += not ends(live(model, {**options, "name": names[-1]}, lambda at=at: count_moments(at, note)))
            assert ends(live(model, {**options, "name": names[-1]}))
    else:
        rng = random.Random(number)  # noqa: S311
        while kills < int(how):
            names.append(f"killed{len(names)}")
            life = {**options, "name": names[-1]}
            while not ends(live(model, life), rng.uniform(0, length) if kills < int(how) else 120):
                kills += 1
    print(json.dumps({"folders": [str(root / "runs" / name) for name in names], "kills": kills}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
