"""Begins work in the Python of a toolchain: `python begin.py MODULE FUNCTION job.json [answer.json]`.

With an answer, the function takes a mapping and returns one. Without, it returns a mapping that is said at once, and a
function from a batch to a list of outputs, which is called until standard input ends; `toolchains/worker.py` has the
other end of that talk. Whatever libraries print goes to standard error, which is kept as a log.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from importlib import import_module
from pathlib import Path
from typing import IO, Any


def main(module: str, function: str, job: str, answer: str = "") -> None:
    """Do what the line asks for."""
    talk = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    found = getattr(import_module(module), function)(json.loads(Path(job).read_text(encoding="utf-8")))
    if answer:
        Path(answer).write_text(json.dumps(found), encoding="utf-8")
    else:
        _serve(sys.stdin.buffer, talk, *found)


def _serve(given: IO[bytes], talk: IO[bytes], about: dict[str, Any], compute: Any) -> None:
    np: Any = import_module("numpy")
    _say(talk, about)
    while len(head := given.read(4)) == 4:
        (shape,) = json.loads(given.read(struct.unpack("<I", head)[0]))["shapes"]
        batch = np.frombuffer(given.read(4 * int(np.prod(shape))), dtype="<f4").reshape(shape)
        outputs = [np.ascontiguousarray(output, dtype="<f4") for output in compute(batch)]
        _say(talk, {"shapes": [list(output.shape) for output in outputs]}, *outputs)


def _say(talk: IO[bytes], values: dict[str, Any], *outputs: Any) -> None:
    text = json.dumps(values).encode()
    talk.write(struct.pack("<I", len(text)) + text)
    for output in outputs:
        talk.write(output.data)
    talk.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
