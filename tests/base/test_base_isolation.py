from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from yolopose.base.isolation import default_errors, with_default_errors


def underflow() -> float:
    return float(np.exp(np.float32(-200)))


def test_function_runs_with_default_errors() -> None:
    with np.errstate(all="raise"):
        assert default_errors(underflow)() == 0
        with pytest.raises(FloatingPointError):
            underflow()


def test_generator_runs_with_default_errors_and_its_caller_does_not() -> None:
    closed: list[bool] = []

    def items() -> Iterator[float]:
        try:
            while True:
                yield underflow()
        finally:
            closed.append(True)

    with np.errstate(all="raise"):
        stream = with_default_errors(items())
        assert next(stream) == 0
        with pytest.raises(FloatingPointError):
            underflow()
        assert next(stream) == 0
        stream.close()
    assert closed == [True]
