from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

# prints the variable while torch is imported, and after that
_CODE = """
import importlib.abc, os, sys
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print("at", os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, Watch())
import yolopose.{room}
print("after", os.environ.get("GOMP_SPINCOUNT"))
"""


@pytest.mark.parametrize("room", ["nn", "weights", "formats.pytorch"])
@pytest.mark.parametrize("user_value", [None, "300000"])
def test_spin_is_short_only_while_torch_is_imported(room: str, user_value: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    given = {} if user_value is None else {"GOMP_SPINCOUNT": user_value}
    result = subprocess.run(
        [sys.executable, "-c", _CODE.format(room=room)], env={**environment, **given}, capture_output=True, text=True
    )
    assert result.stdout.split() == ["at", user_value or "10000", "after", str(user_value)], result.stderr
