"""``imgpipe-model-server``: the embedded server under tensorflow_model_server's flag names.

What that program knows and this one does not is refused by name, never ignored: a server that
drops a flag is another server than the one asked for. Differences on purpose: it listens on this
machine only unless ``--host`` says otherwise, and SIGTERM lets running requests finish.
"""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serving.server.errors import BadArgument, ServerError

if TYPE_CHECKING:
    from serving.server.server import ModelServer

DEFAULT_PORT = 8500
DEFAULT_DRAIN_SECONDS = 30.0
_LOOK_S = 0.1
"""How often the main thread looks for a signal, s."""
_log = logging.getLogger(__name__)

_NOT_YET = frozenset(
    [
        "rest_api_port",
        "rest_api_num_threads",
        "rest_api_timeout_in_ms",
        "rest_api_enable_cors_support",
        "model_config_file",
        "model_config_file_poll_wait_seconds",
        "enable_batching",
        "batching_parameters_file",
        "allow_version_labels_for_unavailable_models",
        "ssl_config_file",
        "monitoring_config_file",
        "max_num_load_retries",
        "load_retry_interval_micros",
        "num_load_threads",
        "num_unload_threads",
        "platform_config_file",
        "saved_model_tags",
        "per_process_gpu_memory_fraction",
        "grpc_channel_arguments",
        "grpc_socket_path",
        "grpc_socket_permissions",
        "enable_serialization_as_tensor_content",
        "enable_signature_method_name_check",
        "enable_per_model_batching_parameters",
        "prefer_tflite_model",
        "num_tflite_pools",
        "enable_profiler",
        "flush_filesystem_caches",
        "remove_unused_fields_from_bundle_metagraph",
        "enable_config_file_polling",
        "thread_pool_factory_config_file",
    ]
)
"""Flags of tensorflow_model_server that are understood and refused."""


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")


def make_parser() -> argparse.ArgumentParser:
    """The flags. Long names take ``--name=value`` and ``--name value``; no abbreviations."""
    parser = argparse.ArgumentParser(
        prog="imgpipe-model-server",
        description="Serve a SavedModel over TensorFlow Serving's gRPC protocol.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--port", type=int, default=DEFAULT_PORT, help="gRPC port; 0 for any free one")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for all networks")
    add("--model_name", default="default", help="name that requests use")
    add("--model_base_path", required=True, help="directory of the numbered versions")
    add(
        "--file_system_poll_wait_seconds",
        type=float,
        default=1.0,
        help="time between looks at the base path; 0 looks once",
    )
    add(
        "--enable_model_warmup",
        type=_boolean,
        default=True,
        nargs="?",
        const=True,
        help="replay assets.extra/tf_serving_warmup_requests before a version is available",
    )
    add(
        "--enable_grpc_healthcheck_service",
        type=_boolean,
        default=True,
        nargs="?",
        const=True,
        help="grpc.health.v1; always there",
    )
    add(
        "--tensorflow_session_parallelism",
        type=int,
        default=0,
        help="threads within an operation and operations at once; 0 for the usable cores",
    )
    add(
        "--tensorflow_intra_op_parallelism",
        type=int,
        default=0,
        help="threads within an operation; 0 for the usable cores",
    )
    add(
        "--tensorflow_inter_op_parallelism",
        type=int,
        default=0,
        help="operations at once; 0 for the usable cores",
    )
    add("--grpc_max_threads", type=int, default=0, help="requests at once; 0 for 16 a core")
    add(
        "--drain_seconds",
        type=float,
        default=DEFAULT_DRAIN_SECONDS,
        help="time that running requests have after SIGTERM",
    )
    return parser


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = make_parser()
    flags, unknown = parser.parse_known_args(argv)
    for word in unknown:
        name = word.lstrip("-").split("=", 1)[0]
        if name in _NOT_YET:
            parser.error(
                f"--{name} is a flag of tensorflow_model_server that this server does not have. "
                "Leave it out, or use tensorflow/serving."
            )
    if unknown:
        parser.error(f"unknown flags: {' '.join(unknown)}. See --help.")
    for name in (
        "grpc_max_threads",
        "drain_seconds",
        "tensorflow_session_parallelism",
        "tensorflow_intra_op_parallelism",
        "tensorflow_inter_op_parallelism",
    ):
        if getattr(flags, name) < 0:
            parser.error(f"--{name} is 0 or more, received {getattr(flags, name)}")
    if not flags.enable_grpc_healthcheck_service:
        parser.error("--enable_grpc_healthcheck_service cannot be false: health is always there")
    return flags


def run_until_signalled(server: ModelServer, drain_seconds: float = DEFAULT_DRAIN_SECONDS) -> bool:
    """Serve until SIGTERM or SIGINT, then drain. Only in a program's main thread.

    A second signal ends the wait at once. Returns False when requests were cut off: threads of
    TensorFlow still run then, and an ordinary exit would wait for them (see ``leave``).
    """
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    stops = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda n, _: signals.put(n)) for number in stops}
    finished: list[bool] = []
    try:
        server.start()
        # Never a wait without end: Python runs the handler only once the main thread wakes, and a
        # signal that comes just before the wait does not wake it.
        while signals.empty():
            time.sleep(_LOOK_S)
        signals.get()
        _log.info("stopping; running requests have %g s, a second signal ends it", drain_seconds)
        stopping = threading.Thread(
            target=lambda: finished.append(server.stop(drain_seconds)), daemon=True
        )
        stopping.start()
        while stopping.is_alive() and signals.empty():
            stopping.join(_LOOK_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return finished == [True]


def leave(finished: bool) -> int:
    """Exit code 0; at once, without waiting for threads, when requests were cut off."""
    if not finished:
        _log.warning("requests were cut off")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code: 0, 2 bad flags, 5 port busy."""
    flags = _parse(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname).1s %(message)s"
    )
    try:
        base_path = Path(flags.model_base_path).absolute()
        if base_path.exists() and not base_path.is_dir():
            raise BadArgument(f"--model_base_path is a directory. Received a file: {base_path}.")
        from serving.server.server import ModelServer  # seconds of TensorFlow: after the flags

        both = flags.tensorflow_session_parallelism
        server = ModelServer(
            flags.model_name,
            base_path,
            flags.host,
            flags.port,
            flags.file_system_poll_wait_seconds,
            warm_up=flags.enable_model_warmup,
            intra_op=flags.tensorflow_intra_op_parallelism or both,
            inter_op=flags.tensorflow_inter_op_parallelism or both,
            max_workers=flags.grpc_max_threads,
        )
        return leave(run_until_signalled(server, flags.drain_seconds))
    except ServerError as error:
        print(f"imgpipe-model-server: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
