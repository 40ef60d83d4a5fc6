"""A base path whose name looks like a file pattern is taken literally."""

from __future__ import annotations

import numpy as np
import pytest

from imgpipe.models.export.served_model import Served
from imgpipe.serving.client import Client
from imgpipe.serving.server import ModelServer


@pytest.mark.parametrize("name", ["out*", "out[1]", "a?"])
def test_a_model_in_a_folder_with_wildcards_is_served(push, tmp_path, name):
    push("half_plus_three", tmp_path / "out1", 1)
    push("half_plus_two", tmp_path / name, 1)
    server = ModelServer("half", tmp_path / name, poll_seconds=0.2)
    server.start()
    try:
        server.wait_until_available(60)
        with Client(server.target, "half") as client:
            assert client.predict({"x": np.float32([2])}).outputs["y"].tolist() == [3.0]
    finally:
        server.stop(5)


def test_a_model_in_a_folder_with_wildcards_is_validated(push, tmp_path):
    served = Served(str(push("half_plus_two", tmp_path / "out*", 1)))
    try:
        assert served.run(x=[2.0])["y"].tolist() == [3.0]
    finally:
        served.close()
