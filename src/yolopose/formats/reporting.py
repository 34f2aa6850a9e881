"""Libraries that report their use to their maker, imported so that they do not."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

_REPORTING = "openvino_telemetry"


@contextmanager
def telemetry_disabled() -> Generator[None, None, None]:
    """Hide the package through which OpenVINO and NNCF report, for what is imported within.

    They fall back on an empty stand-in of their own where it is absent, and that is what they find.
    """
    hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == _REPORTING}
    sys.modules[_REPORTING] = None  # type: ignore[assignment]  # Python's own way of saying: not to be imported
    try:
        yield
    finally:
        del sys.modules[_REPORTING]
        sys.modules.update(hidden)
