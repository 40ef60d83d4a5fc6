"""Flags of ``imgpipe-model-server``: those of tensorflow_model_server, and additional ones.

There are three kinds of flags: those with the same meaning here, those without an effect here,
which the log reports, and those that this server cannot honor and therefore refuses. No flag is
ignored silently. Differences on purpose: ``--host`` (this machine only), ``--port=0``
(any free port, unless there is a socket path), ``--rest_api_port=-1`` (any free one), health is
always there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from imgpipe.serving.server.limits import DEFAULT_MAX_MESSAGE_BYTES, IMAGE_INPUT
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
    """May be given several times; the value is a list."""


def boolean(text: str) -> bool:
    """As tensorflow_model_server reads them: true, 1, t; false, 0, f."""
    if text.lower() in ("true", "1", "t"):
        return True
    if text.lower() in ("false", "0", "f"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, received {text!r}")


def number(text: str) -> int:
    """A whole number from 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"is 0 or more, received {value}")
    return value


def rest_port(text: str) -> int:
    """A port, or -1."""
    value = int(text)
    if not -1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"is a number from -1 to 65535, received {value}")
    return value


def seconds(text: str) -> float:
    """A time from 0 s."""
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"is 0 or more, received {text}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"is a number from 0 to 1, received {text}")
    return value


def log_format(text: str) -> str:
    """A format of the log."""
    if text not in FORMATS:
        raise argparse.ArgumentTypeError(f"is one of {', '.join(FORMATS)}, received {text!r}")
    return text


_LISTEN = (
    _Flag("port", int, DEFAULT_PORT, "gRPC port; 0 for any free one, none with a socket path"),
    _Flag("host", str, "127.0.0.1", "address to listen on; 0.0.0.0 for all networks"),
    _Flag("grpc_socket_path", str, "", "listen on this Unix socket too"),
    _Flag("grpc_channel_arguments", str, "", "name=value,…: arguments of the gRPC server"),
    _Flag("grpc_max_threads", number, 0, "requests at once; 0 for 16 a core"),
    _Flag("rest_api_port", rest_port, 0, "REST port; 0 for none, -1 for any free one"),
    _Flag("rest_api_timeout_in_ms", number, 30_000, "for one REST request, body to answer"),
    _Flag("rest_api_enable_cors_support", boolean, False, "let pages of other sites call it"),
    _Flag(
        "ssl_config_file",
        str,
        "",
        "text SSLConfig: TLS, and mTLS with client_verify; read again when it changes",
    ),
    _Flag("enable_grpc_healthcheck_service", boolean, True, "grpc.health.v1; always there"),
    _Flag("drain_seconds", seconds, DEFAULT_DRAIN_SECONDS, "for running requests after SIGTERM"),
)
_MODELS = (
    _Flag("model_name", str, "default", "name that requests use"),
    _Flag("model_base_path", str, "", "directory of the numbered versions, or gs://…"),
    _Flag("model_config_file", str, "", "text ModelServerConfig: several models, policies, labels"),
    _Flag(
        "model_config_file_poll_wait_seconds",
        seconds,
        0.0,
        "time between looks at the config file; 0 looks once",
    ),
    _Flag(
        "file_system_poll_wait_seconds",
        float,
        1.0,
        "time between looks at the base path; 0 looks once",
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
        "let clients change what is served (HandleReloadConfigRequest)",
    ),
    _Flag("max_num_load_retries", number, 5, "attempts to load a version after the first failure"),
    _Flag("load_retry_interval_micros", number, 60_000_000, "between two attempts, microseconds"),
    _Flag("num_load_threads", number, 0, "loads at once; 0 for one a model"),
    _Flag(
        "enable_model_warmup",
        boolean,
        True,
        "replay assets.extra/tf_serving_warmup_requests before a version is available",
    ),
    _Flag("num_request_iterations_for_warmup", number, 1, "how often each of them runs"),
)
_RUN = (
    _Flag("saved_model_tags", str, "serve", "comma-separated tags of the graph to load"),
    _Flag("tensorflow_session_parallelism", number, 0, "sets both of the next; 0 chooses"),
    _Flag(
        "tensorflow_intra_op_parallelism",
        number,
        0,
        "threads within an operation; 0 for a quarter of the cores",
    ),
    _Flag("tensorflow_inter_op_parallelism", number, 0, "operations at once; 0 for the cores"),
    _Flag("tensorflow_session_config_file", str, "", "text ConfigProto of the session"),
    _Flag("per_process_gpu_memory_fraction", share, 0.0, "of a GPU, taken at once; 0 grows"),
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
        "TensorFlow's profiler service, on every network of this machine; 0 for none",
    ),
    _Flag("enable_batching", boolean, False, "run requests of the same kind together"),
    _Flag("batching_parameters_file", str, "", "text BatchingParameters"),
    _Flag(
        "enable_per_model_batching_parameters",
        boolean,
        False,
        "batching_params.pbtxt in a version goes before the file",
        alias="enable_per_model_batching_params",
    ),
    _Flag(
        "prefer_tflite_model",
        boolean,
        False,
        "serve model.tflite where a version has one",
        alias="use_tflite_model",
    ),
    _Flag("num_tflite_pools", number, 0, "interpreters of such a model; 0 for one a core"),
    _Flag(
        "enable_signature_method_name_check",
        boolean,
        False,
        "Classify and Regress only for signatures of that method name",
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
        "text MonitoringConfig: a page of metrics on the REST port",
    ),
)
_LIMITS = (
    _Flag(
        "max_message_bytes",
        number,
        DEFAULT_MAX_MESSAGE_BYTES,
        "of one gRPC request, decompressed; 0 for gRPC's own 2 GiB",
    ),
    _Flag(
        "rest_api_max_body_bytes",
        number,
        DEFAULT_MAX_BODY_BYTES,
        "of one REST request, decompressed",
    ),
    _Flag(
        "rest_api_max_body_values",
        number,
        DEFAULT_MAX_BODY_VALUES,
        "numbers, strings, lists and objects in the JSON of one REST request",
    ),
    _Flag("max_image_pixels", number, 50_000_000, "of one encoded image, told by its header"),
    _Flag("image_inputs", str, IMAGE_INPUT, "comma-separated inputs that hold encoded images"),
    _Flag("max_tensor_bytes", number, 0, "of one input; 0 for any"),
    _Flag("max_queued_requests", number, 1024, "that wait; beyond it they are refused; 0 for any"),
)
_LOGS = (
    _Flag("log_format", log_format, FORMATS[0], "of the log on stderr: text, or json"),
    _Flag("access_log", str, "", "file of one JSON line a request; - for stderr"),
    _Flag("request_log_prefix", str, "", "keep PredictionLog records in <prefix>-….tfrecord"),
    _Flag("request_log_sampling_rate", share, 0.01, "share of the requests that is kept"),
    _Flag("request_log_max_bytes", number, 256 << 20, "of all files; the oldest go first"),
    _Flag("request_log_images", boolean, False, "keep the images too"),
)
_NO_EFFECT = (
    _Flag("num_unload_threads", number, 0, "the last request of a version unloads it"),
    _Flag("flush_filesystem_caches", boolean, True, "left to the system"),
    _Flag("remove_unused_fields_from_bundle_metagraph", boolean, True, "only signatures are kept"),
    _Flag("enable_profiler", boolean, True, "see profiler_port"),
    _Flag("rest_api_num_threads", number, 0, "REST shares the threads of gRPC"),
    _Flag("num_tflite_interpreters_per_pool", number, 1, "see num_tflite_pools"),
    _Flag("grpc_socket_permissions", str, "", "the umask decides"),
)
_TAKEN = (
    ("listening", _LISTEN),
    ("what is served", _MODELS),
    ("how it runs", _RUN),
    ("limits", _LIMITS),
    ("records", _LOGS),
    ("without effect here", _NO_EFFECT),
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
"""Flags of tensorflow_model_server that are understood and refused."""


def make_parser() -> argparse.ArgumentParser:
    """The flags. Long names take ``--name=value`` and ``--name value``; no abbreviations."""
    parser = argparse.ArgumentParser(
        prog="imgpipe-model-server",
        description="Serve SavedModels over TensorFlow Serving's protocol.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    for title, flags in _TAKEN:
        group = parser.add_argument_group(title)
        for flag in flags:
            names = [f"--{name}" for name in (flag.name, flag.alias) if name]
            bare: dict[str, Any] = {"nargs": "?", "const": True} if flag.kind is boolean else {}
            if flag.repeated:
                bare = {"action": "append"}
            group.add_argument(
                *names, dest=flag.name, type=flag.kind, default=flag.default, help=flag.help, **bare
            )
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"imgpipe-model-server {version('imgpipe')}, TensorFlow {version('tensorflow')}"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The flags, or an explanation and exit code 2."""
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
        parser.error("--enable_grpc_healthcheck_service cannot be false: health is always there")
    if not flags.model_base_path and not flags.model_config_file:
        parser.error("--model_base_path or --model_config_file says what to serve")
    for name in ("timeout_in_ms", "max_body_bytes", "max_body_values"):
        if getattr(flags, f"rest_api_{name}") == 0:
            parser.error(f"--rest_api_{name} is 1 or more. Received: 0.")
    if flags.batching_parameters_file and not flags.enable_batching:
        parser.error("--batching_parameters_file needs --enable_batching")
    return flags


def without_effect(argv: Sequence[str]) -> list[str]:
    """Names of given flags that have nothing to act on here."""
    given = {word.lstrip("-").split("=", 1)[0] for word in argv}
    return [flag.name for flag in _NO_EFFECT if flag.name in given]
