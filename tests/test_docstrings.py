"""The classes of the API reference have examples, and the examples run."""

from __future__ import annotations

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

PAGES = Path(__file__).parents[1] / "docs/api"


def objects() -> dict[str, Any]:
    """Return what the pages of docs/api list, by dotted name."""
    names = [
        name
        for page in sorted(PAGES.glob("*.md"))
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    return {name: resolve(name) for name in names}


def resolve(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(resolve(module), attribute)


CLASSES = {
    name: value
    for name, value in objects().items()
    if inspect.isclass(value) and (value.__name__ == "YoloposeError" or not issubclass(value, Exception))
}  # one example serves all exceptions


def test_reference_lists_the_public_names() -> None:
    import yolopose

    listed = {value.__name__ for value in CLASSES.values()}
    assert set(yolopose.__all__) - {"__version__"} <= listed
    assert len(CLASSES) >= 20


@pytest.mark.parametrize("name", CLASSES)
def test_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("YOLOPOSE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLOPOSE_DATASETS_DIR", str(tmp_path / "datasets"))
    monkeypatch.setenv("YOLOPOSE_OFFLINE", "1")
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(CLASSES[name]) or "", {}, name, None, 0)
    assert [example for example in test.examples if doctest.SKIP not in example.options], "the docstring has no example"
    messages: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=messages.append)
    assert runner.failures == 0, "".join(messages)


@pytest.mark.parametrize("name", [name for name, value in objects().items() if callable(value)])
def test_objects_have_docstrings(name: str) -> None:
    assert len(inspect.getdoc(objects()[name]) or "") > 20
