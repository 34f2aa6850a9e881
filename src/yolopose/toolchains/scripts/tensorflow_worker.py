"""TensorFlow: convert ONNX to SavedModel, frozen graph, 8-bit TFLite and TensorFlow.js; run the first three."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

_SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
# builtin operator codes of TFLite
_CONVOLUTIONS = (3, 4)
_LOGISTIC = 14
_MUL = 18
_MIN_SILU_INPUT = -8.0  # SiLU of any smaller value is between -0.003 and 0
_RECORD_NODE = "yolopose_record"


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Write one ONNX graph in one format.

    Args:
        job: `source`, an ONNX file whose input is (B, C, H, W); `target`, the file or folder; `format`: `saved_model`,
            `pb`, `tfjs`, `tflite`; `record`, a text that a frozen graph stores; `calibration`, for `tflite`,
            a file of uint8 images (N, B, C, H, W); `half`, for `tfjs`.

    Returns:
        `outputs`: names of the outputs in the order of the source.
    """
    tf: Any = import_module("tensorflow")
    network, names = _to_tensorflow(tf, job["source"], plain=job["format"] == "tfjs")
    target = job["target"]
    if job["format"] == "saved_model":
        tf.saved_model.save(network, target, signatures=network.serve)
    elif job["format"] == "pb":
        _write_frozen(tf, network, target, job["record"])
    elif job["format"] == "tfjs":
        tf.saved_model.save(network, "plain", signatures=network.serve)
        _write_tfjs("plain", target, half=job["half"])
    else:
        _write_int8(tf, network, target, job["calibration"])
    return {"outputs": names}


def _to_tensorflow(tf: Any, source: str, *, plain: bool) -> tuple[Any, list[str]]:
    """Convert a graph to a TensorFlow module with the same output names; its input is (B, H, W, C).

    Args:
        tf: the library.
        source: ONNX file.
        plain: whether grouped convolutions and batched products are split, for formats that do not support them.
    """
    np: Any = import_module("numpy")
    session: Any = import_module("onnxruntime").InferenceSession(source, providers=["CPUExecutionProvider"])
    graph_input = session.get_inputs()[0]
    _, channels, height, width = graph_input.shape
    np.save(_SAMPLE, np.zeros((20, 128, 128, channels), np.float32))  # else onnx2tf downloads sample images
    keras = import_module("onnx2tf").convert(
        input_onnx_file_path=source,
        output_folder_path="onnx2tf",
        not_use_onnxsim=True,
        non_verbose=True,
        disable_group_convolution=plain,
        enable_batchmatmul_unfold=plain,
        disable_model_save=True,
    )
    names = [output.name for output in session.get_outputs()]
    batch = np.random.default_rng(0).random(graph_input.shape, np.float32)
    expected = session.run(names, {graph_input.name: batch})
    outputs = _to_list(keras(batch.transpose(0, 2, 3, 1)))
    order = _match_outputs([value.numpy() for value in outputs], expected)
    shape = tf.TensorSpec((graph_input.shape[0], height, width, channels), tf.float32, name="images")

    @tf.function(input_signature=[shape])
    def named(images: Any) -> dict[str, Any]:
        outputs = _to_list(keras(images))
        return {name: tf.identity(outputs[index], name=name) for name, index in zip(names, order, strict=True)}

    frozen = _freeze_variables(named)  # saving does not find all variables of the converter

    class Network(tf.Module):
        @tf.function(input_signature=[shape])
        def serve(self, images: Any) -> dict[str, Any]:
            return dict(
                zip(sorted(names), _to_list(frozen(images)), strict=True)
            )  # a frozen function sorts outputs by name

    return Network(), names


def _freeze_variables(function: Any) -> Any:
    """Return a function whose variables are constants."""
    freeze = import_module("tensorflow.python.framework.convert_to_constants").convert_variables_to_constants_v2
    return freeze(function.get_concrete_function())


def _to_list(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def _match_outputs(outputs: list[Any], expected: list[Any]) -> list[int]:
    """Return the index of each expected output, matched by value: the converter does not keep names."""
    np: Any = import_module("numpy")
    remaining = set(range(len(outputs)))
    order: list[int] = []
    for array in expected:
        same_shape = [index for index in remaining if outputs[index].shape == array.shape]
        if not same_shape:
            raise ValueError(f"no output has the shape {array.shape}: {[output.shape for output in outputs]}")
        order.append(min(same_shape, key=lambda index: float(np.abs(outputs[index] - array).max())))
        remaining.remove(order[-1])
    return order


def _write_frozen(tf: Any, network: Any, target: str, record: str) -> None:
    """Write one file with the weights as constants; the record is a constant that no operator reads."""
    graph = _freeze_variables(network.serve).graph.as_graph_def()
    with tf.Graph().as_default() as note:
        tf.constant(record, name=_RECORD_NODE)
    graph.node.append(note.as_graph_def().node[0])
    Path(target).write_bytes(graph.SerializeToString())


def _write_tfjs(source: str, target: str, *, half: bool) -> None:
    import sys
    import types

    for name in ("tensorflow_decision_forests", "tensorflowjs.converters.jax_conversion"):
        empty: Any = types.ModuleType(name)  # large, and not used here
        empty.convert_jax = None
        sys.modules[name] = empty
    converter = import_module("tensorflowjs.converters.tf_saved_model_conversion_v2")
    converter.convert_tf_saved_model(source, target, quantization_dtype_map={"float16": "*"} if half else None)


def _write_int8(tf: Any, network: Any, target: str, calibration: str) -> None:
    """Write 8-bit integers from input to output, with ranges from the images."""
    np: Any = import_module("numpy")
    calibration_images = np.load(calibration, mmap_mode="r")

    def representative_data() -> Any:
        # one batch, since the converter would use the extremes of all; `_set_ranges` replaces the ranges
        for batch in calibration_images[:1]:
            yield {"images": (batch.transpose(0, 2, 3, 1) / np.float32(255)).astype(np.float32)}

    tf.saved_model.save(network, "plain", signatures=network.serve)
    converter = tf.lite.TFLiteConverter.from_saved_model("plain")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative_data
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter._experimental_calibrate_only = True
    ranged = _set_ranges(tf, converter.convert(), calibration_images)
    quantize = import_module("tensorflow.lite.python.convert").mlir_quantize
    Path(target).write_bytes(quantize(ranged, input_data_type=tf.int8, output_data_type=tf.int8))


def _set_ranges(tf: Any, content: bytes, calibration_images: Any) -> bytes:
    """Write the range of each value into a float graph, which the quantizer uses.

    A range is the mean over the images, so that a single bright spot does not widen it. After the last convolutions it
    is the widest, since the mean would clip results. Inputs of SiLU are limited to -8: smaller values give 0 to -0.003,
    but reach -100 in the first layers and would take most of the 255 steps.
    """
    np: Any = import_module("numpy")
    files: Any = import_module("tensorflow.lite.tools.flatbuffer_utils")
    model = files.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    steps = [(kinds[step.opcodeIndex], list(step.inputs), list(step.outputs)) for step in graph.operators]
    after_convs = _after_last_convolutions(steps, list(graph.outputs))
    silu_inputs = _silu_inputs(steps)
    ranged = [
        index for index, value in enumerate(graph.tensors) if value.quantization and _length(value.quantization.min)
    ]
    interpreter = tf.lite.Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    limits = np.zeros((len(calibration_images), len(ranged), 2), np.float32)
    for row, batch in enumerate(calibration_images):
        images = (batch.transpose(0, 2, 3, 1) / np.float32(255)).astype(np.float32)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
        interpreter.invoke()
        values = [interpreter.get_tensor(index) for index in ranged]
        limits[row] = [(value.min(), value.max()) for value in values]
    for column, index in enumerate(ranged):
        low, high = limits[:, column].mean(0)
        if index in after_convs:
            low, high = limits[:, column, 0].min(), limits[:, column, 1].max()
        if index in silu_inputs:
            low = max(low, _MIN_SILU_INPUT)
        graph.tensors[index].quantization.min = [float(low)]
        graph.tensors[index].quantization.max = [float(high)]
    return bytes(files.convert_object_to_bytearray(model))


def _length(values: Any) -> int:
    return 0 if values is None else len(values)


def _silu_inputs(steps: list[tuple[int, list[int], list[int]]]) -> set[int]:
    """Return values that only a sigmoid and the product with it read."""
    readers: dict[int, list[int]] = {}
    for kind, reads, _ in steps:
        for value in reads:
            readers.setdefault(value, []).append(kind)
    return {value for value, kinds in readers.items() if sorted(kinds) == [_LOGISTIC, _MUL]}


def _after_last_convolutions(steps: list[tuple[int, list[int], list[int]]], outputs: list[int]) -> set[int]:
    """Return values from the last convolutions to the outputs."""
    values = set(outputs)
    for kind, reads, writes in reversed(steps):
        if values.intersection(writes) and kind not in _CONVOLUTIONS:
            values.update(reads)
    return values


# -- run ----------------------------------------------------------------------------------------------------------


def serve(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Open a file.

    Args:
        job: `path`, a SavedModel folder or a frozen graph; `threads`.

    Returns:
        `info` (`record` of a frozen graph, `input` as (B, C, H, W), `output` shape), and the function that computes.
    """
    tf: Any = import_module("tensorflow")
    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.set_visible_devices([], "GPU")
    if os.path.isdir(job["path"]):
        loaded = tf.saved_model.load(job["path"])
        function = loaded.signatures["serving_default"]
        name, spec = next(iter(function.structured_input_signature[1].items()))
        shape = spec.shape
        record = ""
        output = next(iter(function.structured_outputs.values())).shape

        def run(images: Any) -> Any:
            return next(iter(function(**{name: images}).values()))

        run.loaded = loaded  # type: ignore[attr-defined]  # variables are freed with this object
    else:
        run, shape, output, record = _open_frozen(tf, job["path"])
    batch, height, width, channels = [side or 0 for side in shape]
    info = {"record": record, "input": [batch, channels, height, width], "output": [side or 0 for side in output]}
    return info, lambda images: [run(tf.constant(images.transpose(0, 2, 3, 1))).numpy()]


def _open_frozen(tf: Any, path: str) -> tuple[Any, Any, Any, str]:
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(Path(path).read_bytes())
    nodes = {node.name: node for node in graph.node}
    record_node = nodes.get(_RECORD_NODE)
    record = record_node.attr["value"].tensor.string_val[0].decode() if record_node else ""
    inputs = [node.name for node in graph.node if node.op == "Placeholder"]
    read = {name.split(":")[0].lstrip("^") for node in graph.node for name in node.input}
    last = [node.name for node in graph.node if node.name not in read and node.name != _RECORD_NODE]
    last = [name for name in last if nodes[name].op not in ("NoOp", "Const")]
    if len(inputs) != 1 or len(last) != 1:
        raise ValueError(f"one input and one output are expected, but there are {inputs} and {last}")
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
    ends = [wrapped.graph.as_graph_element(f"{name}:0") for name in (inputs[0], last[0])]
    return wrapped.prune(ends[0], ends[1]), ends[0].shape, ends[1].shape, record


def serve_int8(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Open an 8-bit TFLite file.

    Args:
        job: `path`, `threads`, `names` of the outputs in the requested order; `delegate`, a library of an
            accelerator, or an empty text.

    Returns:
        `info` with `input` shape as (B, C, H, W), and the function that computes.
    """
    np: Any = import_module("numpy")
    library: Any = import_module("ai_edge_litert.interpreter")
    delegates = [library.load_delegate(job["delegate"])] if job["delegate"] else None
    # XNNPACK of older versions computes 8-bit graphs wrongly: 2.1.0 returned noise on an x86 CPU
    use_xnnpack = [int(part) for part in version("ai-edge-litert").split(".")[:2]] >= [2, 3]
    kinds = library.OpResolverType
    interpreter = library.Interpreter(
        model_path=job["path"],
        num_threads=job["threads"],
        experimental_delegates=delegates,
        experimental_op_resolver_type=kinds.AUTO
        if use_xnnpack or delegates
        else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    key, input_details = next(iter(runner.get_input_details().items()))
    output_details = runner.get_output_details()
    scale, zero = input_details["quantization"]

    def compute(images: Any) -> list[Any]:
        values = np.rint(images.transpose(0, 2, 3, 1) / np.float32(scale)) + zero
        outputs = runner(**{key: np.clip(values, -128, 127).astype(np.int8)})
        parts = ((outputs[name], *output_details[name]["quantization"]) for name in job["names"])
        return [(part.astype(np.float32) - zero) * np.float32(scale) for part, scale, zero in parts]

    batch, height, width, channels = [int(side) for side in input_details["shape"]]
    return {"input": [batch, channels, height, width]}, compute
