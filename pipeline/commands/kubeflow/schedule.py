"""``imgpipe kubeflow schedule``: recurring runs of the pipeline on a Kubeflow Pipelines server."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console
from imgpipe.pipeline.commands.kubeflow import compile as compiling
from imgpipe.pipeline.commands.kubeflow import submit

app = typer.Typer()


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EVERY = re.compile(r"([1-9]\d*)([smhd])")

_EXAMPLES = """Examples:\n
  imgpipe kubeflow schedule photos.toml --cron '0 3 * * *' --root minio://bucket/imgpipe
"""


@app.command("schedule", epilog=_EXAMPLES)
def command(
    source: submit.FileArgument = None,
    data: options.DataOption = None,
    cron: Annotated[
        str | None,
        typer.Option("--cron", help="Times as a cron expression in UTC, such as '0 3 * * *'."),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", help="Time between two runs, such as 30m, 12h or 7d.")
    ] = None,
    host: submit.HostOption = "http://localhost:8888",
    root: submit.RootOption = None,
    parameters: submit.ParameterOption = None,
    name: submit.NameOption = None,
    experiment: submit.ExperimentOption = "imgpipe",
    namespace: submit.NamespaceOption = None,
    token: submit.TokenOption = None,
    image: compiling.ImageOption = "",
    settings: options.SettingsOption = None,
) -> None:
    """Run the pipeline on a schedule on a Kubeflow Pipelines server."""
    target = submit.Target(
        source, data, settings, image, host, root, parameters, experiment, namespace, token
    )
    raise typer.Exit(run(target, name, cron, every))


def run(
    target: submit.Target,
    name: str | None,
    cron: str | None,
    every: str | None,
) -> int:
    """Make a recurring run; returns the exit code.

    Args:
        target: The pipeline and the server.
        name: Name of the recurring run; None for that of the pipeline.
        cron: Cron expression of five fields, or of six fields, the first of which is the second.
        every: Time between two runs, such as ``12h``.

    Raises:
        ConfigError: An argument is wrong, or the server refuses the pipeline or the times.
        ResourceError: The package kfp is missing, or no server answers.
    """
    if (cron is None) == (every is None):
        raise ConfigError(
            "imgpipe kubeflow schedule needs one of --cron and --every, for example "
            "--cron '0 3 * * *' for three o'clock every night, or --every 12h."
        )
    # Both are checked here, before the pipeline is compiled and the server is asked.
    times = _six_fields(cron) if cron is not None else None
    seconds = _seconds(every) if every is not None else None
    with submit.prepare(target) as ready:
        made = ready.server.schedule(
            ready.pipeline,
            name or ready.name,
            target.experiment,
            ready.arguments,
            ready.root,
            cron=times,
            seconds=seconds,
        )
    page = f"{target.host.rstrip('/')}/#/recurringrun/details/{made}"
    console = new_console()
    console.print(f"scheduled the recurring run {escape(made)}: {escape(page)}")
    return 0


def _six_fields(cron: str) -> str:
    """Put the second before the five usual fields, as Kubeflow Pipelines expects."""
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise ConfigError(
            f"--cron {cron!r}: expected five fields (minute, hour, day of the month, month, day of "
            f"the week) or six with the second before them, received {len(fields)}. For example: "
            "--cron '0 3 * * *'"
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def _seconds(every: str) -> int:
    found = _EVERY.fullmatch(every)
    if not found:
        raise ConfigError(
            f"--every {every!r}: expected a whole number with s, m, h or d, such as 30m or 12h."
        )
    return int(found[1]) * _SECONDS[found[2]]
