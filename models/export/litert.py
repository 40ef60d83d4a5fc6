"""LiteRT files of the model, which are smaller and faster on one core.

They contain the network only, from pixels uint8 [N, S, S, 3] to probabilities [N, C]: float32 for
float16, uint8 in 1/256 for int8. The caller decodes and resizes the image;
`preprocess.whole_pixels` does this like the exported graph and rounds the result.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from imgpipe.models.errors import ConfigError
from imgpipe.models.export.signatures import SERVING_DEFAULT, SERVING_PIXELS
from imgpipe.models.model_names import PROBABILITIES

FLOAT16: Final = "float16"
INT8: Final = "int8"
#: Number of training images from which the ranges of the int8 activations are measured.
#: TensorFlow's guide recommends 100 to 500; a model of 224 px takes about 30 ms for each.
CALIBRATION_IMAGES: Final = 200

_RESIZE: Final = "ResizeBilinear"  # the op that resizes decoded images to the network's input size

Pixels = npt.NDArray[np.uint8]


class Network(NamedTuple):
    """The network of an exported model, without decoding and resizing, with constant weights."""

    graph: Any  # a GraphDef
    pixels: str  # name of the graph's input tensor, float32 [N, S, S, 3]
    probabilities: str  # name of the graph's output tensor, float32 [N, C]
    image_size: int  # side S of the input in pixels


def load_network(directory: str) -> Network:
    """Load the network, from resized pixels to probabilities, of the signature for pixels.

    Raises:
        ConfigError: The signature is missing, or it does not resize the image as our exports do.
    """
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    loaded = tf.saved_model.load(directory)
    if SERVING_PIXELS not in loaded.signatures:
        raise ConfigError(
            f"LiteRT export: expected a signature {SERVING_PIXELS} in {directory}. "
            f"Received: {sorted(loaded.signatures)}"
        )
    signature = loaded.signatures[SERVING_PIXELS]
    index = sorted(signature.structured_outputs).index(PROBABILITIES)  # outputs are in sorted order
    frozen = convert_to_constants.convert_variables_to_constants_v2(signature)
    answer = frozen.outputs[index]
    resized = _resized(frozen.graph.get_operations())
    if resized is None:
        raise ConfigError(f"LiteRT export: no resize in {SERVING_PIXELS} of {directory}")
    graph = frozen.graph.as_graph_def()
    for node in graph.node:  # only control inputs lead to the checks of the request; drop them
        data = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(data)
    # Without the control inputs, what lies before the resize is not needed and is cut away here.
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, [answer.op.name])
    return Network(graph, resized.name, answer.name, int(resized.shape[1]))


def _resized(operations: Iterable[Any]) -> Any:
    """Return the output of the first resize of the graph; a backbone may contain further ones."""
    # A graph lists each operation after those that it reads.
    return next((op.outputs[0] for op in operations if op.type == _RESIZE), None)


def convert(network: Network, kind: str, calibration: Sequence[Pixels] = ()) -> bytes:
    """Convert a network to the content of a .tflite file.

    Args:
        network: The result of `load_network`.
        kind: `FLOAT16` or `INT8`.
        calibration: Pixels uint8 [S, S, 3] of training images; needed for int8 only.

    Returns:
        The content of the file.

    Raises:
        ConfigError: The kind is int8 and there are no images.
        Exception: TensorFlow's converter raises errors of several types for an op that it cannot
            convert.
    """
    import tensorflow as tf

    if kind == INT8 and not calibration:
        raise ConfigError("LiteRT export: int8 needs training images to calibrate on")
    # For int8 the converter expects a float input and changes its type to uint8 itself.
    serve = from_pixels(network, tf.float32 if kind == INT8 else tf.uint8)
    module = tf.Module()
    module.serve = serve
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [serve.get_concrete_function()], module
    )
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    else:
        converter.representative_dataset = lambda: _representative(calibration)
        # An op that has no int8 kernel is an error then, instead of a float op in an int8 file.
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def from_pixels(network: Network, taken: Any) -> Any:
    """Return a function from pixels [N, S, S, 3], 0..255, of a type to {probabilities [N, C]}."""
    import tensorflow as tf

    size = network.image_size

    @tf.function(
        input_signature=[tf.TensorSpec([None, size, size, 3], taken, name="pixels")],
        autograph=False,
        jit_compile=False,
    )
    def serve(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        [answer] = tf.graph_util.import_graph_def(
            network.graph,
            input_map={network.pixels: tf.cast(pixels, tf.float32)},
            return_elements=[network.probabilities],
            name="",
        )
        return {PROBABILITIES: answer}

    return serve


def _representative(images: Sequence[Pixels]) -> Iterator[list[Any]]:
    """Yield the images as the converter reads them.

    One pixel of the first image becomes black and one white. With 0 and 255 among the values, the
    scale of the input is exactly 1, so that pixels are used unchanged.
    """
    first: Any = images[0].astype(np.float32)
    first[0, 0], first[0, 1] = 0.0, 255.0
    for image in itertools.chain([first], images[1:]):
        yield [image[None].astype(np.float32)]


class LiteModel:
    """A loaded .tflite file, which runs on all cores.

    Args:
        content: Content of the file.

    Attributes:
        image_size: Side of the input in pixels.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(
            model_content=content, num_threads=len(os.sched_getaffinity(0))
        )
        self._runner = self._interpreter.get_signature_runner(SERVING_DEFAULT)
        [given] = self._runner.get_input_details().values()
        [self._output] = self._runner.get_output_details().values()
        self.image_size = int(given["shape"][1])

    def probabilities(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Return the probabilities [N, C] of resized images, uint8 [N, S, S, 3]; at least one.

        They are classified one at a time, because another size of batch resizes all tensors.
        """
        rows = [self._runner(pixels=image[None])[PROBABILITIES] for image in pixels]
        answer = np.concatenate(rows)
        if answer.dtype == np.float32:
            return answer
        scale, zero = self._output["quantization"]  # of probabilities as whole numbers
        return ((answer.astype(np.float32) - zero) * scale).astype(np.float32)
