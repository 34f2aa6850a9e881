from __future__ import annotations

import threading
import time

import pytest

from yolopose.base.prefetch import map_ordered, prefetch


@pytest.mark.parametrize(("ahead", "expected"), [(0, [1, 2, 3]), (1, [2, 3, 4]), (2, [3, 4, 4]), (9, [4, 4, 4])])
def test_starts_items_ahead_of_the_result(ahead: int, expected: list[int]) -> None:
    started: list[int] = []
    results = prefetch(range(4), start=lambda item: started.append(item) or item, finish=str, ahead=ahead)
    seen = [(next(results), len(started)) for _ in range(3)]
    assert seen == [(str(index), count) for index, count in enumerate(expected)]
    assert list(results) == ["3"]


def test_threads_keep_the_order() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 * (item == 0))
        return item * item

    assert list(map_ordered(slow_first, range(20), threads=4)) == [item * item for item in range(20)]


def test_errors_reach_the_caller_and_closing_cancels() -> None:
    done: list[int] = []
    gate = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            raise ValueError("item 1")
        gate.wait()
        done.append(item)
        return item

    results = map_ordered(work, range(100), threads=1, ahead=5)
    gate.set()
    assert next(results) == 0
    with pytest.raises(ValueError, match="item 1"):
        next(results)
    assert len(done) < 10
