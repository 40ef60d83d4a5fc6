"""JSON is read to tf.Examples; the cases are those of upstream's util/json_tensor_test.cc."""

from __future__ import annotations

import json
import re

import pytest
from tensorflow_serving.apis import input_pb2

from imgpipe.serving.server.rest import json_text
from imgpipe.serving.server.rest.json_examples import fill_examples, read_signature
from imgpipe.serving.server.status import StatusError


def fill(document) -> input_pb2.Input:
    """Return the Input that is read from a JSON document."""
    text = document if isinstance(document, str) else json.dumps(document)
    made = input_pb2.Input()
    fill_examples(json_text.read(text.encode()), made)
    return made


def test_features_of_every_type():
    made = fill(
        '{"examples": [{"s": ["foo", {"b64": "aGk="}], "i": [1, true, -5], "f": [1.5, NaN], '
        '"one": 7, "none": []}, {}], "unknown": 1}'
    )
    first, second = made.example_list.examples
    features = first.features.feature
    assert list(features["s"].bytes_list.value) == [b"foo", b"hi"]
    assert list(features["i"].int64_list.value) == [1, 1, -5]
    assert features["f"].float_list.value[0] == 1.5
    assert list(features["one"].int64_list.value) == [7]
    assert features["none"].WhichOneof("kind") is None
    assert not second.features.feature


def test_the_context_is_read():
    made = fill({"context": {"c": "x"}, "examples": [{"a": 1.0}]}).example_list_with_context
    assert list(made.context.features.feature["c"].bytes_list.value) == [b"x"]
    assert list(made.examples[0].features.feature["a"].float_list.value) == [1.0]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 5}, "Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ({"context": [], "examples": [{}]}, "Example must be JSON object but got JSON Array"),
        ({"examples": [{"a": [1, 2.5]}]}, "in feature: a expecting type: int64"),
        ({"examples": [{"a": [2.5, "x"]}]}, "in feature: a expecting type: float"),
        ({"examples": [{"a": ["x", 1]}]}, "in feature: a expecting type: bytes"),
        ({"examples": [{"a": None}]}, "Feature: a has element with unexpected JSON type: Null"),
        ({"examples": [{"a": [[1]]}]}, "Feature: a has element with unexpected JSON type: Array"),
        ({"examples": [{"a": {"x": 1}}]}, "has element with unexpected JSON type: Object"),
        ({"examples": [{"a": {"b64": "*"}}]}, "Unable to base64 decode"),
        ({"examples": [{"a": 2**64 - 1}]}, "has uint64 element. Only int64 is supported."),
        ({"examples": [{"a": 1e39}]}, "Cannot convert JSON value: 1e+39 to float without loss"),
        ('{"examples": [{"a": "\\ud800"}]}', "surrogate pair in string is invalid"),
        ('{"examples": [{"\\ud800": 1}]}', "surrogate pair in string is invalid"),
        ('{"examples": [{"a": 1e400}]}', "Number too big"),
    ],
)
def test_invalid_examples_are_refused(document, words):
    with pytest.raises(StatusError, match=re.escape(words)):
        fill(document)


def test_the_signature_name_must_be_a_string():
    assert read_signature({}) == ""
    assert read_signature({"signature_name": "x"}) == "x"
    with pytest.raises(StatusError, match="'signature_name' key must be a string value"):
        read_signature({"signature_name": 5})
