"""JSON of requests and answers: what becomes which array, and what is refused."""

import json
import math
import re

import numpy as np
import pytest

from imgpipe.serving.server.rest import json_tensors
from imgpipe.serving.server.status import StatusError
from tests.serving.quick import b64

NUMBERS = {"float": 1, "int32": 3, "uint8": 4, "string": 7, "int64": 9, "bool": 10}


class Info:
    """The part of a TensorInfo that is read."""

    def __init__(self, kind: str) -> None:
        self.dtype = NUMBERS[kind]


def read(document: object, **kinds: str) -> dict[str, np.ndarray]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    infos = {name: Info(kind) for name, kind in (kinds or {"x": "float"}).items()}
    return json_tensors.read(
        json_tensors.parse(data, "http://localhost:8501/v1/models/m:predict"), infos
    )


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("float", [1, 2.5, -3e4], np.float32([1, 2.5, -3e4])),
        ("float", [[1, 2], [3, 4]], np.float32([[1, 2], [3, 4]])),
        ("float", [[], []], np.zeros((2, 0), np.float32)),
        ("float", 7, np.float32(7)),
        ("int64", [2**53 + 1, -(2**63)], np.int64([2**53 + 1, -(2**63)])),
        ("uint8", [[0, 255]], np.uint8([[0, 255]])),
        ("bool", [True, False], np.array([True, False])),
        (
            "string",
            ["é", b64(b"\xff\x00"), {"b64": "-_ -_"}],
            ["é".encode(), b"\xff\0", b"\xfb\xff\xbf"],
        ),
    ],
)
def test_values_become_arrays_of_the_type_of_the_input(kind, value, expected):
    for document in ({"inputs": value}, {"inputs": {"x": value}, "more": [None]}):
        found = read(document, x=kind)["x"]
        assert found.tolist() == np.array(expected, found.dtype).tolist()
        assert found.shape == np.shape(expected)
    if isinstance(value, list):
        assert read({"instances": value}, x=kind)["x"].tolist() == found.tolist()
        named = [{"x": item} for item in value]
        assert read({"instances": named}, x=kind)["x"].tolist() == found.tolist()


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("float", ["1"]),
        ("float", [True]),
        ("float", [None]),
        ("float", [1e39]),
        ("float", [[1, 2], [3]]),
        ("float", [[1], 2]),
        ("float", [{"b64": "AA=="}]),
        ("float", json.loads("[" * 60 + "]" * 60)),
        ("uint8", [256]),
        ("int32", [1.0]),
        ("int64", [2**63]),
        ("int64", [2**70]),
        ("bool", [1]),
        ("string", json.loads("[" * 40 + "]" * 40)),
        ("string", [1]),
        ("string", [{"b64": "A"}]),
        ("string", [{"b64": 1}]),
        ("string", [["a"], "b"]),
    ],
)
def test_values_that_do_not_fit_the_input_are_refused(kind, value):
    with pytest.raises(StatusError, match=r"^x "):
        read({"inputs": {"x": value}}, x=kind)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "The body is empty, and no JSON"),
        (b"\xff", "a file that begins with the bytes ff, and no JSON"),
        (b'{"instances": [NaN]}', "JSON Parse error"),
        (b'{"instances": [1]} more', "JSON Parse error"),
        (b'{"instances": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "JSON Parse error: depth limit"),
        ([1], "either 'instances' or 'inputs'. Received: neither"),
        ({"instances": [1], "inputs": [1]}, "Received: instances and inputs"),
        ({"instances": []}, "at least one row"),
        ({"instances": {"x": 1}}, "at least one row"),
        ({"instances": [{"x": 1}, 2]}, "Row 1 of 'instances' has other values"),
        ({"instances": [{"y": 1}]}, "Expected values for x. Received: y"),
        ({"inputs": {"x": 1, "y": 2}}, "Expected values for x. Received: x, y"),
        ({"inputs": {}}, "Expected values for x. Received: none"),
        (
            {"inputs": [1], "signature_name": 3},
            "'signature_name' must be a short string. Received: 3",
        ),
    ],
)
def test_bodies_in_another_format_are_refused(body, words):
    with pytest.raises(StatusError, match=re.escape(words)):
        read(body)


def test_several_inputs_have_names():
    kinds = {"a": "float", "b": "int64"}
    for document in (
        {"inputs": {"a": [1, 2], "b": [3, 4]}},
        {"instances": [{"a": 1, "b": 3}, {"b": 4, "a": 2}]},
    ):
        found = read(document, **kinds)
        assert found["a"].tolist() == [1, 2] and found["b"].tolist() == [3, 4]


def test_answers_are_read_back_as_the_same_values():
    outputs = {
        "float": np.float32([0.1, 1e-45]),
        "half": np.float16([0.1, 2]),
        "rows": np.arange(4, dtype=np.int64).reshape(2, 2)[:, ::-1],
        "bool": np.array([True, False]),
        "text": np.array(["é".encode(), b"\xff"], dtype=object),
        "image_bytes": np.array([[b"a"], [b"b"]], dtype=object),
    }
    rows = json.loads(json_tensors.write(outputs, by_row=True))["predictions"]
    columns = json.loads(json_tensors.write(outputs, by_row=False))["outputs"]
    for name, values in columns.items():
        assert values == [row[name] for row in rows]
    for name in ("float", "half", "rows", "bool"):
        assert np.array(columns[name], outputs[name].dtype).tolist() == outputs[name].tolist()
    assert columns["text"] == ["é", {"b64": "/w=="}]
    assert columns["image_bytes"] == [[{"b64": "YQ=="}], [{"b64": "Yg=="}]]
    assert b'"float":[0.1,1e-45]' in json_tensors.write(outputs, by_row=False)


def test_a_single_output_has_no_name_and_no_number_is_infinite():
    outputs = {"y": np.float32([math.nan, math.inf, 1])}
    assert json_tensors.write(outputs, by_row=True) == b'{"predictions":[null,null,1.0]}'
    assert json_tensors.write(outputs, by_row=False) == b'{"outputs":[null,null,1.0]}'
    for scalar, text in ((np.array(b"yes", object), b'"yes"'), (np.array(2), b"2")):
        assert json_tensors.write({"y": scalar}, by_row=False) == b'{"outputs":' + text + b"}"


def test_outputs_without_common_rows_are_only_answered_in_columns():
    for other in (np.float32(1), np.float32([1, 2, 3])):
        outputs = {"a": np.float32([1, 2]), "b": np.asarray(other)}
        with pytest.raises(StatusError, match=r"different numbers of rows\. Ask with 'inputs'"):
            json_tensors.write(outputs, by_row=True)
        assert b'"a":[1.0,2.0]' in json_tensors.write(outputs, by_row=False)
