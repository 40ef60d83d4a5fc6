"""The functions that ``benchmarks.serving`` runs in processes of their own.

    python -m benchmarks.serving_parts RESULT.json NAME ARGUMENT…

Each function takes texts, and its result is written as JSON. ``make`` writes drawn images and four
forms of a model, each as version 1 in a folder of its name: the export of imgpipe (the default
backbone and a head with random weights), the same as int8 LiteRT, the same network with a signature
of floats, and a model of one sum, which shows the cost of a request without a network.
"""

from __future__ import annotations

import io
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "imgpipe"
LITE = "int8"
FLOATS = "floats"
TINY = "half_plus_two"
IMAGES = "images"
_CLASSES = ("cat", "dog", "paper", "rock", "scissors")
_IMAGE_COUNT = 64
_IMAGE_SIDE = 320  # pixels of a photograph as a web page shows it
_BATCHED = 32
_TURNS = 4


def make(work: str) -> None:
    """Write all models, and images as JPEG files."""
    import keras

    from imgpipe.models.export.saved_model import export
    from imgpipe.models.network.classifier import build_classifier, build_head
    from imgpipe.models.settings import ModelSettings
    from imgpipe.serving.client.load_generator import noise

    root = Path(work)
    (root / IMAGES).mkdir()
    for number in range(_IMAGE_COUNT):
        (root / IMAGES / f"{number:03}.jpg").write_bytes(noise(_IMAGE_SIDE, number))
    keras.utils.set_random_seed(0)
    settings = ModelSettings(name=MODEL)
    head = build_head(1280, len(_CLASSES), settings)
    classifier = build_classifier(head, _CLASSES, settings)
    export(classifier, str(root / MODEL / "1"))
    _export_floats(classifier, root / FLOATS / "1")
    _export_lite(root / MODEL / "1", root / LITE / "1", images_of(work))
    _export_tiny(root / TINY / "1")


def _export_floats(classifier: object, target: Path) -> None:
    import keras
    import tensorflow as tf

    size, network = classifier.image_size, classifier.network  # type: ignore[attr-defined]
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint(
        "serving_default",
        lambda pixels: {"probabilities": network(pixels)["probabilities"]},
        input_signature=[tf.TensorSpec([None, size, size, 3], tf.float32, name="pixels")],
    )
    archive.write_out(str(target), verbose=False)


def _export_lite(exported: Path, target: Path, images: list[bytes]) -> None:
    """Write model.tflite, calibrated on the images, and the vocabulary that it needs."""
    from imgpipe.models import preprocess
    from imgpipe.models.export import litert

    network = litert.load_network(str(exported))
    pixels = [preprocess.whole_pixels(one, network.image_size).numpy() for one in images]
    (target / "assets").mkdir(parents=True)
    (target / litert.FILES[litert.INT8]).write_bytes(litert.convert(network, litert.INT8, pixels))
    (target / "assets" / "vocabulary.txt").write_text("".join(f"{c}\n" for c in _CLASSES))


def _export_tiny(target: Path) -> None:
    """Write the first example of TensorFlow Serving, y = x / 2 + 2."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 0.5 + 2.0}

    module.predict = predict
    tf.saved_model.save(module, str(target), signatures={"serving_default": predict})


def images_of(work: str) -> list[bytes]:
    """Read the images that ``make`` has drawn."""
    return [path.read_bytes() for path in sorted((Path(work) / IMAGES).iterdir())]


def inside(work: str, batches: str, seconds: str) -> dict[str, Any]:
    """Measure ``tf.saved_model.load``: images per second by batch size, and p50 of one image."""
    import tensorflow as tf

    served = tf.saved_model.load(f"{work}/{MODEL}/1").signatures["serving_default"]
    images = images_of(work)
    rates, latencies = {}, []
    for size in map(int, batches.split(",")):
        endless = itertools.cycle(images)
        served(image_bytes=tf.constant(list(itertools.islice(endless, size))))
        done, began = 0, time.perf_counter()
        while (now := time.perf_counter()) - began < float(seconds):
            served(image_bytes=tf.constant(list(itertools.islice(endless, size))))
            done += size
            if size == 1:
                latencies.append(time.perf_counter() - now)
        rates[size] = done / (time.perf_counter() - began)
    return {"rates": rates, "p50_ms": float(np.median(latencies)) * 1000}


def load(target: str, work: str, levels: str, window: str) -> dict[str, Any]:
    """Measure single images at each number of callers, and four requests of 32 images."""
    from imgpipe.serving.client import load_generator as generator

    way, images = generator.connection(target), images_of(work)

    def measure(concurrency: tuple[int, ...], calls: list[Any]) -> list[dict[str, Any]]:
        settings = generator.LoadSettings(concurrency, float(window), most_windows=6)
        return [asdict(level) for level in generator.run(way, calls, settings)]

    singles = measure(tuple(map(int, levels.split(","))), generator.image_calls(images, MODEL))
    (batched,) = measure((4,), generator.image_calls(images, MODEL, _BATCHED))
    return {"levels": singles, "batched": batched}


def one_caller(target: str, work: str, window: str) -> dict[str, Any]:
    """Measure the p50 in ms of one caller: an empty RPC, a model of one sum, and an image.

    They alternate in short windows, so that other work on the machine affects all alike.
    """
    from imgpipe.serving.client import load_generator as generator
    from imgpipe.serving.client import messages, protos
    from imgpipe.serving.client.steps import Call

    status = messages.status_request(messages.Servable(TINY))
    tiny = messages.predict_request(messages.Servable(TINY), {"x": np.array([2.0], np.float32)})
    kinds = {
        "empty": [Call(protos.STATUS, status, 30.0, False)],
        "tiny": [Call(protos.PREDICT, tiny, 30.0, False)],
        "image": generator.image_calls(images_of(work), MODEL),
    }
    settings = generator.LoadSettings((1,), float(window) / _TURNS, most_windows=generator.AGREEING)
    way = generator.connection(target)
    found: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(_TURNS):
        for kind, calls in kinds.items():
            (level,) = generator.run(way, calls, settings)
            found[kind].append(level.latency_ms["p50"] or 0.0)
    return {kind: float(np.median(values)) for kind, values in found.items()}


def _timed(seconds: float, ask: Callable[[bytes], object], images: list[bytes]) -> dict[str, Any]:
    """Measure a client: median and processor time of a call, in ms."""
    endless, latencies = itertools.cycle(images), []
    ask(next(endless))
    cpu, began = time.process_time(), time.perf_counter()
    while (now := time.perf_counter()) - began < seconds:
        ask(next(endless))
        latencies.append(time.perf_counter() - now)
    used = time.process_time() - cpu
    return {
        "p50_ms": float(np.median(latencies)) * 1000,
        "cpu_ms": used / len(latencies) * 1000,
    }


def bytes_client(target: str, work: str, seconds: str) -> dict[str, Any]:
    """Measure our client, which sends the bytes of a file."""
    from imgpipe.serving.client import Client, messages

    images = images_of(work)
    request = messages.predict_request(messages.Servable(MODEL), {"image_bytes": [images[0]]})
    with Client(target, MODEL) as client:
        found = _timed(float(seconds), lambda image: client.classify([image]), images)
    return {**found, "request_bytes": request.ByteSize()}


def floats_client(target: str, work: str, seconds: str) -> dict[str, Any]:
    """Measure the usual client: decoding, resizing, tf.make_tensor_proto, official stubs."""
    import grpc
    import tensorflow as tf
    from PIL import Image
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    images = images_of(work)
    channel = grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)])
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    size = [0]

    def ask(image: bytes) -> None:
        with Image.open(io.BytesIO(image)) as opened:
            pixels = np.asarray(opened.convert("RGB").resize((224, 224)), np.float32)[None]
        request = predict_pb2.PredictRequest()
        request.model_spec.name = FLOATS
        request.inputs["pixels"].CopyFrom(tf.make_tensor_proto(pixels))
        reply = stub.Predict(request, timeout=30)
        tf.make_ndarray(reply.outputs["probabilities"])
        size[0] = request.ByteSize()

    found = _timed(float(seconds), ask, images)
    channel.close()
    return {**found, "request_bytes": size[0]}


PARTS: dict[str, Callable[..., Any]] = {
    part.__name__: part for part in (make, inside, load, one_caller, bytes_client, floats_client)
}

if __name__ == "__main__":
    result, name, *arguments = sys.argv[1:]
    Path(result).write_text(json.dumps(PARTS[name](*arguments)))
