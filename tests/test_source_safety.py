"""What the source never does: unpickle, evaluate text, start a shell, read YAML unsafely, load with pickle."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "yolopose"
FILES = sorted(SRC.rglob("*.py"))
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads",
    "shelve.open", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "joblib.load", "dill.load",
    "dill.loads", "pandas.read_pickle", "tempfile.mktemp", "subprocess.getoutput", "subprocess.getstatusoutput",
}  # fmt: skip
FORBIDDEN_IMPORTS = {"pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
PICKLE_IMPORTS = {"train/feed/loader.py"}  # writes pickles for its own worker processes
FORBIDDEN_KEYWORDS = {("shell", True), ("allow_pickle", True), ("weights_only", False), ("trust_remote_code", True)}


def dotted(node: ast.expr) -> str:
    """Return `a.b.c` of an expression, or an empty text."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def problems(tree: ast.AST, name: str) -> list[str]:
    """Return what a module does that it must not do."""
    result: list[str] = []
    for node in ast.walk(tree):
        line = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call):
            if dotted(node.func) in FORBIDDEN_CALLS:
                result.append(f"{line} calls {dotted(node.func)}")
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if (keyword.arg, value) in FORBIDDEN_KEYWORDS:
                    result.append(f"{line} has {keyword.arg}={value}")
            if dotted(node.func) == "torch.load" and not any(item.arg == "weights_only" for item in node.keywords):
                result.append(f"{line} calls torch.load without weights_only")
        modules: list[str] = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if module.split(".")[0] in FORBIDDEN_IMPORTS and name not in PICKLE_IMPORTS:
                result.append(f"{line} imports {module}")
    return result


def test_promises_name_tests_that_exist() -> None:
    root = SRC.parents[1]
    names = re.findall(r"`(tests/[\w/]+\.py)`", (root / "docs/security.md").read_text(encoding="utf-8"))
    assert len(names) >= 10
    assert [name for name in names if not (root / name).is_file()] == []


def test_source_runs_no_foreign_code() -> None:
    found = [text for path in FILES for text in problems(ast.parse(path.read_text()), path.relative_to(SRC).as_posix())]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "import os; os.system(text)",
        "import pickle",
        "from dill import loads",
        "subprocess.run(text, shell=True)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text)",
    ],
)
def test_the_test_notices(code: str) -> None:
    assert problems(ast.parse(code), "a.py")
