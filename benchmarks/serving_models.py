"""What ``benchmarks.serving`` measures: one model in four forms, and pictures to put to it.

All are version 1 below a folder of their name: the project's own export (a head with fresh weights
on the default backbone), the same as full-int8 LiteRT, the same network behind a signature of
floats, and a model of one sum that shows what a request costs without a network to run.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

MODEL = "imgpipe"
LITE = "int8"
FLOATS = "floats"
TINY = "half_plus_two"
IMAGES = "images"
_CLASSES = ("cat", "dog", "paper", "rock", "scissors")
_PICTURES = 64
_PICTURE_SIDE = 320  # of a photograph as a page shows it


def make(work: str) -> None:
    """All models, and pictures as JPEG files."""
    import keras

    from imgpipe.models.classifier import build_classifier, build_head
    from imgpipe.models.export import export
    from imgpipe.models.settings import ModelSettings

    root = Path(work)
    (root / IMAGES).mkdir()
    for number in range(_PICTURES):
        (root / IMAGES / f"{number:03}.jpg").write_bytes(_picture(number))
    keras.utils.set_random_seed(0)
    settings = ModelSettings(name=MODEL)
    head = build_head(1280, len(_CLASSES), settings)
    classifier = build_classifier(head, _CLASSES, settings)
    export(classifier, str(root / MODEL / "1"))
    _export_floats(classifier, root / FLOATS / "1")
    _export_lite(root / MODEL / "1", root / LITE / "1", pictures_of(work))
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


def _export_lite(exported: Path, target: Path, pictures: list[bytes]) -> None:
    """model.tflite alone, calibrated on the pictures, and the vocabulary that it needs."""
    from imgpipe.models import litert, preprocess

    network = litert.load_network(str(exported))
    pixels = [preprocess.whole_pixels(one, network.image_size).numpy() for one in pictures]
    (target / "assets").mkdir(parents=True)
    (target / litert.FILES[litert.INT8]).write_bytes(litert.convert(network, litert.INT8, pixels))
    (target / "assets" / "vocabulary.txt").write_text("".join(f"{c}\n" for c in _CLASSES))


def _export_tiny(target: Path) -> None:
    """y = x / 2 + 2, TensorFlow Serving's own first example."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 0.5 + 2.0}

    module.predict = predict
    tf.saved_model.save(module, str(target), signatures={"serving_default": predict})


def _picture(seed: int) -> bytes:
    """A JPEG with detail at several scales."""
    from PIL import Image

    random = np.random.default_rng(seed)
    side = (_PICTURE_SIDE, _PICTURE_SIDE)
    total = np.zeros((*side, 3))
    for cells, weight in ((5, 0.6), (20, 0.3), (80, 0.1)):
        noise = Image.fromarray(random.integers(0, 255, (cells, cells, 3), np.uint8))
        total += weight * np.asarray(noise.resize(side, Image.Resampling.BICUBIC), float)
    out = io.BytesIO()
    Image.fromarray(total.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def pictures_of(work: str) -> list[bytes]:
    """The pictures that ``make`` drew there."""
    return [path.read_bytes() for path in sorted((Path(work) / IMAGES).iterdir())]
