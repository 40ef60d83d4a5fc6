"""The program imgpipe-model-server as a process: flags, ports and signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.serving.client import Client, Unavailable
from imgpipe.serving.server import model_server


def launch(*flags: str) -> subprocess.Popen:
    """Start the program and return its process."""
    return subprocess.Popen(
        [sys.executable, "-m", "imgpipe.serving.server.model_server", *flags],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
    )


@pytest.fixture
def program(push, tmp_path):
    """Run the program with the model `half`; yields the process and its target."""
    push("half_plus_two", tmp_path / "base", 1)
    process = launch("--port=0", "--model_name=half", f"--model_base_path={tmp_path / 'base'}")
    try:
        for line in process.stderr:
            if match := re.search(r"listening on (\S+)", line):
                yield process, match[1]
                break
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "--model_base_path"),
        (["--model_base_path=/m", "--prot=1"], "unknown flags: --prot=1"),
        (["--model_base_path=/m", "--enable_batching"], "need tensorflow/serving itself"),
        (["--model_base_path=/m", "--model_bas=/x"], "unknown flags: --model_bas=/x"),
        (["--model_base_path=/m", "--rest_api_port=70000"], "at least -1 and at most 65535"),
        (["--model_base_path=/m", "--rest_api_timeout_in_ms=0"], "must be at least 1"),
        (["--model_base_path=/m", "--port=x"], "invalid int value"),
        (["--model_base_path=/m", "--web_page=maybe"], "expected true or false"),
        (["--model_base_path=/m", "--request_log_sampling_rate=2"], "at least 0 and at most 1"),
        (["--model_base_path=/m", "--ssl_key_file=/k"], "TLS needs both"),
    ],
)
def test_bad_flags_are_refused(given, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        model_server.main(given)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--model_name=", "needs a model"),
        ("--model_base_path=gs://bucket/m", "a folder on this machine"),
        ("--grpc_channel_arguments=a=1,b", "is name=value,name=value. Received: 'b'"),
        ("--model_config_file=some.config", "Error parsing text-format tensorflow.serving.Model"),
        ("--model_base_path=some.config", "is a folder. Received a file"),
    ],
)
def test_bad_values_are_refused(flag, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.config").write_text("improperly formatted file")
    assert model_server.main([f"--model_base_path={tmp_path}", "--port=0", flag]) == 2
    assert words in capsys.readouterr().err


def test_a_port_in_use_ends_with_exit_code_5(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert model_server.main([f"--model_base_path={tmp_path}", f"--port={port}"]) == 5
    assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in capsys.readouterr().err


def test_sigterm_lets_running_requests_finish(program):
    """No running request fails, and the program ends with exit code 0."""
    process, target = program
    with Client(target, "half", timeout=60) as client, ThreadPoolExecutor(4) as pool:
        client.wait_until_available(60)
        client.predict({"seconds": np.float32(0)}, "slow")
        running = [
            pool.submit(client.predict, {"seconds": np.float32(1.5)}, "slow") for _ in range(4)
        ]
        time.sleep(0.4)
        process.send_signal(signal.SIGTERM)
        assert [future.result().version for future in running] == [1] * 4
    assert process.wait(30) == 0


@pytest.mark.slow
def test_a_second_signal_ends_the_drain(program):
    process, target = program
    with Client(target, "half", timeout=100) as client, ThreadPoolExecutor(1) as pool:
        client.wait_until_available(60)
        client.predict({"seconds": np.float32(0)}, "slow")
        running = pool.submit(client.predict, {"seconds": np.float32(30)}, "slow")
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        with pytest.raises(Unavailable, match="No model server is available"):
            running.result()
