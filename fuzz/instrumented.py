"""Coverage of atheris for the imports of a target; none where a target is only imported, by tests and by `run.py`."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import harness  # noqa: F401  # puts the package and the tests on the path


def instrument() -> AbstractContextManager[object]:
    """Return the context in which a target imports what it tests."""
    if not Path(sys.argv[0]).name.startswith("fuzz_"):
        return nullcontext()
    import atheris

    return atheris.instrument_imports(include=["yolopose"])
