from __future__ import annotations

import os
from pathlib import Path

import pytest

from yolopose.cli import help as help_texts
from yolopose.config import MODES, option_specs

PAGE = Path(__file__).parents[2] / "docs/options.md"


def test_options_page_is_up_to_date() -> None:
    if os.environ.get("YOLOPOSE_WRITE_DOCS"):
        PAGE.write_text(help_texts.options_markdown(), encoding="utf-8")
    is_current = PAGE.read_text(encoding="utf-8") == help_texts.options_markdown()
    assert is_current, "docs/options.md is outdated: run YOLOPOSE_WRITE_DOCS=1 pytest tests/cli/test_cli_help.py"


@pytest.mark.parametrize("mode", MODES)
def test_mode_help_lists_every_option(mode: str) -> None:
    shown = help_texts.mode_help(mode)
    assert all(f"  {name}=" in shown for name in option_specs(mode))


def test_overview_fits_a_screen() -> None:
    assert len(help_texts.overview().splitlines()) <= 40
