"""Valid files for the readers in `kept`, from which fuzzing starts.

The files are small, and every call gives the same ones.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_CLASSES = ("cat", "dog")


def artifacts(root: Path) -> dict[str, dict[str, str]]:
    """Return the artifacts of a run below ``root`` by component and output; none of them exists."""
    return {
        "ImageFilter": {"examples": f"{root}/ImageFilter/examples/2"},
        "FeatureBank": {"features": f"{root}/FeatureBank/features/3"},
        "Predictor": {"predictions": f"{root}/Predictor/predictions/5"},
    }


# --- the folder of a run --------------------------------------------------------------------------
def _left(name: str, **options: Any) -> bytes:
    """Return a file in the folder of a run that `tests.pipeline.past_runs` makes."""
    from tests.pipeline.past_runs import leave

    with tempfile.TemporaryDirectory() as folder:
        run = leave(Path(folder), "20260102-100000", **options)
        return (run / name).read_bytes().replace(folder.encode(), b"/out")


def summaries() -> Iterator[bytes]:
    """Summaries of a blessed run, of one with cross-validation, and of one that was refused."""
    yield _left("summary.json", version=2)
    yield _left("summary.json", folds=0.9)
    yield _left("summary.json", status="refused", correct=None)


def artifact_lists() -> Iterator[bytes]:
    """The artifacts of a run by component and output."""
    yield json.dumps(artifacts(Path("/out/artifacts"))).encode()


def repetitions() -> Iterator[bytes]:
    """The record of a finished run, with its key and the digests of its files."""
    files = {"summary.json": "c3" * 32, "artifacts.json": "d4" * 32}
    yield json.dumps({"settings": "a1" * 32, "key": "b2" * 32, "files": files}).encode()


def identities() -> Iterator[bytes]:
    """The time and the command of a run."""
    yield b'{"date": "2026-01-31 14:05:59 +0100", "command": "imgpipe run --data x"}'


def seals() -> Iterator[bytes]:
    """The seal of an artifact with one file of seven bytes."""
    from imgpipe.components.storage import integrity

    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "1"
        artifact.mkdir()
        (artifact / "data").write_bytes(b"content")
        integrity.seal(artifact)
        yield integrity.seal_file(artifact).read_bytes()


# --- networks and trainings -----------------------------------------------------------------------
def write_network(version: Path) -> None:
    """Write the variables of a small classifier and the folder of its network into ``version``."""
    import keras
    import tensorflow as tf

    from imgpipe.models.network import network_file
    from imgpipe.models.network.classifier import build_classifier
    from imgpipe.models.settings import ModelSettings

    keras.utils.set_random_seed(0)
    settings = ModelSettings(backbone="conv_4_8", weights="none", image_size=24)
    classifier = build_classifier(None, list(_CLASSES), settings, 1.5, 0.25)
    archive = keras.export.ExportArchive()
    archive.add_endpoint(
        "serve",
        lambda pixels: classifier.network(pixels, training=False),
        [tf.TensorSpec([None, 24, 24, 3], tf.float32)],
    )
    archive.write_out(str(version), verbose=False)
    network_file.save(classifier, settings, str(version))


def networks() -> Iterator[bytes]:
    """The file of a small network."""
    from imgpipe.models.network import network_file

    with tempfile.TemporaryDirectory() as folder:
        write_network(Path(folder))
        yield (Path(folder) / network_file.FOLDER / network_file.FILE).read_bytes()


def arrays(**values: object) -> bytes:
    """Return the content of an .npz file with these arrays."""
    content = io.BytesIO()
    np.savez(content, **values)
    return content.getvalue()


def constants() -> Iterator[bytes]:
    """The arrays of a network that are not variables."""
    yield arrays(arr_0=np.arange(4, dtype=np.float32), arr_1=np.ones((2, 2), np.float32))


def digests() -> Iterator[bytes]:
    """The digest file of a model."""
    yield b'{"image_size": 224, "sha256": "a1", "top_k": 5}'


# --- pages ----------------------------------------------------------------------------------------
def facts() -> Iterator[bytes]:
    """The facts of a run with images that a person has to decide about."""
    from tests.pipeline.review import run_to_review

    yield json.dumps(run_to_review.facts()).encode()


def review_answers() -> Iterator[bytes]:
    """One answer of each kind in a review."""
    from tests.pipeline.review.run_to_review import digest

    for verdict, label in (("relabel", "dog"), ("skip", ""), ("reject", "")):
        answer = {"image": digest("cat/0.png"), "verdict": verdict, "label": label}
        yield json.dumps(answer).encode()


def corrections() -> Iterator[bytes]:
    """Query strings of corrections with and without a version."""
    yield b"model=m&version=12&label=cat"
    yield b"model=m&label=d%C3%A9j%C3%A0+vu"
