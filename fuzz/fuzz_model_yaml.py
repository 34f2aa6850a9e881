"""Model YAMLs, up to the list of layers."""

from __future__ import annotations

from instrumented import instrument

with instrument():
    from harness import Target, main, work_folder

    from yolopose.nn.model_yaml import load_model_yaml, parse_layers

FOLDER = work_folder()


def run(data: bytes) -> None:
    """Read one case."""
    path = FOLDER / "model.yaml"
    path.write_bytes(data)
    parse_layers(load_model_yaml(path), 1, (17, 3))


TARGET = Target(
    "model_yaml",
    run,
    [
        b"Conv",
        b"Pose",
        b"Concat",
        b"[-1, 1, Conv, [64, 3, 2]]",
        b"nc",
        b"kpt_shape",
        b"scales: ",
        b"n: [0.5, 0.25, 1024]",
    ],
)

if __name__ == "__main__":
    main(TARGET)
