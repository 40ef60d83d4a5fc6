"""The functions that `benchmarks.serving` runs in processes of their own.

    python -m benchmarks.serving_parts RESULT.json NAME ARGUMENT…

Each function takes texts, and its result is written as JSON. `make` writes drawn images and two
models, each as version 1 in a folder of its name: the export of imgpipe (the default backbone and a
head with random weights), and a model of one sum, which shows the cost of a request without a
network.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import image_requests, measure, noise

MODEL = "imgpipe"
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

    from imgpipe.models.export.saved_model import export, write_digest
    from imgpipe.models.network.classifier import build_classifier
    from imgpipe.models.settings.running import RunSettings
    from imgpipe.models.settings.settings import Settings

    root = Path(work)
    (root / IMAGES).mkdir()
    for number in range(_IMAGE_COUNT):
        (root / IMAGES / f"{number:03}.jpg").write_bytes(noise(_IMAGE_SIDE, number))
    keras.utils.set_random_seed(0)
    settings = Settings(run=RunSettings(name=MODEL))
    # Without a trained head, its weights are random.
    classifier = build_classifier(None, _CLASSES, settings)
    export(classifier, str(root / MODEL / "1"))
    write_digest(classifier, str(root / MODEL / "1"))  # a server knows it as a model of imgpipe
    _export_tiny(root / TINY / "1")


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
    """Read the images that `make` has drawn."""
    return [path.read_bytes() for path in sorted((Path(work) / IMAGES).iterdir())]


def inside(work: str, batches: str, seconds: str) -> dict[str, Any]:
    """Measure `tf.saved_model.load`: images per second by batch size, and p50 of one image."""
    import tensorflow as tf

    served = tf.saved_model.load(f"{work}/{MODEL}/1").signatures["serving_default"]
    images = images_of(work)
    rates = {}
    latencies = []
    for size in map(int, batches.split(",")):
        endless = itertools.cycle(images)
        served(image_bytes=tf.constant(list(itertools.islice(endless, size))))
        done = 0
        began = time.perf_counter()
        while (now := time.perf_counter()) - began < float(seconds):
            served(image_bytes=tf.constant(list(itertools.islice(endless, size))))
            done += size
            if size == 1:
                latencies.append(time.perf_counter() - now)
        rates[size] = done / (time.perf_counter() - began)
    return {"rates": rates, "p50_ms": float(np.median(latencies)) * 1000}


def load(target: str, work: str, levels: str, window: str) -> dict[str, Any]:
    """Measure single images at each number of callers, and four requests of 32 images."""
    images = images_of(work)
    seconds = float(window)
    single = image_requests(images, MODEL)
    return {
        "levels": [measure(target, single, int(level), seconds) for level in levels.split(",")],
        "batched": measure(target, image_requests(images, MODEL, _BATCHED), 4, seconds),
    }


def one_caller(target: str, tiny_target: str, work: str, window: str) -> dict[str, Any]:
    """Measure the p50 in ms of one caller: an empty RPC, a model of one sum, and an image.

    They alternate in short windows, so that other work on the machine affects all alike.
    """
    from imgpipe.serving.client import channel, messages

    status = channel.GetModelStatusRequest()
    status.model_spec.name = TINY
    tiny = messages.predict_request(TINY, {"x": np.array([2.0], np.float32)})
    kinds = {
        "empty": (tiny_target, [status.SerializeToString()], channel.STATUS),
        "tiny": (tiny_target, [tiny.SerializeToString()], channel.PREDICT),
        "image": (target, image_requests(images_of(work), MODEL), channel.PREDICT),
    }
    medians: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(_TURNS):
        for kind, (asked, requests, method) in kinds.items():
            level = measure(asked, requests, 1, float(window) / _TURNS, method)
            medians[kind].append(level["latency_ms"]["p50"])
    return {kind: float(np.median(values)) for kind, values in medians.items()}


PARTS: dict[str, Callable[..., Any]] = {
    part.__name__: part for part in (make, inside, load, one_caller)
}

if __name__ == "__main__":
    result, name, *arguments = sys.argv[1:]
    Path(result).write_text(json.dumps(PARTS[name](*arguments)))
