"""Count files, code lines and comments of the package: `python tools/code_stats.py [SRC]`.

A code line is one that holds a token other than a comment or a docstring.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from pathlib import Path

_LAYOUT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER, tokenize.ENCODING}


def docstring_lines(tree: ast.AST) -> set[int]:
    """Return the line numbers that belong to docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def count(source: str) -> tuple[int, int]:
    """Return (code lines, comment lines) of a module."""
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstring_lines(ast.parse(source))), len(comments)


def main() -> None:
    """Print one row per top-level package and the totals."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "src" / "yolopose")
    files: Counter[str] = Counter()
    code: Counter[str] = Counter()
    comments: Counter[str] = Counter()
    for path in sorted(root.rglob("*.py")):
        package = path.relative_to(root).parts[0]
        lines, remarks = count(path.read_text(encoding="utf-8"))
        files[package] += 1
        code[package] += lines
        comments[package] += remarks
    print(f"{'package':<16}{'files':>6}{'code':>8}{'comments':>10}")
    for package in sorted(files):
        print(f"{package:<16}{files[package]:>6}{code[package]:>8}{comments[package] / max(code[package], 1):>10.1%}")
    total = sum(code.values())
    print(f"{'total':<16}{sum(files.values()):>6}{total:>8}{sum(comments.values()) / total:>10.1%}")


if __name__ == "__main__":
    main()
