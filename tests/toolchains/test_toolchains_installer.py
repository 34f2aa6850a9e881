"""Toolchains, tested with a toolchain of one small wheel."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from yolopose import __version__, toolchains, zoo
from yolopose.base.errors import DependencyError, OutputError, UsageError
from yolopose.cli import main
from yolopose.toolchains import installer
from yolopose.toolchains import worker as worker_module
from yolopose.toolchains.catalog import log_file, python_in
from yolopose.toolchains.installer import install_lock

OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
TINY: dict[str, Any] = {
    "title": "Tiny", "formats": "none", "pythons": [OWN], "megabytes": 12, "packages": ["tiny-thing==1.0"],
    "decisive": ["tiny-thing"], "imports": ["tiny_thing"],
}  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `tiny` the only toolchain, and a folder with its wheel the user's only index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    about = "tiny_thing-1.0.dist-info"
    with zipfile.ZipFile(wheels / "tiny_thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_thing.py", "VALUE = 1\ndef say():\n    print('tiny says', VALUE)\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/entry_points.txt", "[console_scripts]\ntiny-says = tiny_thing:say\n")
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("YOLOPOSE_TOOLCHAINS_DIR", str(tmp_path / "rooms"))
    give(monkeypatch)
    return tmp_path / "rooms"


def give(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    monkeypatch.setattr(zoo, "toolchain_tables", lambda: {"tiny": {**TINY, **changes}})


def pretend(folder: Path, python: Path) -> None:
    """Leave what an install leaves, with a Python that is there."""
    programs = folder / "tiny" / ("Scripts" if sys.platform == "win32" else "bin")
    programs.mkdir(parents=True)
    (programs / python_in(folder).name).symlink_to(python)
    packages = folder / "tiny" / ("Lib" if sys.platform == "win32" else f"lib/python{OWN}") / "site-packages"
    packages.mkdir(parents=True)
    (packages / "tiny_thing.py").touch()
    row = toolchains.get_toolchain("tiny")
    note = {"folder": str(folder / "tiny"), "identity": row.identity, "megabytes": 3, "seconds": 1}
    (folder / "tiny/toolchain.json").write_text(json.dumps(note), encoding="utf-8")


def frozen() -> str:
    return subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.slow
def test_install_run_and_remove(tiny: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    before = frozen()
    monkeypatch.setenv("PIP_TARGET", str(tiny.parent / "elsewhere"))
    monkeypatch.setenv("PYTHONPATH", str(tiny.parent))
    assert main(["toolchain", "install", "name=tiny"]) == 0
    said = capfd.readouterr().out
    assert said.index("about 12 MB") < said.index("Installed tiny: ")
    assert not (tiny.parent / "elsewhere").exists()
    monkeypatch.delenv("PIP_TARGET")
    assert frozen() == before
    assert sorted(path.name for path in tiny.iterdir()) == ["logs", "tiny"]
    assert toolchains.find_python(toolchains.get_toolchain("tiny")) == python_in(tiny / "tiny")
    assert main(["toolchain", "list"]) == 0
    assert "  installed" in capfd.readouterr().out
    for words, expected in (
        (["tiny-says"], "tiny says 1"),  # a program that names its Python by the final path
        (["python", "-c", "import tiny_thing, yolopose; print(yolopose.__version__)"], f"{__version__}\n"),
    ):
        assert main(["toolchain", "run", "name=tiny", "--", *words]) == 0
        assert expected in capfd.readouterr().out
    assert main(["toolchain", "run", "name=tiny", "--", "python", "-c", "raise SystemExit(7)"]) == 7
    assert main(["toolchain", "remove", "name=tiny"]) == 0
    assert sorted(path.name for path in tiny.iterdir()) == ["logs"]
    assert toolchains.find_python(toolchains.get_toolchain("tiny")) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"packages": ["tiny-thing==2.0"]}, r"cannot install packages: ERROR: No matching distribution"),
        ({"imports": ["tinny_thing"]}, r"do not work: ModuleNotFoundError: No module named 'tinny_thing'"),
    ],
)
def test_failed_installation_keeps_the_older_one(
    changes: dict[str, Any], words: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tiny, Path(sys.executable))
    before = sorted(path for path in (tiny / "tiny").rglob("*"))
    give(monkeypatch, **changes)
    with pytest.raises(DependencyError, match=words) as caught:
        toolchains.install("tiny")
    assert str(log_file("tiny-install")) in str(caught.value)
    assert sorted(path for path in (tiny / "tiny").rglob("*")) == before
    assert sorted(path.name for path in tiny.iterdir()) == ["logs", "tiny"]


def test_does_not_install_again_unless_damaged(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(tiny, Path(sys.executable))
    monkeypatch.setattr(installer, "_install", lambda *_: "fetched")
    assert toolchains.install("tiny") != "fetched"
    assert "remove it first" in capsys.readouterr().out
    next((tiny / "tiny").rglob("tiny_thing.py")).unlink()
    assert "installed" not in toolchains.toolchain_table().splitlines()[1]
    assert toolchains.install("tiny") == "fetched"


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is inherited there")
def test_lock_and_cleanup_after_killed_installations(tiny: Path) -> None:
    left = tiny / ".abc.part" / "tiny"
    left.mkdir(parents=True)
    with install_lock(tiny) as held:
        assert not left.exists()
        left.mkdir(parents=True)
        program = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=held)
        with pytest.raises(UsageError, match="Another toolchain is being installed"), install_lock(tiny):
            pass
    with (
        pytest.raises(UsageError, match="a program of a killed installation"),
        install_lock(tiny),
    ):  # pip of a killed install, say
        pass
    assert left.exists()
    program.communicate(b"\n")
    with install_lock(tiny):
        assert not left.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not have this signal")
def test_sigterm_raises_system_exit(tiny: Path) -> None:
    def killed() -> None:
        with install_lock(tiny):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)

    with pytest.raises(SystemExit) as ended:
        killed()
    assert ended.value.code == 128 + signal.SIGTERM


def test_failed_step_leaves_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DependencyError("Toolchain tiny: no.")

    monkeypatch.setattr(installer, "_call", fail)
    with pytest.raises(DependencyError, match="Toolchain tiny: no"):
        toolchains.install("tiny")
    assert sorted(path.name for path in tiny.iterdir()) == ["logs"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"pythons": ["0.9"]}, UsageError, r"pinned for Python 0\.9, and this is"),
        ({"systems": ["plan9-mips"]}, UsageError, "supports plan9-mips only"),
        ({"megabytes": 10**9}, OutputError, "yolo settings toolchains_dir="),
    ],
)
def test_refuses_unsupported_systems_early(
    changes: dict[str, Any], error: type[Exception], words: str, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(monkeypatch, **changes)
    monkeypatch.setattr(installer, "_call", None)
    with pytest.raises(error, match=words):
        toolchains.install("tiny")


def test_offline_mode_uses_no_index(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    seen: list[str] = []
    command = [sys.executable, "-c", "import os; print(os.environ.get('PIP_NO_INDEX'))"]
    for value in ("1", "0"):
        monkeypatch.setenv("YOLOPOSE_OFFLINE", value)
        log = tiny.parent / f"log{value}"
        installer._call(command, log, "")
        seen.append(log.read_text().strip())
    assert seen == ["1", "None"]


def test_other_pins_need_another_installation(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tiny, Path(sys.executable))
    row = toolchains.get_toolchain("tiny")
    assert toolchains.find_python(row) == python_in(tiny / "tiny")
    give(monkeypatch, packages=["tiny-thing==1.1"])
    assert toolchains.find_python(toolchains.get_toolchain("tiny")) is None
    assert "with other versions: install it again" in toolchains.toolchain_table()
    with pytest.raises(DependencyError, match="installed for another version of yolopose"):
        toolchains.require_toolchain("tiny", "This")


def test_uses_the_current_environment_if_it_matches(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import version

    give(monkeypatch, packages=[f"numpy=={version('numpy')}", "rich==0.0"], decisive=["numpy"])
    assert toolchains.require_toolchain("tiny", "This") == Path(sys.executable)
    assert "the current environment has it" in toolchains.toolchain_table()
    give(monkeypatch, packages=["numpy==0.9"], decisive=["numpy"])
    with pytest.raises(DependencyError, match=r"Install it with: yolo toolchain install name=tiny \(about 12 MB"):
        toolchains.require_toolchain("tiny", "This")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("toolchain instal name=tiny", "Did you mean 'install'"),
        ("toolchain install", "The syntax is"),
        ("toolchain install tiny", "The syntax is"),
        ("toolchain install name=tinny", "Did you mean 'tiny'"),
        ("toolchain list name=tiny", "The syntax is"),
        ("toolchain remove name=tiny", "is not installed"),
        ("toolchain run name=tiny -- yolo", "yolo toolchain install name=tiny"),
        ("toolchain install name=tiny -- yolo", "The syntax is"),
    ],
)
def test_refuses_wrong_commands(line: str, words: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 1
    shown = capsys.readouterr().err
    assert words in shown
    assert "Traceback" not in shown


def test_run_requires_an_existing_command(tiny: Path) -> None:
    pretend(tiny, Path(sys.executable))
    with pytest.raises(UsageError, match="The command is missing"):
        toolchains.run("tiny", [])
    with pytest.raises(DependencyError, match="The program 'no-such-program' is neither"):
        toolchains.run("tiny", ["no-such-program"])


def test_run_uses_this_yolopose(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tiny, Path(sys.executable))
    seen: list[list[str]] = []
    done = SimpleNamespace(returncode=0)
    monkeypatch.setattr(worker_module.subprocess, "run", lambda command, **_: seen.append(command) or done)
    assert toolchains.run("tiny", ["yolo", "val", "model=x.pb"]) == 0
    assert seen == [[str(python_in(tiny / "tiny")), "-m", "yolopose", "val", "model=x.pb"]]


def test_toolchains_pin_every_package() -> None:
    for row in toolchains.toolchains():
        assert bool(row.packages) != bool(row.npm)
        assert all(package.count("==") == 1 for package in (*row.packages, *row.npm))
        assert set(row.decisive) <= set(row.pins)
        assert len(row.pins) == len(row.packages) + len(row.npm) + sum(map(len, row.elsewhere.values()))
    assert os.environ.get("YOLOPOSE_TOOLCHAINS_DIR") is None
