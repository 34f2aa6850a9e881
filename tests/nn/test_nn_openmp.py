from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

# what the OpenMP library got to see when torch was loaded, and what the environment holds after it
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
@pytest.mark.parametrize("wish", [None, "300000"])
def test_the_spin_is_short_while_torch_is_loaded_and_the_environment_stays(room: str, wish: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    given = {} if wish is None else {"GOMP_SPINCOUNT": wish}
    found = subprocess.run(
        [sys.executable, "-c", _CODE.format(room=room)], env={**environment, **given}, capture_output=True, text=True
    )
    assert found.stdout.split() == ["at", wish or "10000", "after", str(wish)], found.stderr
