"""The keyword arguments that editors see are the options of each mode."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from yolopose.config import MODES, kwargs

PARAMETERS = {
    "predict": {"source", "stream"},
    "val": {"data"},
    "train": {"data"},
    "benchmark": {"data"},
    "export": set(),
    "embed": {"source", "stream", "layers"},
    "label": {"source", "to", "output"},
    "batch": {"source", "output"},
    "tune": {"data", "iterations", "use_ray"},
    "calibrate": {"data"},
}
PATHS = {
    "model", "project", "data", "annotations", "pretrained", "resume", "web_runtime", "labeled", "detector", "run",
    "output", "index", "distill_model", "unlabeled",
}  # fmt: skip


def members(hint: Any) -> set[Any]:
    return set(get_args(hint)) if get_args(hint) and not hasattr(hint, "__origin__") else {hint}


@pytest.mark.parametrize("mode", PARAMETERS)
def test_keyword_arguments_are_the_options(mode: str) -> None:
    hints = get_type_hints(getattr(kwargs, f"{mode.capitalize()}Kwargs"))
    types = get_type_hints(MODES[mode])
    names = [field.name for field in fields(MODES[mode]) if field.name not in PARAMETERS[mode]]
    expected = {name: members(types[name]) | ({Path} if name in PATHS else set()) for name in names}
    assert {name: members(hint) for name, hint in hints.items()} == {**expected, "cfg": {str, Path, type(None)}}
