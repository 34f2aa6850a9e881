"""Process that runs trials: `python -m yolopose.model.tuning.worker FOLDER NUMBER COUNT PARENT DEVICE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def pin_to_share(number: int, count: int) -> None:
    """Restrict this process to its share of the cores, so that parallel trials do not slow each other down.

    Args:
        number: of the process, from 0.
        count: number of processes.
    """
    if not hasattr(os, "sched_setaffinity"):
        os.environ["OMP_NUM_THREADS"] = str(max((os.cpu_count() or 1) // count, 1))
        return
    cpus = sorted(os.sched_getaffinity(0))
    size = len(cpus) // count
    share = cpus[number * size : (number + 1) * size] if size else [cpus[number % len(cpus)]]
    os.sched_setaffinity(0, share)
    os.environ["OMP_NUM_THREADS"] = str(len(share))


def main(args: list[str]) -> int:
    """Run trials until the search ends; return 1 after an error, which the process that started this one reports."""
    folder, number, count, parent, device = Path(args[0]), int(args[1]), int(args[2]), int(args[3]), args[4]
    pin_to_share(number, count)  # before torch counts the cores
    from yolopose.base.errors import YoloposeError
    from yolopose.model.tuning.plan import SearchPlan
    from yolopose.model.tuning.search import options_of_plan
    from yolopose.model.tuning.study import run_trials

    plan = SearchPlan.read(folder)
    try:
        run_trials(
            folder,
            plan,
            options_of_plan(plan),
            worker=number,
            device=device or None,
            alive=lambda: os.getppid() == parent,
        )
    except YoloposeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
