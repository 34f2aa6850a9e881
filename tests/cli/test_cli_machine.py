"""The command line on a bad machine: each command ends in its result or in one paragraph that explains the fault."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX descriptors and limits")

SRC = Path(__file__).parents[2] / "src"
COMMANDS = [["help"], ["help", "train"], ["version"], ["formats"], ["cfg"], ["settings"], ["models"], ["data", "list"]]
PREDICT = ["predict", "model=missing.pt", "source=missing.jpg"]
IDS = [" ".join(command) for command in COMMANDS]


def yolo(
    words: list[str], *, cwd: Path, redirect: str = "", before: Callable[[], None] | None = None, **env: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command; `redirect` holds redirections."""
    command = [sys.executable, "-m", "yolopose", *words]
    variables = {**os.environ, "PYTHONPATH": str(SRC), **env}
    if redirect:
        command = ["/bin/sh", "-c", f'exec "$@" {redirect}', "sh", *command]
    return subprocess.run(
        command,
        cwd=cwd,
        env={name: value for name, value in variables.items() if value is not None},
        preexec_fn=before,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
        timeout=300,
    )


def is_one_paragraph(text: str) -> bool:
    """Return whether the command explained a fault, without a traceback or the name of a foreign exception."""
    return text.startswith("error: ") and not any(word in text for word in ("Traceback", "YOLO_DEBUG", "Errno"))


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(stream: str, command: list[str], tmp_path: Path) -> None:
    result = yolo(command, cwd=tmp_path, redirect=stream)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
def test_full_standard_output(command: list[str], tmp_path: Path) -> None:
    result = yolo(command, cwd=tmp_path, redirect=">/dev/full")
    assert result.returncode == 1
    assert is_one_paragraph(result.stderr)
    assert "Cannot write to standard output" in result.stderr


def test_full_standard_error(tmp_path: Path) -> None:
    result = yolo(PREDICT, cwd=tmp_path, redirect="2>/dev/full")
    assert (result.returncode, result.stdout) == (1, "")


def test_files_never_take_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What native libraries print to descriptor 1 would otherwise be written into the first file that is opened."""
    code = (
        "import os, sys; from yolopose.cli.main import main; main(['version']);"
        "handle = os.open('weights.pt', os.O_CREAT | os.O_WRONLY); os.write(1, b'noise'); os._exit(handle)"
    )
    command = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(SRC)}, check=False)
    assert result.returncode > 2
    assert (tmp_path / "weights.pt").read_bytes() == b""


@pytest.mark.parametrize("command", [*COMMANDS, PREDICT], ids=[*IDS, "predict"])
def test_current_folder_is_gone(command: list[str], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    result = yolo(command, cwd=gone, before=gone.rmdir)
    if command is PREDICT:
        assert is_one_paragraph(result.stderr)
        assert "current folder does not exist" in result.stderr
    else:
        assert result.returncode == 0, result.stderr


def no_home(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python code as a user without HOME and without an entry in the table of users."""
    code = f"import os, pwd; pwd.getpwuid = lambda uid: {{}}[uid]; os.environ.pop('HOME', None)\n{script}"
    env = {name: value for name, value in os.environ.items() if not name.startswith(("YOLOPOSE", "XDG", "HOME"))}
    env |= {"PYTHONPATH": str(SRC), "TMPDIR": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300
    )


def test_no_home_folder(tmp_path: Path) -> None:
    script = "from yolopose.cli.main import main; raise SystemExit(main(['settings']))"
    result = no_home(script, tmp_path)
    assert result.returncode == 0, result.stderr
    private = tmp_path / f"yolopose-{os.getuid()}"
    assert str(private) in result.stdout
    assert private.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in tmp_path.iterdir()] == [private.name]  # no folder that is called ~
    private.chmod(0o777)  # someone else could place weights there
    assert "is not private" in no_home(script, tmp_path).stderr


def test_unknown_user_in_a_path(tmp_path: Path) -> None:
    result = yolo(["convert", "source=~nobody-of-this-name/a", "to=coco"], cwd=tmp_path)
    assert is_one_paragraph(result.stderr)


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
@pytest.mark.parametrize("name", [b"\xff\xfe.pt", "🐭 a.pt".encode(), b"a\nb.pt", b"\x1b[2J.pt", b"x" * 200 + b".pt"])
def test_names_in_any_locale(name: bytes, locale: str, tmp_path: Path) -> None:
    words = [f"model={os.fsdecode(name)}", "source=a.jpg"]
    result = yolo(["predict", *words], cwd=tmp_path, LC_ALL=locale, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
    assert is_one_paragraph(result.stderr), result.stderr
    assert "\x1b" not in result.stderr


def limit(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


@pytest.mark.parametrize("command", COMMANDS, ids=IDS)
def test_sixteen_file_handles(command: list[str], tmp_path: Path) -> None:
    result = yolo(command, cwd=tmp_path, before=limit(resource.RLIMIT_NOFILE, 16))
    assert result.returncode == 0, result.stderr
