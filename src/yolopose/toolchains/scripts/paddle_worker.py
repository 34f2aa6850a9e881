"""PaddlePaddle: convert ONNX to an inference program, and run it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Write an ONNX graph as an inference program.

    Args:
        job: `source`, an ONNX file of opset 15 or older; `target`, the folder.

    Returns:
        `files`: names of the written files.
    """
    _remove_dilations(job["source"], "plain.onnx")
    sys.argv = ["x2paddle"]
    import_module("x2paddle.convert").onnx2paddle("plain.onnx", "paddle_model", disable_feedback=True)
    files = sorted(path for path in Path("paddle_model/inference_model").iterdir() if path.is_file())
    for path in files:
        shutil.copyfile(path, os.path.join(job["target"], path.name))
    return {"files": [path.name for path in files]}


def _remove_dilations(source: str, target: str) -> None:
    """Remove the attribute `dilations` of pooling, a default value that the converter does not support."""
    onnx: Any = import_module("onnx")
    model = onnx.load(source)
    for node in model.graph.node:
        if node.op_type == "MaxPool":
            attributes = [entry for entry in node.attribute if entry.name != "dilations"]
            del node.attribute[:]
            node.attribute.extend(attributes)
    onnx.save(model, target)


def serve(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Open an inference program.

    Args:
        job: `path` of its folder; `threads`.

    Returns:
        Empty `info`, and the function that computes.
    """
    paddle: Any = import_module("paddle.inference")
    programs = [path for path in sorted(Path(job["path"]).iterdir()) if path.suffix in (".json", ".pdmodel")]
    weights = sorted(Path(job["path"]).glob("*.pdiparams"))
    if len(programs) != 1 or len(weights) != 1:
        raise ValueError(f"one program (.json or .pdmodel) and one .pdiparams are expected in {job['path']}")
    config = paddle.Config(str(programs[0]), str(weights[0]))
    config.disable_gpu()
    config.disable_mkldnn()  # it rejects these programs
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(job["threads"])
    predictor = paddle.create_predictor(config)
    images_input = predictor.get_input_handle(predictor.get_input_names()[0])
    output = predictor.get_output_handle(predictor.get_output_names()[0])

    def compute(images: Any) -> list[Any]:
        images_input.reshape(list(images.shape))
        images_input.copy_from_cpu(images)
        predictor.run()
        return [output.copy_to_cpu()]

    return {}, compute
