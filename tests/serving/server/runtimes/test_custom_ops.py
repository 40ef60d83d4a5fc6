"""A server process with a library of custom operations, and with the profiler."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.serving.client import Client
from imgpipe.serving.server import model_server
from imgpipe.serving.server.errors import BadArgument
from imgpipe.serving.server.runtimes.custom_ops import load_libraries
from tests.ports import free_port

SOURCE = """
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
REGISTER_OP("TripleWithState").Input("x: float").Output("y: float").SetIsStateful();
class Triple : public tensorflow::OpKernel {
 public:
  explicit Triple(tensorflow::OpKernelConstruction* c) : OpKernel(c) {}
  void Compute(tensorflow::OpKernelContext* c) override {
    tensorflow::Tensor* out = nullptr;
    OP_REQUIRES_OK(c, c->allocate_output(0, c->input(0).shape(), &out));
    auto in = c->input(0).flat<float>();
    for (int i = 0; i < in.size(); ++i) out->flat<float>()(i) = 3 * in(i);
  }
};
REGISTER_KERNEL_BUILDER(Name("TripleWithState").Device(tensorflow::DEVICE_CPU), Triple);
"""
EXPORT = """
import sys, tensorflow as tf
library = tf.load_op_library(sys.argv[1])
spec = [tf.TensorSpec([None], tf.float32, name="x")]
module = tf.Module()
module.f = tf.function(lambda x: {"y": library.triple_with_state(x=x)}, input_signature=spec)
tf.saved_model.save(module, sys.argv[2], signatures=module.f)
"""
ENVIRONMENT = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Build a shared library with one stateful operation, which is not in any list."""
    if shutil.which("g++") is None:
        pytest.skip("building a custom operation needs g++")
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("library")
    (folder / "triple.cc").write_text(SOURCE)
    made = folder / "triple.so"
    flags = [*tf.sysconfig.get_compile_flags(), *tf.sysconfig.get_link_flags()]
    command = ["g++", "-std=c++17", "-shared", "-fPIC", "-w", str(folder / "triple.cc"), *flags]
    subprocess.run([*command, "-o", str(made)], check=True, timeout=300)
    return made


@pytest.fixture(scope="module")
def base(library, tmp_path_factory):
    """Return a base path with a model that uses the operation, exported in another process."""
    path = tmp_path_factory.mktemp("triple")
    command = [sys.executable, "-c", EXPORT, str(library), str(path / "1")]
    subprocess.run(command, check=True, timeout=120, env=ENVIRONMENT)
    return path


@pytest.fixture
def launch():
    """Return a function that starts the program.

    It returns the match of a pattern in the first line of the log that matches.
    """
    running = []

    def start(pattern, *flags):
        command = [sys.executable, "-m", "imgpipe.serving.server.model_server", "--port=0", *flags]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        running.append(process)
        lines = []
        for line in process.stderr:
            lines.append(line)
            if match := re.search(pattern, line):
                return match
        raise AssertionError("".join(lines))

    yield start
    for process in running:
        process.kill()
        process.wait(30)
        process.stderr.close()


@pytest.mark.slow
def test_a_model_with_an_operation_of_a_library_is_served(launch, base, library):
    flags = [f"--model_base_path={base}", f"--custom_op_library={library}"]
    target = launch(r"listening on (\S+)", *flags)[1]
    with Client(target, "default", timeout=30) as client:
        client.wait_until_available(timeout=60)
        answer = client.predict({"x": np.float32([2.0])})
    assert answer.outputs["y"].tolist() == [6.0]


@pytest.mark.slow
def test_the_model_fails_to_load_without_the_library(launch, base):
    flags = [f"--model_base_path={base}", "--max_num_load_retries=0"]
    assert "TripleWithState" in launch(r"version 1 failed: (.*)", *flags)[1]


def test_a_library_that_cannot_be_loaded_is_refused(tmp_path, capsys):
    (tmp_path / "no.so").write_text("no library")
    for name in ("no.so", "nope.so"):
        with pytest.raises(BadArgument, match=rf"cannot load: .*Received: {tmp_path / name}"):
            load_libraries([str(tmp_path / name)])
    flags = [f"--model_base_path={tmp_path}", f"--custom_op_library={tmp_path / 'no.so'}"]
    assert model_server.main(["--port=0", *flags]) == 2
    assert "--custom_op_library" in capsys.readouterr().err


def test_the_profiler_answers_on_its_port(launch, push, tmp_path):
    import tensorflow as tf

    push("half_plus_two", tmp_path / "base", 1)
    port = free_port()
    flags = [f"--model_base_path={tmp_path / 'base'}", f"--profiler_port={port}"]
    target = launch(r"listening on (\S+)", *flags)[1]
    with Client(target, "default", timeout=60) as client, ThreadPoolExecutor(1) as pool:
        client.wait_until_available(timeout=60)
        work = pool.submit(client.predict, {"seconds": np.float32(0.9)}, "slow")
        tf.profiler.experimental.client.trace(
            f"grpc://127.0.0.1:{port}", str(tmp_path / "trace"), 300
        )
        work.result()
    assert list((tmp_path / "trace").rglob("*.xplane.pb"))


def test_a_profiler_port_in_use_ends_with_exit_code_5(push, tmp_path, capsys):
    push("half_plus_two", tmp_path / "base", 1)
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        flags = [f"--model_base_path={tmp_path / 'base'}", f"--profiler_port={port}"]
        assert model_server.main(["--port=0", *flags]) == 5
    assert f"Cannot listen on port {port} (profiler)" in capsys.readouterr().err
