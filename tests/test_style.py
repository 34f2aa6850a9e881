"""The terms and sizes that tools/check_style.py enforces."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def check_style(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    sys.modules.pop("check_style", None)
    return importlib.import_module("check_style")


def test_project_has_no_style_problems(check_style: ModuleType) -> None:
    problems = [*check_style.check_terms(), *check_style.check_line_length(), *check_style.check_module_size()]
    assert not problems, "\n".join(problems[:50])


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("picture", "picture"),
        ("gt_truths", "truths"),
        ("LaneCount", "Lane"),
        ("RanAway", "RanAway"),
        ("found", "found"),
    ],
)
def test_reports_names(check_style: ModuleType, name: str, term: str) -> None:
    assert [problem for problem, _ in check_style.name_problems(name)] == [term]


@pytest.mark.parametrize("name", ["image", "gt_boxes", "cancelled", "founder", "keep_dims"])
def test_accepts_names(check_style: ModuleType, name: str) -> None:
    assert not list(check_style.name_problems(name))


@pytest.mark.parametrize(
    "text",
    ["it is no path", "the colour of it", "12 images a second", "a fault was mended", "there is no X", "no such X"],
)
def test_reports_phrases(check_style: ModuleType, text: str) -> None:
    assert len(list(check_style.text_problems(text))) == 1


@pytest.mark.parametrize(
    "text",
    ["the file is no longer open", "an image is not a path", "12 images per second", "No such file or directory: x"],
)
def test_accepts_phrases(check_style: ModuleType, text: str) -> None:
    assert not list(check_style.text_problems(text))


def test_counts_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    count = importlib.import_module("code_stats").count
    assert count(
        '"""Doc."""\n\n# why\nx = 1  # note\n\ndef f():\n    """Doc."""\n    return (\n        x\n    )\n'
    ) == (5, 2)
