"""``imgpipe load``: measures the throughput and latency of a server. It needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.commands.predict import ServerError, headers

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.serving.client.load_generator import Level, LoadSettings

app = typer.Typer()

#: All requests are built before the measurement starts, and kept in memory.
_MOST_IMAGES = 512
_HEADINGS = (
    f"{'callers':>7} {'requests/s':>11} {'images/s':>9} {'p50 ms':>8} {'p90 ms':>8} "
    f"{'p99 ms':>8}  stable  errors"
)
_EXAMPLES = """Examples:\n
  imgpipe load localhost:8500 --image photo.jpg\n
  imgpipe load http://localhost:8501 --concurrency 1,16 --json -
"""


@app.command("load", rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def command(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Server, HOST:PORT or http://HOST:PORT.")
    ] = "localhost:8500",
    images: Annotated[
        list[Path] | None,
        typer.Option("--image", help="Image or folder to send; may be repeated. Default: noise."),
    ] = None,
    model: options.ModelOption = "imgpipe",
    concurrency: Annotated[
        str,
        typer.Option(
            "--concurrency",
            metavar="N,N,…",
            help="Numbers of concurrent callers, measured one after the other.",
        ),
    ] = "1,8,32",
    batch: Annotated[int, typer.Option("--batch", help="Images in each request.")] = 1,
    window: Annotated[float, typer.Option("--window", help="Seconds of each window.")] = 5.0,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            help="Relative spread of three consecutive windows that counts as stable.",
        ),
    ] = 0.1,
    windows: Annotated[int, typer.Option("--windows", help="Maximum number of windows.")] = 12,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds for each request.")] = 30.0,
    header: options.HeaderOption = None,
    json_file: options.JsonListOption = None,
) -> None:
    """Measure a server at several numbers of concurrent callers: throughput, latency and errors."""
    from imgpipe.serving.client import ServingError, load_generator
    from imgpipe.serving.client.images import files_of

    if batch < 1:
        raise ConfigError(f"--batch must be 1 or more. Received: {batch}.")
    load_settings = _load_settings(concurrency, window, tolerance, windows)
    sent = headers(header)
    console = output_files.console_beside(json_file)
    try:
        contents = [path.read_bytes() for path in files_of(images or [])[:_MOST_IMAGES]]
        calls = load_generator.image_calls(contents, model, batch, timeout)
        connection = load_generator.connection(target, timeout, sent)
        levels = load_generator.run(
            connection,
            calls,
            load_settings,
            lambda level: _show(console, level, load_settings, batch),
        )
    except ServingError as error:
        raise ServerError(target, model, error) from error
    except OSError as error:
        raise ConfigError(f"cannot read {error.filename}: {error.strerror}.") from None
    output_files.write_json(
        load_generator.report(target, model, batch, load_settings, levels), json_file
    )
    if not all(level.requests for level in levels):  # one of them has no figures
        raise typer.Exit(ResourceError.exit_code)


def _load_settings(concurrency: str, window: float, tolerance: float, windows: int) -> LoadSettings:
    from imgpipe.serving.client import ServingError
    from imgpipe.serving.client.load_generator import LoadSettings

    try:
        levels = tuple(int(part) for part in concurrency.split(","))
    except ValueError:
        raise ConfigError(
            f"--concurrency takes numbers such as 1,8,32. Received: {concurrency!r}."
        ) from None
    try:
        return LoadSettings(levels, window, tolerance, windows)
    except ServingError as error:
        raise ConfigError(str(error)) from None


def _show(console: Console, level: Level, load_settings: LoadSettings, batch: int) -> None:
    if level.concurrency == load_settings.concurrency[0]:
        console.print(_HEADINGS)
    times = "".join(
        f" {'-' if value is None else format(value, '.2f'):>8}"
        for value in (level.latency_ms[name] for name in ("p50", "p90", "p99"))
    )
    errors = ", ".join(f"{code} {count}" for code, count in level.errors.items()) or "none"
    note = ""
    if level.client_cores > 0.9:  # Python runs on one core at a time
        note = "  (the client used a whole core, so it may be the bottleneck)"
    console.print(
        f"{level.concurrency:>7} {level.throughput:>11.1f} "
        f"{level.throughput * batch:>9.1f}{times}  {'yes' if level.stable else 'no':>6}  "
        f"{errors}{note}"
    )
