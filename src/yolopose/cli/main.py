"""The command line: reads the words, calls the room that does the work, and turns errors into one paragraph."""

from __future__ import annotations

import io
import logging
import os
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from yolopose._version import __version__
from yolopose.base.errors import UsageError, YoloposeError
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER
from yolopose.cli import help as texts
from yolopose.cli.grammar import Command, parse
from yolopose.cli.modes import RUN_MODE
from yolopose.config import check_options


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        words: the words after `yolo`; those of this process when left out.

    Returns:
        Exit status: 0 on success, that of the command that `toolchain run` runs, 1 for an error, 130 when
        interrupted, 141 when the reader of a pipe left.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name or sign that the terminal cannot show is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    following = is_worker_rank()  # one of several processes, of which the first speaks for all
    if following:
        LOGGER.setLevel(logging.CRITICAL)
    try:
        command = parse(sys.argv[1:] if words is None else words)
        for note in command.notes:
            LOGGER.warning(note)
        if command.options and command.action in _WITHOUT_OPTIONS:
            raise UsageError(f"`yolo {command.action}` takes no options; got {', '.join(command.options)}.")
        status = _run(command)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output (`| head`) has seen enough
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell reports of any other command in this case
    except KeyboardInterrupt as interruption:  # a training says what it kept
        if not following:
            print(str(interruption) or "Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        if not following or os.environ.get("YOLO_DEBUG") == "1":
            _report(error)
        return 1
    return status


def _run(command: Command) -> int:
    if command.action == "toolchain":
        return _toolchain(**command.options)
    if command.action in RUN_MODE:
        RUN_MODE[command.action](check_options(command.action, command.options))
    else:
        _ACTIONS.get(command.action, _later)(command)
    return 0


def _report(error: Exception) -> None:
    """Print one paragraph on standard error; the traceback only when YOLO_DEBUG=1 asks for it."""
    if os.environ.get("YOLO_DEBUG") == "1":
        traceback.print_exc()
        return
    text = str(error)
    if not isinstance(error, YoloposeError):
        text = f"{type(error).__name__}: {text or 'no further words'}. YOLO_DEBUG=1 shows where it happened."
    width = 100 if sys.stderr.isatty() else 10_000
    lines = [textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()]
    print("error: " + "\n".join(lines), file=sys.stderr)


def _help(command: Command) -> None:
    from yolopose.config import MODES

    topic = command.topic or ""
    print(texts.of_mode(topic) if topic in MODES else texts.TOPICS.get(topic) or texts.overview())


def _version(command: Command) -> None:
    print(__version__)


def _checks(command: Command) -> None:
    from yolopose.tools.doctor import report

    print(report())


def _models(command: Command) -> None:
    from yolopose.tools.models import report

    print(report())


def _formats(command: Command) -> None:
    from yolopose.formats.registry import report

    print(report())


def _toolchain(verb: str, name: str, words: Sequence[str]) -> int:
    """Do what stands behind `yolo toolchain`; the exit status is that of a command that it runs."""
    from yolopose import toolchains

    if verb == "run":
        return toolchains.run(name, words)
    if verb == "list":
        print(toolchains.report())
    elif verb == "install":
        toolchains.install(name)
    else:
        toolchains.remove(name)
    return 0


def _settings(command: Command) -> None:
    from yolopose.base.settings import settings_file, settings_table, write_settings

    if command.options.pop("reset", False):
        _remove(settings_file())
    if command.options:
        write_settings(command.options)
    for key, value in settings_table().items():
        print(f"{key}: {value}")
    print(f"(file: {settings_file()}; YOLOPOSE_<KEY> in the environment wins over it)")


def _remove(path: Path) -> None:
    from yolopose.base.files import output_error

    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error) from error


def _cfg(command: Command) -> None:
    print(texts.as_yaml(), end="")


def _copy_cfg(command: Command) -> None:
    from yolopose.base.files import write_text

    target = Path("default_copy.yaml")
    if target.exists():
        raise UsageError(f"{target.resolve()} is already there; it was left as it is. Move or remove it first.")
    write_text(target, texts.as_yaml())
    print(f"Wrote {target.resolve()}; change it and use it with cfg={target}.")


def _later(command: Command) -> None:
    raise UsageError(f"`yolo {command.action}` is not in this version of yolopose yet. `yolo help` lists what is.")


_ACTIONS: dict[str, Callable[[Command], None]] = {
    "help": _help,
    "version": _version,
    "checks": _checks,
    "models": _models,
    "formats": _formats,
    "settings": _settings,
    "cfg": _cfg,
    "copy-cfg": _copy_cfg,
}
_WITHOUT_OPTIONS = ("version", "checks", "models", "formats", "cfg", "copy-cfg")
