"""Fixtures that write small SavedModels and start real servers on free loopback ports."""

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline import small_version
from tests.serving.quick import Rest, ask, running

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

CLASSES = ("paper", "rock", "scissors")


def write_half_plus_two(directory: Path, offset: float = 2.0) -> Path:
    """Write the classic half_plus_two: y = x / 2 + `offset`, for x of shape [None].

    Its signature `pair` has two inputs and three outputs; `slow` computes for a given number of
    seconds.
    """
    import tensorflow as tf

    class HalfPlus(tf.Module):
        def __init__(self) -> None:
            self.half = tf.Variable(0.5)
            self.offset = tf.Variable(offset)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def predict(self, x):
            return {"y": x * self.half + self.offset}

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, name="a"),
                tf.TensorSpec([None], tf.int64, name="b"),
            ]
        )
        def pair(self, a, b):
            return {"sum": a + tf.cast(b, tf.float32), "count": tf.size(a), "same": tf.identity(a)}

        # It computes instead of sleeping, as a model does.
        @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="seconds")])
        def slow(self, seconds):
            end = tf.timestamp() + tf.cast(seconds, tf.float64)
            (m,) = tf.while_loop(
                lambda _: tf.timestamp() < end,
                lambda m: (tf.linalg.matmul(m, m),),
                [tf.ones([256, 256]) * self.half / 128.0],
            )
            return {"done": tf.reduce_sum(m)}

    module = HalfPlus()
    tf.saved_model.save(
        module,
        str(directory),
        signatures={"serving_default": module.predict, "pair": module.pair, "slow": module.slow},
    )
    return directory


def write_unservable(directory: Path) -> Path:
    """Write a Keras 3 model by `tf.saved_model.save`, which TensorFlow Serving cannot run."""
    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serve(x):
        return {"y": model(x)}

    tf.saved_model.save(model, str(directory), signatures={"serving_default": serve})
    return directory


def write_warm_up(directory: Path, **inputs: Any) -> None:
    """Add two warm-up requests to a SavedModel."""
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    extra = directory / "assets.extra"
    extra.mkdir(exist_ok=True)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(ask(model="any", **inputs))
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for _ in range(2):
            writer.write(log.SerializeToString())


_WRITERS: dict[str, Callable[[Path], Path]] = {
    "half_plus_two": write_half_plus_two,
    "half_plus_three": functools.partial(write_half_plus_two, offset=3.0),
    "images": functools.partial(small_version.write, classes=CLASSES),
    "unservable": write_unservable,
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the folder of a SavedModel to copy, which is written once."""
    root = tmp_path_factory.mktemp("models")
    return functools.cache(lambda name: _WRITERS[name](root / name))


@pytest.fixture
def push(models: Callable[[str], Path]) -> Callable[[str, Path, int], Path]:
    """Return a function that publishes a ready model as a version, atomically like the Pusher."""

    def do(name: str, base: Path, version: int) -> Path:
        base.mkdir(parents=True, exist_ok=True)
        beside = base / f".tmp-{version}"
        shutil.copytree(models(name), beside)
        return beside.rename(base / str(version))

    return do


@pytest.fixture(scope="session")
def rest(models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """Serve half_plus_two as version 123 of the model `half`, over gRPC and REST."""
    base = tmp_path_factory.mktemp("half")
    shutil.copytree(models("half_plus_two"), base / "123")
    with running(base, "half", rest_api_port=-1) as server:
        yield Rest(server)


@pytest.fixture(scope="session")
def half(rest: Rest) -> str:
    """Return `host:port` of the gRPC interface of half_plus_two."""
    return rest.server.target


@pytest.fixture(scope="session")
def classifier(
    models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rest]:
    """Serve the image classifier as version 7 of the model `imgpipe`, over gRPC and REST."""
    base = tmp_path_factory.mktemp("images")
    shutil.copytree(models("images"), base / "7")
    with running(base, "imgpipe", rest_api_port=-1) as server:
        yield Rest(server)


@pytest.fixture(scope="session")
def images(classifier: Rest) -> str:
    """Return `host:port` of the gRPC interface of the image classifier."""
    return classifier.server.target


@pytest.fixture
def serve(push: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Rest]]:
    """Return a function that serves half_plus_two as version 3 of `half`, with settings."""
    with contextlib.ExitStack() as stack:

        def start(**changes: Any) -> Rest:
            push("half_plus_two", tmp_path / "half", 3)
            settings = {"rest_api_port": -1} | changes
            return Rest(stack.enter_context(running(tmp_path / "half", "half", **settings)))

        yield start


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files.

    `ca` is a certificate authority. `server` and `client` are pairs of a certificate, which
    this authority issued, and its key. `stranger` is the certificate of another authority.
    """

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]
    stranger: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Create the certificates anew, because a private key in the repository is not secret."""
    folder = tmp_path_factory.mktemp("certificates")
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    def new(name: str, kind: str) -> tuple[str, ...]:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        return (*key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.{kind}")

    for name in ("ca", "stranger"):
        usage = "keyUsage=critical,keyCertSign"  # Python 3.13 accepts no other authority
        openssl("req", "-x509", *new(name, "pem"), "-days", "2", "-addext", usage)
    identifier = "authorityKeyIdentifier=keyid"  # which Python 3.13 wants, too
    (folder / "names").write_text(f"subjectAltName=DNS:localhost,IP:127.0.0.1\n{identifier}\n")
    for name in ("server", "client"):
        openssl("req", *new(name, "csr"))
        signer = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        files = ("-in", f"{name}.csr", "-extfile", "names", "-out", f"{name}.pem")
        openssl("x509", "-req", *signer, *files)
    server, client = ((folder / f"{n}.pem", folder / f"{n}.key") for n in ("server", "client"))
    return Certificates(folder / "ca.pem", server, client, folder / "stranger.pem")
