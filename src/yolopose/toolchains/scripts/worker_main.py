"""Entry point in the Python of a toolchain: `python worker_main.py MODULE FUNCTION job.json [result.json]`.

With a result file, the function takes a mapping and returns one. Without, it returns a mapping, which is sent at once,
and a function from a batch to a list of outputs, which is called until standard input ends; the protocol is described
in `toolchains/worker.py`. What libraries print goes to standard error, which is kept as a log.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from importlib import import_module
from pathlib import Path
from typing import IO, Any


def main(module: str, function: str, job: str, result: str = "") -> None:
    """Run the function that the command line names."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # standard output is for messages only
    answer = getattr(import_module(module), function)(json.loads(Path(job).read_text(encoding="utf-8")))
    if result:
        Path(result).write_text(json.dumps(answer), encoding="utf-8")
    else:
        _serve(sys.stdin.buffer, pipe, *answer)


def _serve(requests: IO[bytes], pipe: IO[bytes], info: dict[str, Any], compute: Any) -> None:
    np: Any = import_module("numpy")
    _send(pipe, info)
    while len(length := requests.read(4)) == 4:
        (shape,) = json.loads(requests.read(struct.unpack("<I", length)[0]))["shapes"]
        batch = np.frombuffer(requests.read(4 * int(np.prod(shape))), dtype="<f4").reshape(shape)
        outputs = [np.ascontiguousarray(output, dtype="<f4") for output in compute(batch)]
        _send(pipe, {"shapes": [list(output.shape) for output in outputs]}, *outputs)


def _send(pipe: IO[bytes], header: dict[str, Any], *outputs: Any) -> None:
    text = json.dumps(header).encode()
    pipe.write(struct.pack("<I", len(text)) + text)
    for output in outputs:
        pipe.write(output.data)
    pipe.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
