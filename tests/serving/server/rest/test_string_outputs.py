"""Outputs of type string, one of them a scalar, over gRPC and REST."""

from __future__ import annotations

import json
import urllib.request

import numpy as np
import pytest

from imgpipe.serving.client import Client
from imgpipe.serving.server import ModelServer
from imgpipe.serving.server.rest.options import RestOptions
from imgpipe.serving.server.server import ServerOptions


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serve a model with a scalar and a vector output of type string."""
    import tensorflow as tf

    base = tmp_path_factory.mktemp("words")
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32, name="x")

    @tf.function(input_signature=[spec])
    def words(x):
        return {"one": tf.constant(b"yes\x00"), "each": tf.strings.as_string(x, precision=1)}

    tf.saved_model.save(module, str(base / "1"), signatures=words)
    with ModelServer("m", base, options=ServerOptions(rest=RestOptions(0))) as running:
        running.wait_until_available(60)
        yield running


@pytest.mark.parametrize("filtered", [(), ("one",)])
def test_a_scalar_string_is_returned_over_grpc(server, filtered):
    with Client(server.target, "m", timeout=20) as client:
        outputs = client.predict({"x": np.float32([1, 2])}, output_filter=filtered).outputs
    assert outputs["one"].shape == () and outputs["one"].item() == b"yes\x00"
    if not filtered:
        assert outputs["each"].tolist() == [b"1.0", b"2.0"]


def test_a_scalar_string_is_returned_over_rest(server):
    body = json.dumps({"inputs": {"x": [1.0]}}).encode()
    url = f"{server.rest_target}/v1/models/m:predict"
    with urllib.request.urlopen(url, body, timeout=20) as answer:
        assert json.load(answer)["outputs"]["one"] in ("yes\x00", {"b64": "eWVzAA=="})
