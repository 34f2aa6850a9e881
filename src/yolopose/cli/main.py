"""Entry point of the command line: parse, dispatch, and print errors as one paragraph."""

from __future__ import annotations

import errno
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
from yolopose.base.errors import OutputError, UsageError, YoloposeError
from yolopose.base.launch_env import is_worker_rank
from yolopose.base.log import LOGGER
from yolopose.base.progress import is_terminal
from yolopose.base.text import escape_control
from yolopose.cli import help as help_texts
from yolopose.cli.grammar import Command, parse
from yolopose.cli.modes import RUN_MODE
from yolopose.config import check_options

# of a full disk, a closed or a broken stream
_STREAM_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF})


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        args: the arguments after `yolo`; those of this process by default.

    Returns:
        Exit status: 0 on success, the status of the command for `toolchain run`, 1 for an error, 130 when interrupted,
        141 when the reader of a pipe closed it.
    """
    _occupy_standard_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):  # the encoding of the terminal may not have every character
        sys.stdout.reconfigure(errors="backslashreplace")
    is_worker = is_worker_rank()  # only the main process of a distributed run prints
    if is_worker:
        LOGGER.setLevel(logging.CRITICAL)
    try:
        command = parse(sys.argv[1:] if args is None else args)
        for note in command.notes:
            LOGGER.warning(note)
        if command.options and command.action in _WITHOUT_OPTIONS:
            raise UsageError(f"`yolo {command.action}` takes no options; got {', '.join(command.options)}.")
        status = _run(command)
        if hasattr(sys.stdout, "flush"):  # None, or an object with only `write`, in programs without a console
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output (`| head`) has closed the pipe
        with suppress(OSError):
            _discard_output()
        return 141  # 128 + SIGPIPE, as a shell reports for other commands
    except KeyboardInterrupt as interruption:  # its message states what a training saved
        if not is_worker:
            print(str(interruption) or "Interrupted.", file=sys.stderr)
        return 130
    except Exception as error:
        error = _environment_error(error) or error
        if not is_worker or os.environ.get("YOLO_DEBUG") == "1":
            with suppress(OSError):  # standard error may be full as well
                _report(error)
        return 1
    return status


def _occupy_standard_streams() -> None:
    """Open closed standard streams on the null device.

    Otherwise the next file that is opened, such as weights, takes their number, and what native libraries print would
    be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _environment_error(error: Exception) -> YoloposeError | None:
    """Return the error that explains an `OSError` of standard output or of a current folder that is gone."""
    if isinstance(error, YoloposeError) or not isinstance(error, OSError):
        return None
    try:
        os.getcwd()
    except OSError:
        return UsageError("The current folder does not exist any more. Change to another folder and run it again.")
    if error.filename is not None or error.errno not in _STREAM_ERRORS:
        return None  # about a file
    try:
        os.write(sys.stdout.fileno(), b"\n")  # the buffer may have been dropped, so that a flush would succeed
    except io.UnsupportedOperation:  # not a file of the system, in a notebook for instance
        return None
    except OSError as problem:
        with suppress(OSError):
            _discard_output()
        return OutputError(
            f"Cannot write to standard output: {problem.strerror}. Files that were written are complete."
        )
    return None


def _run(command: Command) -> int:
    if command.action == "toolchain":
        return _toolchain(**command.options)
    if command.action in RUN_MODE:
        RUN_MODE[command.action](check_options(command.action, command.options))
    else:
        _ACTIONS.get(command.action, _unavailable)(command)
    return 0


def _report(error: Exception) -> None:
    """Print one paragraph on standard error, or the traceback with YOLO_DEBUG=1."""
    if os.environ.get("YOLO_DEBUG") == "1":
        traceback.print_exc()
        return
    text = escape_control(str(error))
    if isinstance(error, (ImportError, AttributeError)) and "cv2" in text:
        from yolopose.base.opencv import opencv_problem

        text = opencv_problem() or text
    elif not isinstance(error, YoloposeError):
        text = f"{type(error).__name__}: {text or 'no message'}. YOLO_DEBUG=1 shows the traceback."
    width = 100 if is_terminal(sys.stderr) else 10_000
    lines = [textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()]
    print("error: " + "\n".join(lines), file=sys.stderr)


def _help(command: Command) -> None:
    from yolopose.config import MODES

    topic = command.topic or ""
    print(help_texts.mode_help(topic) if topic in MODES else help_texts.TOPICS.get(topic) or help_texts.overview())


def _version(command: Command) -> None:
    print(__version__)


def _checks(command: Command) -> None:
    from yolopose.tools.doctor import environment_report

    print(environment_report())


def _models(command: Command) -> None:
    from yolopose.tools.models import models_report

    options = {"license" if name == "licence" else name: value for name, value in command.options.items()}
    if unknown := set(options) - {"license"}:
        raise UsageError(f"`yolo models` takes only license=permissive or license=NAME; got {', '.join(unknown)}.")
    print(models_report(options.get("license")))


def _formats(command: Command) -> None:
    from yolopose.formats.registry import format_table

    print(format_table())


def _toolchain(verb: str, name: str, command: Sequence[str]) -> int:
    """Run `yolo toolchain …`; the exit status is that of a command that it runs."""
    from yolopose import toolchains

    if verb == "run":
        return toolchains.run(name, command)
    if verb == "list":
        print(toolchains.toolchain_table())
    elif verb == "install":
        toolchains.install(name)
    else:
        toolchains.remove(name)
    return 0


def _settings(command: Command) -> None:
    from yolopose.base.files import remove
    from yolopose.base.settings import settings_file, settings_table, write_settings

    if command.options.pop("reset", False):
        remove(settings_file())
    if command.options:
        write_settings(command.options)
    for key, value in settings_table().items():
        print(f"{key}: {value}")
    print(f"(file: {settings_file()}; environment variables YOLOPOSE_<KEY> win over it)")


def _cfg(command: Command) -> None:
    print(help_texts.options_yaml(), end="")


def _copy_cfg(command: Command) -> None:
    from yolopose.base.files import write_text

    target = Path("default_copy.yaml")
    if target.exists():
        raise UsageError(f"{target.resolve()} already exists and was not changed. Move or remove it first.")
    write_text(target, help_texts.options_yaml())
    print(f"Wrote {target.resolve()}; edit it and use it with cfg={target}.")


def _unavailable(command: Command) -> None:
    raise UsageError(f"`yolo {command.action}` is not in this version of yolopose yet. `yolo help` lists all commands.")


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
_WITHOUT_OPTIONS = ("version", "checks", "formats", "cfg", "copy-cfg")
