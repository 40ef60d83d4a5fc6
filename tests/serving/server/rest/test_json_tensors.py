"""JSON is read to arrays: cases of upstream's util/json_tensor_test.cc, and our own limits."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from imgpipe.serving.server.rest import json_text
from imgpipe.serving.server.rest.json_tensors import read_predict
from imgpipe.serving.server.status import Code, StatusError

NUMBERS = {
    "float": 1,
    "double": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": 7,
    "complex64": 8,
    "int64": 9,
    "bool": 10,
    "bfloat16": 14,
    "half": 19,
    "uint32": 22,
    "uint64": 23,
    "resource": 20,
}


def take(document, **dtypes: str):
    """Read a predict request; the keywords are the inputs of the signature and their types."""
    text = document if isinstance(document, str) else json.dumps(document)
    infos = {name: SimpleNamespace(dtype=NUMBERS[dtype]) for name, dtype in dtypes.items()}
    return read_predict(json_text.read(text.encode()), infos, "")


def refused(document, **dtypes: str) -> str:
    """Return the message with which ``take`` refuses a document."""
    with pytest.raises(StatusError) as error:  # noqa: PT011 - the caller checks the message
        take(document, **dtypes)
    assert error.value.code == Code.INVALID_ARGUMENT
    return error.value.message


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("float", [1, 2.0, 3, 5.003, 0.007, 0.0, 16777215, -3.4028234663852886e38]),
        ("double", [1.0, 2, 0.662, 9007199254740991, 1e308]),
        ("half", [1, 0.5, 2047, 65504.0]),
        ("int32", [1, -2147483648, 2147483647]),
        ("uint8", [0, 255]),
        ("int8", [-128, 127]),
        ("int16", [-32768]),
        ("int64", [-(2**63), 2**63 - 1]),
        ("uint32", [2**32 - 1]),
        ("uint64", [2**64 - 1]),
        ("bool", [True, False]),
    ],
)
@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_numbers_of_every_type(dtype, values, key):
    form, found = take({key: values}, x=dtype)
    assert form == ("row" if key == "instances" else "columnar")
    expected = np.array(values, np.float16 if dtype == "half" else dtype.replace("float", "f4"))
    if dtype == "double":
        expected = np.array(values, np.float64)
    assert found["x"].dtype == expected.dtype
    np.testing.assert_array_equal(found["x"], expected)


def test_nan_and_infinity():
    _, found = take('{"inputs": [NaN, Infinity, -Infinity, 1]}', x="float")
    np.testing.assert_array_equal(found["x"], np.float32([np.nan, np.inf, -np.inf, 1]))
    _, found = take('{"inputs": [1.5, NaN]}', x="bfloat16")
    assert found["x"].dtype.name == "bfloat16" and float(found["x"][0]) == 1.5


@pytest.mark.parametrize(
    ("instances", "shape"),
    [
        ([1, 2, 3], (3,)),
        ([[1, 2], [3, 4], [5, 6]], (3, 2)),
        ([[[1]], [[2]]], (2, 1, 1)),
        ([{"x": [[1, 2], [3, 4]]}], (1, 2, 2)),
        ([{"x": 5}, {"x": 6}], (2,)),
        ([[], []], (2, 0)),
    ],
)
def test_instances_give_the_expected_shape(instances, shape):
    _, found = take({"instances": instances}, x="int32")
    assert found["x"].shape == shape


def test_base64_is_decoded_at_every_level():
    hello, world = {"b64": "aGVsbG8="}, {"b64": "d29ybGQ"}  # with and without padding
    for instances, shape in (
        ([hello, world], (2,)),
        ([[hello], [world]], (2, 1)),
        ([{"x": [[hello], [world]]}], (1, 2, 1)),
        ([hello, "world"], (2,)),
    ):
        _, found = take({"instances": instances}, x="string")
        assert found["x"].shape == shape
        assert found["x"].reshape(-1).tolist() == [b"hello", b"world"]
    _, found = take({"inputs": hello}, x="string")
    assert found["x"].shape == () and found["x"].item() == b"hello"
    _, found = take({"inputs": {"x": {"b64": "_-8="}}}, x="string")
    assert found["x"].item() == b"\xff\xef"


def test_several_inputs_by_row_and_by_column():
    rows = [
        {"i": [[1, 2], [3, 4]], "s": ["foo", "bar"], "f": [1.0, 2]},
        {"i": [[7, 8], [9, 0]], "s": ["baz", "ü"], "f": [2.0, 3]},
    ]
    dtypes = {"i": "int32", "s": "string", "f": "float"}
    _, by_row = take({"instances": rows}, **dtypes)
    columns = {name: [row[name] for row in rows] for name in dtypes}
    _, by_column = take({"inputs": columns | {"unknown": 1}}, **dtypes)
    assert by_row["i"].shape == (2, 2, 2)
    assert by_row["s"].tolist() == [[b"foo", b"bar"], [b"baz", "ü".encode()]]
    for name in dtypes:
        np.testing.assert_array_equal(by_row[name], by_column[name])


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (
            {"instances": [1], "inputs": [1]},
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        ({"signature_name": "x"}, "Missing 'inputs' or 'instances' key"),
        ({"instances": 5}, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        (
            {"instances": [[1, 2], [3, 4], [5, 6, 7]]},
            "Failed to process element: 2 of 'instances' list. Error: INVALID_ARGUMENT: "
            "Expecting tensor size: 2 but got: 3",
        ),
        ({"instances": [[1, 2], [3, 4], [[5, 6]]]}, "Expecting shape [2] but got: [1,2]"),
        ({"instances": [1, [1]]}, "Expecting shape [] but got: [1]"),
        (
            {"instances": [[1, 2], ["a", "b"]]},
            'JSON Value: "a" Type: String is not of expected type: int32',
        ),
        ({"instances": [1.5]}, "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        ({"instances": [None]}, "JSON Value: null Type: Null is not of expected type: int32"),
        ({"instances": [True]}, "JSON Value: true Type: True is not of expected type: int32"),
        ({"instances": [2**31]}, "Type: Number is not of expected type: int32"),
        ({"instances": [{"b64": "aGk="}]}, "Type: Object is not of expected type: int32"),
        ({"instances": [[1, [2]]]}, "Encountered list at unexpected level: 1 expected < 1"),
        (
            {"instances": [[[1], 2]]},
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            {"inputs": [[1, 2], [3]]},
            "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
        ),
        ({"instances": [1, {"x": 1}]}, "Expecting value/list but got object at item 1 of input"),
        ({"instances": [{"x": 1}, 1]}, "Expecting object but got list at item 1 of input list"),
        (
            {"instances": [{"y": 1}]},
            "Failed to process element: 0 key: y of 'instances' list. Error: INVALID_ARGUMENT: "
            "JSON object: does not have named input: y",
        ),
        (
            {"instances": [{"x": 1}, {}]},
            "Failed to process element: 1 of 'instances' list. JSON object: {} keys must be "
            "equal to: x",
        ),
        ('{"instances": [{"x": 1, "x": 2}]}', "keys must be equal to: x"),
        ({"inputs": {"y": 1}}, "Missing named input: x in 'inputs' object."),
    ],
)
def test_documents_that_do_not_fit_the_signature_are_refused(document, words):
    assert words in refused(document, x="int32")


@pytest.mark.parametrize(
    ("dtype", "text", "stored"),
    [
        ("float", "1435774380", 1435774336.0),  # FloatTensorWithPrecisionLoss of upstream
        ("float", "1435774380.0", 1435774336.0),
        ("float", "16777217", 16777216.0),
        ("double", "9007199254740993", 9007199254740992.0),
        ("half", "2049", 2048.0),
        ("bfloat16", "257", 256.0),
    ],
)
def test_numbers_become_the_nearest_value_of_their_type(dtype, text, stored):
    for document in (f'{{"instances": [{text}]}}', f'{{"inputs": [1.5, {text}]}}'):
        _, found = take(document, x=dtype)
        assert float(found["x"][-1]) == stored


@pytest.mark.parametrize(
    ("dtype", "text", "words"),
    [
        ("float", "1e39", "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ("float", "1" + "0" * 39, "to float without loss of precision."),
        ("half", "65505.0", "to half without loss of precision."),
        ("float", "1e400", "Number too big to be stored in double."),
        ("double", "1" + "0" * 400, "Number too big to be stored in double."),
        ("uint8", "256", "is not of expected type: uint8"),
        ("uint64", "-1", "is not of expected type: uint64"),
        ("int64", "9223372036854775808", "is not of expected type: int64"),
        ("bool", "1", "is not of expected type: bool"),
        ("string", "5", "JSON Value: 5 Type: Number is not of expected type: string"),
        ("string", '{"b64": 5}', "does not have named input: b64"),
        ("string", '[{"b64": 5}]', '{"b64": 5} not formatted correctly for base64 data'),
        ("string", '{"b64": "a"}', "Unable to base64 decode"),
        ("string", '{"b64": "a*b="}', "Unable to base64 decode"),
        ("string", '"\\ud800"', "The surrogate pair in string is invalid."),
    ],
)
def test_values_outside_the_range_of_their_type_are_refused(dtype, text, words):
    assert words in refused(f'{{"instances": [{text}]}}', x=dtype)


def test_several_inputs_need_names():
    two = {"a": "int32", "b": "int32"}
    assert "instances is a plain list, but expecting" in refused({"instances": [1]}, **two)
    assert "inputs is a plain value/list, but expecting" in refused({"inputs": [1]}, **two)
    assert "Missing named input: b" in refused({"inputs": {"a": 1}}, **two)
    assert "keys must be equal to: a,b" in refused({"instances": [{"a": 1}]}, **two)


def test_types_that_json_cannot_represent_are_unimplemented():
    for dtype in ("complex64", "resource"):
        with pytest.raises(StatusError, match="JSON Value to type: ") as error:
            take({"instances": [1]}, x=dtype)
        assert error.value.code == Code.UNIMPLEMENTED


def test_signatures_without_inputs_are_refused():
    assert refused({"instances": [1]}) == "Failed to get input map for signature: DEFAULT"


@pytest.mark.parametrize(("dtype", "value"), [("int32", 1), ("string", "x")])
def test_tensors_of_more_than_32_dimensions_are_refused(dtype, value):
    for _ in range(32):
        value = [value]
    for key in ("inputs", "instances"):
        assert take({key: value}, x=dtype)[1]["x"].ndim == 32
        assert "at most 32 dimensions" in refused({key: [value]}, x=dtype)
