"""25 and more planted faults: each is reported at its place, nothing else is, and the fixed copy is clean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from planted import SINGLE, Faults

from yolopose.base.errors import OutputError
from yolopose.data import load_labels
from yolopose.data.dataset import load_dataset
from yolopose.data.doctor import Finding, Report, examine, write_fixed_copy


def place(report: Report, finding: Finding, index: int) -> tuple[str, str, int | None]:
    example = finding.examples[index]
    split = report.survey.split(example.split)
    stem = example.file.stem if example.file else ""
    if split is not None and example.image is not None:
        stem = split.files[example.image].stem
    return finding.check, stem, example.row


def places(report: Report) -> set[tuple[str, str, int | None]]:
    result: set[tuple[str, str, int | None]] = set()
    for finding in report.findings:
        rows = {place(report, finding, index) for index in range(len(finding.examples))}
        result |= rows if any(stem for _, stem, _ in rows) else {(finding.check, "", None)}
    return result


def test_the_clean_set_has_no_findings(clean_report: Report) -> None:
    assert [f"{finding.check}: {finding.title}" for finding in clean_report.findings] == []
    assert {item.option for item in clean_report.advice} >= {"imgsz", "batch"}


def test_every_planted_fault_is_reported(spoiled: tuple[Path, Faults], spoiled_report: Report) -> None:
    _, faults = spoiled
    assert len(faults) >= 25
    reported = places(spoiled_report)
    assert {name: fault for name, fault in faults.items() if fault not in reported} == {}


def test_nothing_else_is_reported(spoiled: tuple[Path, Faults], spoiled_report: Report) -> None:
    _, faults = spoiled
    assert places(spoiled_report) - set(faults.values()) == set()


def test_findings_explain_themselves(spoiled_report: Report) -> None:
    for finding in spoiled_report.findings:
        assert finding.why.endswith(".")
        assert finding.how.endswith((".", "```"))
        assert finding.count >= len(finding.examples) > 0 or not finding.examples
    values = json.loads(spoiled_report.to_json())
    assert values["counts"] == spoiled_report.counts
    assert {finding["check"] for finding in values["findings"]} == {item.check for item in spoiled_report.findings}
    assert all(not example["file"].startswith("/") for item in values["findings"] for example in item["examples"])


def test_fixed_copy_has_no_fixable_finding(
    spoiled: tuple[Path, Faults], spoiled_report: Report, tmp_path: Path
) -> None:
    yaml, _ = spoiled
    before = {path: path.read_bytes() for path in yaml.parent.rglob("*") if path.is_file()}
    copy = write_fixed_copy(spoiled_report, tmp_path / "fixed")
    assert {path: path.read_bytes() for path in yaml.parent.rglob("*") if path.is_file()} == before
    fixed = examine(load_dataset(copy.yaml_path))
    assert [f"{item.check}: {item.title}" for item in fixed.findings if item.fixable] == []
    changes = json.loads((copy.yaml_path.parent / "changes.json").read_text())
    assert len(changes) == copy.changes > 20
    labels = load_labels(load_dataset(copy.yaml_path), "train", cache=False)
    assert labels.counts.refused == 0


def test_fixed_copy_keeps_unchanged_rows(clean_report: Report, clean_yaml: Path, tmp_path: Path) -> None:
    copy = write_fixed_copy(clean_report, tmp_path / "fixed")
    assert copy.changes == 0
    for path in sorted(clean_yaml.parent.glob("labels/*/*.txt")):
        assert (tmp_path / "fixed" / path.relative_to(clean_yaml.parent)).read_bytes() == path.read_bytes()


def test_fixed_copy_never_replaces_anything(clean_report: Report, clean_yaml: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="not an empty folder"):
        write_fixed_copy(clean_report, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match="folder of images"):
        write_fixed_copy(clean_report, clean_yaml.parent / "images/train/fixed")
    assert not (clean_yaml.parent / "images/train/fixed").exists()


@pytest.mark.parametrize("check", SINGLE)
def test_a_single_fault_is_reported_and_nothing_else(check: str, clean_yaml: Path, tmp_path: Path) -> None:
    shutil.copytree(clean_yaml.parent, tmp_path / "spoiled")
    faults = set(SINGLE[check](tmp_path / "spoiled").values())
    report = examine(load_dataset(tmp_path / "spoiled/data.yaml"))
    assert check in {fault[0] for fault in faults}
    reported = places(report)
    assert (faults - reported, reported - faults) == (set(), set())
