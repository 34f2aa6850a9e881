"""The table of hostile inputs: each gets an error of the package or is accepted, within limits.

`HOSTILE_TABLE=table.md pytest -m slow tests/hostile` tries all inputs and writes the table; without a table the slow
test tries every second one.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile_border import archives, border_cases, class_folders, foreign_names, record_names, secrets
from hostile_data import data_cases, images, label_caches, records, special_files, yaml_syntax
from hostile_runner import Case, Outcome, run_cases, set_image

from yolopose.data.figures import draw_scene
from yolopose.results.writing import save_image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="cases run in forked processes")
_PICKED = 4  # cases of each generator in `make test`


@pytest.fixture(autouse=True)
def _image(tmp_path: Path) -> None:
    save_image(draw_scene(0, "val", 0, 640)[0], tmp_path / "photo.jpg")
    set_image(tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    "make",
    [
        archives,
        class_folders,
        foreign_names,
        images,
        label_caches,
        record_names,
        records,
        secrets,
        special_files,
        yaml_syntax,
    ],
)
def test_some_hostile_inputs(make: Callable[[], Iterator[Case]], tmp_path: Path) -> None:
    cases = list(make())
    _require_held(list(run_cases(cases[:: len(cases) // _PICKED], tmp_path / "cases")))


@pytest.mark.slow
@pytest.mark.xfail(
    reason="open: pipes, devices and sparse files as exported files, annotations, track files and label caches; "
    "endless headers of a server; lone surrogates in drawn names"
)
def test_all_hostile_inputs(tmp_path: Path) -> None:
    table = os.environ.get("HOSTILE_TABLE")
    cases = [*data_cases(), *border_cases()]
    outcomes = list(run_cases(cases if table else cases[::2], tmp_path / "cases"))
    if table:
        Path(table).write_text(_table(outcomes), encoding="utf-8")
    assert len(outcomes) >= 600
    _require_held(outcomes)


def _require_held(outcomes: list[Outcome]) -> None:
    fell = [
        f"kind {outcome.case.kind}, {outcome.case.verb}, {outcome.case.name}: {'; '.join(outcome.problems)}"
        for outcome in outcomes
        if outcome.problems
    ]
    assert not fell, "\n".join(fell)


def _table(outcomes: list[Outcome]) -> str:
    """Return a table of all inputs, and the counts by kind."""
    by_kind: dict[int, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_kind[outcome.case.kind].append(outcome)
    lines = ["| kind | inputs | held | longest, s | most memory, MiB |", "|---|---|---|---|---|"]
    for kind, rows in sorted(by_kind.items()):
        held = sum(not row.problems for row in rows)
        longest = max(row.seconds for row in rows)
        memory = max(row.growth for row in rows) >> 20
        lines.append(f"| {kind} | {len(rows)} | {held} | {longest:.1f} | {memory} |")
    lines += ["", "| kind | input | verb | result | s | MiB |", "|---|---|---|---|---|---|"]
    for row in outcomes:
        texts = (row.case.name, row.case.verb, "; ".join(row.problems) or row.result)
        cells = [ascii(text[:160])[1:-1].replace("|", "\\|") for text in texts]
        lines.append(f"| {row.case.kind} | {' | '.join(cells)} | {row.seconds:.2f} | {row.growth >> 20} |")
    return "\n".join(lines) + "\n"
