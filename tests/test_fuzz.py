"""The committed corpora of the fuzz targets, and some new cases of each."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from yolopose.base.log import silent

ROOT = Path(__file__).parents[1]
FUZZ = ROOT / "fuzz"
TARGETS = sorted(path.stem.removeprefix("fuzz_") for path in FUZZ.glob("fuzz_*.py"))
OPTIONAL = {"sleap": ("sleap_io", "h5py"), "server": ("starlette",)}

sys.path.insert(0, str(FUZZ))


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_and_new_cases(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import run

    for module in OPTIONAL.get(name, ()):
        pytest.importorskip(module)
    monkeypatch.setattr(run, "_CHUNK", 30)
    with silent():
        target = run.load_target(name)
        assert run.replay(target) > 0
        count, failures = run.run_hypothesis(target, 1e-9, 0)
    assert failures == {}
    assert count > 0


def test_a_foreign_exception_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The tests above would prove nothing if the driver overlooked exceptions."""
    import harness
    import run

    def fail(data: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(run, "BUILD", tmp_path)
    _, failures = run.run_hypothesis(harness.Target("labels", fail), 1e-9, 0)
    (text,) = failures.values()
    assert "ZeroDivisionError" in text


@pytest.mark.parametrize("text", ["\x1b[2J", "\u202e", "\ud800", "x" * 100_000])
def test_messages_that_are_failures(text: str) -> None:
    import harness

    with pytest.raises(AssertionError):
        harness.check_message(text)


def test_each_target_has_a_corpus_and_a_place_in_the_build() -> None:
    assert sorted(path.name for path in (FUZZ / "corpus").iterdir()) == TARGETS
    assert {"project.yaml", "Dockerfile", "build.sh"} <= {path.name for path in FUZZ.iterdir()}
    subprocess.run(["bash", "-n", str(FUZZ / "build.sh")], check=True)
