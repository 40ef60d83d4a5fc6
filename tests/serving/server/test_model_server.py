"""The program imgpipe-model-server as a process: flags, ports and signals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.serving.client import Client, ServingError, Unavailable
from imgpipe.serving.server import flags, model_server


def launch(*flags: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen:
    """Start the program and return its process."""
    return subprocess.Popen(
        [sys.executable, "-m", "imgpipe.serving.server.model_server", *flags],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=environment or os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"},
    )


@pytest.fixture
def program(push, tmp_path):
    """Run the program with the model ``half``; yields the process and its target."""
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
        (["--model_base_path=/m", "--model_bas=/x"], "unknown flags: --model_bas=/x"),
        (["--model_base_path=/m", "--rest_api_port=70000"], "from -1 to 65535"),
        (["--model_base_path=/m", "--rest_api_timeout_in_ms=0"], "must be 1 or more"),
        (
            ["--model_base_path=/m", "--rest_api_max_body_values=0"],
            "must be 1 or more",
        ),
        (
            ["--model_base_path=/m", "--log_format=xml"],
            "expected one of text, json, received 'xml'",
        ),
        (["--model_base_path=/m", "--port=x"], "invalid int value"),
        (["--model_base_path=/m", "--model_version=-1"], "must be 1 or more"),
        (["--model_config_file=/m", "--model_version=1"], "is not used with --model_config_file"),
        (
            ["--model_config_file=/m", "--model_base_path=/m", "--model_version=1"],
            "--model_version is not used with --model_config_file",
        ),
        (
            ["--model_config_file=/m", "--request_log_prefix=/logs/r"],
            "--request_log_prefix is not used with --model_config_file. Set it for each model",
        ),
        (
            ["--model_base_path=/m", "--request_log_sampling_rate=0.5"],
            "--request_log_sampling_rate needs --request_log_prefix",
        ),
        (["--model_base_path=/m", "--num_versions=0"], "must be 1 or more. Received: 0."),
        (["--model_config_file=/m", "--num_versions=2"], "is not used with --model_config_file"),
        (
            ["--model_base_path=/m", "--num_versions=2", "--model_version=1"],
            "cannot be used together with --model_version",
        ),
        (["--model_base_path=/m", "--enable_model_warmup=maybe"], "expected true or false"),
        (["--model_base_path=/m", "--drain_seconds=-1"], "0 or more"),
        (["--model_base_path=/m", f"--max_message_bytes={1 << 31}"], "at most 2147483647"),
        (["--model_base_path=/m", "--max_num_load_retries=-1"], "0 or more"),
        (["--model_base_path=/m", "--request_log_sampling_rate=2"], "from 0 to 1"),
        (["--model_base_path=/m", "--batching_parameters_file=/b"], "needs --enable_batching"),
        (["--model_base_path=/m", "--use_alts_credentials"], "is a flag of tensorflow_model"),
        (["--model_base_path=/m", "--enable_grpc_healthcheck_service=false"], "is always on"),
    ],
)
def test_bad_flags_are_refused(given, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        model_server.main(given)
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--port=70000", "0 to 65535"),
        ("--model_name=", "needs a name"),
        ("--file_system_poll_wait_seconds=-1", "poll wait"),
        ("--request_log_prefix=/logs/", "Received a folder: '/logs/'"),
        ("--request_log_prefix=file/r", "because file is a file, expected a folder"),
        (f"--grpc_channel_arguments=a=1,b={1 << 31}", "has 32 bits. Received: 'b=2147483648'"),
    ],
)
def test_bad_values_are_refused(flag, words, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert model_server.main([f"--model_base_path={tmp_path}", "--port=0", flag]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    "flag",
    [
        "model_config_file",
        "ssl_config_file",
        "batching_parameters_file",
        "monitoring_config_file",
        "tensorflow_session_config_file",
    ],
)
def test_the_error_names_a_file_that_cannot_be_parsed(flag, tmp_path, capsys):
    file = tmp_path / "some.config"
    file.write_text("improperly formatted file")
    given = [f"--model_base_path={tmp_path}", f"--{flag}={file}", "--port=0", "--enable_batching"]
    assert model_server.main(given) == 2
    message = capsys.readouterr().err
    assert f"Invalid protobuf file: '{file}'. Error parsing text-format tensorflow." in message


def test_every_line_of_a_log_in_json_is_json(push, tmp_path):
    """Lines of TensorFlow and gRPC, which have another form, become JSON too.

    One of the requests is invalid.
    """
    push("images", tmp_path / "base", 1)
    flags = ("--port=0", "--log_format=json", "--model_name=m")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    process = launch(*flags, f"--model_base_path={tmp_path / 'base'}", environment=environment)
    log = []
    try:
        for line in process.stderr:
            log.append(json.loads(line)["message"])
            if match := re.search(r"listening on (\S+)", log[-1]):
                target = match[1]
            if "is available" in log[-1]:
                break
        with Client(target, "m") as client, pytest.raises(ServingError, match="Unknown image"):
            client.predict({"image_bytes": [b"no image"]})
        process.terminate()
        log += [json.loads(line)["message"] for line in process.stderr]
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()
    assert any(message.startswith("stopping") for message in log)


def test_flags_set_the_options_of_the_server(tmp_path):
    """The options are correct with the defaults and with given flags."""
    (tmp_path / "batching").write_text("max_batch_size { value: 7 }")
    (tmp_path / "session").write_text("intra_op_parallelism_threads: 3")
    plain = model_server.make_options(flags.parse([f"--model_base_path={tmp_path}"]))
    assert (plain.core.load.max_retries, plain.core.load.retry_seconds) == (5, 60)
    assert plain.core.limits.max_pixels == 50_000_000 and plain.loader.batching is None
    assert not plain.services.allow_reload and plain.max_message_bytes == 64 << 20
    assert plain.max_bytes_in_flight == 1 << 30
    given = flags.parse(
        [
            f"--model_base_path={tmp_path}",
            "--enable_batching",
            f"--batching_parameters_file={tmp_path / 'batching'}",
            "--enable_per_model_batching_params=true",
            "--use_tflite_model",
            "--num_tflite_pools=4",
            "--load_retry_interval_micros=250000",
            "--tensorflow_session_parallelism=5",
            "--tensorflow_inter_op_parallelism",
            "2",
            "--saved_model_tags=serve,gpu",
            "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.lb_policy_name=--5",
            "--image_inputs=jpeg,png",
        ]
    )
    made = model_server.make_options(given)
    assert made.loader.batching.max_batch_size == 7 and made.loader.per_model_batching
    assert made.core.tflite and made.loader.tflite and made.loader.tflite_interpreters == 4
    assert made.core.load.retry_seconds == 0.25
    assert (made.loader.session.intra_op, made.loader.session.inter_op) == (5, 2)
    assert made.loader.session.tags == ("serve", "gpu")
    assert made.channel_arguments == (
        ("grpc.max_connection_age_ms", 2000),
        ("grpc.lb_policy_name", "--5"),
    )
    assert made.core.limits.image_inputs == {"jpeg", "png"}


def test_flags_without_effect_are_listed():
    argv = ["--flush_filesystem_caches=true", "--port=1", "--num_unload_threads", "2"]
    assert flags.without_effect(argv) == ["num_unload_threads", "flush_filesystem_caches"]
    argv = ["--model_config_file=/c", "--model_base_path=/m", "--model_name=m"]
    assert flags.without_effect(argv) == ["model_name", "model_base_path"]
    assert flags.without_effect(argv[1:]) == []


def test_a_file_as_the_base_path_is_refused(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert model_server.main([f"--model_base_path={tmp_path / 'file'}"]) == 2
    assert "is a directory. Received a file" in capsys.readouterr().err


def test_a_port_in_use_ends_with_exit_code_5(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert model_server.main([f"--model_base_path={tmp_path}", f"--port={port}"]) == 5
    assert f"Cannot listen on 127.0.0.1:{port}: the port is taken" in capsys.readouterr().err


@pytest.mark.parametrize("port", [0, 8500])
def test_the_address_of_another_machine_is_refused(tmp_path, capsys, port):
    given = [f"--model_base_path={tmp_path}", "--host=192.0.2.1", f"--port={port}"]
    assert model_server.main(given, program="imgpipe serve") == 5
    told = capsys.readouterr().err
    assert f"imgpipe serve: Cannot listen on 192.0.2.1:{port}: the host is not" in told
    assert "Choose another --host." in told


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
def test_sigterm_while_loading_ends_with_exit_code_0(program):
    process, _ = program
    process.terminate()
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


@pytest.mark.slow
def test_after_kill_9_requests_fail_clearly_and_a_new_server_takes_over(program, tmp_path):
    process, target = program
    with Client(target, "half", timeout=30) as client, ThreadPoolExecutor(4) as pool:
        client.wait_until_available(60)
        running = [
            pool.submit(client.predict, {"seconds": np.float32(2.7)}, "slow") for _ in range(4)
        ]
        time.sleep(0.4)
        process.kill()
        process.wait(30)
        for future in running:
            with pytest.raises(Unavailable, match="No model server is available at"):
                future.result()
        again = launch(
            f"--port={target.rsplit(':', 1)[1]}",
            "--model_name=half",
            f"--model_base_path={tmp_path / 'base'}",
        )
        try:
            assert client.wait_until_available(60) == 1
            assert client.predict({"x": np.float32([2])}).outputs["y"].tolist() == [3.0]
        finally:
            again.terminate()
            _, log = again.communicate(timeout=30)
        assert again.returncode == 0, log
        with pytest.raises(ServingError, match="No model server is available"):
            client.status()
