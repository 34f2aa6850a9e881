"""PyTorch weights files."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main, work_folder

    from yolopose.weights import read_checkpoint

FOLDER = work_folder()


def run(data: bytes) -> None:
    """Read one case."""
    path = FOLDER / "file.pt"
    path.write_bytes(data)
    checkpoint = read_checkpoint(path)
    assert sum(value.numel() for value in checkpoint.state.values()) <= len(data)
    for value in checkpoint.state.values():
        value.double().sum()  # reads every element
    assert [file.name for file in FOLDER.iterdir()] == ["file.pt"]


TARGET = Target(
    "checkpoint",
    run,
    [b"PK\3\4", b"PK\1\2", b"PK\5\6", b"cos\nsystem\n", b"R", b".", b"(", b"t", b"\x93", b"\x81", b"b", b"data.pkl"],
)

if __name__ == "__main__":
    main(TARGET)
