"""The flags of ``imgpipe-model-server``, with their types, defaults and descriptions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imgpipe.serving.server.monitoring.log_format import FORMATS
from imgpipe.serving.server.requests import limits
from imgpipe.serving.server.rest import options as rest
from imgpipe.serving.server.signature_names import IMAGE_INPUT


def _expect(fits: bool, expected: str, received: object) -> None:
    if not fits:
        raise argparse.ArgumentTypeError(f"expected {expected}, received {received}")


# The types of the flags. argparse reports the ArgumentTypeError or ValueError of a wrong text.
def boolean(text: str) -> bool:
    """Convert a boolean as tensorflow_model_server does: true, 1, t, false, 0 or f.

    Raises:
        argparse.ArgumentTypeError: The text is none of these.
    """
    value = text.lower() in ("true", "1", "t")
    _expect(value or text.lower() in ("false", "0", "f"), "true or false", repr(text))
    return value


def number(text: str) -> int:
    """Convert a whole number that is not negative.

    Raises:
        argparse.ArgumentTypeError: The number is negative.
        ValueError: The text is not a whole number.
    """
    value = int(text)
    _expect(value >= 0, "0 or more", value)
    return value


def rest_port(text: str) -> int:
    """Convert a port number, or -1 for any free port.

    Raises:
        argparse.ArgumentTypeError: The number is not a port.
        ValueError: The text is not a whole number.
    """
    value = int(text)
    _expect(-1 <= value <= 65535, "a number from -1 to 65535", value)
    return value


def seconds(text: str) -> float:
    """Convert a time in seconds that is not negative.

    Raises:
        argparse.ArgumentTypeError: The time is negative or not a number.
        ValueError: The text is not a number.
    """
    value = float(text)
    _expect(value >= 0, "0 or more", text)
    return value


def share(text: str) -> float:
    """Convert a number from 0 to 1.

    Raises:
        argparse.ArgumentTypeError: The number is out of range.
        ValueError: The text is not a number.
    """
    value = float(text)
    _expect(0 <= value <= 1, "a number from 0 to 1", text)
    return value


def log_format(text: str) -> str:
    """Check the name of a format of the log.

    Raises:
        argparse.ArgumentTypeError: There is no such format.
    """
    _expect(text in FORMATS, f"one of {', '.join(FORMATS)}", repr(text))
    return text


@dataclass(frozen=True)
class Flag:
    """A flag; its attributes are those of an argument of argparse."""

    name: str
    help: str
    kind: Callable[[str], Any] = str
    default: Any = ""
    alias: str = ""
    repeated: bool = False
    """Whether the flag may be given several times; its value is then a list."""


def _switch(name: str, help: str, *, default: bool = False, alias: str = "") -> Flag:
    return Flag(name, help, boolean, default, alias)


def _number(name: str, help: str, default: int = 0) -> Flag:
    return Flag(name, help, number, default)


_LISTEN = (
    Flag(
        "port",
        "gRPC port; 0 for any free port, or for no port together with --grpc_socket_path",
        int,
        8500,
    ),
    Flag("host", "address to listen on; 0.0.0.0 for all networks", default="127.0.0.1"),
    Flag("grpc_socket_path", "Unix socket to listen on in addition"),
    Flag("grpc_channel_arguments", "arguments of the gRPC server as name=value,…"),
    _number("grpc_max_threads", "number of requests that run at once; 0 for 16 for each core"),
    Flag("rest_api_port", "REST port; 0 for none, -1 for any free port", rest_port, 0),
    _number(
        "rest_api_timeout_in_ms",
        "time limit of a REST request in milliseconds, from its head to its answer",
        round(rest.DEFAULT_TIMEOUT_S * 1000),
    ),
    _switch("rest_api_enable_cors_support", "let web pages of other sites call the REST interface"),
    _switch("web_page", "show a page at / of the REST port, on which people can try the models"),
    Flag(
        "collect_directory",
        "folder for the images whose labels people correct on the page; empty for none",
    ),
    Flag(
        "ssl_config_file",
        "SSLConfig in text format for TLS, and for mTLS with client_verify; it is read again when "
        "it changes",
    ),
    _switch(
        "enable_grpc_healthcheck_service",
        "the service grpc.health.v1, which cannot be disabled",
        default=True,
    ),
    Flag(
        "drain_seconds", "time in seconds to finish running requests after SIGTERM", seconds, 30.0
    ),
)
# The intervals and the number of retries are the defaults of tensorflow_model_server.
_MODELS = (
    Flag("model_name", "name of the model in requests", default="default"),
    Flag("model_base_path", "directory of the numbered versions, or gs://…"),
    Flag("model_version", "serve just this version of --model_base_path; 0: the newest", int, 0),
    Flag(
        "num_versions",
        "number of the newest versions of --model_base_path to serve at once",
        int,
        1,
    ),
    Flag(
        "model_config_file",
        "ModelServerConfig in text format, for several models, version policies and labels",
    ),
    Flag(
        "model_config_file_poll_wait_seconds",
        "seconds between two reads of the config file; 0 reads it once",
        seconds,
        0.0,
    ),
    Flag(
        "file_system_poll_wait_seconds",
        "seconds between two searches of the base path for versions; 0 searches once",
        float,
        1.0,
    ),
    _switch(
        "allow_version_labels_for_unavailable_models",
        "new labels may name versions that are not loaded yet",
    ),
    _switch(
        "enable_reload_config_rpc",
        "let clients change the served models (HandleReloadConfigRequest)",
    ),
    _number("max_num_load_retries", "attempts to load a version after the first failure", 5),
    _number("load_retry_interval_micros", "time between two attempts in microseconds", 60_000_000),
    _number("num_load_threads", "number of versions that load at once; 0 for one per model"),
    _switch(
        "enable_model_warmup",
        "replay assets.extra/tf_serving_warmup_requests before a version is available",
        default=True,
    ),
    _number("num_request_iterations_for_warmup", "how often each warm-up request runs", 1),
)
_RUN = (
    Flag("saved_model_tags", "comma-separated tags of the graph to load", default="serve"),
    _number(
        "tensorflow_session_parallelism", "sets both of the following flags; 0 for their own values"
    ),
    _number(
        "tensorflow_intra_op_parallelism",
        "threads within an operation; 0 for a quarter of the cores",
    ),
    _number(
        "tensorflow_inter_op_parallelism",
        "number of operations that run at once; 0 for the number of cores",
    ),
    Flag("tensorflow_session_config_file", "ConfigProto of the session in text format"),
    Flag(
        "per_process_gpu_memory_fraction",
        "share of a GPU's memory to allocate at the start; 0 allocates memory as needed",
        share,
        0.0,
    ),
    _switch(
        "allow_file_operations",
        "load graphs that could read or write files, use the network or call Python",
    ),
    Flag(
        "custom_op_library",
        "shared library of custom operations that models may use; may be given several times",
        default=[],
        repeated=True,
    ),
    _number(
        "profiler_port",
        "port of TensorFlow's profiler, open to every network of this machine; 0 for none",
    ),
    _switch("enable_batching", "run requests of the same kind together"),
    Flag("batching_parameters_file", "BatchingParameters in text format"),
    _switch(
        "enable_per_model_batching_parameters",
        "batching_params.pbtxt in a version overrides the file",
        alias="enable_per_model_batching_params",
    ),
    _switch(
        "prefer_tflite_model",
        "serve model.tflite where a version has one",
        alias="use_tflite_model",
    ),
    _number("num_tflite_pools", "number of interpreters of a TFLite model; 0 for one per core"),
    _switch(
        "enable_signature_method_name_check",
        "allow Classify and Regress only for signatures with that method name",
    ),
    _switch(
        "enable_serialization_as_tensor_content", "answer numbers as raw bytes, not as typed values"
    ),
    Flag(
        "monitoring_config_file",
        "MonitoringConfig in text format, for Prometheus metrics on the REST port",
    ),
)
_LIMITS = (
    _number(
        "max_message_bytes",
        "maximum size of a decompressed gRPC request in bytes; 0 for gRPC's own limit of 2 GiB",
        limits.DEFAULT_MAX_MESSAGE_BYTES,
    ),
    _number(
        "max_bytes_in_flight",
        "maximum size in bytes of all gRPC requests together that wait or run; 0 for any",
        limits.DEFAULT_MAX_BYTES_IN_FLIGHT,
    ),
    _number(
        "rest_api_max_body_bytes",
        "maximum size of a decompressed REST request in bytes",
        rest.DEFAULT_MAX_BODY_BYTES,
    ),
    _number(
        "rest_api_max_body_values",
        "maximum number of numbers, strings, lists and objects in the JSON of a REST request",
        rest.DEFAULT_MAX_BODY_VALUES,
    ),
    _number(
        "max_image_pixels",
        "maximum number of pixels of an encoded image, according to its header",
        limits.DEFAULT_MAX_PIXELS,
    ),
    Flag("image_inputs", "comma-separated inputs that hold encoded images", default=IMAGE_INPUT),
    _number("max_tensor_bytes", "maximum size of an input in bytes; 0 for any"),
    _number(
        "max_queued_requests",
        "maximum number of waiting requests; further ones are refused; 0 for any",
        limits.DEFAULT_MAX_WAITING,
    ),
)
_LOGS = (
    Flag("log_format", "format of the log on stderr: text or json", log_format, FORMATS[0]),
    Flag("access_log", "file that gets one line of JSON for each request; - for stderr"),
    Flag("request_log_prefix", "keep PredictionLog records in <prefix>-….tfrecord"),
    Flag("request_log_sampling_rate", "share of the requests that is kept", share, 0.01),
    _number(
        "request_log_max_bytes",
        "maximum size of all files together; the oldest are deleted first",
        256 << 20,
    ),
    _switch("request_log_images", "keep the images too"),
)
NO_EFFECT = (
    _number("num_unload_threads", "the last request of a version unloads it"),
    _switch("flush_filesystem_caches", "the operating system manages the caches", default=True),
    _switch(
        "remove_unused_fields_from_bundle_metagraph",
        "the server always keeps only the signatures",
        default=True,
    ),
    _switch("enable_profiler", "see --profiler_port", default=True),
    _number("rest_api_num_threads", "REST shares the threads of gRPC"),
    _number("num_tflite_interpreters_per_pool", "see --num_tflite_pools", 1),
    Flag("grpc_socket_permissions", "the umask sets the permissions"),
)
GROUPS = (
    ("listening", _LISTEN),
    ("models", _MODELS),
    ("execution", _RUN),
    ("limits", _LIMITS),
    ("logs", _LOGS),
    ("without effect", NO_EFFECT),
)
