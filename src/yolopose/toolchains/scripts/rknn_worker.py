"""Rockchip NPUs: convert ONNX to the file that they run, and run the same graph in the simulator."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

# optimization of rknn-toolkit2 2.5.0 that fails for attention without a mask
_BROKEN_RULE = "fuse_exmatmul_add_mul_exsoftmax13_exmatmul_to_sdpa"


def serve(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Write the file, then simulate it: the simulator cannot open a written file.

    Args:
        job: `source`, an ONNX file; `target`, the file to write; `chip`, such as `rk3588`; `calibration`, a
            file of uint8 images (N, 1, 3, H, W) for 8 bits, or an empty text for 16 bits.

    Returns:
        Empty `info`, and the function that computes.
    """
    np: Any = import_module("numpy")
    rknn: Any = import_module("rknn.api").RKNN(verbose=False)
    calibration = job["calibration"]
    dataset = _write_images(calibration) if calibration else None
    settings = {"mean_values": [[0, 0, 0]], "std_values": [[255, 255, 255]], "target_platform": job["chip"]}
    _check(rknn.config(**settings, disable_rules=[_BROKEN_RULE]), "config")
    _check(rknn.load_onnx(model=job["source"]), "load_onnx")
    _check(rknn.build(do_quantization=bool(calibration), dataset=dataset), "build")
    _check(rknn.export_rknn(job["target"]), "export_rknn")
    _check(rknn.init_runtime(), "init_runtime")

    def compute(images: Any) -> list[Any]:
        pixels = np.rint(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        return list(rknn.inference(inputs=[pixels], data_format=["nhwc"]))

    return {}, compute


def _check(status: int, step: str) -> None:
    if status != 0:
        raise RuntimeError(f"rknn-toolkit2's {step} failed with status {status}")


def _write_images(calibration: str) -> str:
    """Write the images as PNG files, and return a file with their paths."""
    np: Any = import_module("numpy")
    cv2: Any = import_module("cv2")
    names: list[str] = []
    for index, batch in enumerate(np.load(calibration, mmap_mode="r")):
        names.append(f"image{index}.png")
        cv2.imwrite(names[-1], np.ascontiguousarray(batch[0][::-1].transpose(1, 2, 0)))  # RGB to BGR
    Path("images.txt").write_text("\n".join(str(Path(name).resolve()) for name in names), encoding="utf-8")
    return "images.txt"
