"""Flags of ``imgpipe-model-server``: those of tensorflow_model_server, and additional ones.

No flag is ignored silently. A flag of tensorflow_model_server either has the same meaning here, or
has no effect here, which the log reports, or is refused. Four things differ on purpose:

* ``--host`` listens on this machine only unless told otherwise;
* ``--port=0`` selects any free port, unless there is a socket path;
* ``--rest_api_port=-1`` selects any free port;
* the health service cannot be disabled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from imgpipe.serving.server.limits import (
    DEFAULT_MAX_BYTES_IN_FLIGHT,
    DEFAULT_MAX_MESSAGE_BYTES,
    IMAGE_INPUT,
)
from imgpipe.serving.server.log_format import FORMATS
from imgpipe.serving.server.rest.options import DEFAULT_MAX_BODY_BYTES, DEFAULT_MAX_BODY_VALUES

DEFAULT_PORT = 8500
DEFAULT_DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class _Flag:
    name: str
    kind: Callable[[str], Any]
    default: Any
    help: str
    alias: str = ""
    repeated: bool = False
    """Whether the flag may be given several times; its value is then a list."""


def boolean(text: str) -> bool:
    """Convert a boolean as tensorflow_model_server does: true, 1, t, false, 0 or f.

    Raises:
        argparse.ArgumentTypeError: The text is none of these.
    """
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")


def number(text: str) -> int:
    """Convert a whole number that is not negative.

    Raises:
        argparse.ArgumentTypeError: The number is negative.
        ValueError: The text is not a whole number.
    """
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, received {value}")
    return value


def rest_port(text: str) -> int:
    """Convert a port number, or -1 for any free port.

    Raises:
        argparse.ArgumentTypeError: The number is not a port.
        ValueError: The text is not a whole number.
    """
    value = int(text)
    if not -1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"expected a number from -1 to 65535, received {value}")
    return value


def seconds(text: str) -> float:
    """Convert a time in seconds that is not negative.

    Raises:
        argparse.ArgumentTypeError: The time is negative or not a number.
        ValueError: The text is not a number.
    """
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, received {text}")
    return value


def share(text: str) -> float:
    """Convert a number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: The number is out of range.
        ValueError: The text is not a number.
    """
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, received {text}")
    return value


def log_format(text: str) -> str:
    """Check the name of a format of the log.

    Raises:
        argparse.ArgumentTypeError: There is no such format.
    """
    if text not in FORMATS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(FORMATS)}, received {text!r}")
    return text


_LISTEN = (
    _Flag(
        "port",
        int,
        DEFAULT_PORT,
        "gRPC port; 0 for any free port, or for no port together with --grpc_socket_path",
    ),
    _Flag("host", str, "127.0.0.1", "address to listen on; 0.0.0.0 for all networks"),
    _Flag("grpc_socket_path", str, "", "Unix socket to listen on in addition"),
    _Flag("grpc_channel_arguments", str, "", "arguments of the gRPC server as name=value,…"),
    _Flag(
        "grpc_max_threads", number, 0, "number of requests that run at once; 0 for 16 for each core"
    ),
    _Flag("rest_api_port", rest_port, 0, "REST port; 0 for none, -1 for any free port"),
    _Flag(
        "rest_api_timeout_in_ms",
        number,
        30_000,
        "time limit of a REST request in milliseconds, from its body to its answer",
    ),
    _Flag(
        "rest_api_enable_cors_support",
        boolean,
        False,
        "let web pages of other sites call the REST interface",
    ),
    _Flag(
        "web_page",
        boolean,
        False,
        "show a page at / of the REST port, on which people can try the models",
    ),
    _Flag(
        "collect_directory",
        str,
        "",
        "folder for the images whose labels people correct on the page; empty for none",
    ),
    _Flag(
        "training_images_file",
        str,
        "",
        "file of training images, of which the page shows those nearest to an image; "
        "imgpipe serve --nearest writes it",
    ),
    _Flag(
        "ssl_config_file",
        str,
        "",
        "SSLConfig in text format for TLS, and for mTLS with client_verify; it is read again when "
        "it changes",
    ),
    _Flag(
        "enable_grpc_healthcheck_service",
        boolean,
        True,
        "the service grpc.health.v1, which cannot be disabled",
    ),
    _Flag(
        "drain_seconds",
        seconds,
        DEFAULT_DRAIN_SECONDS,
        "time in seconds to finish running requests after SIGTERM",
    ),
)
_MODELS = (
    _Flag("model_name", str, "default", "name of the model in requests"),
    _Flag("model_base_path", str, "", "directory of the numbered versions, or gs://…"),
    _Flag("model_version", int, 0, "serve just this version of --model_base_path; 0: the newest"),
    _Flag(
        "model_config_file",
        str,
        "",
        "ModelServerConfig in text format, for several models, version policies and labels",
    ),
    _Flag(
        "model_config_file_poll_wait_seconds",
        seconds,
        0.0,
        "seconds between two reads of the config file; 0 reads it once",
    ),
    _Flag(
        "file_system_poll_wait_seconds",
        float,
        1.0,
        "seconds between two searches of the base path for versions; 0 searches once",
    ),
    _Flag(
        "allow_version_labels_for_unavailable_models",
        boolean,
        False,
        "new labels may name versions that are not loaded yet",
    ),
    _Flag(
        "enable_reload_config_rpc",
        boolean,
        False,
        "let clients change the served models (HandleReloadConfigRequest)",
    ),
    _Flag("max_num_load_retries", number, 5, "attempts to load a version after the first failure"),
    _Flag(
        "load_retry_interval_micros",
        number,
        60_000_000,
        "time between two attempts in microseconds",
    ),
    _Flag(
        "num_load_threads", number, 0, "number of versions that load at once; 0 for one per model"
    ),
    _Flag(
        "enable_model_warmup",
        boolean,
        True,
        "replay assets.extra/tf_serving_warmup_requests before a version is available",
    ),
    _Flag("num_request_iterations_for_warmup", number, 1, "how often each warm-up request runs"),
)
_RUN = (
    _Flag("saved_model_tags", str, "serve", "comma-separated tags of the graph to load"),
    _Flag(
        "tensorflow_session_parallelism",
        number,
        0,
        "sets both of the following flags; 0 for their own values",
    ),
    _Flag(
        "tensorflow_intra_op_parallelism",
        number,
        0,
        "threads within an operation; 0 for a quarter of the cores",
    ),
    _Flag(
        "tensorflow_inter_op_parallelism",
        number,
        0,
        "number of operations that run at once; 0 for the number of cores",
    ),
    _Flag("tensorflow_session_config_file", str, "", "ConfigProto of the session in text format"),
    _Flag(
        "per_process_gpu_memory_fraction",
        share,
        0.0,
        "share of a GPU's memory to allocate at the start; 0 allocates memory as needed",
    ),
    _Flag(
        "allow_file_operations",
        boolean,
        False,
        "load graphs that could read or write files, use the network or call Python",
    ),
    _Flag(
        "custom_op_library",
        str,
        [],
        "shared library of custom operations that models may use; may be given several times",
        repeated=True,
    ),
    _Flag(
        "profiler_port",
        number,
        0,
        "port of TensorFlow's profiler, open to every network of this machine; 0 for none",
    ),
    _Flag("enable_batching", boolean, False, "run requests of the same kind together"),
    _Flag("batching_parameters_file", str, "", "BatchingParameters in text format"),
    _Flag(
        "enable_per_model_batching_parameters",
        boolean,
        False,
        "batching_params.pbtxt in a version overrides the file",
        alias="enable_per_model_batching_params",
    ),
    _Flag(
        "prefer_tflite_model",
        boolean,
        False,
        "serve model.tflite where a version has one",
        alias="use_tflite_model",
    ),
    _Flag(
        "num_tflite_pools",
        number,
        0,
        "number of interpreters of a TFLite model; 0 for one per core",
    ),
    _Flag(
        "enable_signature_method_name_check",
        boolean,
        False,
        "allow Classify and Regress only for signatures with that method name",
    ),
    _Flag(
        "enable_serialization_as_tensor_content",
        boolean,
        False,
        "answer numbers as raw bytes, not as typed values",
    ),
    _Flag(
        "monitoring_config_file",
        str,
        "",
        "MonitoringConfig in text format, for Prometheus metrics on the REST port",
    ),
)
_LIMITS = (
    _Flag(
        "max_message_bytes",
        number,
        DEFAULT_MAX_MESSAGE_BYTES,
        "largest size of a decompressed gRPC request in bytes; 0 for gRPC's own limit of 2 GiB",
    ),
    _Flag(
        "max_bytes_in_flight",
        number,
        DEFAULT_MAX_BYTES_IN_FLIGHT,
        "largest size in bytes of all gRPC requests together that wait or run; 0 for any",
    ),
    _Flag(
        "rest_api_max_body_bytes",
        number,
        DEFAULT_MAX_BODY_BYTES,
        "largest size of a decompressed REST request in bytes",
    ),
    _Flag(
        "rest_api_max_body_values",
        number,
        DEFAULT_MAX_BODY_VALUES,
        "largest number of numbers, strings, lists and objects in the JSON of a REST request",
    ),
    _Flag(
        "max_image_pixels",
        number,
        50_000_000,
        "largest number of pixels of an encoded image, according to its header",
    ),
    _Flag("image_inputs", str, IMAGE_INPUT, "comma-separated inputs that hold encoded images"),
    _Flag("max_tensor_bytes", number, 0, "largest size of an input in bytes; 0 for any"),
    _Flag(
        "max_queued_requests",
        number,
        1024,
        "largest number of waiting requests; further ones are refused; 0 for any",
    ),
)
_LOGS = (
    _Flag("log_format", log_format, FORMATS[0], "format of the log on stderr: text or json"),
    _Flag("access_log", str, "", "file that gets one line of JSON for each request; - for stderr"),
    _Flag("request_log_prefix", str, "", "keep PredictionLog records in <prefix>-….tfrecord"),
    _Flag("request_log_sampling_rate", share, 0.01, "share of the requests that is kept"),
    _Flag(
        "request_log_max_bytes",
        number,
        256 << 20,
        "largest size of all files together; the oldest are deleted first",
    ),
    _Flag("request_log_images", boolean, False, "keep the images too"),
)
_NO_EFFECT = (
    _Flag("num_unload_threads", number, 0, "the last request of a version unloads it"),
    _Flag("flush_filesystem_caches", boolean, True, "the operating system manages the caches"),
    _Flag(
        "remove_unused_fields_from_bundle_metagraph",
        boolean,
        True,
        "the server always keeps only the signatures",
    ),
    _Flag("enable_profiler", boolean, True, "see --profiler_port"),
    _Flag("rest_api_num_threads", number, 0, "REST shares the threads of gRPC"),
    _Flag("num_tflite_interpreters_per_pool", number, 1, "see --num_tflite_pools"),
    _Flag("grpc_socket_permissions", str, "", "the umask sets the permissions"),
)
_GROUPS = (
    ("listening", _LISTEN),
    ("models", _MODELS),
    ("execution", _RUN),
    ("limits", _LIMITS),
    ("logs", _LOGS),
    ("without effect", _NO_EFFECT),
)
_REFUSED = frozenset(
    [
        "use_alts_credentials",
        "platform_config_file",
        "thread_pool_factory_config_file",
        "xla_cpu_compilation_enabled",
        "mixed_precision",
        "skip_initialize_tpu",
        "tensorflow_session_run_timeout",
    ]
)
"""Flags of tensorflow_model_server that this server refuses."""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the flags, which takes no abbreviated names."""
    parser = argparse.ArgumentParser(
        prog="imgpipe-model-server",
        description="Serve SavedModels over TensorFlow Serving's protocol.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    for title, flags in _GROUPS:
        group = parser.add_argument_group(title)
        for flag in flags:
            names = [f"--{name}" for name in (flag.name, flag.alias) if name]
            form: dict[str, Any] = {"nargs": "?", "const": True} if flag.kind is boolean else {}
            if flag.repeated:
                form = {"action": "append"}
            group.add_argument(
                *names, dest=flag.name, type=flag.kind, default=flag.default, help=flag.help, **form
            )
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"imgpipe-model-server {version('imgpipe')}, TensorFlow {version('tensorflow')}"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse and check the command line.

    Args:
        argv: The arguments without the name of the program.

    Returns:
        The value of each flag.

    Raises:
        SystemExit: With code 2, a flag is unknown, refused or has a wrong value. The explanation
            is on stderr.
    """
    parser = make_parser()
    flags, unknown = parser.parse_known_args(argv)
    for word in unknown:
        name = word.lstrip("-").split("=", 1)[0]
        if name in _REFUSED:
            parser.error(
                f"--{name} is a flag of tensorflow_model_server that this server does not have. "
                "Leave it out, or use tensorflow/serving."
            )
    if unknown:
        parser.error(f"unknown flags: {' '.join(unknown)}. See --help.")
    if not flags.enable_grpc_healthcheck_service:
        parser.error(
            "--enable_grpc_healthcheck_service cannot be false: the health service is always on"
        )
    if not flags.model_base_path and not flags.model_config_file:
        parser.error("no model to serve: give --model_base_path or --model_config_file")
    if flags.model_version and not flags.model_base_path:
        parser.error("--model_version needs --model_base_path; a config file has version policies")
    if flags.model_version < 0:
        parser.error(f"--model_version must be 1 or more. Received: {flags.model_version}.")
    for name in ("timeout_in_ms", "max_body_bytes", "max_body_values"):
        if getattr(flags, f"rest_api_{name}") == 0:
            parser.error(f"--rest_api_{name} must be 1 or more. Received: 0.")
    if flags.collect_directory and not (flags.web_page and flags.rest_api_port):
        parser.error("--collect_directory needs --web_page=true and --rest_api_port")
    if flags.training_images_file and not (flags.web_page and flags.rest_api_port):
        parser.error("--training_images_file needs --web_page=true and --rest_api_port")
    if flags.batching_parameters_file and not flags.enable_batching:
        parser.error("--batching_parameters_file needs --enable_batching")
    return flags


def without_effect(argv: Sequence[str]) -> list[str]:
    """Return the names of the flags in ``argv`` that have no effect in this server."""
    given = {word.lstrip("-").split("=", 1)[0] for word in argv}
    return [flag.name for flag in _NO_EFFECT if flag.name in given]
