"""Makes a published version with its provenance, and request logs as the server writes them.

Images are noise of a chosen brightness, and the answers are made up. The records, the statistics
and the manifest are real.
"""

import json
from pathlib import Path

import numpy as np
from tensorflow_serving.apis import predict_pb2

from imgpipe.components.common.storage import manifest, records
from imgpipe.components.common.storage.manifest import ANSWERS_FOLDER
from imgpipe.components.data_gate import schema as schemas
from imgpipe.components.example_gen.notes import Notes
from imgpipe.components.model_pusher import versions
from imgpipe.models import names
from imgpipe.models.files.described_files import VOCABULARY
from imgpipe.pipeline.request_drift import requests
from imgpipe.pipeline.request_drift.logged_answers import LoggedAnswers
from imgpipe.serving import tensors
from imgpipe.serving.server.request_log import RequestLog
from imgpipe.serving.server.settings import ServerSettings
from tests.images import encoded

CLASSES = ("cat", "dog", "owl")
_SIZE = (24, 32)  # height, width


def image(seed: int, brightness: float = 0.5) -> bytes:
    """Return a PNG file of noise, 32 x 24 pixels, whose mean is about `brightness` of 0..1."""
    random = np.random.default_rng(seed)
    pixels = random.normal(255 * brightness, 30, (*_SIZE, 3)).clip(0, 255).astype(np.uint8)
    return encoded(pixels)


def probabilities(count: int, seed: int = 0, sharpness: float = 4.0) -> np.ndarray:
    """Return made-up probabilities, float32 [count, classes]; low sharpness means uncertain."""
    scores = np.random.default_rng(seed).normal(size=(count, len(CLASSES))) * sharpness
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)


def write_log(
    prefix,
    answers,
    images=(),
    *,
    version=1,
    classes=CLASSES,
    labels=None,
    batch=1,
    max_bytes=256 << 20,
):
    """Write requests in batches with the server's log writer; return its files, oldest first."""
    settings = ServerSettings(
        request_log_prefix=str(prefix),
        request_log_sampling_rate=1.0,
        request_log_images=bool(len(images)),
        request_log_max_bytes=max_bytes,
    )
    log = RequestLog(settings)
    labels = labels or [classes[top] for top in answers.argmax(axis=1)]
    for start in range(0, len(answers), batch):
        rows = slice(start, start + batch)
        said = {
            "label": np.array([label.encode() for label in labels[rows]], object),
            "classes": np.array([[c.encode() for c in classes]] * len(answers[rows]), object),
            "probabilities": answers[rows],
        }
        response = predict_pb2.PredictResponse()
        sent = list(images[rows]) or [b"left out"]
        for name, values in said.items():
            tensors.fill_typed(response.outputs[name], values)
        response.model_spec.name, response.model_spec.version.value = "m", version
        log.record({names.IMAGE_BYTES: np.array(sent, object)}, response, said)
    log.close()
    return sorted(Path(prefix).parent.glob(f"{Path(prefix).name}-*.tfrecord"))


def statistics_of(rows):
    """Return TFDV's statistics of measured images or of any other rows."""
    import pandas as pd
    import tensorflow_data_validation as tfdv

    return tfdv.generate_statistics_from_dataframe(pd.DataFrame(rows))


def push(out: Path, answers: np.ndarray) -> Path:
    """Publish a version below `out`/model with the statistics of images of middle brightness.

    `answers` are its probabilities for the validation images, float32 [N, C].
    """
    import tensorflow_data_validation as tfdv

    made = out / "made"
    write_log(made / "log", probabilities(150), [image(9000 + i) for i in range(150)])
    source = LoggedAnswers(made / "log")
    items = [answer.item for answer in source.answers(Notes())]
    measured = requests.measure(source, items, Path(), None)
    labels = np.resize(CLASSES, len(items))
    rows = [
        {**row, names.LABEL: str(label)} for row, label in zip(measured.rows, labels, strict=True)
    ]
    statistics = statistics_of(rows)
    for split in (names.TRAIN, names.VALIDATION):
        folder = made / "statistics" / f"Split-{split}"
        folder.mkdir(parents=True)
        (folder / "FeatureStats.pb").write_bytes(statistics.SerializeToString())
    inferred = tfdv.infer_schema(statistics)
    schemas.write(schemas.accepted(inferred, CLASSES), str(made / "schema" / "schema.pbtxt"))
    _write_answers(made / ANSWERS_FOLDER, answers)
    model = out / "artifacts/ImageTrainer/model/9/Format-Serving"
    (model / "assets.extra").mkdir(parents=True)
    (model / "saved_model.pb").write_bytes(b"a graph")
    (model / "assets").mkdir()
    (model / VOCABULARY).write_text("\n".join(CLASSES))
    (model / manifest.MODEL_DIGEST).write_text(json.dumps({"seed": 1}))
    beside = ("statistics", "schema", ANSWERS_FOLDER)
    sources = {"": model, **{f"{manifest.PROVENANCE}/{n}": made / n for n in beside}}
    version = versions.publish(out / "model", sources, {"vocabulary": list(CLASSES)})
    assert version is not None
    return version.folder


def _write_answers(folder: Path, answers: np.ndarray) -> None:
    """Write answers to the validation images as ImageEvaluator does."""
    split = f"{folder}/Split-{names.VALIDATION}/data_tfrecord-00000-of-00001"
    with records.ShardWriter({"all": split}) as writer:
        for row in answers:
            values = {names.PROBABILITIES: [float(p) for p in row]}
            writer.write("all", records.make(values))
