"""Trainings of the tests compute in 32 bits on every machine, so that their numbers are the same."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from yolopose.train import plan


@pytest.fixture(autouse=True)
def thirty_two_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "computes_bf16", lambda: False)
