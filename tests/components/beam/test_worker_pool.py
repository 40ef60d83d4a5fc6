"""A worker pool is shared by several runners, and no runner stops the worker of another."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import beam_fn_api_pb2, beam_fn_api_pb2_grpc

from imgpipe.components.beam.worker_pool import WorkerPool, serve


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Any]:
    """Yield a worker pool whose workers are a shell script.

    The script writes its flags to a file and sleeps. Workers left at the end are killed.
    """
    program = tmp_path / "worker"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/flags-$$\nexec sleep 300\n')
    program.chmod(0o700)
    made = WorkerPool(use_process=True, container_executable=str(program))
    yield made
    for worker in made._worker_processes.values():
        worker.kill()
        worker.wait()


def start(pool: WorkerPool, name: str) -> subprocess.Popen[bytes]:
    """Let the pool start a worker of this name and return its process."""
    before = set(pool._worker_processes)
    request = beam_fn_api_pb2.StartWorkerRequest(worker_id=name)
    assert not pool.StartWorker(request, None).error
    (key,) = set(pool._worker_processes) - before
    return pool._worker_processes[key]


def stop(pool: WorkerPool, name: str) -> None:
    """Let the pool stop the worker of this name."""
    pool.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id=name), None)


def test_stopping_a_worker_ends_its_process_and_may_be_repeated(pool):
    worker = start(pool, "1-1")
    stop(pool, "1-1")
    assert worker.poll() is not None
    stop(pool, "1-1")
    stop(pool, "unknown")
    assert not pool._worker_processes


def test_a_runner_does_not_stop_the_worker_of_another_with_the_same_identifier(pool, caplog):
    mine, other, third = start(pool, "1-1"), start(pool, "1-1"), start(pool, "1-2")
    stop(pool, "1-1")
    assert [one.poll() for one in (mine, other, third)] == [None, None, None]
    assert "2 runners have a worker '1-1'" in caplog.text
    mine.kill()  # as a worker ends when its runner has closed the connection
    mine.wait()
    stop(pool, "1-1")
    assert other.poll() is None, "the stop was that of the worker that has ended"
    stop(pool, "1-1")
    assert other.poll() is not None and third.poll() is None


def test_a_missing_worker_program_is_named_in_the_error():
    address, server = serve(0, "/nowhere/imgpipe-beam-worker")
    try:
        with grpc.insecure_channel(address) as channel:
            stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(channel)
            request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1-1")
            answer = stub.StartWorker(request, timeout=60, wait_for_ready=True)
    finally:
        server.stop(0).wait()
    assert "/nowhere/imgpipe-beam-worker cannot be started" in answer.error
