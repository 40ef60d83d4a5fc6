"""Importing the client or the server package does not import TensorFlow."""

from __future__ import annotations

import subprocess
import sys

from imgpipe.serving.tools import client_protos


def run(code: str) -> str:
    """Run code in a new interpreter and return its standard output."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_client_does_not_import_tensorflow():
    names = "('tensorflow', 'tensorflow_serving', 'tfx', 'keras', 'apache_beam', 'ml_dtypes')"
    assert (
        run(f"import sys, imgpipe.serving.client; print([n for n in {names} if n in sys.modules])")
        == "[]"
    )


def test_the_server_package_does_not_import_tensorflow_before_use():
    code = (
        "import sys, imgpipe.serving.server.model_server; "
        "from imgpipe.serving.server import flags; flags.make_parser();"
    )
    assert run(code + "print('tensorflow' in sys.modules)") == "False"


def test_the_client_works_in_one_process_with_tensorflow(half):
    """The client and TensorFlow define the same messages.

    They do not clash, because each has its own descriptor pool.
    """
    import numpy as np
    from tensorflow_serving.apis import predict_pb2

    from imgpipe.serving.client import Client, protos

    assert predict_pb2.PredictRequest is not protos.PredictRequest
    with Client(half, "half") as client:
        assert client.predict({"x": np.float32([2.0])}).outputs["y"].tolist() == [3.0]


def test_the_checked_in_descriptors_are_those_of_the_locked_packages():
    assert client_protos.TARGET.read_bytes() == client_protos.descriptor_set(), (
        "stale: run python -m imgpipe.serving.tools.client_protos"
    )
