"""Requests equal those of the official stubs byte for byte, and what is read out of replies."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from imgpipe.serving.client import channel, messages
from imgpipe.serving.client.errors import InvalidArgument, ServingError
from imgpipe.serving.client.messages import Prediction
from tests.conftest import REPOSITORY
from tests.serving.quick import ask


@pytest.mark.parametrize("version", [None, 0, 7, 1_790_000_000])
@pytest.mark.parametrize(
    ("inputs", "signature_name", "output_filter"),
    [
        ({"image_bytes": [b"\xff\xd8 a", b"b"]}, "", ()),
        ({"pixels": np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)}, "serving_pixels", ()),
        ({"b": np.float32([[1, 2]]), "a": np.int64(3), "c": ["x"]}, "pair", ("y", "x")),
        ({}, "", ()),
    ],
)
def test_predict_requests_equal_those_of_the_official_stubs(
    version, inputs, signature_name, output_filter
):
    ours = messages.predict_request("imgpipe", inputs, signature_name, output_filter, version)
    theirs = ask(signature_name, "imgpipe", output_filter, version, **inputs)
    assert ours.SerializeToString(deterministic=True) == theirs.SerializeToString(
        deterministic=True
    )


def test_a_malformed_output_raises_a_serving_error():
    reply = channel.PredictResponse()
    reply.outputs["y"].dtype = 99
    with pytest.raises(ServingError, match="output 'y' is malformed: dtype 99"):
        messages.prediction(reply)


def test_classifications_are_sorted_and_limited_to_top():
    answer = Prediction(
        {
            "classes": np.array([[b"a", "b", "ü".encode()]] * 2, object),
            "probabilities": np.float32([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0]]),
        },
        "m",
        9,
        "serving_default",
    )
    first, second = messages.classifications(answer, 2, top=2, unsure_below=0.0)
    assert (first.label, first.version) == ("b", 9)
    assert [name for name, _ in first.top] == ["b", "ü"]
    assert second.label == "a"  # of equal probabilities the first in the vocabulary wins


def test_an_answer_may_say_that_an_image_is_unlike_and_that_it_is_unsure():
    outputs = {
        "classes": np.array([[b"a", b"b"]] * 2, object),
        "probabilities": np.float32([[0.4, 0.6], [0.1, 0.9]]),
    }
    plain = messages.classifications(Prediction(outputs, "m", 9, ""), 2, 1, 0.0)
    assert [(one.unlike, one.unsure) for one in plain] == [(None, False)] * 2
    outputs["unlike"] = np.array([False, True])
    marked = messages.classifications(Prediction(outputs, "m", 9, ""), 2, 1, 0.81)
    assert [(one.label, one.unlike, one.unsure) for one in marked] == [
        ("b", False, True),
        ("b", True, False),
    ]


@pytest.mark.parametrize(
    "outputs",
    [
        {"y": np.zeros((1, 2))},
        {"classes": np.array([[b"a"]], object), "probabilities": np.zeros((1, 2))},
        {"classes": np.array([b"a"], object), "probabilities": np.zeros(1)},
        {"classes": np.array([[b"a"]] * 3, object), "probabilities": np.zeros((3, 1))},
    ],
)
def test_outputs_that_are_not_classifications_are_refused(outputs):
    with pytest.raises(InvalidArgument, match="expected"):
        messages.classifications(Prediction(outputs, "m", 1, "serving_default"), 1, 5, 0.0)


def test_the_checked_in_descriptors_are_those_of_the_locked_packages():
    program = runpy.run_path(str(REPOSITORY / "packaging" / "client_protos.py"))
    file = Path(channel.__file__).with_name("protos.binpb")
    assert file.read_bytes() == program["descriptor_set"](), (
        "stale: run python packaging/client_protos.py serving/client/protos.binpb"
    )
