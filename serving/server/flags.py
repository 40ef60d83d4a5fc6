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
from collections.abc import Sequence
from typing import Any

from imgpipe.serving.server.flag_table import GROUPS, NO_EFFECT, boolean

MAX_INT32 = (1 << 31) - 1
"""Largest number in an argument of a gRPC channel."""
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
    for title, flags in GROUPS:
        group = parser.add_argument_group(title)
        for flag in flags:
            names = [f"--{name}" for name in (flag.name, flag.alias) if name]
            # As with tensorflow_model_server, ``--flag`` alone means ``--flag=true``.
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
    for name in ("model_version", "num_versions", "request_log_prefix"):
        if flags.model_config_file and getattr(flags, name) != parser.get_default(name):
            parser.error(
                f"--{name} is not used with --model_config_file. Set it for each model in that "
                "file, or leave it out."
            )
    rate = "request_log_sampling_rate"
    if getattr(flags, rate) != parser.get_default(rate) and not flags.request_log_prefix:
        parser.error(f"--{rate} needs --request_log_prefix")
    if flags.model_version < 0:
        parser.error(f"--model_version must be 1 or more. Received: {flags.model_version}.")
    if flags.num_versions < 1:
        parser.error(f"--num_versions must be 1 or more. Received: {flags.num_versions}.")
    if flags.num_versions > 1 and flags.model_version:
        parser.error("--num_versions cannot be used together with --model_version")
    for name in ("timeout_in_ms", "max_body_bytes", "max_body_values"):
        if getattr(flags, f"rest_api_{name}") == 0:
            parser.error(f"--rest_api_{name} must be 1 or more. Received: 0.")
    if flags.collect_directory and not (flags.web_page and flags.rest_api_port):
        parser.error("--collect_directory needs --web_page=true and --rest_api_port")
    if flags.max_message_bytes > MAX_INT32:
        parser.error(
            f"--max_message_bytes must be at most {MAX_INT32}, or 0 for gRPC's own limit of 2 GiB. "
            f"Received: {flags.max_message_bytes}."
        )
    if flags.batching_parameters_file and not flags.enable_batching:
        parser.error("--batching_parameters_file needs --enable_batching")
    return flags


def without_effect(argv: Sequence[str]) -> list[str]:
    """Return the names of the flags in ``argv`` that have no effect in this server."""
    given = {word.lstrip("-").split("=", 1)[0] for word in argv}
    names = [flag.name for flag in NO_EFFECT]
    if "model_config_file" in given:  # which tensorflow_model_server uses instead of these too
        names += ["model_name", "model_base_path"]
    return [name for name in names if name in given]
