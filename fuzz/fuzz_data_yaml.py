"""Data set YAMLs, with an image folder beside them."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main, work_folder

    from yolopose.data.dataset import load_dataset

FOLDER = work_folder()
(FOLDER / "images").mkdir()
(FOLDER / "images" / "a.png").write_bytes(b"")


def run(data: bytes) -> None:
    """Read one case."""
    path = FOLDER / "data.yaml"
    path.write_bytes(data)
    load_dataset(path)


TARGET = Target(
    "data_yaml",
    run,
    [b"nc: ", b"kpt_shape: ", b"names: ", b"train: ", b"path: ", b"flip_idx: ", b"download: ", b"..", b"[17, 3]"],
)

if __name__ == "__main__":
    main(TARGET)
