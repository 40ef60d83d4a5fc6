"""`imgpipe-beam-worker` is started by a runner, or by a worker pool."""

import contextlib
import subprocess
import threading
from concurrent import futures

import grpc
import pytest
from apache_beam.portability.api import (
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
)

from imgpipe.components.common.beam import worker_start


class Runner(
    beam_provision_api_pb2_grpc.ProvisionServiceServicer,
    beam_fn_api_pb2_grpc.BeamFnControlServicer,
    beam_fn_api_pb2_grpc.BeamFnLoggingServicer,
):
    """A fake runner that serves the services a Beam worker needs, and records what it hears."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.connected: futures.Future[str] = futures.Future()
        self.said: list[str] = []
        self.heard = threading.Event()
        self._over = futures.Future[None]()

    def GetProvisionInfo(self, request, context):
        self.asked.append(dict(context.invocation_metadata())["worker_id"])
        info = beam_provision_api_pb2.ProvisionInfo()
        info.pipeline_options["beam:option:beam_plugins:v1"] = ["tests_plugin"]
        for endpoint in (info.control_endpoint, info.logging_endpoint):
            endpoint.url = self.address
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)

    def Control(self, requests, context):
        self.connected.set_result(dict(context.invocation_metadata())["worker_id"])
        self._over.result(timeout=60)
        return iter(())

    def Logging(self, logs, context):
        for entries in logs:
            self.said += [entry.message for entry in entries.log_entries]
            if any(message.startswith("plugin ") for message in self.said):
                self.heard.set()
        return iter(())

    @contextlib.contextmanager
    def serving(self):
        """Serve on a free local port until the context ends; `address` is the address."""
        server = grpc.server(futures.ThreadPoolExecutor(8))
        beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(self, server)
        beam_fn_api_pb2_grpc.add_BeamFnControlServicer_to_server(self, server)
        beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(self, server)
        self.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield self
        finally:
            self._over.set_result(None)
            server.stop(2).wait()


@pytest.mark.timeout(200)
def test_a_worker_gets_its_options_from_the_runner(tmp_path):
    """The plugin logs whether the modules of the worker were loaded before it."""
    (tmp_path / "tests_plugin.py").write_text(
        "import logging, sys\nlogging.error('plugin %s', 'tfx_bsl.arrow.sql_util' in sys.modules)\n"
    )
    with Runner().serving() as runner:
        worker = subprocess.Popen(
            [worker_start.script(), "--id=w-1", f"--provision_endpoint={runner.address}"],
            env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
            stderr=subprocess.DEVNULL,
        )
        try:
            assert runner.connected.result(timeout=120) == "w-1"
            assert runner.heard.wait(60), "the plugin logs over a connection of its own"
        finally:
            worker.kill()
            worker.wait()
    assert runner.asked == ["w-1"]
    assert "plugin True" in runner.said
