"""Importing the client or the server package does not import TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from imgpipe.serving.client import channel
from tests import python_program
from tests.conftest import REPOSITORY


def test_the_client_does_not_import_tensorflow():
    names = "('tensorflow', 'tensorflow_serving', 'tfx', 'keras', 'apache_beam', 'ml_dtypes')"
    code = f"import sys, imgpipe.serving.client; print([n for n in {names} if n in sys.modules])"
    assert python_program.printed(code) == "[]\n"


def test_the_server_package_does_not_import_tensorflow_before_use():
    code = (
        "import sys, imgpipe.serving.server.model_server; "
        "from imgpipe.serving.server import settings; settings.flags();"
    )
    assert python_program.printed(code + "print('tensorflow' in sys.modules)") == "False\n"


def test_the_checked_in_descriptors_are_those_of_the_locked_packages(tmp_path):
    program, file = REPOSITORY / "packaging" / "client_protos.py", tmp_path / "protos.binpb"
    subprocess.run([sys.executable, program, file], check=True)
    assert file.read_bytes() == Path(channel.__file__).with_name("protos.binpb").read_bytes(), (
        "stale: run python packaging/client_protos.py serving/client/protos.binpb"
    )
