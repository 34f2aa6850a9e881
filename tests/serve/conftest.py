"""The tests of the server need the extra `serve`."""

from __future__ import annotations

from importlib.util import find_spec

_PACKAGES = ("starlette", "uvicorn", "websockets", "httpx")
collect_ignore_glob = [] if all(find_spec(name) for name in _PACKAGES) else ["test_*.py"]
