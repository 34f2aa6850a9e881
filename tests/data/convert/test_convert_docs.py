"""The table of formats in the documents states what the converters hold."""

from __future__ import annotations

from pathlib import Path

from yolopose.data.convert import format_names, get_format
from yolopose.data.convert.protocol import Feature

PAGE = Path(__file__).parents[3] / "docs/converting.md"
COLUMNS = {
    "boxes": Feature.BOX,
    "hidden points": Feature.HIDDEN,
    "confidences": Feature.POINT_CONFIDENCE,
    "classes": Feature.CLASS,
    "track ids": Feature.TRACK_ID,
    "areas, crowds": Feature.AREA,
}


def test_the_table_equals_the_capabilities() -> None:
    section = PAGE.read_text(encoding="utf-8").partition("## What each format holds")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    header, _, *formats = [[text.strip() for text in row] for row in rows]
    assert sorted(row[0].strip("`") for row in formats) == sorted(format_names())
    for row in formats:
        values = dict(zip(header, row, strict=True))
        target = get_format(values["name"].strip("`"))
        stated = {feature for column, feature in COLUMNS.items() if values[column] == "●"}
        assert stated == target.capabilities & set(COLUMNS.values()), target.name
