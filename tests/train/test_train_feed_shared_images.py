"""The ring of decoded images that workers share."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from yolopose.train.feed.shared_images import SharedImages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")


def image(index: int, height: int = 4, width: int = 5) -> np.ndarray:
    return np.full((height, width, 3), index, dtype=np.uint8)


def test_old_images_are_overwritten_and_new_ones_complete() -> None:
    ring = SharedImages(40, 1000)
    for index in range(40):
        assert ring.get(index) is None
        ring.put(index, image(index, 4, 5 + index % 3))
        complete = [number for number in range(index + 1) if ring.get(number) is not None]
        assert complete == list(range(complete[0], index + 1))
        assert len(complete) >= min(index + 1, 8)
        for number in complete:
            np.testing.assert_array_equal(ring.get(number), image(number, 4, 5 + number % 3))
    ring.put(0, image(7))  # again, with other contents
    np.testing.assert_array_equal(ring.get(0), image(7))


def test_an_image_that_takes_most_of_the_ring_is_not_kept() -> None:
    ring = SharedImages(2, 1000)
    ring.put(0, image(1))
    ring.put(1, image(2, 10, 10))
    assert ring.get(1) is None
    assert ring.get(0) is not None


def test_a_copy_stays_as_it_was_read() -> None:
    ring = SharedImages(100, 600)
    ring.put(0, image(3))
    copy = ring.get(0)
    for index in range(1, 100):
        ring.put(index, image(index))
    np.testing.assert_array_equal(copy, image(3))


def test_a_place_that_another_process_is_writing_is_not_overwritten() -> None:
    ring = SharedImages(100, 600)
    ring.put(0, image(3))
    ring._writing[7] = 0  # a process was stopped while it wrote the first image
    for index in range(1, 100):
        ring.put(index, image(index))
    np.testing.assert_array_equal(ring.get(0), image(3))
    assert [index for index in range(100) if ring.get(index) is not None] == list(range(10))
    ring._writing[7] = -1
    for index in range(1, 100):
        ring.put(index, image(index))
    assert ring.get(0) is None
    np.testing.assert_array_equal(ring.get(99), image(99))


def test_processes_share_images_and_never_see_torn_ones() -> None:
    ring = SharedImages(64, 4000)
    children: list[int] = []
    for worker in range(3):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                rng = np.random.default_rng(worker)
                for _ in range(3000):
                    index = int(rng.integers(64))
                    shared = ring.get(index)
                    if shared is None:
                        ring.put(index, image(index, 2 + index % 5, 5))
                    elif shared.shape[0] != 2 + index % 5 or (shared != index).any():
                        os._exit(2)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    assert sum(ring.get(index) is not None for index in range(64)) > 10
