"""Words of the command line, up to the checked options."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main

    from yolopose.cli.grammar import parse
    from yolopose.config import MODES, check_options


def run(data: bytes) -> None:
    """Read one case."""
    words = data.decode("utf-8", "surrogateescape").split("\0")
    if any(word.startswith("cfg") for word in words):
        return  # reads a file that the words name
    command = parse(words)
    if command.action in MODES:
        check_options(command.action, command.options)


TARGET = Target(
    "cli",
    run,
    [
        b"\0",
        b"predict",
        b"train",
        b"val",
        b"export",
        b"convert",
        b"track",
        b"=",
        b"imgsz=",
        b"conf=",
        b"device=",
        b"--",
        b"[",
        b"None",
    ],
)

if __name__ == "__main__":
    main(TARGET)
