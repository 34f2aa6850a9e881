"""The documentation site: generated pages are current, links and navigation are complete, the site builds."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def build_docs() -> Any:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return import_module("build_docs")
    finally:
        sys.path.remove(str(ROOT / "tools"))


def generated() -> dict[str, Any]:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        return import_module("docs_tables").PAGES
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.mark.parametrize("name", generated())
def test_generated_page_is_up_to_date(name: str) -> None:
    is_current = (ROOT / name).read_text(encoding="utf-8") == generated()[name]()
    assert is_current, f"{name} is outdated: run python tools/docs_tables.py"


def test_every_page_is_in_the_navigation(build_docs: Any) -> None:
    assert build_docs.unlisted_pages() == []


def test_links_lead_to_files(build_docs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_docs, "SOURCE", tmp_path / "source")
    build_docs.stage()
    home = (tmp_path / "source/index.md").read_text(encoding="utf-8")
    assert "](quickstart.md)" in home
    assert "](benchmarks.md#start-up)" in home
    assert "](https://github.com/yolopose/yolopose/blob/main/tools/make_images.py)" in home


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("[a](docs/data.md#x)", "README.md", "[a](data.md#x)"),
        ("[a](../../README.md)", "docs/tasks/index.md", "[a](../index.md)"),
        ("[a](../benchmarks/RESULTS.md)", "docs/data.md", "[a](benchmarks.md)"),
        ("[a](https://x.org) [b](#c)", "README.md", "[a](https://x.org) [b](#c)"),
        ("```\n[a](missing.md)\n```", "README.md", "```\n[a](missing.md)\n```"),
        ("[a](../LICENSE)", "docs/data.md", "[a](https://github.com/yolopose/yolopose/blob/main/LICENSE)"),
    ],
)
def test_rewrite_links(build_docs: Any, text: str, source: str, expected: str) -> None:
    assert build_docs.rewrite_links(text, source, build_docs.page_names()) == expected


def test_dead_link_is_an_error(build_docs: Any) -> None:
    with pytest.raises(build_docs.DeadLinkError, match=r"docs/a\.md: the link b\.md leads to docs/b\.md"):
        build_docs.rewrite_links("[x](b.md)", "docs/a.md", {"docs/a.md": "a.md"})


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("b.html", ""),
        ("b.html#id", ""),
        ("#own", ""),
        ("c.html", "leads to no file"),
        ("b.html#no", "leads to no heading"),
    ],
)
def test_dead_links_of_built_pages(build_docs: Any, tmp_path: Path, link: str, fault: str) -> None:
    (tmp_path / "a.html").write_text(f'<p id="own"><a href="{link}">x</a>')
    (tmp_path / "b.html").write_text('<p id="id">')
    lines = list(build_docs.dead_links(tmp_path))
    assert len(lines) == bool(fault)
    assert all(fault in line for line in lines)


@pytest.mark.slow
def test_site_builds(build_docs: Any, capfd: pytest.CaptureFixture[str]) -> None:
    if not (find_spec("zensical") and find_spec("mkdocstrings")):
        pytest.skip("zensical and mkdocstrings are not installed")
    assert build_docs.build() == 0, capfd.readouterr()
    page = (build_docs.SITE / "api/model/index.html").read_text(encoding="utf-8")
    assert 'id="yolopose.YOLO.predict"' in page
