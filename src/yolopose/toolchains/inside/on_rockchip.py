"""Rockchip's NPUs: ONNX to the file that they run; the same graph is computed by the simulator before it is left."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

_FAULTY = "fuse_exmatmul_add_mul_exsoftmax13_exmatmul_to_sdpa"  # rule of 2.5.0 that fails for attention without a mask


def serve(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Write the file, and then computes batches as the chip would: a written file runs on the chip alone.

    Args:
        job: `source`, an ONNX file; `target`, the file to write; `chip`, such as `rk3588`; `calibration`, for 8-bit
            numbers, a file of uint8 images (N, 1, 3, H, W), or an empty text for 16 bits.

    Returns:
        Nothing of itself; and what computes.
    """
    np: Any = import_module("numpy")
    rknn: Any = import_module("rknn.api").RKNN(verbose=False)
    eight = bool(job["calibration"])
    settings = {"mean_values": [[0, 0, 0]], "std_values": [[255, 255, 255]], "target_platform": job["chip"]}
    _done(rknn.config(**settings, disable_rules=[_FAULTY]), "config")
    _done(rknn.load_onnx(model=job["source"]), "load_onnx")
    _done(rknn.build(do_quantization=eight, dataset=_images(job["calibration"]) if eight else None), "build")
    _done(rknn.export_rknn(job["target"]), "export_rknn")
    _done(rknn.init_runtime(), "init_runtime")

    def compute(images: Any) -> list[Any]:
        pixels = np.rint(images.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        return list(rknn.inference(inputs=[pixels], data_format=["nhwc"]))

    return {}, compute


def _done(status: int, step: str) -> None:
    if status != 0:
        raise RuntimeError(f"rknn-toolkit2's {step} failed with status {status}")


def _images(calibration: str) -> str:
    """Write the images as files, and a list of them."""
    np, cv2 = import_module("numpy"), import_module("cv2")
    names: list[str] = []
    for place, batch in enumerate(np.load(calibration, mmap_mode="r")):
        names.append(f"image{place}.png")
        cv2.imwrite(names[-1], np.ascontiguousarray(batch[0][::-1].transpose(1, 2, 0)))  # OpenCV has blue first
    Path("images.txt").write_text("\n".join(str(Path(name).resolve()) for name in names), encoding="utf-8")
    return "images.txt"
