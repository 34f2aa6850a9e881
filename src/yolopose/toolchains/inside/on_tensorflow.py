"""TensorFlow's formats: ONNX to SavedModel, frozen graph, 8-bit TFLite and TF.js; and what runs them."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

_SAMPLE = "calibration_image_sample_data_20x128x128x3_float32.npy"
_CONVOLUTIONS, _LOGISTIC, _MUL = (3, 4), 14, 18  # numbers of operators in TFLite
_NEXT_TO_NOTHING = -8.0  # SiLU makes at most -.003 of what lies below
_RECORD_NODE = "yolopose_record"


def convert(job: dict[str, Any]) -> dict[str, Any]:
    """Write one ONNX graph in one format.

    Args:
        job: `source`, an ONNX file whose input is (B, 3, H, W); `target`, the file or folder; `format`: `saved_model`,
            `pb`, `tfjs`, `tflite`; `record`, a text that is kept inside where there is room; `calibration`, for
            `tflite`, a file of uint8 images (N, B, 3, H, W); `half`, for `tfjs`.

    Returns:
        `outputs`: names of the outputs in the order of the source.
    """
    tf: Any = import_module("tensorflow")
    network, names = _network(tf, job["source"], plain=job["format"] == "tfjs")
    target = job["target"]
    if job["format"] == "saved_model":
        tf.saved_model.save(network, target, signatures=network.serve)
    elif job["format"] == "pb":
        _freeze(tf, network, target, job["record"])
    elif job["format"] == "tfjs":
        tf.saved_model.save(network, "plain", signatures=network.serve)
        _to_javascript("plain", target, half=job["half"])
    else:
        _to_integers(tf, network, target, job["calibration"])
    return {"outputs": names}


def _network(tf: Any, source: str, *, plain: bool) -> tuple[Any, list[str]]:
    """The graph as a TensorFlow module of the outputs' own names; its input is (B, H, W, 3), as TensorFlow has it.

    Args:
        tf: the library.
        source: ONNX file.
        plain: whether grouped convolutions and batched products are taken apart, for what knows none.
    """
    np: Any = import_module("numpy")
    np.save(_SAMPLE, np.zeros((20, 128, 128, 3), np.float32))  # else it fetches images from the network, for int8
    keras = import_module("onnx2tf").convert(
        input_onnx_file_path=source, output_folder_path="onnx2tf", not_use_onnxsim=True, non_verbose=True,
        disable_group_convolution=plain, enable_batchmatmul_unfold=plain, disable_model_save=True,
    )  # fmt: skip
    session: Any = import_module("onnxruntime").InferenceSession(source, providers=["CPUExecutionProvider"])
    given, names = session.get_inputs()[0], [output.name for output in session.get_outputs()]
    batch = np.random.default_rng(0).random(given.shape, np.float32)
    expected = session.run(names, {given.name: batch})
    found = _listed(keras(batch.transpose(0, 2, 3, 1)))
    places = _places([value.numpy() for value in found], expected)
    _, _, height, width = given.shape
    shape = tf.TensorSpec((given.shape[0], height, width, 3), tf.float32, name="images")

    @tf.function(input_signature=[shape])
    def named(images: Any) -> dict[str, Any]:
        outputs = _listed(keras(images))
        return {name: tf.identity(outputs[place], name=name) for name, place in zip(names, places, strict=True)}

    settled = _settled(named)  # saving finds not all of the variables that the converter has left about

    class Network(tf.Module):
        @tf.function(input_signature=[shape])
        def serve(self, images: Any) -> dict[str, Any]:
            return dict(zip(sorted(names), _listed(settled(images)), strict=True))  # as it keeps them: by name

    return Network(), names


def _settled(function: Any) -> Any:
    """A function whose variables are constants."""
    freeze = import_module("tensorflow.python.framework.convert_to_constants").convert_variables_to_constants_v2
    return freeze(function.get_concrete_function())


def _listed(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def _places(found: list[Any], expected: list[Any]) -> list[int]:
    """Which of the outputs found is which of those expected, by their numbers: the converter keeps no names."""
    np: Any = import_module("numpy")
    free, places = set(range(len(found))), []
    for wanted in expected:
        apart = {place: np.abs(found[place] - wanted).max() for place in free if found[place].shape == wanted.shape}
        if not apart:
            raise ValueError(f"no output has the shape {wanted.shape}: {[value.shape for value in found]}")
        place = min(apart, key=lambda place: float(apart[place]))
        free.remove(place)
        places.append(place)
    return places


def _freeze(tf: Any, network: Any, target: str, record: str) -> None:
    """One file with the weights as constants; the record is a constant that nothing reads."""
    graph = _settled(network.serve).graph.as_graph_def()
    with tf.Graph().as_default() as note:
        tf.constant(record, name=_RECORD_NODE)
    graph.node.append(note.as_graph_def().node[0])
    Path(target).write_bytes(graph.SerializeToString())


def _to_javascript(source: str, target: str, *, half: bool) -> None:
    import sys
    import types

    for name in ("tensorflow_decision_forests", "tensorflowjs.converters.jax_conversion"):
        empty: Any = types.ModuleType(name)  # of no use here, and large
        empty.convert_jax = None
        sys.modules[name] = empty
    converter = import_module("tensorflowjs.converters.tf_saved_model_conversion_v2")
    converter.convert_tf_saved_model(source, target, quantization_dtype_map={"float16": "*"} if half else None)


def _to_integers(tf: Any, network: Any, target: str, calibration: str) -> None:
    """Whole numbers at both ends and between; ranges are taken from the images."""
    np: Any = import_module("numpy")
    imgs = np.load(calibration, mmap_mode="r")

    def shown() -> Any:
        for batch in imgs[:1]:  # it would take the extremes of all; the ranges are made below
            yield {"images": (batch.transpose(0, 2, 3, 1) / np.float32(255)).astype(np.float32)}

    tf.saved_model.save(network, "plain", signatures=network.serve)
    converter = tf.lite.TFLiteConverter.from_saved_model("plain")
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = shown
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter._experimental_calibrate_only = True
    ranged = _with_ranges(tf, converter.convert(), imgs)
    quantize = import_module("tensorflow.lite.python.convert").mlir_quantize
    Path(target).write_bytes(quantize(ranged, input_data_type=tf.int8, output_data_type=tf.int8))


def _with_ranges(tf: Any, content: bytes, imgs: Any) -> bytes:
    """Write the range of each value into a float graph: what the quantizer goes by.

    A range is the mean of those of the images, so that a single bright spot does not spoil it, but the widest behind
    the last convolutions, where it would cut results off. What SiLU makes next to nothing of needs no steps: x below
    -8 becomes 0 to -.003, yet the first layers go down to -100.
    """
    np: Any = import_module("numpy")
    files: Any = import_module("tensorflow.lite.tools.flatbuffer_utils")
    model = files.convert_bytearray_to_object(bytearray(content))
    graph = model.subgraphs[0]
    kinds = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    steps = [(kinds[step.opcodeIndex], list(step.inputs), list(step.outputs)) for step in graph.operators]
    last, squashed = _behind_last(steps, list(graph.outputs)), _before_silu(steps)
    fitted = [
        place for place, value in enumerate(graph.tensors) if value.quantization and _length(value.quantization.min)
    ]
    reader = tf.lite.Interpreter(
        model_content=content, experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    reader.allocate_tensors()
    seen = np.zeros((len(imgs), len(fitted), 2), np.float32)
    for place, batch in enumerate(imgs):
        images = (batch.transpose(0, 2, 3, 1) / np.float32(255)).astype(np.float32)
        reader.set_tensor(reader.get_input_details()[0]["index"], images)
        reader.invoke()
        values = [reader.get_tensor(index) for index in fitted]
        seen[place] = [(value.min(), value.max()) for value in values]
    for place, index in enumerate(fitted):
        low, high = seen[:, place].mean(0)
        if index in last:
            low, high = seen[:, place, 0].min(), seen[:, place, 1].max()
        if index in squashed:
            low = max(low, _NEXT_TO_NOTHING)
        graph.tensors[index].quantization.min = [float(low)]
        graph.tensors[index].quantization.max = [float(high)]
    return bytes(files.convert_object_to_bytearray(model))


def _length(values: Any) -> int:
    return 0 if values is None else len(values)


def _before_silu(steps: list[tuple[int, list[int], list[int]]]) -> set[int]:
    """Values that only a sigmoid and its product with them read."""
    readers: dict[int, list[int]] = {}
    for kind, reads, _ in steps:
        for value in reads:
            readers.setdefault(value, []).append(kind)
    return {value for value, kinds in readers.items() if sorted(kinds) == [_LOGISTIC, _MUL]}


def _behind_last(steps: list[tuple[int, list[int], list[int]]], outputs: list[int]) -> set[int]:
    """Values from the last convolutions to the outputs."""
    found = set(outputs)
    for kind, reads, makes in reversed(steps):
        if found.intersection(makes) and kind not in _CONVOLUTIONS:
            found.update(reads)
    return found


# -- run ----------------------------------------------------------------------------------------------------------


def serve(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Open a file.

    Args:
        job: `path`, a SavedModel folder or a frozen graph; `threads`.

    Returns:
        `record` (of a frozen graph), `input` shape as (B, 3, H, W) and `output` shape; and what computes.
    """
    tf: Any = import_module("tensorflow")
    tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
    tf.config.set_visible_devices([], "GPU")
    if os.path.isdir(job["path"]):
        loaded = tf.saved_model.load(job["path"])
        function = loaded.signatures["serving_default"]
        given = next(iter(function.structured_input_signature[1].items()))
        name, shape, record = given[0], given[1].shape, ""
        output = next(iter(function.structured_outputs.values())).shape

        def run(images: Any) -> Any:
            return next(iter(function(**{name: images}).values()))

        run.keep = loaded  # type: ignore[attr-defined]  # its variables go with it
    else:
        run, shape, output, record = _frozen(tf, job["path"])
    batch, height, width, channels = [side or 0 for side in shape]
    about = {"record": record, "input": [batch, channels, height, width], "output": [side or 0 for side in output]}
    return about, lambda images: [run(tf.constant(images.transpose(0, 2, 3, 1))).numpy()]


def _frozen(tf: Any, path: str) -> tuple[Any, Any, Any, str]:
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(Path(path).read_bytes())
    nodes = {node.name: node for node in graph.node}
    note = nodes.get(_RECORD_NODE)
    record = note.attr["value"].tensor.string_val[0].decode() if note else ""
    given = [node.name for node in graph.node if node.op == "Placeholder"]
    read = {name.split(":")[0].lstrip("^") for node in graph.node for name in node.input}
    last = [node.name for node in graph.node if node.name not in read and node.name != _RECORD_NODE]
    last = [name for name in last if nodes[name].op not in ("NoOp", "Const")]
    if len(given) != 1 or len(last) != 1:
        raise ValueError(f"one input and one output are expected, but there are {given} and {last}")
    wrapped = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
    ends = [wrapped.graph.as_graph_element(f"{name}:0") for name in (given[0], last[0])]
    return wrapped.prune(ends[0], ends[1]), ends[0].shape, ends[1].shape, record


def serve_integers(job: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """Open a TFLite file of whole numbers.

    Args:
        job: `path`, `threads`, `names` of the outputs in the order in which they are wanted; `delegate`, a library that
            computes instead of the processor, or an empty text.

    Returns:
        `input` shape as (B, 3, H, W); and what computes.
    """
    np: Any = import_module("numpy")
    library: Any = import_module("ai_edge_litert.interpreter")
    chips = [library.load_delegate(job["delegate"])] if job["delegate"] else None
    # what an older one makes of 8-bit graphs quickly, by XNNPACK, is wrong: 2.1.0 gave noise on an x86 processor
    quick = [int(part) for part in version("ai-edge-litert").split(".")[:2]] >= [2, 3]
    kinds = library.OpResolverType
    reader = library.Interpreter(
        model_path=job["path"], num_threads=job["threads"], experimental_delegates=chips,
        experimental_op_resolver_type=kinds.AUTO if quick or chips else kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )  # fmt: skip
    reader.allocate_tensors()
    runner = reader.get_signature_runner()
    (key, given), places = next(iter(runner.get_input_details().items())), runner.get_output_details()
    scale, zero = given["quantization"]

    def compute(images: Any) -> list[Any]:
        values = np.rint(images.transpose(0, 2, 3, 1) / np.float32(scale)) + zero
        found = runner(**{key: np.clip(values, -128, 127).astype(np.int8)})
        parts = ((found[name], *places[name]["quantization"]) for name in job["names"])
        return [(part.astype(np.float32) - zero) * np.float32(scale) for part, scale, zero in parts]

    batch, height, width, channels = [int(side) for side in given["shape"]]
    return {"input": [batch, channels, height, width]}, compute
