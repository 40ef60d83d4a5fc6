"""The signatures of a served model, as plain TensorFlow graphs over one classifier.

| signature | input | outputs |
|---|---|---|
| serving_default | image_bytes string [N] | the five outputs of `answer` |
| serving_pixels | pixels uint8 [N, H, W, 3], turned by the caller | the same |
| serving_examples | examples string [N], tf.Examples with `image_bytes` | the same, label [N, 1] |
| features | image_bytes string [N] | the same as of serving_default, features float32 [N, D] |
| cam | image_bytes string [N] | cam float32 [N, h, w], label, probabilities |

Decoding, resizing and normalising happen inside the graphs, and only core ops are used. A value
without its first axis is one image. An image that cannot be decoded, and what `request_checks`
refuses, fail with INVALID_ARGUMENT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from imgpipe.models import preprocess
from imgpipe.models.export import request_checks
from imgpipe.models.files.version_files import FEATURE_VECTORS, SERVING_DEFAULT
from imgpipe.models.names import feature_names as names
from imgpipe.models.names.model_names import FEATURES, LOGITS, PROBABILITIES
from imgpipe.models.network.classifier import ClassifierNetwork

if TYPE_CHECKING:
    import tensorflow as tf

SERVING_PIXELS: Final = "serving_pixels"
SERVING_EXAMPLES: Final = "serving_examples"
CAM: Final = "cam"


def signatures(
    classifier: ClassifierNetwork, top_k: int
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Return all signatures by name. They share one graph of the backbone.

    Args:
        classifier: The trained network.
        top_k: Number of classes in the top_k outputs; at most the number of classes is used.
    """
    import tensorflow as tf

    size = classifier.image_size

    def network(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        return classifier.answers(classifier.feature_maps(pixels))

    def decode(image_bytes: tf.Tensor) -> tf.Tensor:
        files = request_checks.strings(image_bytes, names.IMAGE_BYTES, "image files")
        return preprocess.batch_decode(files, size)

    # One graph of it, as of the backbone.
    decoded = tf.function(decode, autograph=False, jit_compile=False).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )

    def from_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(classifier, network(decoded(image_bytes)), top_k)

    def with_features(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = network(decoded(image_bytes))
        return {FEATURES: outputs[FEATURES], **answer(classifier, outputs, top_k)}

    def from_pixels(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        images = preprocess.resize(request_checks.rgb_images(pixels), size)
        return answer(classifier, network(images), top_k)

    def from_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = {names.IMAGE_BYTES: tf.io.FixedLenFeature([], tf.string)}
        what = "serialized tf.Examples"
        checked = request_checks.strings(examples, request_checks.EXAMPLES, what)
        outputs = from_bytes(tf.io.parse_example(checked, spec)[names.IMAGE_BYTES])
        # TFX's BulkInferrer takes one row of each output and cannot store a row that is a scalar
        # string, because `bytes` has no dtype. A column of length 1 gives rows that are arrays.
        return {**outputs, names.LABEL: outputs[names.LABEL][:, None]}

    encoded = tf.TensorSpec([None], tf.string, name=names.IMAGE_BYTES)
    pixels = tf.TensorSpec([None, None, None, 3], tf.uint8, name=request_checks.PIXELS)
    examples = tf.TensorSpec([None], tf.string, name=request_checks.EXAMPLES)
    return {
        SERVING_DEFAULT: _traced(from_bytes, encoded),
        SERVING_PIXELS: _traced(from_pixels, pixels),
        SERVING_EXAMPLES: _traced(from_examples, examples),
        FEATURE_VECTORS: _traced(with_features, encoded),
        CAM: _traced(lambda given: grad_cam(classifier, decoded(given)), encoded),
    }


def answer(
    classifier: ClassifierNetwork, outputs: Mapping[str, tf.Tensor], top_k: int
) -> dict[str, tf.Tensor]:
    """Return the response to a classification request.

    Args:
        classifier: The trained network.
        outputs: Outputs of `classifier.network` for N images.
        top_k: Number of classes in the top_k outputs, at most the number of classes.

    Returns:
        Five outputs by name: label, string [N]; classes, string [N, C], in the order of the
        vocabulary; probabilities, float32 [N, C]; top_k_classes, string [N, k], and
        top_k_probabilities, float32 [N, k], highest first.
    """
    import tensorflow as tf

    probabilities = outputs[PROBABILITIES]
    count = len(classifier.vocabulary)
    vocabulary = tf.constant(classifier.vocabulary)
    top = tf.math.top_k(probabilities, k=min(top_k, count))
    rows = tf.shape(probabilities)[0]
    return {
        names.LABEL: _label(classifier, probabilities),
        "classes": tf.ensure_shape(tf.tile(vocabulary[None], [rows, 1]), [None, count]),
        PROBABILITIES: probabilities,
        "top_k_classes": tf.gather(vocabulary, top.indices),
        "top_k_probabilities": top.values,
    }


def grad_cam(classifier: ClassifierNetwork, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
    """Show where the evidence for the top class lies (gradient x activation).

    The gradient is taken of the difference between the top logit and the mean of all logits,
    because softmax ignores what is added to all logits alike, and because the first logit of a
    binary head is the constant 0. For the mean of one feature map, this is Grad-CAM (Selvaraju et
    al. 2017), whose mean gradient says nothing about a covariance. The maps that the head reads are
    added up at the size of the largest. Tokens that belong to no place are left out.

    Args:
        classifier: The trained network.
        pixels: Decoded and resized images, float32 [N, S, S, 3], 0..255.

    Returns:
        Three outputs by name: cam, float32 [N, h, w], 0..1, which is 0 everywhere when no part of
        the image is evidence for the class; label, string [N]; probabilities, float32 [N, C].
    """
    import tensorflow as tf

    maps = classifier.feature_maps(pixels)  # outside of the tape, which need not follow it
    with tf.GradientTape() as tape:
        tape.watch(maps)
        outputs = classifier.answers(maps)
        logits = outputs[LOGITS]
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
    probabilities = outputs[PROBABILITIES]
    return {CAM: cam, names.LABEL: _label(classifier, probabilities), PROBABILITIES: probabilities}


def _label(classifier: ClassifierNetwork, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the label that is served, string [N]: the first class of the highest probability."""
    import tensorflow as tf

    label = tf.gather(tf.constant(classifier.vocabulary), tf.argmax(probabilities, axis=1))
    if not classifier.unknown_below:
        return label
    unknown = tf.reduce_max(probabilities, axis=1) < classifier.unknown_below
    return tf.where(unknown, names.UNKNOWN, label)


def _traced(
    function: Callable[[tf.Tensor], dict[str, tf.Tensor]], spec: tf.TensorSpec
) -> tf.types.experimental.ConcreteFunction:
    """Return the graph of a function for `spec`, without XLA, which is much slower on a CPU."""
    import tensorflow as tf

    traced = tf.function(function, input_signature=[spec], autograph=False, jit_compile=False)
    return traced.get_concrete_function()
