"""LiteRT files beside the SavedModel: smaller, faster on one core, judged like the model itself.

They hold the network alone, from pixels to probabilities; decoding and resizing stay with whoever
calls (`preprocess.whole_pixels` is what the exported graph does, rounded to whole numbers).

| kind | file | input | output |
|---|---|---|---|
| int8 | model.tflite | pixels uint8 [N, S, S, 3] | probabilities uint8 [N, C], in 1/256 |
| float16 | model_float16.tflite | the same | probabilities float32 [N, C] |

``model.tflite`` is the name that ``tensorflow_model_server --use_tflite_model`` reads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.classifier import PROBABILITIES
from imgpipe.models.errors import ConfigError
from imgpipe.models.file_patterns import plain_name
from imgpipe.models.signatures import SERVING_DEFAULT, SERVING_PIXELS

FLOAT16: Final = "float16"
INT8: Final = "int8"
#: File of each kind, below a version directory.
FILES: Final = {FLOAT16: "model_float16.tflite", INT8: "model.tflite"}
#: Training images that the ranges of the int8 activations are read from. TensorFlow's guide speaks
#: of 100 to 500; a model of 224 px takes some 30 ms for each.
CALIBRATION_IMAGES: Final = 200

_RESIZE: Final = "ResizeBilinear"  # the op between any image and the network's pixels
_WHOLE_NUMBERS: Final = (np.integer, np.bool_)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Network:
    """An export's network without decoding and resizing, its weights folded into constants.

    `pixels` and `probabilities` name the tensors of `graph` (a GraphDef) in and out.
    """

    graph: Any
    pixels: str
    probabilities: str
    image_size: int


def load_network(directory: str) -> Network:
    """The network of the SavedModel in `directory`, from its signature for pixels.

    Raises:
        ConfigError: The signature is not there, or does not resize as an export of ours does.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    with plain_name(directory) as folder:
        loaded = tf.saved_model.load(folder)
    if SERVING_PIXELS not in loaded.signatures:
        raise ConfigError(
            f"LiteRT export: expected a signature {SERVING_PIXELS} in {directory}. "
            f"Received: {sorted(loaded.signatures)}"
        )
    signature = loaded.signatures[SERVING_PIXELS]
    index = sorted(signature.structured_outputs).index(PROBABILITIES)  # outputs come sorted
    frozen = convert_variables_to_constants_v2(signature)
    answer = frozen.outputs[index]
    resized = _resized(frozen.graph.get_operations())
    if resized is None:
        raise ConfigError(f"LiteRT export: no resize in {SERVING_PIXELS} of {directory}")
    graph = frozen.graph.as_graph_def()
    for node in graph.node:  # checks of the request hang on the graph by control inputs alone
        data = [name for name in node.input if not name.startswith("^")]
        del node.input[:]
        node.input.extend(data)
    graph = tf.compat.v1.graph_util.extract_sub_graph(graph, [answer.op.name])
    return Network(graph, resized.name, answer.name, int(resized.shape[1]))


def _resized(operations: Iterable[Any]) -> Any:
    """Output of the resize that no other one comes before; a backbone may have its own."""
    found = [op for op in operations if op.type == _RESIZE]
    return next((op.outputs[0] for op in found if not _before(op) & {o.name for o in found}), None)


def _before(operation: Any) -> set[str]:
    """Names of the operations that lead to this one."""
    seen: set[str] = set()
    todo = [tensor.op for tensor in operation.inputs]
    while todo:
        op = todo.pop()
        if op.name not in seen:
            seen.add(op.name)
            todo += [tensor.op for tensor in op.inputs]
    return seen


def convert(network: Network, kind: str, calibration: Sequence[Pixels] = ()) -> bytes:
    """Converts a network to the content of a .tflite file.

    Args:
        network: The result of `load_network`.
        kind: One of the keys of `FILES`.
        calibration: Pixels uint8 [S, S, 3] of training images, needed for int8.

    Raises:
        ConfigError: An unknown kind, or int8 without images.
        Exception: Whatever TensorFlow's converter says of an op that it cannot convert.
    """
    import tensorflow as tf

    if kind not in FILES:
        raise ConfigError(f"export.lite: expected {' or '.join(FILES)}. Received: {kind!r}")
    if kind == INT8 and not calibration:
        raise ConfigError("LiteRT export: int8 needs training images to calibrate on")
    # The quantising converter takes float pixels and moves the input to uint8 itself.
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
        converter.representative_dataset = _representative(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8
    return bytes(converter.convert())


def from_pixels(network: Network, taken: Any) -> Any:
    """Returns a function from pixels [N, S, S, 3] to {probabilities [N, C]}.

    Args:
        network: The result of `load_network`.
        taken: Number type of the pixels, whose values are 0..255 in any case.
    """
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


def _representative(images: Sequence[Pixels]) -> Callable[[], Iterator[list[Any]]]:
    """The images as the converter reads them; the first gets a black and a white pixel.

    With 0 and 255 among them the input's scale is exactly 1, so that pixels go in as they are.
    """

    def batches() -> Iterator[list[Any]]:
        first: Any = images[0].astype(np.float32)
        first[0, 0], first[0, 1] = 0.0, 255.0
        for image in itertools.chain([first], images[1:]):
            yield [image[None].astype(np.float32)]

    return batches


class LiteModel:
    """A .tflite file ready to answer: an interpreter of one thread for each core.

    So many interpreters side by side do more images a second than one that spreads an operation
    over the cores. Close it, or use it as a context.

    Args:
        content: Content of the file.
        interpreters: Number of interpreters; None is one for each core of this process.
    """

    def __init__(self, content: bytes, interpreters: int | None = None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        count = interpreters or len(os.sched_getaffinity(0))
        self._interpreters = [
            Interpreter(model_content=content, num_threads=1) for _ in range(count)
        ]
        self._runners = [one.get_signature_runner(SERVING_DEFAULT) for one in self._interpreters]
        self._pool = ThreadPoolExecutor(count, "litert")
        self._input: dict[str, Any]
        self._output: dict[str, Any]
        [self._input] = self._runners[0].get_input_details().values()
        [self._output] = self._runners[0].get_output_details().values()
        self.image_size = int(self._input["shape"][1])

    def __enter__(self) -> LiteModel:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the threads and frees the interpreters."""
        self._pool.shutdown()
        self._runners.clear()
        self._interpreters.clear()

    def float_tensors(self) -> list[str]:
        """Returns the names of the floating-point tensors; a fully quantised file has none."""
        return [
            str(tensor["name"])
            for tensor in self._interpreters[0].get_tensor_details()
            if not issubclass(tensor["dtype"], _WHOLE_NUMBERS)
        ]

    def takes_pixels(self) -> bool:
        """Whether the input is uint8 and means the very numbers it holds."""
        scale, zero = self._input["quantization"]
        return self._input["dtype"] is np.uint8 and scale in (0.0, 1.0) and zero == 0

    def probabilities(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """[N, C] of pixels uint8 [N, S, S, 3]; one image at a time in each interpreter."""
        parts = np.array_split(pixels, len(self._runners))
        rows = self._pool.map(self._run, self._runners, parts)
        return np.concatenate(list(rows))

    def _run(self, runner: Any, pixels: Pixels) -> npt.NDArray[np.float32]:
        rows = [np.empty((0, int(self._output["shape"][-1])), np.float32)]
        for start in range(len(pixels)):
            answer = runner(pixels=pixels[start : start + 1])[PROBABILITIES]
            rows.append(self._decoded(answer))
        return np.concatenate(rows)

    def _decoded(self, answer: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Probabilities from the whole numbers that stand for them."""
        if answer.dtype == np.float32:
            return answer
        scale, zero = self._output["quantization"]
        return ((answer.astype(np.float32) - zero) * scale).astype(np.float32)
