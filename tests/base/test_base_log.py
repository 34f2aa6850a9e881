from __future__ import annotations

import subprocess
import sys


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
