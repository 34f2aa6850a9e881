"""Prepare a release: `make release` (or `make release DRY_RUN=1`), and the steps of .github/workflows/release.yml.

    python tools/release.py check [--tag v0.1.0]   version, changelog and citation agree
    python tools/release.py notes                  the section of the changelog
    python tools/release.py build                  dist/, twice; the archives must be equal
    python tools/release.py tag [--dry-run]        all of it, then a signed tag

The version is written once, in src/yolopose/_version.py. Pushing the tag starts the workflow that publishes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
MAX_BYTES = 1_500_000  # of an archive; a file of data that slipped in is larger


class ReleaseError(Exception):
    """The repository is not ready for a release."""


def read(name: str) -> str:
    """Return the text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def version() -> str:
    """Return the version of the package."""
    match = re.search(r'__version__ = "([^"]+)"', read("src/yolopose/_version.py"))
    if not match:
        raise ReleaseError("src/yolopose/_version.py has no __version__.")
    return match[1]


def notes() -> str:
    """Return the text of the changelog for the version, without its heading."""
    match = re.search(rf"^## {re.escape(version())} .*?\n(.*?)(?=^## |\Z)", read("CHANGELOG.md"), re.M | re.S)
    if not match:
        raise ReleaseError(f"CHANGELOG.md has no section `## {version()} (YYYY-MM-DD)`.")
    return match[1].strip() + "\n"


def faults(tag: str | None = None) -> Iterator[str]:
    """Yield what contradicts the version."""
    number = version()
    if tag is not None and tag != f"v{number}":
        yield f"The tag {tag} does not match the version {number} in src/yolopose/_version.py."
    heading = re.search(rf"^## {re.escape(number)} \((\d{{4}}-\d\d-\d\d)\)$", read("CHANGELOG.md"), re.M)
    if not heading:
        yield f"CHANGELOG.md has no dated heading `## {number} (YYYY-MM-DD)`."
    citation = read("CITATION.cff")
    if f"\nversion: {number}\n" not in citation:
        yield f"CITATION.cff does not state version {number}."
    if heading and f"\ndate-released: {heading[1]}\n" not in citation:
        yield f"CITATION.cff does not state date-released: {heading[1]}, the date in CHANGELOG.md."
    for name in ("README.md", "docs/installation.md"):
        for other in set(re.findall(r"yolopose-(\d[\w.]*)-py3", read(name))) - {number}:
            yield f"{name} names the wheel of version {other}."


def check(tag: str | None = None) -> None:
    """Raise `ReleaseError` if something contradicts the version."""
    if problems := list(faults(tag)):
        raise ReleaseError("\n".join(problems))
    print(f"version {version()}: changelog, citation and documents agree")


def git(*arguments: str) -> str:
    """Return the output of a git command."""
    result = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return result.stdout.strip()


def build_into(folder: Path) -> dict[str, str]:
    """Build wheel and sdist in a folder; return SHA-256 by file name."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": git("log", "-1", "--format=%ct")}
    isolation = [] if os.environ.get("BUILD_ISOLATION", "1") == "1" else ["--no-isolation"]
    command = [sys.executable, "-m", "build", *isolation, "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def build() -> None:
    """Build twice and move the archives to dist/ if both builds are equal."""
    with tempfile.TemporaryDirectory() as temporary:
        first, second = Path(temporary, "first"), Path(temporary, "second")
        digests = build_into(first)
        if digests != build_into(second):
            raise ReleaseError("Two builds of the same commit differ; the archives depend on time, order or machine.")
        shutil.rmtree(DIST, ignore_errors=True)
        shutil.copytree(first, DIST)
    for name, digest in digests.items():
        size = (DIST / name).stat().st_size
        if size > MAX_BYTES:
            raise ReleaseError(f"dist/{name} has {size} bytes, more than {MAX_BYTES}.")
        print(f"dist/{name}  {size / 1e6:.2f} MB  sha256 {digest}")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *map(str, DIST.iterdir())], check=True)


def make_tag(dry_run: bool) -> None:
    """Check, build and create the signed tag.

    Raises:
        ReleaseError: something contradicts the version, files are not committed, or the tag exists.
    """
    tag = f"v{version()}"
    check(tag)
    problems = []
    if git("status", "--porcelain"):
        problems.append("There are files that are not committed.")
    if tag in git("tag", "--list", tag).split():
        problems.append(f"The tag {tag} exists; raise the version in src/yolopose/_version.py.")
    if problems and not dry_run:
        raise ReleaseError("\n".join(problems))
    build()
    text = notes()
    print(f"\n{text}")
    command = ["git", "tag", "--sign", tag, "--message", f"yolopose {version()}\n\n{text}"]
    if dry_run:
        print("\n".join(["Dry run: no tag was created.", *problems]))
        return
    subprocess.run(command, cwd=ROOT, check=True)
    print(f"Created the signed tag {tag}. `git push origin {tag}` publishes it.")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["check", "notes", "build", "tag"])
    parser.add_argument("--tag", help="name of the tag that is released")
    parser.add_argument("--dry-run", action="store_true", help="create no tag")
    arguments = parser.parse_args()
    try:
        if arguments.step == "check":
            check(arguments.tag)
        elif arguments.step == "notes":
            print(notes(), end="")
        elif arguments.step == "build":
            build()
        else:
            make_tag(arguments.dry_run)
    except ReleaseError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
