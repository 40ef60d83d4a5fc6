"""The Python client gets the same answers over REST as over gRPC."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.serving.client import Client, InvalidArgument, NotFound


@pytest.fixture(scope="module", params=["grpc", "rest"])
def target(request, rest) -> str:
    """Return the target for gRPC or for REST."""
    return rest.server.target if request.param == "grpc" else rest.server.rest_target


def test_predict(target):
    with Client(target, "half") as client:
        answer = client.predict({"x": np.float32([1, 0.1, np.nan, -np.inf])})
        expected = np.float32([2.5, 2.05, np.nan, -np.inf])
        np.testing.assert_array_equal(answer.outputs["y"], expected)
        assert (answer.version, answer.signature_name) == (123, "serving_default")
        assert answer.outputs["y"].dtype == np.float32
        pair = client.predict({"a": np.float32([1, 2]), "b": np.int64([3, 2**40])}, "pair")
        assert pair.outputs["count"].item() == 2
        np.testing.assert_array_equal(pair.outputs["sum"], np.float32([4, 2 + 2**40]))
        (only,) = client.predict({"x": np.float32([1])}, output_filter=["y"]).outputs
        assert only == "y"


def test_classify_returns_the_labels_of_images(target, make_image):
    with Client(target, "imgpipe") as client:
        found = client.classify([make_image(1), make_image(2, "PNG"), make_image(3)])
    assert [image.version for image in found] == [7] * 3
    assert {image.label for image in found} <= {"paper", "rock", "scissors"}
    assert all(0 < image.probability <= 1 for image in found)


def test_images_that_are_large_together_are_divided_among_requests(target, make_image):
    large = make_image(1) + bytes(1 << 20)  # decoders ignore what follows an image
    with Client(target, "imgpipe") as client:
        assert len(client.classify([large] * 28)) == 28


def test_grpc_and_rest_answer_the_same_for_an_image(rest, make_image):
    answers = []
    for target in (rest.server.target, rest.server.rest_target):
        with Client(target, "imgpipe") as client:
            answers.append(client.predict({"image_bytes": [make_image(4)]}).outputs)
    for name, value in answers[0].items():
        np.testing.assert_array_equal(value, answers[1][name])


def test_status_metadata_and_errors(target):
    with Client(target, "half", timeout=20.0) as client:
        (line,) = client.status()
        assert (line.version, line.state) == (123, "AVAILABLE")
        assert client.wait_until_available() == 123
        metadata = client.metadata()
        assert metadata.version == 123
        assert metadata.signatures["serving_default"].inputs["x"].dtype == "float"
        with pytest.raises(InvalidArgument, match="alias not found in signature: z"):
            client.predict({"x": [1.0]}, output_filter=["z"])
    with Client(target, "nope") as client, pytest.raises(NotFound, match="of model nope"):
        client.status()
    with (
        Client(target, "half", version=9) as client,
        pytest.raises(NotFound, match=r"Specific\(half, 9\)|version 9"),
    ):
        client.predict({"x": [1.0]})
