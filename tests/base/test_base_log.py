from __future__ import annotations

import logging
import os
import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack

import pytest

from yolopose.base.log import LOGGER, quiet, quiet_libraries, silent


def test_quiet_libraries_discards_only_native_output() -> None:
    code = (
        "import os\n"
        "from yolopose.base.log import quiet_libraries\n"
        "print('before')\n"  # still in Python's buffer when the block begins
        "with quiet_libraries():\n"
        "    os.write(1, b'chatter'); os.write(2, b'chatter'); print('inside')\n"
        "print('after')\n"
        "try:\n"
        "    with quiet_libraries():\n"
        "        raise KeyError\n"
        "except KeyError:\n"
        "    os.write(2, b'said')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout.split(), done.stderr) == (["before", "after"], "said")


def close_in_order_of_opening(*blocks: AbstractContextManager[None]) -> None:
    """Open and close blocks as two threads do that overlap."""
    opened = []
    for block in blocks:
        stack = ExitStack()
        stack.enter_context(block)
        opened.append(stack)
    for stack in opened:
        stack.close()


@pytest.mark.parametrize("others", [(), (silent,), (quiet, silent)])
def test_overlapping_blocks_restore_the_level(others: tuple) -> None:
    with quiet(False):
        assert LOGGER.level == logging.INFO
    close_in_order_of_opening(quiet(), *(other() for other in others), quiet(False))
    assert LOGGER.level == logging.INFO


def test_level_is_the_highest_of_the_open_blocks() -> None:
    with quiet(), silent():
        assert LOGGER.level > logging.CRITICAL
        with quiet():
            assert LOGGER.level > logging.CRITICAL
    with silent(), quiet():
        assert LOGGER.level > logging.CRITICAL


def test_overlapping_quiet_libraries_restore_the_streams(capfd: pytest.CaptureFixture[str]) -> None:
    close_in_order_of_opening(quiet_libraries(), quiet_libraries())
    os.write(1, b"shown")
    assert capfd.readouterr().out == "shown"
