"""A server of an int8 export answers like the SavedModel that it was converted from."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.models.export import litert
from imgpipe.serving.client import Client, InvalidArgument, ServingError
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.core import CoreOptions
from imgpipe.serving.server.requests.handle import Handle
from imgpipe.serving.server.server import ServerOptions
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.server.versions.loader import LoaderOptions, make_loader
from tests.images import encoded
from tests.models.small_export import COLOURS, labelled_images, save

TFLITE = ServerOptions(
    core=CoreOptions(poll_seconds=0.05, tflite=True), loader=LoaderOptions(tflite=True)
)


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """Return a version directory with a SavedModel, model.tflite and the vocabulary."""
    base = tmp_path_factory.mktemp("int8")
    save(base / "1")
    network = litert.load_network(str(base / "1"))
    content = litert.convert(network, litert.INT8, list(labelled_images(30, seed=1)[0]))
    (base / "1" / "model.tflite").write_bytes(content)
    (base / "1" / "assets").mkdir(exist_ok=True)
    (base / "1" / "assets" / "vocabulary.txt").write_text("".join(f"{c}\n" for c in COLOURS))
    return base / "1"


@pytest.fixture(scope="module")
def int8(version):
    """Serve the int8 model and return the target."""
    with ModelServer("m", version.parent, options=TFLITE) as server:
        server.wait_until_available(60)
        yield server.target


def test_labels_and_probabilities_equal_those_of_the_float_model(int8, version):
    pixels, labels = labelled_images(12)
    with (
        ModelServer("m", version.parent) as plain,
        Client(int8, "m") as client,
        Client(plain.target, "m") as reference,
    ):
        plain.wait_until_available(60)
        expected = reference.predict({"pixels": pixels}, "serving_pixels").outputs
        found = client.predict({"pixels": pixels}, "serving_pixels").outputs
        by_bytes = client.predict({"image_bytes": [encoded(one) for one in pixels]})
    np.testing.assert_allclose(found["probabilities"], expected["probabilities"], atol=0.03)
    np.testing.assert_array_equal(found["label"], expected["label"])
    assert by_bytes.signature_name == "serving_default" and by_bytes.version == 1
    for name, value in found.items():
        np.testing.assert_array_equal(by_bytes.outputs[name], value)
    assert [COLOURS.index(name.decode()) for name in found["label"]] == labels.tolist()
    assert found["top_k_classes"].shape == (12, 3)
    assert (np.diff(found["top_k_probabilities"], axis=1) <= 0).all()


def test_the_rows_of_a_model_of_imgpipe_are_limited(version, tmp_path):
    path = tmp_path / "1"
    shutil.copytree(version, path)
    pixels, _ = labelled_images(12)
    inputs = {"pixels": np.tile(pixels, (6, 1, 1, 1))}

    def answers() -> dict[str, np.ndarray]:
        runtime = make_loader(LoaderOptions(tflite=True))(path)
        return Handle("m", 1, runtime).predict(inputs, "serving_pixels").outputs

    whole = answers()
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "model_digest.json").write_text("{}")
    for name, values in answers().items():
        np.testing.assert_array_equal(values, whole[name])
    inputs["pixels"] = np.zeros((16_385, 1, 1, 3), np.uint8)
    with pytest.raises(StatusError, match="16,384 are allowed"):
        answers()


def test_unsure_answers_are_unknown_and_top_k_is_that_of_the_version(version, tmp_path):
    shutil.copytree(version, tmp_path / "1")
    (tmp_path / "1" / "assets.extra").mkdir()
    pixels, _ = labelled_images(12)

    def answers(**facts: float) -> dict[str, np.ndarray]:
        (tmp_path / "1" / "assets.extra" / "model_digest.json").write_text(json.dumps(facts))
        with ModelServer("m", tmp_path, options=TFLITE) as server:
            server.wait_until_available(60)
            with Client(server.target, "m") as client:
                return client.predict({"pixels": pixels}, "serving_pixels").outputs

    sure = answers(unknown_below=0.0)
    highest = sure["probabilities"].max(axis=1)
    threshold = float(np.median(highest))
    found = answers(unknown_below=threshold, top_k=2)
    expected = np.where(highest < threshold, b"unknown", sure["label"])
    assert 0 < (expected == b"unknown").sum() < 12
    assert found["label"].tolist() == expected.tolist()
    assert found["top_k_classes"].shape == (12, 2)


def test_images_of_another_size_are_resized(int8):
    large = np.repeat(np.repeat(labelled_images(2)[0], 3, axis=1), 2, axis=2)
    with Client(int8, "m") as client:
        by_pixels = client.predict({"pixels": large}, "serving_pixels").outputs
        by_bytes = client.predict({"image_bytes": [encoded(one) for one in large]}).outputs
        assert client.classify([encoded(large[0])])[0].label in COLOURS
    np.testing.assert_array_equal(by_pixels["probabilities"], by_bytes["probabilities"])


@pytest.mark.parametrize(
    ("inputs", "signature", "words"),
    [
        ({"image_bytes": [b"garbage"]}, "", "Unknown image file format"),
        ({"image_bytes": np.empty(0, object)}, "", "expected one image or more"),
        ({"image_bytes": np.array(b"x", object)}, "", r"image_bytes of shape \[N\]"),
        ({"image_bytes": np.array([[b"x"]], object)}, "", r"image_bytes of shape \[N\]"),
        ({"pixels": np.zeros((2, 8, 8), np.uint8)}, "serving_pixels", r"of shape \[N, H, W, 3\]"),
        ({"pixels": np.zeros((1, 8, 8, 3), np.float32)}, "serving_pixels", "to be uint8 but float"),
    ],
)
def test_invalid_inputs_are_refused_as_invalid_argument(int8, inputs, signature, words):
    with Client(int8, "m") as client, pytest.raises(InvalidArgument, match=words):
        client.predict(inputs, signature)


def test_many_clients_share_the_interpreters(int8):
    pixels, labels = labelled_images(60)

    def ask(number: int) -> bool:
        with Client(int8, "m") as client:
            return client.classify([encoded(pixels[number])])[0].label == COLOURS[labels[number]]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(60)))


def test_without_the_flag_the_saved_model_is_served(version):
    with ModelServer("m", version.parent) as server, Client(server.target, "m") as client:
        server.wait_until_available(60)
        with pytest.raises(ServingError, match="Signature input alias: pixels"):
            client.predict({"image_bytes": [b"x"]})


def test_a_version_of_model_tflite_alone_is_complete(version, tmp_path):
    (tmp_path / "4").mkdir()
    (tmp_path / "4" / "model.tflite").write_bytes((version / "model.tflite").read_bytes())
    with ModelServer("m", tmp_path, options=TFLITE) as server, Client(server.target, "m") as client:
        assert server.wait_until_available(60) == 4
        # Without a vocabulary it has its own signature and answers with raw uint8 numbers.
        pixels, labels = labelled_images(1)
        answer = client.predict({"pixels": pixels}).outputs["probabilities"]
        assert answer.dtype == np.uint8 and answer.argmax() == labels[0]
