"""Safetensors files."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main, work_folder

    from yolopose.weights import read_checkpoint

FOLDER = work_folder()


def run(data: bytes) -> None:
    """Read one case."""
    path = FOLDER / "file.safetensors"
    path.write_bytes(data)
    checkpoint = read_checkpoint(path)
    assert sum(value.numel() for value in checkpoint.state.values()) <= len(data)
    for value in checkpoint.state.values():
        value.double().sum()


TARGET = Target(
    "safetensors",
    run,
    [b'"dtype":', b"F16", b"data_offsets", b"shape", b"__metadata__", b"[0,", b"9223372036854775807", b'\\"'],
)

if __name__ == "__main__":
    main(TARGET)
