from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolopose.base.names import safe_file_name
from yolopose.base.text import csv_field, from_csv_field


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("dog", "dog"), ("..", "unnamed"), ("../dog", "_dog"), ("a/b\\c:d", "a_b_c_d"), ("nul", "_nul"),
        ("\x1b[J", "[J"),
        ("a\u202eb", "ab"), ("", "unnamed"), ("x" * 500, "x" * 120), ("\ud800", "unnamed"), ("日本", "日本"),
        (" a. ", "a"),
    ],
)  # fmt: skip
def test_file_names_of_texts(text: str, name: str) -> None:
    assert safe_file_name(text) == name


@given(st.text(max_size=300))
def test_file_names_are_one_part_of_a_path(text: str) -> None:
    name = safe_file_name(text)
    assert name
    assert name not in (".", "..")
    assert not set("/\\:\0\n") & set(name)
    assert len(name.encode()) <= 130


@given(st.text(max_size=50))
def test_cells_are_no_formulas_and_can_be_read_again(text: str) -> None:
    cell = csv_field(text)
    assert isinstance(cell, str)
    assert cell[:1] not in ("=", "@", "\t")
    assert from_csv_field(cell) == text


@pytest.mark.parametrize("value", [1.5, None, "-0.5", "+1e3", "dog"])
def test_numbers_stay(value: object) -> None:
    assert csv_field(value) == value
