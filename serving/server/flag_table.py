"""The flags of ``imgpipe-model-server``, with their types, defaults and descriptions."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imgpipe.serving.server.monitoring.log_format import FORMATS
from imgpipe.serving.server.requests.limits import (
    DEFAULT_MAX_BYTES_IN_FLIGHT,
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WAITING,
)
from imgpipe.serving.server.rest.options import (
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_MAX_BODY_VALUES,
    DEFAULT_TIMEOUT_S,
)
from imgpipe.serving.server.signature_names import IMAGE_INPUT

DEFAULT_PORT = 8500
DEFAULT_DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class Flag:
    """A flag; its attributes are those of an argument of argparse."""

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
    Flag(
        "port",
        int,
        DEFAULT_PORT,
        "gRPC port; 0 for any free port, or for no port together with --grpc_socket_path",
    ),
    Flag("host", str, "127.0.0.1", "address to listen on; 0.0.0.0 for all networks"),
    Flag("grpc_socket_path", str, "", "Unix socket to listen on in addition"),
    Flag("grpc_channel_arguments", str, "", "arguments of the gRPC server as name=value,…"),
    Flag(
        "grpc_max_threads", number, 0, "number of requests that run at once; 0 for 16 for each core"
    ),
    Flag("rest_api_port", rest_port, 0, "REST port; 0 for none, -1 for any free port"),
    Flag(
        "rest_api_timeout_in_ms",
        number,
        round(DEFAULT_TIMEOUT_S * 1000),
        "time limit of a REST request in milliseconds, from its body to its answer",
    ),
    Flag(
        "rest_api_enable_cors_support",
        boolean,
        False,
        "let web pages of other sites call the REST interface",
    ),
    Flag(
        "web_page",
        boolean,
        False,
        "show a page at / of the REST port, on which people can try the models",
    ),
    Flag(
        "collect_directory",
        str,
        "",
        "folder for the images whose labels people correct on the page; empty for none",
    ),
    Flag(
        "training_images_file",
        str,
        "",
        "file of training images, of which the page shows those nearest to an image; "
        "imgpipe serve --nearest writes it",
    ),
    Flag(
        "ssl_config_file",
        str,
        "",
        "SSLConfig in text format for TLS, and for mTLS with client_verify; it is read again when "
        "it changes",
    ),
    Flag(
        "enable_grpc_healthcheck_service",
        boolean,
        True,
        "the service grpc.health.v1, which cannot be disabled",
    ),
    Flag(
        "drain_seconds",
        seconds,
        DEFAULT_DRAIN_SECONDS,
        "time in seconds to finish running requests after SIGTERM",
    ),
)
# The intervals and the number of retries are the defaults of tensorflow_model_server.
_MODELS = (
    Flag("model_name", str, "default", "name of the model in requests"),
    Flag("model_base_path", str, "", "directory of the numbered versions, or gs://…"),
    Flag("model_version", int, 0, "serve just this version of --model_base_path; 0: the newest"),
    Flag(
        "num_versions",
        int,
        1,
        "number of the newest versions of --model_base_path to serve at once",
    ),
    Flag(
        "model_config_file",
        str,
        "",
        "ModelServerConfig in text format, for several models, version policies and labels",
    ),
    Flag(
        "model_config_file_poll_wait_seconds",
        seconds,
        0.0,
        "seconds between two reads of the config file; 0 reads it once",
    ),
    Flag(
        "file_system_poll_wait_seconds",
        float,
        1.0,
        "seconds between two searches of the base path for versions; 0 searches once",
    ),
    Flag(
        "allow_version_labels_for_unavailable_models",
        boolean,
        False,
        "new labels may name versions that are not loaded yet",
    ),
    Flag(
        "enable_reload_config_rpc",
        boolean,
        False,
        "let clients change the served models (HandleReloadConfigRequest)",
    ),
    Flag("max_num_load_retries", number, 5, "attempts to load a version after the first failure"),
    Flag(
        "load_retry_interval_micros",
        number,
        60_000_000,
        "time between two attempts in microseconds",
    ),
    Flag(
        "num_load_threads", number, 0, "number of versions that load at once; 0 for one per model"
    ),
    Flag(
        "enable_model_warmup",
        boolean,
        True,
        "replay assets.extra/tf_serving_warmup_requests before a version is available",
    ),
    Flag("num_request_iterations_for_warmup", number, 1, "how often each warm-up request runs"),
)
_RUN = (
    Flag("saved_model_tags", str, "serve", "comma-separated tags of the graph to load"),
    Flag(
        "tensorflow_session_parallelism",
        number,
        0,
        "sets both of the following flags; 0 for their own values",
    ),
    Flag(
        "tensorflow_intra_op_parallelism",
        number,
        0,
        "threads within an operation; 0 for a quarter of the cores",
    ),
    Flag(
        "tensorflow_inter_op_parallelism",
        number,
        0,
        "number of operations that run at once; 0 for the number of cores",
    ),
    Flag("tensorflow_session_config_file", str, "", "ConfigProto of the session in text format"),
    Flag(
        "per_process_gpu_memory_fraction",
        share,
        0.0,
        "share of a GPU's memory to allocate at the start; 0 allocates memory as needed",
    ),
    Flag(
        "allow_file_operations",
        boolean,
        False,
        "load graphs that could read or write files, use the network or call Python",
    ),
    Flag(
        "custom_op_library",
        str,
        [],
        "shared library of custom operations that models may use; may be given several times",
        repeated=True,
    ),
    Flag(
        "profiler_port",
        number,
        0,
        "port of TensorFlow's profiler, open to every network of this machine; 0 for none",
    ),
    Flag("enable_batching", boolean, False, "run requests of the same kind together"),
    Flag("batching_parameters_file", str, "", "BatchingParameters in text format"),
    Flag(
        "enable_per_model_batching_parameters",
        boolean,
        False,
        "batching_params.pbtxt in a version overrides the file",
        alias="enable_per_model_batching_params",
    ),
    Flag(
        "prefer_tflite_model",
        boolean,
        False,
        "serve model.tflite where a version has one",
        alias="use_tflite_model",
    ),
    Flag(
        "num_tflite_pools",
        number,
        0,
        "number of interpreters of a TFLite model; 0 for one per core",
    ),
    Flag(
        "enable_signature_method_name_check",
        boolean,
        False,
        "allow Classify and Regress only for signatures with that method name",
    ),
    Flag(
        "enable_serialization_as_tensor_content",
        boolean,
        False,
        "answer numbers as raw bytes, not as typed values",
    ),
    Flag(
        "monitoring_config_file",
        str,
        "",
        "MonitoringConfig in text format, for Prometheus metrics on the REST port",
    ),
)
_LIMITS = (
    Flag(
        "max_message_bytes",
        number,
        DEFAULT_MAX_MESSAGE_BYTES,
        "largest size of a decompressed gRPC request in bytes; 0 for gRPC's own limit of 2 GiB",
    ),
    Flag(
        "max_bytes_in_flight",
        number,
        DEFAULT_MAX_BYTES_IN_FLIGHT,
        "largest size in bytes of all gRPC requests together that wait or run; 0 for any",
    ),
    Flag(
        "rest_api_max_body_bytes",
        number,
        DEFAULT_MAX_BODY_BYTES,
        "largest size of a decompressed REST request in bytes",
    ),
    Flag(
        "rest_api_max_body_values",
        number,
        DEFAULT_MAX_BODY_VALUES,
        "largest number of numbers, strings, lists and objects in the JSON of a REST request",
    ),
    Flag(
        "max_image_pixels",
        number,
        DEFAULT_MAX_PIXELS,
        "largest number of pixels of an encoded image, according to its header",
    ),
    Flag("image_inputs", str, IMAGE_INPUT, "comma-separated inputs that hold encoded images"),
    Flag("max_tensor_bytes", number, 0, "largest size of an input in bytes; 0 for any"),
    Flag(
        "max_queued_requests",
        number,
        DEFAULT_MAX_WAITING,
        "largest number of waiting requests; further ones are refused; 0 for any",
    ),
)
_LOGS = (
    Flag("log_format", log_format, FORMATS[0], "format of the log on stderr: text or json"),
    Flag("access_log", str, "", "file that gets one line of JSON for each request; - for stderr"),
    Flag("request_log_prefix", str, "", "keep PredictionLog records in <prefix>-….tfrecord"),
    Flag("request_log_sampling_rate", share, 0.01, "share of the requests that is kept"),
    Flag(
        "request_log_max_bytes",
        number,
        256 << 20,
        "largest size of all files together; the oldest are deleted first",
    ),
    Flag("request_log_images", boolean, False, "keep the images too"),
)
NO_EFFECT = (
    Flag("num_unload_threads", number, 0, "the last request of a version unloads it"),
    Flag("flush_filesystem_caches", boolean, True, "the operating system manages the caches"),
    Flag(
        "remove_unused_fields_from_bundle_metagraph",
        boolean,
        True,
        "the server always keeps only the signatures",
    ),
    Flag("enable_profiler", boolean, True, "see --profiler_port"),
    Flag("rest_api_num_threads", number, 0, "REST shares the threads of gRPC"),
    Flag("num_tflite_interpreters_per_pool", number, 1, "see --num_tflite_pools"),
    Flag("grpc_socket_permissions", str, "", "the umask sets the permissions"),
)
GROUPS = (
    ("listening", _LISTEN),
    ("models", _MODELS),
    ("execution", _RUN),
    ("limits", _LIMITS),
    ("logs", _LOGS),
    ("without effect", NO_EFFECT),
)
