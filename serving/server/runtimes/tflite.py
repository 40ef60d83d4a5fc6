"""Runtime for versions with a ``model.tflite``, which uses LiteRT instead of a session.

It has one single-threaded interpreter per core, which was measured to process 2.2 to 2.4 times the
images per second of the float model at its best batch size, at a quarter of the p99 latency.

Any .tflite file is served under its own signatures. One that takes pixels uint8 [N, S, S, 3] and
has a vocabulary beside it (``assets/vocabulary.txt``, as the int8 exports of imgpipe have) answers
as the SavedModel does: ``serving_default`` takes encoded images, ``serving_pixels`` pixels of
the model's own size, and an image without a probable class has the label "unknown". An image is
decoded by the thread that runs it, once it holds an interpreter.
"""

from __future__ import annotations

import contextlib
import json
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from tensorflow.core.protobuf import meta_graph_pb2

from imgpipe.serving import tensors
from imgpipe.serving.server.runtimes.runtime import available_cores
from imgpipe.serving.server.runtimes.tflite_signatures import runners as runners_of
from imgpipe.serving.server.signature_names import DEFAULT_SIGNATURE, IMAGE_INPUT
from imgpipe.serving.server.status import Code, StatusError, invalid
from imgpipe.serving.server.storage import DIGEST, TFLITE_MODEL

VOCABULARY = "assets/vocabulary.txt"
PIXELS_SIGNATURE = "serving_pixels"
_METHOD = "tensorflow/serving/predict"
_TOP = 5
"""Largest number of classes in the ``top_k`` outputs where the version does not tell."""
_UNKNOWN = b"unknown"  # the label of images below ``unknown_below``, as in the SavedModel
_STRING, _FLOAT, _UINT8 = 7, 1, 4
"""Numbers of tf.DataType."""
_RunSignature = Callable[[Mapping[str, np.ndarray], float | None], Any]
"""Runs a signature on its inputs by alias within a time limit in seconds; returns its outputs."""


class TfliteRuntime:
    """A ``model.tflite`` with the interface of a session."""

    def __init__(self, directory: Path, interpreters: int = 0) -> None:
        """Create ``interpreters`` interpreters; 0 for one per CPU core.

        Raises:
            ValueError, RuntimeError: LiteRT cannot load the file.
            StatusError: INVALID_ARGUMENT, an input or output has no TensorFlow type.
        """
        content = (directory / TFLITE_MODEL).read_bytes()
        self._pool: queue.LifoQueue[dict[str, Any]] = queue.LifoQueue()
        for _ in range(interpreters or available_cores()):
            self._pool.put(runners_of(content, Interpreter(model_content=content, num_threads=1)))
        # All interpreters have the same signatures, so any of them describes the model.
        with self._borrowed(None) as runners:
            self.signatures = {key: _describe(key, runner) for key, runner in runners.items()}
            self._calls: dict[str, _RunSignature] = {key: self._call_of(key) for key in runners}
            classifier = _Classifier.of(directory, runners)
        if classifier is not None:
            self._serve_images(classifier)

    def _serve_images(self, classifier: _Classifier) -> None:
        def from_pixels(inputs: Mapping[str, np.ndarray], timeout: float | None) -> Any:
            pixels = inputs["pixels"]
            if pixels.ndim != 4 or pixels.shape[-1] != 3:
                shape = list(pixels.shape)
                raise invalid(f"expected pixels of shape [N, H, W, 3]. Received: {shape}")
            return self._answer(classifier, classifier.resized, pixels[:, None], timeout)

        def from_bytes(inputs: Mapping[str, np.ndarray], timeout: float | None) -> Any:
            images = inputs[IMAGE_INPUT]
            if images.ndim != 1:
                shape = list(images.shape)
                raise invalid(f"expected {IMAGE_INPUT} of shape [N]. Received: {shape}")
            return self._answer(classifier, classifier.decode, images, timeout)

        self.signatures = {
            DEFAULT_SIGNATURE: classifier.signature(DEFAULT_SIGNATURE, IMAGE_INPUT, _STRING, (-1,)),
            PIXELS_SIGNATURE: classifier.signature(
                PIXELS_SIGNATURE, "pixels", _UINT8, (-1, -1, -1, 3)
            ),
        }
        self._calls = {DEFAULT_SIGNATURE: from_bytes, PIXELS_SIGNATURE: from_pixels}

    def _answer(
        self,
        classifier: _Classifier,
        pixels_of: Callable[[Any], np.ndarray],
        images: np.ndarray,
        timeout: float | None,
    ) -> dict[str, np.ndarray]:
        """Run the images one after the other, which is as fast as a batch.

        The thread that holds an interpreter decodes each image and runs it while its pixels are in
        the cache of the core. So at most one image per interpreter is decoded at a time.
        """
        if not len(images):
            raise invalid("expected one image or more. Received: 0")
        end = None if timeout is None else time.monotonic() + timeout
        with self._borrowed(timeout) as runners:
            runner, rows = runners[classifier.key], []
            for image in images:
                if end is not None and time.monotonic() > end:
                    raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded between images.")
                inputs = {classifier.input: pixels_of(image)}
                rows.append(runner(**inputs)[classifier.output])
        return classifier.answer(classifier.dequantised(np.concatenate(rows)))

    def _call_of(self, key: str) -> _RunSignature:
        def call(inputs: Mapping[str, np.ndarray], timeout: float | None) -> Any:
            with self._borrowed(timeout) as runners:
                try:
                    return runners[key](**inputs)
                except (ValueError, RuntimeError) as error:  # LiteRT's errors for wrong values
                    raise invalid(str(error)) from error

        return call

    @contextlib.contextmanager
    def _borrowed(self, timeout: float | None) -> Iterator[dict[str, Any]]:
        """Hold the signature runners of one interpreter until the block ends."""
        try:
            runners = self._pool.get(timeout=timeout)
        except queue.Empty:
            raise StatusError(
                Code.DEADLINE_EXCEEDED, "Deadline exceeded while waiting for an interpreter."
            ) from None
        try:
            yield runners
        finally:
            self._pool.put(runners)

    def run(
        self,
        feeds: Sequence[str],
        values: Sequence[np.ndarray],
        fetches: Sequence[str],
        timeout: float | None = None,
    ) -> list[np.ndarray]:
        """See ``Runtime.run``; names of tensors are ``<signature>/<input or output>``.

        Raises:
            StatusError: The values do not fit the model, or the deadline is exceeded.
        """
        key = fetches[0].partition("/")[0]
        inputs = {name.partition("/")[2]: v for name, v in zip(feeds, values, strict=True)}
        outputs = self._calls[key](inputs, timeout)
        return [np.asarray(outputs[name.partition("/")[2]]) for name in fetches]

    def close(self) -> None:
        """Free the interpreters."""
        while not self._pool.empty():
            self._pool.get_nowait()


def _describe(key: str, runner: Any) -> Any:
    """Return the SignatureDef of one signature of the file."""
    signature = meta_graph_pb2.SignatureDef(method_name=_METHOD)
    for target, details in (
        (signature.inputs, runner.get_input_details()),
        (signature.outputs, runner.get_output_details()),
    ):
        for alias, tensor in details.items():
            try:
                number = tensors.number_of(np.empty(0, tensor["dtype"]))
            except tensors.TensorError as error:
                raise invalid(f"{alias} of {TFLITE_MODEL}: {error}") from error
            shape = tensor.get("shape_signature", tensor["shape"])
            _fill(target[alias], f"{key}/{alias}", number, shape)
    return signature


def _fill(info: Any, name: str, dtype: int, shape: Sequence[int]) -> None:
    info.name, info.dtype = name, dtype
    info.tensor_shape.SetInParent()
    for size in shape:
        info.tensor_shape.dim.add(size=int(size))


def _resized(images: tf.Tensor, size: int) -> np.ndarray:
    """Resize [N, H, W, 3] to uint8 [N, size, size, 3].

    The result is that of ``tf.image.resize`` with ``bilinear``, rounded half to even. The operation
    is called without its checks and without a graph, so that it runs in the thread of the request.
    """
    grown = tf.raw_ops.ResizeBilinear(images=images, size=(size, size), half_pixel_centers=True)
    pixels: np.ndarray = np.rint(grown.numpy()).astype(np.uint8)
    return pixels


class _Classifier:
    """Gives a network from pixels to probabilities the signatures of imgpipe's SavedModels.

    Images are decoded and resized with the operations of the exported graph, and the pixels are
    rounded to whole numbers.
    """

    def __init__(
        self, key: str, runner: Any, vocabulary: Sequence[str], digest: Mapping[str, Any]
    ) -> None:
        [(self.input, input_details)] = runner.get_input_details().items()
        [(self.output, output_details)] = runner.get_output_details().items()
        self.key, self.size = key, int(input_details["shape"][1])
        self._scale, self._zero = output_details["quantization"]
        self._names = np.array([name.encode() for name in vocabulary], dtype=object)
        self._top = min(int(digest.get("top_k", _TOP)), len(vocabulary))
        self._unknown_below = float(digest.get("unknown_below", 0.0))

    @classmethod
    def of(cls, directory: Path, runners: Mapping[str, Any]) -> _Classifier | None:
        """Return the classifier of a version; None where its file is not such a network."""
        if len(runners) != 1 or not (directory / VOCABULARY).is_file():
            return None
        [(key, runner)] = runners.items()
        inputs = list(runner.get_input_details().values())
        outputs = list(runner.get_output_details().values())
        if len(inputs) != 1 or len(outputs) != 1:
            return None
        shape = inputs[0]["shape"]
        vocabulary = (directory / VOCABULARY).read_text("utf-8").splitlines()
        takes_pixels = inputs[0]["dtype"] is np.uint8 and len(shape) == 4 and shape[3] == 3
        if not takes_pixels or outputs[0]["shape"][-1] != len(vocabulary):
            return None
        file = directory / DIGEST
        digest = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        return cls(key, runner, vocabulary, digest)

    def decode(self, data: bytes) -> np.ndarray:
        """Decode an image to uint8 [1, S, S, 3].

        Raises:
            tf.errors.InvalidArgumentError: The data is not an image.
        """
        # Without a graph, whose error messages begin with the names of its nodes.
        image = tf.io.decode_image(data, channels=3, expand_animations=False)
        return _resized(tf.expand_dims(image, 0), self.size)

    def resized(self, pixels: np.ndarray) -> np.ndarray:
        """Resize pixels [N, H, W, 3] to uint8 [N, S, S, 3] where necessary."""
        if pixels.shape[1:3] == (self.size, self.size):
            return pixels
        return _resized(tf.constant(pixels), self.size)

    def dequantised(self, rows: np.ndarray) -> np.ndarray:
        """Convert quantised outputs to float32."""
        if rows.dtype == np.float32:
            return rows
        return ((rows.astype(np.float32) - self._zero) * self._scale).astype(np.float32)

    def answer(self, probabilities: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs that the SavedModel has."""
        # A stable sort, so that classes with equal probabilities keep the order of the vocabulary.
        names = self._names
        top = np.argsort(-probabilities, axis=1, kind="stable")[:, : self._top]
        label = names[probabilities.argmax(axis=1)]
        label[probabilities.max(axis=1) < self._unknown_below] = _UNKNOWN
        return {
            "label": label,
            "classes": np.tile(names, (len(probabilities), 1)),
            "probabilities": probabilities,
            "top_k_classes": names[top],
            "top_k_probabilities": np.take_along_axis(probabilities, top, axis=1),
        }

    def signature(self, key: str, alias: str, dtype: int, shape: Sequence[int]) -> Any:
        """Return the SignatureDef with one input and the five outputs of ``answer``."""
        signature = meta_graph_pb2.SignatureDef(method_name=_METHOD)
        _fill(signature.inputs[alias], f"{key}/{alias}", dtype, shape)
        classes, top = len(self._names), self._top
        for name, kind, dims in (
            ("label", _STRING, (-1,)),
            ("classes", _STRING, (-1, classes)),
            ("probabilities", _FLOAT, (-1, classes)),
            ("top_k_classes", _STRING, (-1, top)),
            ("top_k_probabilities", _FLOAT, (-1, top)),
        ):
            _fill(signature.outputs[name], f"{key}/{name}", kind, dims)
        return signature
