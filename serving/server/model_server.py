"""``imgpipe-model-server``, the embedded server as a program.

``flags`` declares the flags. Here they are converted to the settings of a ``ModelServer``, which
runs until SIGTERM and then lets running requests finish.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgpipe.serving.server import open_files
from imgpipe.serving.server.errors import BadArgument, ServerError
from imgpipe.serving.server.flags import MAX_INT32, parse, without_effect
from imgpipe.serving.server.monitoring import log_format, native_messages

if TYPE_CHECKING:
    from imgpipe.serving.server.server import ModelServer, ServerOptions
    from imgpipe.serving.server.state_lines import StateLines

_POLL_S = 0.05
"""Seconds between two checks of the main thread for a signal."""
_log = logging.getLogger(__name__)


def _run_until_signalled(
    server: ModelServer, drain_seconds: float, lines: StateLines | None
) -> bool:
    """Serve until SIGTERM or SIGINT; return whether all requests have finished then.

    Otherwise threads of TensorFlow still run, and an ordinary exit would wait for them (see
    ``leave``). A second signal ends the wait at once.
    """
    # A SimpleQueue, because its ``put`` is reentrant and so may be called in a signal handler.
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    stops = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda n, _: signals.put(n)) for number in stops}
    finished: list[bool] = []
    try:
        server.start()
        if lines:
            lines.listening(server)
        # The main thread never waits without a timeout: Python runs the handler of a signal only
        # when that thread is awake, and a signal just before the wait would not wake it.
        loaded = False
        while signals.empty():
            if not loaded and not server.core.starting():
                loaded = True
                _spare_collector()
            if lines:
                lines.write_changes(server)
            time.sleep(_POLL_S)
        signals.get()
        _log.info(
            "stopping; running requests have %g s to finish; a second signal stops the server at "
            "once",
            drain_seconds,
        )
        stopping = threading.Thread(
            target=lambda: finished.append(server.stop(drain_seconds)), daemon=True
        )
        stopping.start()
        while stopping.is_alive() and signals.empty():
            stopping.join(_POLL_S)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if lines:
        lines.stopped(finished == [True])
    return finished == [True]


def _spare_collector() -> None:
    """Exclude the objects of TensorFlow and of the first models from Python's garbage collection.

    A request with many lists starts several collections, and each of them stopped all threads for
    a second while it visited the objects of TensorFlow.
    """
    gc.collect()
    gc.freeze()


def leave(finished: bool) -> int:
    """Return the exit code 0; exit at once, without waiting for threads, if requests were cut off.

    Args:
        finished: Whether all requests have finished.
    """
    if not finished:
        _log.warning("requests were cut off")
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    return 0


def make_options(flags: argparse.Namespace) -> ServerOptions:
    """Convert the flags to the settings of a server.

    Args:
        flags: The flags, as ``flags.parse`` returns them.

    Raises:
        BadArgument: A file that a flag names cannot be read or is malformed.
    """
    from imgpipe.serving.server import textproto
    from imgpipe.serving.server.monitoring.request_log import RequestLogOptions
    from imgpipe.serving.server.server import ServerOptions
    from imgpipe.serving.server.services import ServiceOptions

    ssl, monitoring = flags.ssl_config_file, flags.monitoring_config_file
    images = _image_inputs(flags)
    return ServerOptions(
        core=_core_options(flags),
        loader=_loader_options(flags),
        services=ServiceOptions(
            as_tensor_content=flags.enable_serialization_as_tensor_content,
            allow_reload=flags.enable_reload_config_rpc,
        ),
        request_log=RequestLogOptions(
            flags.request_log_max_bytes, flags.request_log_images, images
        ),
        max_workers=flags.grpc_max_threads,
        max_waiting=flags.max_queued_requests,
        max_bytes_in_flight=flags.max_bytes_in_flight,
        max_message_bytes=flags.max_message_bytes or -1,
        tls=textproto.read_ssl(Path(ssl)) if ssl else None,
        tls_file=Path(ssl) if ssl else None,
        socket_path=flags.grpc_socket_path,
        channel_arguments=_channel_arguments(flags.grpc_channel_arguments),
        access_log=flags.access_log,
        monitoring=textproto.read_monitoring(Path(monitoring)) if monitoring else None,
        rest=_rest_options(flags) if flags.rest_api_port else None,
        profiler_port=flags.profiler_port,
        config_file=Path(flags.model_config_file) if flags.model_config_file else None,
        config_poll_seconds=flags.model_config_file_poll_wait_seconds,
    )


def _image_inputs(flags: argparse.Namespace) -> frozenset[str]:
    return frozenset(name for name in flags.image_inputs.split(",") if name)


def _core_options(flags: argparse.Namespace) -> Any:
    from imgpipe.serving.server.core import CoreOptions
    from imgpipe.serving.server.requests.limits import Limits
    from imgpipe.serving.server.versions.servable import LoadPolicy

    threads = flags.num_load_threads
    return CoreOptions(
        poll_seconds=flags.file_system_poll_wait_seconds,
        load=LoadPolicy(
            warm=flags.enable_model_warmup,
            warm_iterations=flags.num_request_iterations_for_warmup,
            max_retries=flags.max_num_load_retries,
            retry_seconds=flags.load_retry_interval_micros / 1e6,
            slots=threading.Semaphore(threads) if threads else None,
        ),
        tflite=flags.prefer_tflite_model,
        limits=Limits(flags.max_image_pixels, flags.max_tensor_bytes, _image_inputs(flags)),
        check_method_name=flags.enable_signature_method_name_check,
        labels_for_unavailable=flags.allow_version_labels_for_unavailable_models,
    )


def _rest_options(flags: argparse.Namespace) -> Any:
    from imgpipe.serving.server.rest.options import RestOptions

    collected = flags.collect_directory
    return RestOptions(
        max(flags.rest_api_port, 0),
        flags.rest_api_timeout_in_ms / 1000,
        flags.rest_api_enable_cors_support,
        flags.rest_api_max_body_bytes,
        flags.rest_api_max_body_values,
        flags.web_page,
        Path(collected).absolute() if collected else None,
    )


def _loader_options(flags: argparse.Namespace) -> Any:
    from imgpipe.serving.server.runtimes.runtime import SessionOptions
    from imgpipe.serving.server.textproto import BatchingParameters, read_batching
    from imgpipe.serving.server.versions.loader import LoaderOptions

    batching = None
    if flags.enable_batching:
        file = flags.batching_parameters_file
        batching = read_batching(Path(file)) if file else BatchingParameters()
    both = flags.tensorflow_session_parallelism
    return LoaderOptions(
        session=SessionOptions(
            intra_op=flags.tensorflow_intra_op_parallelism or both,
            inter_op=flags.tensorflow_inter_op_parallelism or both,
            tags=tuple(tag for tag in flags.saved_model_tags.split(",") if tag),
            config=_session_config(flags.tensorflow_session_config_file),
            gpu_memory_fraction=flags.per_process_gpu_memory_fraction,
            any_op=flags.allow_file_operations,
        ),
        batching=batching,
        custom_op_libraries=tuple(flags.custom_op_library),
        per_model_batching=flags.enable_per_model_batching_parameters,
        tflite=flags.prefer_tflite_model,
        tflite_interpreters=flags.num_tflite_pools,
    )


def _session_config(file: str) -> bytes:
    if not file:
        return b""
    from tensorflow.core.protobuf import config_pb2

    from imgpipe.serving.server.textproto import parse as parse_text

    return bytes(parse_text(Path(file), config_pb2.ConfigProto()).SerializeToString())


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    pairs = []
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise BadArgument(
                f"--grpc_channel_arguments is name=value,name=value. Received: {part!r}."
            )
        # gRPC takes an argument as a number or as text, depending on its type in Python.
        is_number = re.fullmatch(r"-?[0-9]+", value)
        if is_number and not -MAX_INT32 - 1 <= int(value) <= MAX_INT32:
            raise BadArgument(
                f"--grpc_channel_arguments: a number has 32 bits. Received: {part!r}."
            )
        pairs.append((name, int(value) if is_number else value))
    return tuple(pairs)


def _models(flags: argparse.Namespace) -> list[Any]:
    from imgpipe.serving.server.status import StatusError
    from imgpipe.serving.server.versions.config import ModelConfig, RequestLogConfig, read_models
    from imgpipe.serving.server.versions.remote_versions import base_path_of
    from imgpipe.serving.server.versions.version_policy import VersionPolicy

    if flags.model_config_file:
        # The messages of the config file come from tensorflow-serving-api, which imports
        # TensorFlow.
        native_messages.import_tensorflow()
        try:
            return read_models(Path(flags.model_config_file))
        except StatusError as error:
            raise BadArgument(f"{flags.model_config_file}: {error.message}") from error
    base_path = base_path_of(flags.model_base_path)
    if isinstance(base_path, Path):
        base_path = base_path.absolute()
        if base_path.exists() and not base_path.is_dir():
            raise BadArgument(f"--model_base_path is a directory. Received a file: {base_path}.")
    if not flags.model_name:
        raise BadArgument("A model needs a name. Received an empty one.")
    log = None
    if flags.request_log_prefix:
        log = RequestLogConfig(flags.request_log_prefix, flags.request_log_sampling_rate)
    policy = VersionPolicy(num_versions=flags.num_versions)
    if flags.model_version:
        policy = VersionPolicy("specific", versions=(flags.model_version,))
    return [ModelConfig(flags.model_name, base_path, policy, request_log=log)]


def main(
    argv: Sequence[str] | None = None,
    lines: StateLines | None = None,
    program: str = "imgpipe-model-server",
) -> int:
    """Serve until a signal arrives.

    Args:
        argv: The arguments; None for those of the command line.
        lines: Where the states of the server are written, None for nowhere.
        program: Name of the program, for messages.

    Returns:
        The exit code: 0 after a signal, 2 for wrong flags or files, 5 if a port is taken.
    """
    argv = sys.argv[1:] if argv is None else argv
    flags = parse(argv)
    log_format.set_up(flags.log_format)
    native_messages.limit()
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    for name in without_effect(argv):
        _log.warning("--%s has no effect", name)
    if flags.monitoring_config_file and not flags.rest_api_port:
        _log.warning("--monitoring_config_file has no effect without --rest_api_port")
    open_files.raise_limit()
    try:
        models = _models(flags)
        native_messages.import_tensorflow()  # takes seconds: after the flags
        from imgpipe.serving.server.server import ModelServer

        port = -1 if flags.grpc_socket_path and not flags.port else flags.port
        server = ModelServer(host=flags.host, port=port, models=models, options=make_options(flags))
        return leave(_run_until_signalled(server, flags.drain_seconds, lines))
    except ServerError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
