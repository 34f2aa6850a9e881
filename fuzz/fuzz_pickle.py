"""The pickle inside a weights file, without the archive around it."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main

    from yolopose.weights.pickle_reader import read_pickle


def run(data: bytes) -> None:
    """Read one case."""
    read_pickle(data, {"0": 1 << 12, "1": 64}, "file.pt")


TARGET = Target(
    "pickle",
    run,
    [
        b"cos\nsystem\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"R",
        b".",
        b"(",
        b"t",
        b"\x93",
        b"\x81",
        b"b",
        b"Q",
        b"2",
        b"\x85",
        b"\x94",
        b"h\0",
        b"e",
        b"u",
        b"]",
        b"}",
    ],
)

if __name__ == "__main__":
    main(TARGET)
