"""Valid files for the readers in `served`, from which fuzzing starts.

The files are small, and every call gives the same ones.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.fuzz.served import MODEL_CLASSES


def manifests() -> Iterator[bytes]:
    """The manifest of a version with one file."""
    digest = hashlib.sha256(b"a graph").hexdigest()
    files = {"saved_model.pb": {"sha256": digest, "bytes": 7}}
    facts = {"vocabulary": list(MODEL_CLASSES), "run_key": "a1", "withdrawn": ["b2"]}
    yield json.dumps({"files": files, **facts}).encode()


def schemas() -> Iterator[bytes]:
    """An accepted schema with two features."""
    yield (
        b'feature { name: "width" type: INT presence { min_fraction: 1 }\n'
        b"  drift_comparator { jensen_shannon_divergence { threshold: 0.3 } } }\n"
        b'feature { name: "label" type: BYTES domain: "label" }\n'
        b'string_domain { name: "label" value: "a" value: "b" }\n'
    )


def _answer() -> dict[str, np.ndarray]:
    """Return the outputs of a model for one image."""
    probabilities = np.array([[0.7, 0.2, 0.1]], np.float32)
    classes = np.array([[name.encode() for name in MODEL_CLASSES]], object)
    return {"probabilities": probabilities, "classes": classes, "label": classes[:, 0]}


def requests() -> Iterator[bytes]:
    """Predict requests with strings and numbers, in both encodings of tensors."""
    from tensorflow_serving.apis import predict_pb2

    from imgpipe.serving import tensors

    for write in (tensors.fill_compact, tensors.fill_typed):
        message = predict_pb2.PredictRequest()
        message.model_spec.name = "m"
        write(message.inputs["image_bytes"], np.array([b"image"], object))
        write(message.inputs["x"], np.arange(6, dtype=np.float32).reshape(2, 3))
        write(message.inputs["n"], np.array([True, False]))
        yield message.SerializeToString(deterministic=True)


def request_logs() -> Iterator[bytes]:
    """A log of two requests with their images."""
    from tests.pipeline.request_drift.drawn import write_log

    with tempfile.TemporaryDirectory() as folder:
        answers = np.repeat(_answer()["probabilities"], 2, axis=0)
        (file,) = write_log(Path(folder) / "x", answers, [b"one", b"two"], classes=MODEL_CLASSES)
        yield file.read_bytes()


def replies() -> Iterator[bytes]:
    """Replies to Predict, GetModelStatus and GetModelMetadata."""
    from imgpipe.serving import tensors
    from imgpipe.serving.client import channel

    signatures = channel.SignatureDefMap()
    signatures.signature_def["s"].outputs["y"].dtype = 1
    described = channel.GetModelMetadataResponse()
    described.metadata["signature_def"].Pack(signatures)
    versions = channel.GetModelStatusResponse()
    versions.model_version_status.add(version=1, state=30)
    for reply in (described, versions):
        yield reply.SerializeToString(deterministic=True)

    message = channel.PredictResponse()
    message.model_spec.name = "m"
    for name, value in _answer().items():
        tensors.fill_typed(message.outputs[name], value)
    yield message.SerializeToString(deterministic=True)


def review_answers() -> Iterator[bytes]:
    """One answer of each kind in a review."""
    from tests.pipeline.review.run_to_review import digest

    for verdict, label in (("relabel", "dog"), ("skip", ""), ("reject", "")):
        answer = {"image": digest("cat/0.png"), "verdict": verdict, "label": label}
        yield json.dumps(answer).encode()
