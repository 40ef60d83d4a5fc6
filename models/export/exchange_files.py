"""Files of a published network for other programs: ONNX, Keras and LiteRT.

They contain the network only, from pixels to probabilities. The caller decodes, turns and resizes
the image; `preprocess.whole_pixels` does this like the exported graph and rounds the result.

| kind | input | output |
|---|---|---|
| ONNX | pixels uint8 [N, S, S, 3] | probabilities float32 [N, C] |
| Keras | pixels [N, S, S, 3] of any number type, 0..255 | the same |
| LiteRT, weights of 16 bits | pixels uint8 [N, S, S, 3] | the same |
| LiteRT, 8 bits | pixels uint8 [N, S, S, 3] | probabilities uint8 [N, C] in 1/256 |
| LiteRT, 8 bits, a head that reads covariances | pixels uint8 [N, S, S, 3] | float32 [N, C] |

In a file of 8 bits, such a head and the square roots of its covariances have numbers of 32 bits.

A function `to_…` returns the content of a file, and a function `open_…` returns a function from
resized images, uint8 [N, S, S, 3], to the probabilities [N, C] that such a file gives.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.export import keras_file, lite_metadata
from imgpipe.models.export.signatures import SERVING_PIXELS
from imgpipe.models.files.version_files import SERVING_DEFAULT
from imgpipe.models.machine.system import processors
from imgpipe.models.names.arrays import PixelValues
from imgpipe.models.names.model_names import AXES, PROBABILITIES
from imgpipe.models.network import network_file

#: Version of the operators. Every onnxruntime since 1.12 (2022) supports it.
OPSET: Final = 17
#: Packages of the extra `onnx`, by the names under which they are imported.
ONNX_PACKAGES: Final = ("tf2onnx", "onnx", "onnxruntime")
#: Number of training images from which the ranges of the int8 activations are measured.
#: TensorFlow's guide recommends 100 to 500.
CALIBRATION_IMAGES: Final = 200

#: Operations of LiteRT that stay in float32 in a file of 8 bits if the head reads covariances.
#: Products of matrices of 8 bits do not converge to a square root, and the blocks of features would
#: have to share one scale; see docs/benchmarks.md, "Constants of the code".
_FLOAT_OPERATIONS: Final = (
    *("BATCH_MATMUL", "CONCATENATION", "DIV", "FULLY_CONNECTED", "GATHER", "MUL", "PACK"),
    *("RESHAPE", "RSQRT", "SOFTMAX", "SPLIT", "SQRT", "SQUARE", "SQUARED_DIFFERENCE", "SUB"),
    *("SUM", "TRANSPOSE"),
)

_RESIZE: Final = "ResizeBilinear"  # the op that resizes decoded images to the network's input size

Probabilities = npt.NDArray[np.float32]
Answering = Callable[[PixelValues], Probabilities]


def to_onnx(version: Path, vocabulary: Sequence[str], unknown_below: float = 0.0) -> bytes:
    """Convert a published version to the content of an ONNX file.

    Its metadata hold `classes`, a JSON list of the class names in the order of the probabilities,
    and `unknown_below` where the model answers "unknown" if no probability reaches this value.
    A ConfigError is raised if the version has no signature for pixels.
    """
    import tensorflow as tf

    serve = _from_pixels(version, tf.uint8, erfc=False)
    with _without_warnings():
        import tf2onnx

        model, _ = tf2onnx.convert.from_function(
            serve, input_signature=serve.input_signature, opset=OPSET
        )
    facts: dict[str, object] = {keras_file.CLASSES: list(vocabulary)}
    if unknown_below:
        facts[keras_file.UNKNOWN_BELOW] = unknown_below
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key = key
        entry.value = json.dumps(value, ensure_ascii=False)
    return bytes(model.SerializeToString())


def to_keras(version: Path) -> bytes:
    """Build the Keras network of a published version again, and return the `.keras` file.

    Keras reads the file without imgpipe, and finds the class names in it; see `keras_file`.

    Raises:
        ConfigError: The network has layers of KerasHub, of which Keras cannot read all from a file.
        ResourceError: See `network_file.load`.
    """
    classifier = network_file.load(version)
    of_hub = {type(layer).__name__ for layer in classifier.network.layers if presets.of_hub(layer)}
    if of_hub:
        raise ConfigError(
            "export keras: Keras cannot read all layers of KerasHub from a file. Expected a "
            "network of Keras' own layers; export onnx and export tflite take any. Received: "
            f"{', '.join(sorted(of_hub))}"
        )
    with _without_warnings():
        return keras_file.content(
            keras_file.plain_network(classifier), classifier.vocabulary, classifier.unknown_below
        )


def to_lite(
    version: Path,
    vocabulary: Sequence[str],
    calibration: Sequence[PixelValues] = (),
    unknown_below: float = 0.0,
) -> bytes:
    """Convert a published version to the content of a `.tflite` file, which names its classes.

    Args:
        version: Folder of the version.
        vocabulary: Class names, in the order of the probabilities.
        calibration: Pixels uint8 [S, S, 3] of training images, for a file of 8 bits. Without any,
            its weights have 16 bits.
        unknown_below: Probability that the model answers "unknown" below, as the metadata say.

    Returns:
        The content of the file.

    Raises:
        ConfigError: The version has no signature for pixels.
        Exception: TensorFlow's converter raises errors of several types for an op that it cannot
            convert.
    """
    import tensorflow as tf

    serve = _from_pixels(version, tf.uint8)
    if not calibration:
        content = _in_16_bits(serve)
    elif _reads_covariances(serve):
        content = _in_8_and_32_bits(serve, calibration)
    else:  # the converter expects a float input and changes its type to uint8 itself
        content = _in_8_bits(_from_pixels(version, tf.float32), calibration)
    return lite_metadata.with_classes(content, vocabulary, unknown_below)


def _reads_covariances(serve: Any) -> bool:
    """Return whether the head of the network in a function reads covariances."""
    operations = serve.get_concrete_function().graph.get_operations()
    return any(f"{AXES}_" in operation.name for operation in operations)


def _lite_converter(serve: Any) -> Any:
    """Return the converter of a function that `_from_pixels` has returned."""
    import tensorflow as tf

    module = tf.Module()
    module.serve = serve
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], module
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    return converter


def _in_16_bits(serve: Any) -> bytes:
    """Convert a function of pixels uint8 to a file whose weights have 16 bits."""
    import tensorflow as tf

    converter = _lite_converter(serve)
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def _in_8_bits(serve: Any, calibration: Sequence[PixelValues]) -> bytes:
    """Convert a function of pixels float32 to a file of whole numbers of 8 bits."""
    import tensorflow as tf

    converter = _lite_converter(serve)
    converter.representative_dataset = lambda: _representative(calibration, np.float32)
    # An op that has no int8 kernel is an error then, instead of a float op in an int8 file.
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def _in_8_and_32_bits(serve: Any, calibration: Sequence[PixelValues]) -> bytes:
    """Convert a function of pixels uint8 to a file of 8 bits, but for `_FLOAT_OPERATIONS`."""
    import tensorflow as tf

    converter = _lite_converter(serve)
    converter.representative_dataset = lambda: _representative(calibration, np.uint8)
    # TensorFlow offers a choice of operations in its debugger alone.
    kept = list(_FLOAT_OPERATIONS)
    options = tf.lite.experimental.QuantizationDebugOptions(denylisted_ops=kept)
    with _without_warnings():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=converter, debug_options=options
        )
    return bytes(debugger.get_nondebug_quantized_model())


def _from_pixels(version: Path, taken: Any, erfc: bool = True) -> Any:
    """Return the network of the signature for pixels, without its resize and with fixed weights.

    It is a function from pixels [N, S, S, 3], 0..255, of a type to {probabilities [N, C]}. It may
    use the operation Erfc only where `erfc` is true.
    """
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    loaded = tf.saved_model.load(str(version))
    if SERVING_PIXELS not in loaded.signatures:
        raise ConfigError(
            f"export: expected a signature {SERVING_PIXELS} in {version}. "
            f"Received: {sorted(loaded.signatures)}"
        )
    signature = loaded.signatures[SERVING_PIXELS]
    index = sorted(signature.structured_outputs).index(PROBABILITIES)  # outputs are in sorted order
    frozen = convert_to_constants.convert_variables_to_constants_v2(signature)
    answer = frozen.outputs[index].name
    # The signature resizes first; a backbone may contain further resizes. A graph lists each
    # operation after those that it reads.
    operations = frozen.graph.get_operations()
    resized = next(op.outputs[0] for op in operations if op.type == _RESIZE)
    graph = frozen.graph.as_graph_def()
    for node in graph.node:  # only control inputs lead to the checks of the request; drop them
        data = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(data)
    # Without the control inputs, what lies before the resize is not needed and is cut away here.
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, [frozen.outputs[index].op.name])
    if not erfc:
        _without_erfc(graph)

    @tf.function(
        input_signature=[tf.TensorSpec([None, *resized.shape[1:3], 3], taken, name="pixels")],
        autograph=False,
        jit_compile=False,
    )
    def serve(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        [probabilities] = tf.graph_util.import_graph_def(
            graph,
            input_map={resized.name: tf.cast(pixels, tf.float32)},
            return_elements=[answer],
            name="",
        )
        return {PROBABILITIES: probabilities}

    return serve


def _without_erfc(graph: Any) -> None:
    """Replace each erfc(x) of a GraphDef, as in GELU, by 1 - erf(x), which ONNX has.

    LiteRT has no Erf, but recognises a GELU by its Erfc.
    """
    import tensorflow as tf

    for node in [node for node in graph.node if node.op == "Erfc"]:
        kind = node.attr["T"].type
        constant = graph.node.add(name=f"{node.name}/one", op="Const")
        constant.attr["dtype"].type = kind
        constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.as_dtype(kind)))
        erf = graph.node.add(name=f"{node.name}/erf", op="Erf", input=node.input)
        erf.attr["T"].type = kind
        node.op = "Sub"
        node.input[:] = [constant.name, erf.name]


def _representative(images: Sequence[PixelValues], kind: Any) -> Iterator[list[Any]]:
    """Yield the images as the converter reads them, as numbers of a type.

    One pixel of the first image becomes black and one white. With 0 and 255 among the values, the
    scale of the input is exactly 1, so that pixels are used unchanged.
    """
    first = images[0].copy()
    first[0, 0] = 0
    first[0, 1] = 255
    for image in itertools.chain([first], images[1:]):
        yield [image[None].astype(kind)]


def open_onnx(content: bytes) -> Answering:
    """Load an ONNX file into onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return _one_by_one(lambda image: session.run([PROBABILITIES], {"pixels": image})[0])


def open_keras(content: bytes) -> Answering:
    """Load a `.keras` file with Keras."""
    import keras

    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder, _without_warnings():
        file = Path(folder) / "model.keras"
        file.write_bytes(content)
        model: Any = keras.saving.load_model(file, compile=False)
    return _one_by_one(lambda image: np.asarray(model(image.astype(np.float32), training=False)))


def open_lite(content: bytes) -> Answering:
    """Load a `.tflite` file into LiteRT's interpreter, which runs on all cores."""
    from ai_edge_litert.interpreter import Interpreter

    threads = processors()
    interpreter = Interpreter(model_content=content, num_threads=threads)
    runner = interpreter.get_signature_runner(SERVING_DEFAULT)
    [output] = runner.get_output_details().values()
    scale, zero = output["quantization"]  # of probabilities as whole numbers

    def answer(image: PixelValues) -> npt.NDArray[Any]:
        probabilities = runner(pixels=image)[PROBABILITIES]
        if probabilities.dtype == np.float32:
            return probabilities
        return (probabilities.astype(np.float32) - zero) * scale

    return _one_by_one(answer)


def _one_by_one(answer: Callable[[PixelValues], npt.NDArray[Any]]) -> Answering:
    """Classify images one at a time, because another size of batch resizes all tensors."""
    return lambda pixels: np.concatenate([answer(image[None]) for image in pixels]).astype(
        np.float32
    )


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignores warnings about functions that Keras, tf2onnx and TensorFlow use and will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
