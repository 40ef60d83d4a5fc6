"""Writes the SavedModel that is evaluated, blessed and served: its signatures and variables.

A Keras 3 model that is written with `tf.saved_model.save` can be loaded, but every request to it
fails in a graph session, and TensorFlow Serving runs it in such a session
(tensorflow/serving#2250). `keras.export.ExportArchive` traces every graph a second time, which
takes a second, and the file holds both.

| signature | input | outputs |
|---|---|---|
| serving_default | image_bytes string [N] | the outputs of `answer` |
| serving_pixels | pixels uint8 [N, H, W, 3], turned by the caller | the same |
| serving_examples | examples string [N], tf.Examples with `image_bytes` | the same, label [N, 1] |
| features | image_bytes string [N] | features float32 [N, D] |
| cam | image_bytes string [N] | cam float32 [N, h, w], label, probabilities |

Decoding, resizing and normalising happen inside the graphs, and only core ops are used. A value
without its first axis is one image. An image that cannot be decoded, and a value of another shape,
fail with INVALID_ARGUMENT. TensorFlow Serving does not compare the shape of a value with the
signature: without the checks here, the first operation that cannot use the value would answer,
about the inside of the network. Their messages have no quotation marks, because the op that raises
them would escape these.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imgpipe.models import names, preprocess
from imgpipe.models.features.feature_distribution import FeatureDistribution
from imgpipe.models.files.described_files import (
    FEATURE_VECTORS,
    MODEL_DIGEST,
    SERVING_DEFAULT,
    UNLIKE,
    VOCABULARY,
)
from imgpipe.models.network.classifier import ClassifierNetwork
from imgpipe.models.network.covariance_pooling import axes_in, axes_sha256

if TYPE_CHECKING:
    import tensorflow as tf

PIXELS: Final = "pixels"
EXAMPLES: Final = "examples"

SERVING_PIXELS: Final = "serving_pixels"
SERVING_EXAMPLES: Final = "serving_examples"
CAM: Final = "cam"

_CHANNELS: Final = 3
WARMUP_FILE: Final = "tf_serving_warmup_requests"  # in assets.extra/: TF Serving reads this name
_WARMUP_QUALITY: Final = 90  # JPEG quality of the re-encoded warm-up images


def rgb_images(pixels: tf.Tensor) -> tf.Tensor:
    """Return the pixels of a request, uint8 [N, H, W, 3], after a check of their shape.

    A single image, uint8 [H, W, 3], becomes a batch of one.
    """
    import tensorflow as tf

    sent = _of_any_shape(pixels)
    shape = tf.shape(sent)
    has_rank = (tf.rank(sent) == 3) | (tf.rank(sent) == 4)
    has_channels = tf.reduce_all(shape[-1:] == _CHANNELS)
    has_pixels = tf.reduce_all(shape > 0)

    def message() -> tf.Tensor:
        return tf.strings.format(
            "pixels: expected one image or more in RGB, uint8 [N, height, width, 3], or a single "
            "one, uint8 [height, width, 3]. Received: shape {}. Convert grey and transparent "
            "images to RGB, or send image files to the signature serving_default.",
            shape,
        )

    checked = _required(has_rank & has_channels & has_pixels, message, sent)
    # An image alone becomes a batch of one.
    batch = tf.reshape(checked, tf.concat([[1], shape], 0)[-4:])
    return tf.ensure_shape(batch, [None, None, None, _CHANNELS])


def strings(values: tf.Tensor, name: str, what: str) -> tf.Tensor:
    """Return the strings of a request, string [N], after a check of their shape.

    What was sent is string [N], or string [] for a single image. `what` says in words what the
    strings of the input with this name are.
    """
    import tensorflow as tf

    sent = _of_any_shape(values)

    def message() -> tf.Tensor:
        return tf.strings.format(
            f"{name}: expected one image or more as a list of {what}, string [N], or a single "
            "one, string []. Received: shape {}. Send a list with one string for each image.",
            tf.shape(sent),
        )

    checked = _required((tf.rank(sent) <= 1) & (tf.size(sent) > 0), message, sent)
    return tf.reshape(checked, [-1])


def _of_any_shape(values: tf.Tensor) -> tf.Tensor:
    """Return `values` as a tensor of unknown shape.

    A server feeds values of any shape, whereas TensorFlow would replace a check of the rank by its
    result for the shape in the signature.
    """
    import tensorflow as tf

    return tf.raw_ops.PlaceholderWithDefault(input=values, shape=None)


def _required(
    condition: tf.Tensor, message: Callable[[], tf.Tensor], value: tf.Tensor
) -> tf.Tensor:
    """Return `value`; where the condition is false, fail with the message as INVALID_ARGUMENT."""
    import tensorflow as tf

    def failed() -> tf.Operation:
        return tf.raw_ops.Assert(condition=False, data=[message()], summarize=1)

    check = tf.cond(condition, tf.no_op, failed)
    with tf.control_dependencies([check]):
        return tf.identity(value)


def signatures(
    classifier: ClassifierNetwork, top_k: int, distribution: FeatureDistribution | None
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Return all signatures by name, for the arguments of `answer`. They share one graph."""
    import tensorflow as tf

    size = classifier.image_size

    def network(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return classifier.answers(classifier.feature_maps(pixels))

    def decode(image_bytes: tf.Tensor) -> tf.Tensor:
        files = strings(image_bytes, names.IMAGE_BYTES, "image files")
        return preprocess.batch_decode(files, size)

    # One graph of it, as of the backbone.
    decoded = tf.function(decode, autograph=False, jit_compile=False).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(classifier, network(decoded(image_bytes)), top_k, distribution)

    def features(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {names.FEATURES: network(decoded(image_bytes))[names.FEATURES]}

    def from_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        images = preprocess.resize(rgb_images(pixels), size)
        return answer(classifier, network(images), top_k, distribution)

    def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {names.IMAGE_BYTES: tf.io.FixedLenFeature([], tf.string)}
        what = "serialized tf.Examples"
        checked = strings(examples, EXAMPLES, what)
        outputs = from_bytes(tf.io.parse_example(checked, spec)[names.IMAGE_BYTES])
        # TFX's BulkInferrer takes one row of each output and cannot store a row that is a scalar
        # string, because `bytes` has no dtype. A column of length 1 gives rows that are arrays.
        return {**outputs, names.LABEL: outputs[names.LABEL][:, None]}

    encoded = tf.TensorSpec([None], tf.string, name=names.IMAGE_BYTES)
    pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, name=PIXELS)
    examples = tf.TensorSpec([None], tf.string, name=EXAMPLES)
    return {
        SERVING_DEFAULT: _traced(from_bytes, encoded),
        SERVING_PIXELS: _traced(from_pixels, pixels),
        SERVING_EXAMPLES: _traced(from_examples, examples),
        FEATURE_VECTORS: _traced(features, encoded),
        CAM: _traced(lambda given: grad_cam(classifier, decoded(given)), encoded),
    }


def answer(
    classifier: ClassifierNetwork,
    outputs: Mapping[str, tf.Tensor],
    top_k: int,
    distribution: FeatureDistribution | None = None,
) -> dict[str, tf.Tensor]:
    """Return the response to a classification request from the outputs of `classifier.network`.

    It has for N images label, string [N]; classes, string [N, C], in the order of the vocabulary;
    probabilities, float32 [N, C]; top_k_classes, string [N, k], and top_k_probabilities, float32
    [N, k], highest first, where k is at most the number of classes. With the distribution of the
    features of the training images, it also has unlike, bool [N]: whether an image is unlike all
    that the model has learned.
    """
    import tensorflow as tf

    probabilities = outputs[names.PROBABILITIES]
    count = len(classifier.vocabulary)
    vocabulary = tf.constant(classifier.vocabulary)
    top = tf.math.top_k(probabilities, k=min(top_k, count))
    rows = tf.shape(probabilities)[0]
    unlike: dict[str, tf.Tensor] = {}
    if distribution is not None:
        unlike[UNLIKE] = distribution.distances(outputs[names.FEATURES]) > distribution.threshold
    return {
        names.LABEL: _label(classifier, probabilities),
        "classes": tf.ensure_shape(tf.tile(vocabulary[None], [rows, 1]), [None, count]),
        names.PROBABILITIES: probabilities,
        "top_k_classes": tf.gather(vocabulary, top.indices),
        "top_k_probabilities": top.values,
        **unlike,
    }


def grad_cam(classifier: ClassifierNetwork, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Show where the evidence for the top class lies (gradient x activation).

    The gradient is taken of the difference between the top logit and the mean of all logits,
    because softmax ignores what is added to all logits alike, and because the first logit of a
    binary head is the constant 0. For the mean of one feature map, this is Grad-CAM (Selvaraju et
    al. 2017), whose mean gradient says nothing about a covariance. The maps that the head reads are
    added up at the size of the largest. Tokens that belong to no place are left out.

    `pixels` are decoded and resized images, float32 [N, S, S, 3], 0..255. The outputs
    are cam, float32 [N, h, w], 0..1, which is 0 everywhere when no part of the image is evidence
    for the class; label, string [N]; and probabilities, float32 [N, C].
    """
    import tensorflow as tf

    maps = classifier.feature_maps(pixels)  # outside of the tape, which need not follow it
    with tf.GradientTape() as tape:
        tape.watch(maps)
        outputs = classifier.answers(maps)
        logits = outputs[names.LOGITS]
        score = tf.reduce_max(logits, axis=1) - tf.reduce_mean(logits, axis=1)
    gradients = tape.gradient(score, maps)
    pairs = [pair for pair in zip(maps, gradients, strict=True) if len(pair[0].shape) == 4]
    largest = max(tuple(feature_map.shape[1:3]) for feature_map, _ in pairs)
    resized = []
    for feature_map, gradient in pairs:
        evidence = tf.reduce_sum(gradient * feature_map, axis=-1, keepdims=True)
        # A position of a small map is more of the image.
        positions = feature_map.shape[1] * feature_map.shape[2]
        resized.append(positions * tf.image.resize(evidence, largest))
    cam = tf.nn.relu(tf.add_n(resized)[..., 0])
    cam = tf.math.divide_no_nan(cam, tf.reduce_max(cam, axis=[1, 2], keepdims=True))
    probabilities = outputs[names.PROBABILITIES]
    return {
        CAM: cam,
        names.LABEL: _label(classifier, probabilities),
        names.PROBABILITIES: probabilities,
    }


def _label(classifier: ClassifierNetwork, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the label that is served, string [N]: the first class of the highest probability."""
    import tensorflow as tf

    return tf.gather(tf.constant(classifier.vocabulary), tf.argmax(probabilities, axis=1))


def _traced(
    function: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: tf.TensorSpec
) -> tf.types.experimental.ConcreteFunction:
    """Return the graph of a function for `spec`, without XLA, which is much slower on a CPU."""
    import tensorflow as tf

    traced = tf.function(function, input_signature=[spec], autograph=False, jit_compile=False)
    return traced.get_concrete_function()


def export(
    classifier: ClassifierNetwork,
    directory: str,
    *,
    top_k: int = 5,
    warmup_images: Sequence[bytes] = (),
    distribution: FeatureDistribution | None = None,
) -> None:
    """Write the SavedModel with every signature, the vocabulary and the warm-up requests.

    Args:
        classifier: The trained network.
        directory: Folder for saved_model.pb; it is created when it is missing.
        top_k: Number of classes in the top_k outputs; at most the number of classes is used.
        warmup_images: Encoded images that a server classifies before it reports that it is ready.
            They are stored at the model's own size. Without any, a grey image is used.
        distribution: See `answer`.
    """
    import tensorflow as tf

    graphs = signatures(classifier, top_k, distribution)
    archive = tf.Module()
    variables = [variable for graph in graphs.values() for variable in graph.graph.variables]
    # An own network may have weights that no signature uses; `network_file` finds all of them.
    variables += [weight.value for weight in classifier.network.weights]
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
