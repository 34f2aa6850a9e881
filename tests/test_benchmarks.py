"""The programs in benchmarks/ are run by hand; what they take from the package must be there when they are."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_each_loads_and_explains_itself(name: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    if hasattr(module, "main") and name != "worker":  # that one is started by side_by_side.py
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == 0
        assert "usage" in capsys.readouterr().out


def test_the_parts_that_are_timed_are_there() -> None:
    profile = importlib.import_module("step_profile")
    for place, name, label in (*profile.STEP, *profile.SAMPLE):
        assert callable(getattr(place, name, None)), label
