"""`imgpipe-beam-worker`: starts a Beam worker on a host of a cluster.

Flink and Spark start Python workers on their hosts, with the same flags as Beam's containers do
(https://beam.apache.org/documentation/runtime/sdk-harness-config/). Beam's own starter is a Go
program inside of its images. This one needs only the installation of imgpipe on the host: it asks
the runner for the options of the pipeline, among them the plugin `beam_worker`, without which
TFX's libraries cannot be loaded, and runs `apache_beam.runners.worker.sdk_worker_main`. With the
environment PROCESS, the runner runs this program. As the entry point of an image, it serves DOCKER.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
#: In seconds. A busy host may take long to answer; afterwards the runner starts another worker.
_ANSWER_SECONDS = 120
_PLUGIN = "imgpipe.components.common.beam.beam_worker"


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    parser = argparse.ArgumentParser(
        prog="imgpipe-beam-worker",
        description="Start a Python worker of Beam with what the components of imgpipe need.",
    )
    for name in ("id", "provision_endpoint"):
        parser.add_argument(f"--{name}", required=True, help="supplied by the runner")
    for name in ("logging_endpoint", "control_endpoint"):
        parser.add_argument(f"--{name}", default="", help="supplied by the runner")
    for name in ("artifact_endpoint", "semi_persist_dir"):
        parser.add_argument(f"--{name}", default="", help="supplied by the runner, not used")
    parsed = parser.parse_args(arguments)
    os.dup2(2, 1)  # an engine may never read a worker's standard output, and a full pipe stops it
    os.environ.update(environment(parsed, _provision_info(parsed)))
    from apache_beam.runners.worker import sdk_worker_main

    importlib.import_module(_PLUGIN)  # before anything is unpickled
    sdk_worker_main.main([])


def prepare_local(beam_args: Sequence[str], directory: Path) -> None:
    """Make Beam's local worker processes load what they need to unpickle TFDV's objects.

    FnApiRunner starts these processes without the options of the pipeline such as
    `--beam_plugins` (Beam 2.77), but they read a file that is named in their environment.

    Args:
        beam_args: Options of Beam.
        directory: Folder in which the file is written. It must exist while workers are started.
    """
    if any("multi_processing" in arg for arg in beam_args):
        file = directory / "worker_options.json"
        file.write_text(json.dumps({"beam_plugins": [_PLUGIN]}))
        os.environ["PIPELINE_OPTIONS_FILE"] = str(file)


def script() -> Path:
    """Path of the console script in the environment of this interpreter."""
    return Path(sys.executable).with_name("imgpipe-beam-worker")


def _provision_info(parsed: argparse.Namespace) -> Any:
    """Ask the runner for the options of the pipeline and the addresses of its services."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2 as messages
    from apache_beam.portability.api import beam_provision_api_pb2_grpc as services

    with grpc.insecure_channel(parsed.provision_endpoint) as channel:
        stub = services.ProvisionServiceStub(channel)
        response = stub.GetProvisionInfo(
            messages.GetProvisionInfoRequest(),
            timeout=_ANSWER_SECONDS,
            metadata=[("worker_id", parsed.id)],
            wait_for_ready=True,
        )
    return response.info


def environment(parsed: argparse.Namespace, info: Any) -> dict[str, str]:
    """Return the environment variables from which Beam's `sdk_worker_main` reads its settings.

    Addresses in the flags win over those in `info`, Beam's message `ProvisionInfo`.
    """
    from google.protobuf import json_format

    if info.dependencies:
        _log.warning(
            "%d staged files are not installed, because workers use the packages of their host",
            len(info.dependencies),
        )
    logging_url = parsed.logging_endpoint or info.logging_endpoint.url
    control_url = parsed.control_endpoint or info.control_endpoint.url
    variables = {
        "WORKER_ID": parsed.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(logging_url),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(control_url),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if info.status_endpoint.url:
        variables["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.status_endpoint.url)
    return variables


def _descriptor(url: str) -> str:
    """Return the text form of Beam's message `ApiServiceDescriptor`."""
    return f'url: "{url}"'


if __name__ == "__main__":
    main()
