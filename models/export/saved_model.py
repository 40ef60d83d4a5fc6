"""Writes the SavedModel that is evaluated, blessed and served.

It consists of the graphs of the signatures and their variables. A Keras 3 model that is written
with `tf.saved_model.save` can be loaded, but every request to it fails in a graph session, and
TensorFlow Serving runs it in such a session (tensorflow/serving#2250). `keras.export.ExportArchive`
traces every graph a second time, which takes a second, and the file holds both.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from imgpipe.models import preprocess
from imgpipe.models.export.signatures import signatures
from imgpipe.models.files.described_files import MODEL_DIGEST, SERVING_DEFAULT, VOCABULARY
from imgpipe.models.names import feature_names as names
from imgpipe.models.network.classifier import ClassifierNetwork
from imgpipe.models.network.covariance_pooling import axes_in, axes_sha256

WARMUP_FILE: Final = "tf_serving_warmup_requests"  # in assets.extra/: TF Serving reads this name

_WARMUP_QUALITY: Final = 90  # JPEG quality of the re-encoded warm-up images


def export(
    classifier: ClassifierNetwork,
    directory: str,
    *,
    top_k: int = 5,
    warmup_images: Sequence[bytes] = (),
) -> None:
    """Write the SavedModel with every signature, the vocabulary and the warm-up requests.

    Args:
        classifier: The trained network.
        directory: Folder for saved_model.pb; it is created when it is missing.
        top_k: Number of classes in the top_k outputs; at most the number of classes is used.
        warmup_images: Encoded images that a server classifies before it reports that it is ready.
            They are stored at the model's own size. Without any, a grey image is used.
    """
    import tensorflow as tf

    graphs = signatures(classifier, top_k)
    archive = tf.Module()
    variables = [variable for graph in graphs.values() for variable in graph.graph.variables]
    archive.all_variables = list({id(variable): variable for variable in variables}.values())
    with tempfile.TemporaryDirectory(prefix="imgpipe-") as temporary:
        vocabulary = Path(temporary) / Path(VOCABULARY).name  # which TensorFlow puts into assets/
        vocabulary.write_text("".join(f"{name}\n" for name in classifier.vocabulary), "utf-8")
        # A lookup table has the path of its file as its name, and two models that are loaded in one
        # process would share that name.
        archive.vocabulary = tf.saved_model.Asset(str(vocabulary))
        tf.saved_model.save(archive, directory, signatures=graphs)
    size = classifier.image_size
    shown = [preprocess.whole_pixels(image, size) for image in warmup_images]
    grey = tf.fill([size, size, 3], tf.constant(127, tf.uint8))
    # As JPEGs of the model's own size, so that the requests stay small.
    small = [tf.io.encode_jpeg(pixels, quality=_WARMUP_QUALITY) for pixels in shown or [grey]]
    write_warmup(classifier.network.name, [bytes(jpeg.numpy()) for jpeg in small], directory)


def write_digest(classifier: ClassifierNetwork, directory: str, **facts: Any) -> None:
    """Write assets.extra/model_digest.json: a hash of the weights, the classes and `facts`.

    Two exports of the same model differ in their bytes, because Keras writes variables in an
    arbitrary order. The digest is the same, so it tells whether a model is new. The facts are other
    values that belong to the model; they must be writable as JSON.
    """
    import tensorflow as tf

    digest = hashlib.sha256()
    for weight in classifier.network.get_weights():
        digest.update(repr((weight.shape, str(weight.dtype))).encode())
        digest.update(weight.tobytes())
    described = {
        "vocabulary": list(classifier.vocabulary),
        "image_size": classifier.image_size,
        "temperature": classifier.temperature,
        "unknown_below": classifier.unknown_below,
        "covariance_axes": axes_sha256(axes_in(classifier.network)),
    }
    digest.update(json.dumps({**described, **facts}, sort_keys=True).encode())
    path = f"{directory.rstrip('/')}/{MODEL_DIGEST}"
    tf.io.gfile.makedirs(path.rpartition("/")[0])
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps({"sha256": digest.hexdigest(), **described, **facts}, indent=1))


def write_warmup(model_name: str, images: Sequence[bytes], directory: str) -> None:
    """Write assets.extra/tf_serving_warmup_requests: each image alone, then all in one request."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    folder = f"{directory.rstrip('/')}/assets.extra"
    tf.io.gfile.makedirs(folder)
    # Requests of both sizes, so that neither the first single image nor the first batch is slow.
    batches = [[image] for image in images] + ([list(images)] if len(images) > 1 else [])
    with tf.io.TFRecordWriter(f"{folder}/{WARMUP_FILE}") as writer:
        for batch in batches:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model_name
            request.model_spec.signature_name = SERVING_DEFAULT
            tensor = tf.make_tensor_proto(batch, tf.string, [len(batch)])
            request.inputs[names.IMAGE_BYTES].CopyFrom(tensor)
            writer.write(log.SerializeToString(deterministic=True))
