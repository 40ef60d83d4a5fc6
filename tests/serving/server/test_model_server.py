"""The program `imgpipe serve`, with the flags of TensorFlow Serving: ports and signals."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from imgpipe.serving.client import Client, Unavailable
from tests.command import imgpipe
from tests.pipeline import past_runs, small_version
from tests.serving.quick import asked, photograph, served_by_program


@pytest.fixture
def program(push, tmp_path):
    """Run the program with the model `half`; yields the process and its target."""
    push("half_plus_two", tmp_path / "base", 1)
    words = ("--rest_api_port=0", "--model_name=half", f"--model_base_path={tmp_path / 'base'}")
    process, lines = served_by_program(*words)
    with process:
        yield process, lines[0]["grpc"]
        process.kill()


def test_a_port_in_use_ends_with_exit_code_5(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = imgpipe("serve", f"--model_base_path={tmp_path}", f"--port={port}")
    assert done.returncode == 5
    assert f"cannot listen on 127.0.0.1:{port}: the port is taken" in done.stderr


def test_a_server_needs_no_folder_for_temporary_files(push, tmp_path):
    """A container may have a read-only file system, and no /tmp. Nor does a full disk end it."""
    push("half_plus_two", tmp_path / "base", 1)
    code = (
        "import sys, tempfile, imgpipe\n"
        "tempfile._candidate_tempdir_list = lambda: ['/gone']\n"
        "sys.argv[1:1] = ['serve', '--port=0', '--rest_api_port=0', '--json=/dev/full']\n"
        "imgpipe._main()\n"
    )
    command = [sys.executable, "-c", code, f"--model_base_path={tmp_path / 'base'}"]
    environment = os.environ | {"HOME": "/proc/none", "MPLCONFIGDIR": "/proc/none"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        said = ""
        for line in process.stderr:
            said += line
            if "is available" in line:
                process.terminate()
    assert process.returncode == 0, said
    assert "the states of the server are no longer written: No space left on device" in said
    assert "model imgpipe version 1 is available" in said and "Traceback" not in said


@pytest.mark.parametrize(
    "stop",
    [
        signal.SIGTERM,
        *(pytest.param(stop, marks=pytest.mark.slow) for stop in (signal.SIGHUP, signal.SIGQUIT)),
    ],
)
def test_a_signal_lets_running_requests_finish(program, stop):
    """No running request fails, and the program ends with exit code 0. Others change nothing."""
    process, target = program
    with Client(target, "half", timeout=60) as client, ThreadPoolExecutor(4) as pool:
        client.predict({"seconds": np.float32(0)}, "slow")
        running = [
            pool.submit(client.predict, {"seconds": np.float32(1.5)}, "slow") for _ in range(4)
        ]
        for ignored in (signal.SIGUSR1, signal.SIGUSR2):
            process.send_signal(ignored)
        time.sleep(0.4)
        process.send_signal(stop)
        assert [future.result().version for future in running] == [1] * 4
    assert process.wait(30) == 0


@pytest.mark.slow
def test_a_second_signal_ends_the_drain(program):
    process, target = program
    with Client(target, "half", timeout=100) as client, ThreadPoolExecutor(1) as pool:
        client.predict({"seconds": np.float32(0)}, "slow")
        running = pool.submit(client.predict, {"seconds": np.float32(30)}, "slow")
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        with pytest.raises(Unavailable, match="No model server is available"):
            running.result()


@pytest.fixture
def published(tmp_path):
    """Return an output folder with a version of a run, whose source has a folder for each class."""
    for label in past_runs.CLASSES:
        (tmp_path / "photos" / label).mkdir(parents=True)
    out = tmp_path / "out"
    settings = (f"data.source={tmp_path / 'photos'}",)
    past_runs.leave(out, past_runs.FIRST, version=1, settings=settings)
    small_version.push(out, classes=past_runs.CLASSES)
    return out


@pytest.mark.parametrize("words", [(), ("--corrections",)])
def test_corrections_are_kept_only_if_they_are_asked_for(published, words):
    process, lines = served_by_program(published, "--rest-port", "-1", *words)
    with process:
        address = lines[0]["rest"].rpartition("//")[2]
        path = "/web/knowledge?model=imgpipe&label=cat"
        assert asked(address, "GET", path, None, {}).json()["corrects"] == bool(words)
        answer = asked(address, "POST", path, photograph(), {})
        process.terminate()
        said = process.stderr.read()
    kept = [file.parent.name for file in published.glob("corrections/*/*")]
    command = f"cp -R {published}/corrections/. {published.parent}/photos && imgpipe run --config"
    if words:
        assert answer.status == 200 and kept == ["cat"]
        assert command in said
    else:
        assert answer.status == 403 and not kept
        assert not (published / "corrections").exists() and command not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--no-web",), "--corrections needs the web page"),
        (("--host", "0.0.0.0"), "--corrections takes images of people at this machine only"),
        (("--model_base_path=/models",), "Leave out OUT, --examples and --corrections"),
    ],
)
def test_corrections_that_nobody_could_make_are_refused(tmp_path, words, said):
    done = imgpipe("serve", "--corrections", *words)
    assert done.returncode == 2 and said in done.stderr


def test_corrections_need_the_output_folder_of_a_run(tmp_path):
    small_version.push(tmp_path)
    done = imgpipe("serve", str(tmp_path), "--corrections")
    assert done.returncode == 2
    assert "--corrections keeps images in the output folder of a run" in done.stderr
