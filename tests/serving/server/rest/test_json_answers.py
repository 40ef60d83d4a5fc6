"""Outputs are written as JSON.

The tests cover both formats, numbers that must be read back unchanged, strings, and outputs that
JSON cannot represent.
"""

from __future__ import annotations

import base64
import json
import re

import ml_dtypes
import numpy as np
import pytest
from tensorflow_serving.apis import classification_pb2, regression_pb2

from imgpipe.serving.server.rest.json_answers import (
    write_classifications,
    write_error,
    write_predict,
    write_regressions,
)
from imgpipe.serving.server.status import StatusError
from imgpipe.serving.tensors import text_of


def strings(*items: bytes) -> np.ndarray:
    """Return a one-dimensional object array of byte strings."""
    made = np.empty(len(items), object)
    made[:] = items
    return made


ROWS = """{
    "predictions": [[1.0, 2.0], [3.0, 4.0]
    ]
}"""
ROWS_OF_OBJECTS = """{
    "predictions": [
        {
            "y": [1.0, 2.0],
            "z": 5
        },
        {
            "y": [3.0, 4.0],
            "z": 6
        }
    ]
}"""
COLUMN = """{
    "outputs": [
        [
            1.0,
            2.0
        ],
        [
            3.0,
            4.0
        ]
    ]
}"""
COLUMNS = """{
    "outputs": {
        "y": [
            [
                1.0,
                2.0
            ],
            [
                3.0,
                4.0
            ]
        ],
        "z": [
            5,
            6
        ]
    }
}"""
BYTES_ROWS = """{
    "predictions": [{
            "b64": "YQ=="
        }, {
            "b64": "Yg=="
        }
    ]
}"""


def test_one_output_is_a_list_and_several_are_objects():
    """The text equals byte for byte what rapidjson's PrettyWriter writes for TensorFlow Serving."""
    y, z = np.float32([[1, 2], [3, 4]]), np.int64([5, 6])
    assert write_predict({"y": y}, "row") == ROWS
    assert write_predict({"y": y, "z": z}, "row") == ROWS_OF_OBJECTS
    assert write_predict({"y": y}, "columnar") == COLUMN
    assert write_predict({"y": y, "z": z}, "columnar") == COLUMNS
    assert write_predict({"y_bytes": strings(b"a", b"b")}, "row") == BYTES_ROWS
    assert write_predict({"y": np.array(2.5)}, "columnar") == '{\n    "outputs": 2.5\n}'
    assert write_predict({"y": np.zeros((0, 2))}, "row") == '{\n    "predictions": []\n}'


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3), (2, 3, 4), (1, 1, 1, 1), (3, 1, 2)])
@pytest.mark.parametrize("form", ["row", "columnar"])
def test_arrays_of_any_shape_are_written(shape, form):
    array = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    (found,) = json.loads(write_predict({"y": array}, form)).values()
    assert found == array.tolist()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        (0.2, "0.2"),
        (3.0, "3.0"),
        (-0.0, "-0.0"),
        (1 / 3, "0.33333334"),
        (3.1415927, "3.1415927"),
        (9000000.0, "9e+06"),
        (16777216.0, "1.6777216e+07"),
        (1e20, "1e+20"),
        (3e-5, "3e-05"),
        (1e-45, "1e-45"),
        (np.nan, "NaN"),
        (np.inf, "Infinity"),
        (-np.inf, "-Infinity"),
    ],
)
def test_floats_are_written_as_by_tensorflow_serving(value, text):
    assert write_predict({"y": np.float32([value])}, "row") == (
        f'{{\n    "predictions": [{text}\n    ]\n}}'
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_every_float_is_read_back_unchanged(dtype):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 256, (20_000, np.dtype(dtype).itemsize), dtype=np.uint8)
    values = bits.reshape(-1).view(dtype)
    (found,) = json.loads(write_predict({"y": values}, "row")).values()
    with np.errstate(over="ignore", invalid="ignore"):
        back = np.array(found, np.float64).astype(dtype).astype(np.float64)
        np.testing.assert_array_equal(back, values.astype(np.float64))


def test_float32_texts_are_the_shortest():
    values = np.random.default_rng(2).normal(size=5000).astype(np.float32)
    text = write_predict({"y": values}, "row").partition("[")[2].partition("\n")[0]
    for ours, value in zip(text.split(", "), values, strict=True):
        assert float(ours) == float(str(value))
        assert len(ours.strip("-0").replace(".", "")) <= len(str(value).strip("-0")) + 1


def test_strings_that_are_not_utf8_are_written_as_base64():
    texts = strings(b'a"b', "ü\n".encode(), b"\xff\x00")
    whole = json.loads(write_predict({"y": texts}, "row"))["predictions"]
    broken = {"b64": base64.b64encode(b"\xff\x00").decode()}
    assert whole == ['a"b', "ü\n", broken]
    (raw,) = json.loads(write_predict({"y_bytes": strings(b"hi")}, "row"))["predictions"]
    assert raw == {"b64": "aGk="}
    numbers = json.loads(write_predict({"y_bytes": np.int32([1])}, "row"))
    assert numbers == {"predictions": [1]}


def test_booleans_and_large_integers_are_exact():
    outputs = {"a": np.array([True, False]), "b": np.uint64([2**64 - 1, 0])}
    assert json.loads(write_predict(outputs, "columnar"))["outputs"] == {
        "a": [True, False],
        "b": [2**64 - 1, 0],
    }


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.array(1)}, "Tensor name: y has no shape information "),
        (
            {"y": np.zeros(2), "z": np.zeros(3)},
            "Tensor name: z has inconsistent batch size: 3 expecting: 2",
        ),
        ({"y": np.zeros(2, np.complex64)}, "Failed to write JSON value for tensor type: complex64"),
    ],
)
def test_outputs_without_rows_or_json_are_refused(outputs, words):
    with pytest.raises(StatusError, match=f"^{re.escape(words)}$"):
        write_predict(outputs, "row")


def test_labels_that_are_not_utf8_are_base64():
    classified = classification_pb2.ClassificationResult()
    row = classified.classifications.add()
    for label in (text_of(b"\xff\x00"), '{"b64": "x"], ["y"}', "plain"):
        row.classes.add(label=label, score=1)
    assert json.loads(write_classifications(classified)) == {
        "results": [[[{"b64": "/wA="}, 1.0], ['{"b64": "x"], ["y"}', 1.0], ["plain", 1.0]]]
    }


def test_results_of_classify_and_regress_are_written():
    classified = classification_pb2.ClassificationResult()
    for scores in ((0.25, 3), (1e-7,)):
        row = classified.classifications.add()
        for number, score in enumerate(scores):
            row.classes.add(label="ü" * number, score=score)
    assert write_classifications(classified) == (
        '{\n    "results": [[["", 0.25], ["ü", 3.0]], [["", 1e-07]]\n    ]\n}'
    )
    regressed = regression_pb2.RegressionResult()
    for value in (42, 0.1, float("nan")):
        regressed.regressions.add(value=value)
    assert write_regressions(regressed) == '{\n    "results": [42.0, 0.1, NaN]\n}'


def test_errors():
    assert write_error('a "b"\n') == '{\n    "error": "a \\"b\\"\\n"\n}'
