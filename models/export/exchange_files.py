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

Keras writes all of them, and what was measured to be wrong with its files is mended. Keras 3.15
writes GELU into an ONNX file with an operation that ONNX does not have (`_without_erfc`), and
constants as inputs (`_keep_constants`); it converts square roots of covariances to 8 bits, with
which a model of five flowers had 89 instead of 96 of 100 images right (`_in_8_and_32_bits`); it
names the classes in no file (`class_names.with_classes`); and older versions of Keras do not read
its own files (`class_names.content`).

A function `to_…` returns the content of a file, and a function `open_…` returns a function from
resized images, uint8 [N, S, S, 3], to the probabilities [N, C] that such a file gives.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.arrays import PixelValues
from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.export import class_names
from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.models.machine.system import processors
from imgpipe.models.names import PROBABILITIES
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import ClassifierNetwork
from imgpipe.models.network.covariance_pooling import axes_in

if TYPE_CHECKING:
    import keras

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

Probabilities = npt.NDArray[np.float32]
Answering = Callable[[PixelValues], Probabilities]


def to_onnx(version: Path) -> bytes:
    """Convert a published version to the content of an ONNX file.

    Its metadata hold `classes`, a JSON list of the class names in the order of the probabilities,
    and `unknown_below` where the model answers "unknown" if no probability reaches this value.

    Raises:
        ResourceError: See `network_file.load`.
    """
    import onnx

    classifier = network_file.load(version)
    _keep_constants(classifier.network)
    model = onnx.load_from_string(_exported(classifier, "onnx", opset_version=OPSET))
    _without_erfc(model.graph)
    facts: dict[str, object] = {class_names.CLASSES: list(classifier.vocabulary)}
    if classifier.unknown_below:
        facts[class_names.UNKNOWN_BELOW] = classifier.unknown_below
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in facts.items()}
    onnx.helper.set_model_props(model, texts)
    return bytes(model.SerializeToString())


def to_keras(version: Path) -> bytes:
    """Build the Keras network of a published version again, and return the `.keras` file.

    Keras reads the file without imgpipe, and finds the names of the classes in it; see
    `class_names.content`.

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
    with warnings.catch_warnings(action="ignore"):
        return class_names.content(
            class_names.plain_network(classifier), classifier.vocabulary, classifier.unknown_below
        )


def to_lite(version: Path, calibration: Sequence[PixelValues] = ()) -> bytes:
    """Convert a published version to the content of a `.tflite` file, which names its classes.

    Args:
        version: Folder of the version.
        calibration: Pixels uint8 [S, S, 3] of training images, for a file of 8 bits. Without any,
            its weights have 16 bits.

    Raises:
        ResourceError: See `network_file.load`.
        Exception: TensorFlow's converter raises errors of several types for an operation that it
            cannot convert.
    """
    import tensorflow as tf

    classifier = network_file.load(version)
    options: dict[str, Any] = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    if not calibration:
        options["target_spec"] = {"supported_types": [tf.float16]}
        content = _exported(classifier, "litert", **options)
    elif axes_in(classifier.network):
        content = _in_8_and_32_bits(classifier, calibration)
    else:
        # An operation that has no int8 kernel is an error then, instead of one of floats.
        options["target_spec"] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]}
        options["representative_dataset"] = lambda: _representative(calibration, np.float32)
        options |= dict.fromkeys(("inference_input_type", "inference_output_type"), tf.uint8)
        # The converter expects floats and makes the input uint8 itself.
        content = _exported(classifier, "litert", "float32", **options)
    return class_names.with_classes(content, classifier.vocabulary, classifier.unknown_below)


def _exported(
    classifier: ClassifierNetwork, kind: str, taken: str = "uint8", **options: Any
) -> bytes:
    """Let Keras write the network from pixels of a type to {probabilities [N, C]}."""
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        file = Path(folder) / "network.tflite"  # an ending that Keras demands of LiteRT alone
        _write(classifier, file, kind, taken, **options)
        return file.read_bytes()


def _write(
    classifier: ClassifierNetwork, target: Path, kind: str, taken: str, **options: Any
) -> None:
    import keras
    import tensorflow as tf

    outputs = {PROBABILITIES: classifier.network.output[PROBABILITIES]}
    network = keras.Model(classifier.network.input, outputs)
    side = classifier.image_size
    pixels = tf.TensorSpec([None, side, side, 3], taken, name="pixels")
    with warnings.catch_warnings(action="ignore"):  # of functions that its own code uses
        network.export(str(target), kind, verbose=False, input_signature=[pixels], **options)


def _in_8_and_32_bits(classifier: ClassifierNetwork, calibration: Sequence[PixelValues]) -> bytes:
    """Convert a network to a LiteRT file of 8 bits, but for `_FLOAT_OPERATIONS`.

    Keras' export has no choice of operations, and TensorFlow offers one in its debugger alone.
    """
    import tensorflow as tf

    lite = tf.lite
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        _write(classifier, Path(folder), "tf_saved_model", "uint8")
        converter = lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _representative(calibration, np.uint8)
        kept = lite.experimental.QuantizationDebugOptions(denylisted_ops=list(_FLOAT_OPERATIONS))
        with warnings.catch_warnings(action="ignore"):
            debugger = lite.experimental.QuantizationDebugger(
                converter=converter, debug_options=kept
            )
        return bytes(debugger.get_nondebug_quantized_model())


def _keep_constants(network: keras.Model) -> None:
    """Replace the tensors that layers of a network hold beside their weights by arrays of NumPy.

    Keras writes such a tensor, as the numbers of the positions in a ViT of KerasHub, as an input of
    the ONNX file, and an array as a constant. In Swin, it belongs to a layer inside a layer.
    """
    import keras
    import tensorflow as tf

    for layer in network._flatten_layers():
        for name, value in list(vars(layer).items()):
            if tf.is_tensor(value) and not isinstance(value, keras.Variable):
                setattr(layer, name, value.numpy())


def _without_erfc(graph: Any) -> None:
    """Replace each Erfc(x) of an ONNX graph by 1 - Erf(x).

    Keras' GELU reads Erfc, for which ONNX has no form. Keras writes it all the same, and
    onnxruntime refuses the file.
    """
    from onnx import helper, numpy_helper

    nodes = list(graph.node)
    if all(node.op_type != "Erfc" for node in nodes):
        return  # onnxruntime warns of a constant that nothing reads
    del graph.node[:]
    for node in nodes:
        if node.op_type == "Erfc":
            erf = f"{node.output[0]}/erf"
            graph.node.append(helper.make_node("Erf", node.input, [erf]))
            node = helper.make_node("Sub", ["one", erf], node.output)
        graph.node.append(node)
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "one"))


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

    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        file = Path(folder) / "model.keras"
        file.write_bytes(content)
        with warnings.catch_warnings(action="ignore"):
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
