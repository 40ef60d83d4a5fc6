"""ServingValidator: checks that the exported model can be served and answers as it was trained.

TFX's InfraValidator needs Docker or Kubernetes and only checks that the model loads. An exported
model can load and still fail every request, as one from `tf.saved_model.save` of a Keras 3 model
does. This gate therefore starts the embedded server on the loopback interface, which loads the
model into a session of TensorFlow, as TensorFlow Serving does, and queries it over gRPC.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types.standard_artifacts import InfraBlessing, Model, ModelRun
from tfx.utils import path_utils

from imgpipe.components.common import artifacts, kept_model
from imgpipe.components.common.storage import manifest, records
from imgpipe.components.image_evaluator.decision import ServingCheck
from imgpipe.models import names
from imgpipe.models.errors import ResourceError
from imgpipe.models.features.stored_parity import LARGEST, difference
from imgpipe.models.files.described_files import FEATURE_VECTORS
from imgpipe.models.files.regular_files import local_path
from imgpipe.models.machine import process
from imgpipe.serving.client import Client, ServingError
from imgpipe.serving.client.images import chunks
from imgpipe.serving.server.runtime import Runtime
from imgpipe.serving.server.server import ModelServer
from imgpipe.serving.server.settings import ServerSettings
from imgpipe.serving.server.status import StatusError

NAME = "candidate"
LOAD_SECONDS = 120.0  # a model that takes longer would delay every restart in production
PARITY = 1e-4  # largest allowed difference of a probability between trained and served model
_ANY_BYTES = (1 << 31) - 1  # largest message of gRPC
#: Status codes for a lack of time or memory, in the server or in loading the model.
_SHORTAGES = ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNAVAILABLE")
_FEW = 4  # images that are sent alone, and once more after invalid input
GARBAGE = b"this is not an image"


class Samples(NamedTuple):
    """What ImageTrainer recorded for the comparison of the served with the trained model."""

    images: list[bytes]  # encoded, of train
    trained: np.ndarray  # probabilities that the trained model gives for them, float32 [N, C]
    #: Their stored features in blocks, float16 [N, D] each; none for a network trained on images.
    stored: Sequence[np.ndarray] = ()
    #: Those that the trained network computes in the precision of the stored ones, [N, D], where
    #: those that it computes when it is served differ by more than rounding usually gives.
    rounded: np.ndarray | None = None
    #: Whether an earlier run has stored some of them.
    were_stored: bool = False


def parity_samples(uri: str) -> Samples:
    """Read the samples of a ModelRun artifact from its URI."""
    images = []
    trained = []
    vectors: dict[str, list[list[np.ndarray]]] = {
        names.STORED_FEATURES: [],
        names.ROUNDED_FEATURES: [],
    }
    were_stored = False
    for record in records.read_records(f"{uri}/{names.PARITY_FILE}"):
        example = tf.train.Example.FromString(record)
        images.append(records.raw(example, names.IMAGE_BYTES))
        trained.append(records.floats(example, names.PROBABILITIES))
        feature = example.features.feature
        for name, rows in vectors.items():
            rows.append([np.frombuffer(block, "<f2") for block in feature[name].bytes_list.value])
        were_stored |= any(feature[names.STORED_BEFORE].int64_list.value)
    stored, rounded = (
        [np.stack(block) for block in zip(*rows, strict=True)] for rows in vectors.values()
    )
    in_precision = rounded[0] if rounded else None
    return Samples(images, np.asarray(trained, np.float32), stored, in_precision, were_stored)


def _answered(client: Client, images: list[bytes], output: str, signature: str = "") -> np.ndarray:
    """Return an output of a signature for all images, [N, …]."""
    rows = [
        client.predict({names.IMAGE_BYTES: images[part]}, signature).outputs[output]
        for part in chunks([len(image) for image in images])
    ]
    return np.concatenate(rows)


def _agrees(client: Client, images: list[bytes], expected: np.ndarray) -> str:
    served = _answered(client, images, names.PROBABILITIES)
    if served.shape != expected.shape:
        raise ValueError(f"expected probabilities {expected.shape}, received {served.shape}")
    worst = float(np.abs(served - expected).max())
    if not worst <= PARITY:  # also true for NaN
        raise ValueError(f"probabilities differ by {worst:.2g}; at most {PARITY:.0e} is allowed")
    return f"{len(images)} images, largest difference {worst:.1e}"


def _computes_stored(client: Client, samples: Samples) -> str:
    """Compare the features that the model computes with the stored ones of its head.

    A head was trained on stored features, and where folds judge, its accuracy is that on them. If
    they are not those that the served network computes, that accuracy says nothing about it. A
    network that was trained on images is judged by them and is not compared.

    Features and not answers are compared, because a head whose features tell the classes badly
    answers otherwise for those that are only rounded. Where rounding gives more than usually, the
    network computed them in the precision of the stored ones, too.
    """
    if not samples.stored:
        return "the network was not trained on stored features"
    served = _answered(client, samples.images, names.FEATURES, FEATURE_VECTORS)
    size = sum(block.shape[1] for block in samples.stored)
    if served.shape[1:] != (size,):
        raise ValueError(f"expected {size} features, received {list(served.shape[1:])}")
    share = difference(served, samples.stored)
    if not share <= LARGEST and samples.rounded is not None:
        share = difference(samples.rounded.astype(np.float32), samples.stored)
    if not share <= LARGEST:  # also true for NaN
        remedy = (
            " Delete the folder of stored features (bank in the output folder, or bank.store) and "
            "run again with --from FeatureBank"
        )
        raise ValueError(
            f"on {len(samples.images)} images that it has learned from, the model computes "
            f"features that differ by {share:.1%} from the stored ones by which it was judged; "
            f"rounding gives less than {LARGEST:.0%}.{remedy if samples.were_stored else ''}"
        )
    return f"{len(samples.images)} images, features differ by {share:.1%}"


def _one_by_one(client: Client, images: list[bytes]) -> str:
    labels = [client.classify([image])[0].label for image in images]
    return f"{len(labels)} single requests: {', '.join(sorted(set(labels)))}"


def _refuses_garbage(client: Client) -> str:
    try:
        client.predict({names.IMAGE_BYTES: [GARBAGE]})
    except ServingError as error:
        if error.code in _SHORTAGES:
            raise
        if error.code != "INVALID_ARGUMENT":
            raise ValueError(f"expected INVALID_ARGUMENT, received {error.code}: {error}") from None
        return f"INVALID_ARGUMENT: {error}"
    raise ValueError("expected INVALID_ARGUMENT, received an answer")


def _require_resources(error: Exception) -> None:
    """Raise ResourceError for an error that says nothing about the model.

    As a result of the check, it would be taken from the cache in every later run.
    """
    code = error.code.name if isinstance(error, StatusError) else getattr(error, "code", "")
    if process.lacking(error) or code in _SHORTAGES:
        raise ResourceError(
            f"the serving check could not be finished ({type(error).__name__}: {error}). Close "
            "other programs, free disk space or use a larger machine, and run again."
        ) from error


def validate(
    model_directory: str,
    samples: Samples,
    loaded: Callable[[Runtime], object] | None = None,
) -> list[ServingCheck]:
    """Serve a SavedModel on the loopback interface and check its answers to some samples.

    For `loaded` see `ModelServer`. Returns the results in order, up to and including the first
    check that failed. Raises ResourceError if memory, disk space or time did not suffice for a
    check.
    """
    # An image that training accepts may exceed the default limits, which protect a server from
    # strangers.
    settings = ServerSettings(
        port=0,
        rest_api_port=0,
        file_system_poll_wait_seconds=0.2,
        max_image_pixels=0,
        max_body_bytes=_ANY_BYTES,
        max_bytes_in_flight=_ANY_BYTES,
    )
    server = ModelServer(NAME, model_directory, settings, loaded=loaded)
    port = server.start()
    try:
        return list(_checks(server, port, samples))
    finally:
        server.stop(grace=1.0)


def _checks(server: ModelServer, port: int, samples: Samples) -> Iterator[ServingCheck]:
    images = samples.images

    def load() -> str:
        start = time.monotonic()
        server.wait_until_available(LOAD_SECONDS)
        return f"loaded and warmed up in {time.monotonic() - start:.1f} s"

    with Client(f"127.0.0.1:{port}", model=NAME) as client:
        steps: list[tuple[str, Callable[[], str]]] = [
            ("loads in the session loader and replays its warm-up", load),
            ("answers as the trained model", lambda: _agrees(client, images, samples.trained)),
            ("computes the stored features", lambda: _computes_stored(client, samples)),
            ("answers single images", lambda: _one_by_one(client, images[:_FEW])),
            ("rejects invalid input", lambda: _refuses_garbage(client)),
            (
                "still answers after invalid input",
                lambda: _agrees(client, images[:_FEW], samples.trained[:_FEW]),
            ),
        ]
        for name, act in steps:
            try:
                check = ServingCheck(name=name, passed=True, detail=act())
            except Exception as error:  # any other error is a result about the model
                _require_resources(error)
                detail = f"{type(error).__name__}: {error}"[:500]
                check = ServingCheck(name=name, passed=False, detail=detail)
            yield check
            if not check["passed"]:
                return


@component
def ServingValidator(
    model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    blessing: OutputArtifact[InfraBlessing],
    settings: Parameter[str] = "{}",
) -> None:
    """Serve the exported model, check its answers and write the blessing.

    Args:
        model: Exported model of ImageTrainer.
        model_run: ModelRun of ImageTrainer, which holds answers of the trained model.
        blessing: Output: INFRA_BLESSED or INFRA_NOT_BLESSED, `validation.json`, and
            `validated.json` with the digests of the loaded files, which ModelPusher compares.
        settings: The fingerprint of the code, which is part of the key of TFX's cache; see
            `imgpipe.models.settings.given`.
    """
    local_path(model.uri, "ServingValidator")
    samples = parity_samples(model_run.uri)
    directory = path_utils.serving_model_path(model.uri)
    # The digests are taken before the checks, so that ModelPusher notices a file changed later.
    files = manifest.describe(Path(directory))
    checks = validate(directory, samples, kept_model.keep(files))
    passed = all(check["passed"] for check in checks)
    if not passed:
        kept_model.drop()
    records.write_json(f"{blessing.uri}/{artifacts.VALIDATED}", files)
    records.write_json(f"{blessing.uri}/{artifacts.VALIDATION}", checks)
    # TFX's own Pusher reads the marker file as well.
    marker = artifacts.INFRA_BLESSED if passed else artifacts.INFRA_NOT_BLESSED
    artifacts.mark(blessing.uri, marker)
    blessing.set_int_custom_property("blessed", int(passed))
