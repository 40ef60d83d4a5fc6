"""Parsers for the text files of the server: batching, monitoring and SSL.

tensorflow-serving-api contains no messages for these files, nor for the settings of a SavedModel.
They are declared here with the same fields as in TensorFlow Serving (session_bundle_config.proto,
monitoring_config.proto, ssl_config.proto, saved_model_config.proto), in a separate descriptor pool.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)

from imgpipe.serving.server.errors import BadArgument

_PACKAGE = "tensorflow.serving"
_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
}
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "BatchingParameters": (
        (1, "max_batch_size", "Int64Value"),
        (2, "batch_timeout_micros", "Int64Value"),
        (3, "max_enqueued_batches", "Int64Value"),
        (4, "num_batch_threads", "Int64Value"),
        (5, "thread_pool_name", "StringValue"),
        (6, "allowed_batch_sizes", "repeated int64"),
        (7, "pad_variable_length_inputs", "bool"),
        (8, "enable_large_batch_splitting", "BoolValue"),
        (9, "max_execution_batch_size", "Int64Value"),
    ),
    "PrometheusConfig": ((1, "enable", "bool"), (2, "path", "string")),
    "MonitoringConfig": ((1, "prometheus_config", "PrometheusConfig"),),
    "SSLConfig": (
        (1, "server_key", "string"),
        (2, "server_cert", "string"),
        (3, "custom_ca", "string"),
        (4, "client_verify", "bool"),
    ),
    # Fields of these two that have no effect on this server are kept as bytes.
    "SessionOverrides": (
        (1, "remote_op_remap_config", "bytes"),
        (2, "batch_op_rewriter_config", "bytes"),
        (3, "disable_meta_optimizer", "bool"),
    ),
    "SavedModelConfig": (
        (1, "session_overrides", "SessionOverrides"),
        (2, "tfrt_runtime_config", "bytes"),
        (3, "critical", "bool"),
    ),
}


@functools.cache
def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="server_text_files.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, kind in fields:
            repeated = kind.startswith("repeated ")
            kind = kind.removeprefix("repeated ")
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, label=label)
            if kind in _SCALARS:
                added.type = _SCALARS[kind]
            else:
                package = _PACKAGE if kind in _MESSAGES else "google.protobuf"
                added.type, added.type_name = _Field.TYPE_MESSAGE, f".{package}.{kind}"
    # A pool knows only the files that were added to it, also of Google's own messages.
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def make_message(name: str) -> Any:
    """Return a new, empty message of one of the types that are declared above."""
    return _classes()[name]()


def parse(file: Path, message: Any) -> Any:
    """Read a file in protobuf's text format.

    Args:
        file: Path of the file.
        message: An empty message of the expected type, which is filled.

    Returns:
        The message.

    Raises:
        BadArgument: The file cannot be read, or is not the text of such a message. The message of
            the error says where.
    """
    try:
        return text_format.Parse(file.read_text("utf-8"), message)
    except OSError as error:
        raise BadArgument(f"Cannot read {file}: {error.strerror}.") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise BadArgument(
            f"Invalid protobuf file: '{file}'. Error parsing text-format "
            f"{message.DESCRIPTOR.full_name}: {error}"
        ) from error


@dataclass(frozen=True)
class BatchingParameters:
    """Content of ``--batching_parameters_file``. The defaults are those of TensorFlow Serving."""

    max_batch_size: int = 1000
    """Largest number of rows of a request, and of a batch unless large batches are split."""
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 0
    """Number of batches that run at once; 0 for the number of usable cores."""
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0
    """Largest batch that runs if large batches are split; 0 for ``max_batch_size``."""
    thread_pool_name: str = "model_server_batch_threads"
    """Label of the queue in the metrics."""


def read_batching(file: Path) -> BatchingParameters:
    """Read a ``--batching_parameters_file`` or a ``batching_params.pbtxt``.

    Raises:
        BadArgument: The file cannot be read or is malformed, or its numbers contradict each other.
    """
    message = parse(file, _classes()["BatchingParameters"]())
    # Most fields are wrapped numbers, so that a 0 in the file differs from a missing field.
    given: dict[str, Any] = {
        name: getattr(message, name).value
        for _, name, kind in _MESSAGES["BatchingParameters"]
        if kind.endswith("Value") and message.HasField(name)
    }
    parameters = BatchingParameters(
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        **given,
    )
    problem = _batching_problem(parameters)
    if problem:
        raise BadArgument(f"{file}: {problem}")
    return parameters


def _batching_problem(parameters: BatchingParameters) -> str:
    least = {"max_batch_size": 1, "max_enqueued_batches": 1, "batch_timeout_micros": 0}
    for name, value in least.items():
        if getattr(parameters, name) < value:
            return f"{name} must be at least {value}; was {getattr(parameters, name)}"
    if parameters.num_batch_threads < 0 or parameters.max_execution_batch_size < 0:
        return "num_batch_threads and max_execution_batch_size must be positive"
    if parameters.max_execution_batch_size and not parameters.enable_large_batch_splitting:
        return "max_execution_batch_size needs enable_large_batch_splitting"
    if parameters.max_execution_batch_size > parameters.max_batch_size:
        return (
            "max_execution_batch_size must be at most max_batch_size, "
            f"{parameters.max_batch_size}; was {parameters.max_execution_batch_size}"
        )
    sizes = parameters.allowed_batch_sizes
    if sizes:
        if list(sizes) != sorted(set(sizes)) or sizes[0] < 1:
            return "allowed_batch_sizes entries must be monotonically increasing"
        if sizes[-1] != parameters.max_batch_size:
            return (
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {parameters.max_batch_size}"
            )
    return ""


@dataclass(frozen=True)
class Monitoring:
    """Content of ``--monitoring_config_file``: whether and under which path metrics are shown."""

    prometheus: bool = False
    path: str = "/monitoring/prometheus/metrics"


def read_monitoring(file: Path) -> Monitoring:
    """Read a ``--monitoring_config_file``.

    Raises:
        BadArgument: The file cannot be read or is malformed.
    """
    config = parse(file, _classes()["MonitoringConfig"]()).prometheus_config
    if config.path and not config.path.startswith("/"):
        raise BadArgument(f"{file}: a path begins with a slash. Received: {config.path!r}.")
    return Monitoring(config.enable, config.path or Monitoring.path)


@dataclass(frozen=True)
class SslConfig:
    """Content of ``--ssl_config_file``. The values are the texts of PEM files, not their paths."""

    server_key: str
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False
    """Whether only clients with a certificate of ``custom_ca`` may connect."""


def read_ssl(file: Path) -> SslConfig:
    """Read a ``--ssl_config_file``.

    Raises:
        BadArgument: The file cannot be read or is malformed, or a key or a certificate is missing.
    """
    config = parse(file, _classes()["SSLConfig"]())
    for name in ("server_key", "server_cert", *(["custom_ca"] * config.client_verify)):
        if "-----BEGIN" not in getattr(config, name):
            raise BadArgument(
                f"{file}: {name} is the text of a PEM file, not its path. Expected "
                f"-----BEGIN …, received {len(getattr(config, name))} characters without it."
            )
    return SslConfig(config.server_key, config.server_cert, config.custom_ca, config.client_verify)
