"""Conversion between arrays and TensorProtos equals that of TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from imgpipe.serving import tensors

DTYPES = ["f4", "f8", "i4", "u1", "i2", "i1", "i8", "?", "u2", "f2", "u4", "u8"]


def sample(dtype: str) -> np.ndarray:
    """Return an array of shape [2, 3] with the numbers 0 to 5."""
    return np.arange(6).reshape(2, 3).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", [tensors.fill_typed, tensors.fill_compact])
def test_numeric_arrays_survive_the_round_trip(dtype, fill):
    proto = tensor_pb2.TensorProto()
    fill(proto, sample(dtype))
    back = tensors.to_array(proto)
    assert back.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(back, sample(dtype))
    np.testing.assert_array_equal(back, tf.make_ndarray(proto))


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">i8"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
@pytest.mark.parametrize("fill", [tensors.fill_typed, tensors.fill_compact])
def test_arrays_with_the_most_significant_byte_first_keep_their_values(dtype, shape, fill):
    array = np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    proto = tensor_pb2.TensorProto()
    fill(proto, array)
    np.testing.assert_array_equal(tensors.to_array(proto), array)


@pytest.mark.parametrize(
    "value",
    [
        *[sample(dtype) for dtype in DTYPES],
        *[sample(dtype).ravel()[1] for dtype in DTYPES],
        np.zeros((0, 3), np.float32),
        np.float32([7.0]),
        [1, 2, 3],
        [[1.5, 2.5], [3.5, 4.5]],
        1,
        2.5,
        True,
        [1 << 40],
        "text",
        b"\xff\x00bytes\x00",
        [b"a\x00", "b"],
        [[b"a"], [b"b"]],
        np.array([b"x", b"yy"], object),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', value)}",
)
def test_compact_bytes_equal_make_tensor_proto(value):
    proto = tensor_pb2.TensorProto()
    tensors.fill_compact(proto, value)
    if isinstance(value, list) and isinstance(value[0], bytes):
        value = np.array([value[0], value[1].encode()], object)  # NumPy would drop the zero byte
    assert proto.SerializeToString() == tf.make_tensor_proto(value).SerializeToString()


@pytest.mark.parametrize(
    ("values", "expected"), [([], [0, 0, 0]), ([5], [5, 5, 5]), ([1, 2, 3, 4], [1, 2, 3])]
)
def test_the_last_value_is_repeated_and_surplus_values_are_ignored(values, expected):
    proto = tf.make_tensor_proto(np.zeros(3, np.int32))
    proto.ClearField("tensor_content")
    proto.int_val.extend(values)
    assert tensors.to_array(proto).tolist() == expected


def broken(**fields) -> tensor_pb2.TensorProto:
    """Return a TensorProto with the given fields and shape, which need not fit each other."""
    shape = fields.pop("shape", [2])
    proto = tensor_pb2.TensorProto(**fields)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    ("proto", "words"),
    [
        (broken(dtype=1, tensor_content=b"abc"), "3 bytes"),
        (broken(dtype=7, tensor_content=b"abc"), "string_val"),
        (broken(dtype=1, shape=[-1]), "not one of a tensor"),
        (broken(dtype=1, shape=[1 << 40]), "holds 0"),
        (broken(dtype=1, shape=[1 << 62, 1 << 62]), "holds 0"),
        (broken(dtype=1, shape=[0, 1 << 62]), "not one of a tensor"),
        (broken(dtype=7, shape=[1 << 61, 4, 0]), "not one of a tensor"),
        (broken(dtype=2, shape=[0, 1 << 62], tensor_content=b"abc"), "not one of a tensor"),
        (broken(dtype=7, shape=[1 << 40], string_val=[b"x"]), "holds 1"),
        (broken(dtype=4, shape=[1025, 1]), "holds 0; of a tensor of more than 1,024 values, send"),
        (broken(dtype=99, shape=[1]), "dtype 99"),
        (broken(dtype=0, shape=[1]), "dtype 0"),
        (broken(dtype=14, shape=[1]), "dtype 14"),
        (broken(dtype=4, shape=[1], int_val=[256]), "does not fit"),
        (broken(dtype=1, shape=[1] * 300), "300 dimensions"),
        (broken(dtype=7, shape=[1] * 33, string_val=[b"x"]), "33 dimensions.*at most 32"),
    ],
)
def test_the_error_says_why_a_tensor_is_malformed(proto, words):
    with pytest.raises(tensors.TensorError, match=words):
        tensors.to_array(proto)


def test_the_error_says_why_a_value_cannot_be_a_tensor():
    proto = tensor_pb2.TensorProto()
    with pytest.raises(tensors.TensorError, match="no TensorFlow type"):
        tensors.fill_compact(proto, np.array(["2020-01-01"], "datetime64[D]"))
    with pytest.raises(tensors.TensorError, match="bytes or str only"):
        tensors.fill_compact(proto, [b"x", 3])
    with pytest.raises(tensors.TensorError, match="no TensorFlow type"):
        tensors.fill_compact(proto, np.complex64([1]))
    with pytest.raises(tensors.TensorError, match="differ in length"):
        tensors.fill_compact(proto, [[1.0], [1.0, 2.0]])
