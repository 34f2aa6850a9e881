"""Check terms, line length and module size: `python tools/check_style.py`; exits with 1 and lists the problems.

Terms: docs/glossary.md. They are looked for in identifiers, file names, docstrings, comments, messages and documents.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from code_stats import count

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "yolopose"
MAX_COLUMNS = 120
MIN_LINES = 40  # of code, for a module that only one other module imports

# Parts of identifiers and file names ("image_cell" has the parts "image" and "cell") -> the term to use.
NAME_PARTS = {
    "picture": "image",
    "pictures": "images",
    "likeness": "similarity",
    "truth": "gt",
    "truths": "gt",
    "cell": "anchor",
    "cells": "anchors",
    "lane": "replica",
    "lanes": "replicas",
    "laned": "replicated",
    "crew": "launcher",
    "sketch": "deferred batch",
    "sketched": "deferred",
    "tally": "meter",
    "errand": "run_in_env",
    "rehearsed": "simulated",
    "gathering": "record builder",
    "colour": "color",
    "colours": "colors",
    "optimiser": "optimizer",
    "centre": "center",
    "licence": "license",
    "grey": "gray",
    "falloff": "kpt_variance",
}
# Whole identifiers -> the term to use.
NAMES = {
    "found": "name the thing",
    "told": "name the thing",
    "kept": "name the thing",
    "words": "message, text",
    "RanAway": "Diverged",
    "Judged": "classify_errors",
    "NoFolder": "NullRunFolder",
    "in_words": "format_duration",
    "as_dict_of": "to_dict",
    "is_whole": "has_all_branches",
    "at_rest": "can_checkpoint",
    "slow_down": "scale_lr",
    "go_back": "rollback",
    "fitting_batch": "auto_batch_size",
    "follows": "is_worker_rank",
    "score_picture": "match_image",
    "Stand": "placeholder",
    "Spread": "replicated runtime",
}
# Phrases of text -> plain wording.
PHRASES = {
    r"\bpictures?\b": "image",
    # "there is no" has a pattern of its own
    r"(?<!there )\b(?:is|are) no (?!(?:longer|more|different|other|less|need|way|better)\b)[a-z]+": "is not a …",
    r"\bthere (?:is|are|was|were) no\b": "unknown X; X does not exist; X was not found",
    r"\bno such\b(?! file or directory)": "unknown X; X does not exist; X was not found",
    r"\b(?:heeds?|heeded)\b": "supports",
    r"\bleft aside\b": "ignored",
    r"\b(?:said|says|say) so\b": "logged",
    r"\bby lot\b": "randomly",
    r"\bon paper\b": "as parameters",
    r"\bat hand\b": "available",
    r"\b(?:mended|mends|mending)\b": "fixed",
    r"\blikeness\b": "similarity",
    r"\blanes?\b": "replica",
    r"\bwhole numbers?\b": "integers",
    r"\bwhatever\b": "any",
    r"\bnewcomers?\b": "new user",
    r"\bstands? (?:for|in|beside|at|alone|again)\b": "is …",
    r"\bthe truth\b": "the ground truth",
    r"\b(?:nought|thereof|hereby|whence|hence)\b": "plain wording",
    r"\b(?:images?|samples?|frames?) a second\b": "per second",
    r"\b(?:a|per) picture\b": "per image",
    r"\b(?:colour|behaviour|centre|licence|optimiser|neighbour|artefact|grey|labelled|favour|honour)\w*": "US spelling",
    r"\b\w+(?:normalis|quantis|initialis|serialis|recognis|minimis|organis|parametris|synchronis)\w*": "US spelling",
}
# Since Python 3.12 the text of an f-string is a token of its own.
TEXT_TOKENS = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
# File stems that do not tell what is inside.
STEMS = {
    "about", "common", "elsewhere", "flow", "growing", "guard", "helpers", "inside", "later", "measure", "misc",
    "pairs", "parts", "places", "said", "settle", "spread", "start", "stuff", "tally", "texts", "turn", "utils",
    "work",
}  # fmt: skip
# "path: term" pairs that are right as they are, with the reason.
ALLOWED = {
    "src/yolopose/config/options.py: US spelling": "accepts the British spelling as a synonym",
    "src/yolopose/config/options.py: truth": "the option truth= of `yolo evaluate`",
    "src/yolopose/cli/tracking.py: truth": "the option truth= of `yolo evaluate`",
}
# Small modules with one importer that stay, with the reason.
SMALL_MODULES = {
    "yolopose.formats.toolchain.tensorflow": "entry of three formats in zoo/formats.yaml",
    "yolopose.model.exporting": "the object that the export callbacks receive",
    "yolopose.train.ema": "readers look for the moving average by its name",
}
SKIPPED_FILES = {"docs/glossary.md", "tools/check_style.py", "tests/test_style.py"}


def tracked(*patterns: str) -> list[Path]:
    """Return the files under version control that match."""
    done = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).is_file()]


def name_problems(name: str) -> Iterator[tuple[str, str]]:
    """Yield (term, what to use) of an identifier or a file stem."""
    if name in NAMES:
        yield name, NAMES[name]
    for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name):
        if part.lower() in NAME_PARTS:
            yield part, NAME_PARTS[part.lower()]


def text_problems(text: str) -> Iterator[tuple[str, str]]:
    """Yield (phrase, what to use) of prose."""
    for pattern, advice in PHRASES.items():
        for match in re.finditer(pattern, text, re.IGNORECASE):
            yield match[0], advice


def check_python(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield (line, term, what to use) of identifiers, comments, docstrings and messages."""
    source = path.read_text(encoding="utf-8")
    in_package = PACKAGE in path.parents
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and in_package:
            problems = name_problems(token.string)
        elif token.type in TEXT_TOKENS and " " in token.string:
            problems = text_problems(token.string)
        else:
            continue
        for term, advice in problems:
            yield token.start[0], term, advice


def check_terms() -> Iterator[str]:
    """Yield one line for each term that the glossary replaces."""
    for path in tracked("*.py", "*.md"):
        relative = path.relative_to(ROOT).as_posix()
        if relative in SKIPPED_FILES:
            continue
        if path.suffix == ".py":
            problems = list(check_python(path))
            if path.stem in STEMS:
                problems.append((1, f"file name {path.name}", "a name that says what is inside"))
        else:
            lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            problems = [(number, *problem) for number, line in lines for problem in text_problems(line)]
        for number, term, advice in problems:
            if f"{relative}: {term}" not in ALLOWED and f"{relative}: {advice}" not in ALLOWED:
                yield f"{relative}:{number}: '{term}' (use: {advice})"


def check_line_length() -> Iterator[str]:
    """Yield lines of code and prose over 120 columns; tables and links cannot be broken."""
    for path in tracked("*.py", "*.md", "*.toml", "Makefile"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if len(line) > MAX_COLUMNS and not line.startswith("|") and "://" not in line:
                yield f"{path.relative_to(ROOT)}:{number}: {len(line)} columns"


def importers() -> dict[str, set[str]]:
    """Return the modules that import each module of the package."""
    result: dict[str, set[str]] = defaultdict(set)
    modules = {module_name(path) for path in PACKAGE.rglob("*.py")}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    if name in modules:
                        result[name].add(module_name(path))
    return result


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def check_module_size() -> Iterator[str]:
    """Yield modules below 40 code lines whose only importer is one module."""
    used_by = importers()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = module_name(path)
        if path.stem.startswith("__") or name in SMALL_MODULES or len(used_by[name]) != 1:
            continue
        lines, _ = count(path.read_text(encoding="utf-8"))
        if lines < MIN_LINES:
            yield f"{path.relative_to(ROOT)}: {lines} code lines, imported by {next(iter(used_by[name]))} only"


def main() -> int:
    """Print every problem and return the exit status."""
    problems = [*check_terms(), *check_line_length(), *check_module_size()]
    print("\n".join(problems) if problems else "No style problems.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
