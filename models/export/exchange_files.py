"""Files of a published network for other programs: ONNX, Keras and LiteRT.

They contain the network only, from pixels to probabilities. The caller decodes, turns and resizes
the image; `preprocess.whole_pixels` does this like the exported graph and rounds the result.

| kind | input | output |
|---|---|---|
| ONNX | pixels uint8 [N, S, S, 3] | probabilities float32 [N, C] |
| Keras | pixels [N, S, S, 3] of any number type, 0..255 | the same |
| LiteRT, weights of 16 bits | pixels uint8 [N, S, S, 3] | the same |

Keras writes all of them, and what was measured to be wrong with its ONNX files is mended: Keras
3.15 writes GELU with an operation that ONNX does not have (`_without_erfc`), and constants as
inputs (`_keep_constants`). An ONNX and a Keras file hold the names of the classes. A LiteRT file
holds none; they stand in a file beside it.

A function `to_…` returns the content of a file, and a function `open_…` returns a function from
resized images, uint8 [N, S, S, 3], to the probabilities [N, C] that such a file gives.
"""

from __future__ import annotations

import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from imgpipe.models import names
from imgpipe.models.arrays import PixelValues
from imgpipe.models.backbones import presets
from imgpipe.models.errors import ConfigError
from imgpipe.models.files.described_files import SERVING_DEFAULT
from imgpipe.models.machine.system import processors
from imgpipe.models.network import network_file
from imgpipe.models.network.classifier import ClassifierNetwork

if TYPE_CHECKING:
    import keras

#: Version of the operators. Every onnxruntime since 1.12 (2022) supports it.
OPSET: Final = 17
#: Packages of the extra `onnx`, by the names under which they are imported.
ONNX_PACKAGES: Final = ("tf2onnx", "onnx", "onnxruntime")
Probabilities = npt.NDArray[np.float32]
Answering = Callable[[PixelValues], Probabilities]


def to_onnx(version: Path) -> bytes:
    """Convert a published version to the content of an ONNX file.

    Its metadata hold `classes`, a JSON list of the class names in the order of the probabilities.

    Raises:
        ResourceError: See `network_file.load`.
    """
    import onnx

    classifier = network_file.load(version)
    _keep_constants(classifier.network)
    model = onnx.load_from_string(_exported(classifier, "onnx", opset_version=OPSET))
    _without_erfc(model.graph)
    facts = _facts(classifier).items()
    texts = {key: json.dumps(value, ensure_ascii=False) for key, value in facts}
    onnx.helper.set_model_props(model, texts)
    return bytes(model.SerializeToString())


def to_keras(version: Path) -> bytes:
    """Build the Keras network of a published version again, and return the `.keras` file.

    Keras of this version and later ones reads it without imgpipe. Its `config.json` holds the facts
    that the metadata of an ONNX file hold, which Keras ignores.

    Raises:
        ConfigError: The network has layers of KerasHub, of which Keras cannot read all from a file.
        ResourceError: See `network_file.load`.
    """
    import keras

    classifier = network_file.load(version)
    of_hub = {type(layer).__name__ for layer in classifier.network.layers if presets.of_hub(layer)}
    if of_hub:
        raise ConfigError(
            "export keras: Keras cannot read all layers of KerasHub from a file. Expected a "
            "network of Keras' own layers; export onnx and export tflite take any. Received: "
            f"{', '.join(sorted(of_hub))}"
        )
    whole = classifier.network
    network = keras.Model(whole.input, whole.output[names.PROBABILITIES], name=whole.name)
    written = io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        file = Path(folder) / "model.keras"  # Keras saves to paths only, and looks at the ending
        with warnings.catch_warnings(action="ignore"):
            network.save(file)
        with zipfile.ZipFile(file) as saved, zipfile.ZipFile(written, "w") as archive:
            for entry in saved.infolist():
                part = saved.read(entry)
                if entry.filename == names.KERAS_CONFIG:
                    configuration = {**json.loads(part), **_facts(classifier)}
                    part = json.dumps(configuration, ensure_ascii=False).encode("utf-8")
                archive.writestr(entry, part)
    return written.getvalue()


def to_lite(version: Path) -> bytes:
    """Convert a published version to the content of a `.tflite` file with weights of 16 bits.

    Raises:
        ResourceError: See `network_file.load`.
        Exception: TensorFlow's converter raises errors of several types for an operation that it
            cannot convert.
    """
    import tensorflow as tf

    return _exported(
        network_file.load(version),
        "litert",
        optimizations=[tf.lite.Optimize.DEFAULT],
        target_spec={"supported_types": [tf.float16]},
    )


def _facts(classifier: ClassifierNetwork) -> dict[str, object]:
    """Return what a file says of its network beside the graph."""
    return {"classes": list(classifier.vocabulary)}


def _exported(classifier: ClassifierNetwork, kind: str, **options: Any) -> bytes:
    """Let Keras write the network from pixels uint8 to {probabilities [N, C]}."""
    import keras
    import tensorflow as tf

    outputs = {names.PROBABILITIES: classifier.network.output[names.PROBABILITIES]}
    network = keras.Model(classifier.network.input, outputs)
    side = classifier.image_size
    pixels = tf.TensorSpec([None, side, side, 3], "uint8", name="pixels")
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as folder:
        file = Path(folder) / "network.tflite"  # an ending that Keras demands of LiteRT alone
        with warnings.catch_warnings(action="ignore"):  # of functions that its own code uses
            network.export(str(file), kind, verbose=False, input_signature=[pixels], **options)
        return file.read_bytes()


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


def open_onnx(content: bytes) -> Answering:
    """Load an ONNX file into onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return _one_by_one(lambda image: session.run([names.PROBABILITIES], {"pixels": image})[0])


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
    return _one_by_one(lambda image: runner(pixels=image)[names.PROBABILITIES])


def _one_by_one(answer: Callable[[PixelValues], npt.NDArray[Any]]) -> Answering:
    """Classify images one at a time, because another size of batch resizes all tensors."""
    return lambda pixels: np.concatenate([answer(image[None]) for image in pixels]).astype(
        np.float32
    )
