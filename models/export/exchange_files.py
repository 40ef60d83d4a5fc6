"""Files of a published network for other programs: ONNX and Keras.

Like the LiteRT files, they contain the network only, from pixels to probabilities. The caller
decodes and resizes the image; `preprocess.whole_pixels` does this like the exported graph and
rounds the result.

| kind | input | output |
|---|---|---|
| ONNX | pixels uint8 [N, S, S, 3] | probabilities float32 [N, C] |
| Keras | pixels [N, S, S, 3] of any number type, 0..255 | the same |
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models.export import litert
from imgpipe.models.model_names import PROBABILITIES
from imgpipe.models.network import network_file

#: Version of the operators. Every onnxruntime since 1.12 (2022) supports it.
OPSET: Final = 17
#: Packages of the extra ``onnx``, by the names under which they are imported.
ONNX_PACKAGES: Final = ("tf2onnx", "onnx", "onnxruntime")

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float32]


def to_onnx(version: Path, vocabulary: Sequence[str]) -> bytes:
    """Convert a published version to the content of an ONNX file.

    Its metadata hold ``classes``, a JSON list of the class names in the order of the probabilities.
    A ConfigError is raised if the version has no signature for pixels.
    """
    import tensorflow as tf

    network = litert.load_network(str(version))
    serve = litert.from_pixels(network, tf.uint8)
    with _without_warnings():
        import tf2onnx

        model, _ = tf2onnx.convert.from_function(
            serve, input_signature=serve.input_signature, opset=OPSET
        )
    entry = model.metadata_props.add()
    entry.key, entry.value = "classes", json.dumps(list(vocabulary), ensure_ascii=False)
    return bytes(model.SerializeToString())


def to_keras(version: Path) -> bytes:
    """Build the Keras network of a published version again, and return the ``.keras`` file.

    Keras reads the file without imgpipe. A ResourceError is raised as by `network_file.load`.
    """
    import keras

    network = network_file.load(version).network
    model = keras.Model(network.input, network.output[PROBABILITIES], name=network.name)
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder, _without_warnings():
        file = Path(folder) / "model.keras"  # Keras saves to paths only, and looks at the ending
        model.save(file)
        return file.read_bytes()


def onnx_probabilities(content: bytes, pixels: Pixels) -> Probabilities:
    """Return the probabilities [N, C] of an ONNX file for resized images, uint8 [N, S, S, 3]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = [session.run([PROBABILITIES], {"pixels": image[None]})[0] for image in pixels]
    return np.concatenate(rows)


def keras_probabilities(content: bytes, pixels: Pixels) -> Probabilities:
    """Return the probabilities [N, C] of a ``.keras`` file for images as `onnx_probabilities`."""
    import keras

    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder, _without_warnings():
        file = Path(folder) / "model.keras"
        file.write_bytes(content)
        model: Any = keras.saving.load_model(file, compile=False)
    rows = [np.asarray(model(image[None].astype(np.float32), training=False)) for image in pixels]
    return np.concatenate(rows)


def lite_probabilities(content: bytes, pixels: Pixels) -> Probabilities:
    """Return the probabilities [N, C] of a ``.tflite`` file for images as `onnx_probabilities`."""
    return litert.LiteModel(content).probabilities(pixels)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Ignores warnings about NumPy functions that Keras and tf2onnx use and that will change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
