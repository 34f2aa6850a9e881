"""Build the documentation site: `python tools/build_docs.py`, or `--stage` to collect the pages only.

Pages are the files of docs/ and some files of the repository. They are collected in build/site-source, where links to
files that are not pages become links to the repository, and Zensical builds build/site from them. A link to a file that
does not exist, a page without a place in the navigation and each warning of Zensical are errors.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "build" / "site-source"
SITE = ROOT / "build" / "site"
REPOSITORY = "https://github.com/yolopose/yolopose/blob/main/"
PROJECT_PAGES = {
    "README.md": "index.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "SUPPORT.md": "support.md",
    "ROADMAP.md": "roadmap.md",
}
"""Files outside docs/ -> names of their pages."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()(?!https?:|mailto:|#)([^)\s]+)(\))")
_CODE = re.compile(r"^( *)```.*?^\1```", re.M | re.S)


class DeadLinkError(Exception):
    """A link leads to a file or heading that does not exist."""


def page_names() -> dict[str, str]:
    """Return the pages: path in the repository -> path in the site, both relative with `/`."""
    docs = ROOT / "docs"
    names = {path.relative_to(ROOT).as_posix(): path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    return names | PROJECT_PAGES


def rewrite_links(text: str, source: str, names: dict[str, str]) -> str:
    """Return the text of a page with links that are valid in the site.

    Args:
        text: Markdown.
        source: path of the page in the repository.
        names: pages, see `page_names`.

    Raises:
        DeadLinkError: a link leads to a file that does not exist.
    """

    def replace(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(source), unquote(target))).replace(os.sep, "/")
        if not (ROOT / path).exists():
            raise DeadLinkError(f"{source}: the link {match[2]} leads to {path}, which does not exist.")
        if path in names:
            link = os.path.relpath(names[path], os.path.dirname(names[source]) or ".").replace(os.sep, "/")
        elif path.startswith("docs/assets/"):
            link = os.path.relpath(path.removeprefix("docs/"), os.path.dirname(names[source]) or ".")
        else:
            link = REPOSITORY + path
        return f"{match[1]}{link}{'#' + anchor if anchor else ''}{match[3]}"

    parts: list[str] = []
    end = 0
    for block in _CODE.finditer(text):  # code is not changed
        parts += [_LINK.sub(replace, text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, _LINK.sub(replace, text[end:])])


def stage() -> None:
    """Collect the pages in build/site-source."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "assets", SOURCE / "assets")
    names = page_names()
    for source, name in names.items():
        target = SOURCE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / source).read_text(encoding="utf-8")
        target.write_text(rewrite_links(text, source, names), encoding="utf-8")


class _Page(HTMLParser):
    """Ids and links of a built page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids.update(value for key in ("id", "name") if (value := values.get(key)))
        self.links += [value for key in ("href", "src") if (value := values.get(key))]


def dead_links(site: Path = SITE) -> Iterator[str]:
    """Yield a line for each link of the built pages that leads to no file or no id in the site."""
    pages: dict[Path, _Page] = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin with the address of the site
            continue
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc or link.startswith("data:"):
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{path.relative_to(site)}: {link} leads to no file"
            elif url.fragment and target in pages and unquote(url.fragment) not in pages[target].ids:
                yield f"{path.relative_to(site)}: {link} leads to no heading"


def unlisted_pages() -> list[str]:
    """Return the pages that the navigation in mkdocs.yml lacks."""
    listed = set(re.findall(r"([\w/-]+\.md)\s*$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M))
    return sorted(set(page_names().values()) - listed)


def build() -> int:
    """Build the site; return 0 if it has no dead link."""
    if missing := unlisted_pages():
        print(f"mkdocs.yml: the navigation lacks {', '.join(missing)}", file=sys.stderr)
        return 1
    stage()
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "-f", "mkdocs.yml"]
    result = subprocess.run(command, cwd=ROOT, check=False)
    if result.returncode:
        return result.returncode
    faults = list(dead_links())
    print("\n".join(faults) or f"{SITE / 'index.html'}: {len(list(SITE.rglob('*.html')))} pages, no dead link")
    return bool(faults)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", action="store_true", help="collect the pages in build/site-source only")
    arguments = parser.parse_args()
    try:
        return stage() or 0 if arguments.stage else build()
    except DeadLinkError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
