"""``imgpipe deploy``: writes the files with which tensorflow/serving serves published models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError
from imgpipe.models.files.atomic_write import atomic_write
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    from imgpipe.pipeline.json_formats import serving as formats

app = typer.Typer()

SCHEMA = 1  # of what --json writes
_EXAMPLES = """Examples:\n
  imgpipe deploy compose imgpipe-out --to serving\n
  imgpipe deploy kubernetes photos.toml --to serving --cpus 4
"""


@app.command("deploy", rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def command(
    kind: Annotated[str, typer.Argument(metavar="compose|kubernetes|kserve", help="Target.")],
    config: options.ConfigOrOutArgument = None,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder for the files.")] = Path(
        "imgpipe-deploy"
    ),
    settings: options.SettingsOption = None,
    image: Annotated[
        str | None, typer.Option("--image", help="Container image of tensorflow_model_server.")
    ] = None,
    cpus: Annotated[int, typer.Option("--cpus", min=1, help="Processor cores of each server.")] = 2,
    memory: Annotated[
        int, typer.Option("--memory", min=1, help="GiB of memory of each server.")
    ] = 2,
    replicas: Annotated[
        str,
        typer.Option(
            "--replicas", metavar="MIN-MAX", help="Minimum and maximum number of servers."
        ),
    ] = "2-8",
    claim: Annotated[
        str, typer.Option("--claim", help="PersistentVolumeClaim that holds the versions.")
    ] = "imgpipe-models",
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.")] = False,
    json_file: options.JsonListOption = None,
) -> None:
    """Write the files with which tensorflow/serving serves the published models."""
    from imgpipe.pipeline.command_line.settings import of_run_or_file
    from imgpipe.serving.deploy import TARGETS, DeployError, Deployment
    from imgpipe.serving.deploy.settings import IMAGE

    if kind not in TARGETS:
        raise ConfigError(f"deploy: expected one of {', '.join(TARGETS)}. Received: {kind!r}.")
    built = of_run_or_file(config, settings or [])
    models = built.push_directory
    fewest, most = _bounds(replicas)
    try:
        files = TARGETS[kind](
            Deployment(built.run.name, models, image or IMAGE, cpus, memory, fewest, most, claim)
        )
    except DeployError as error:
        raise ConfigError(str(error)) from None
    _write(files, to, force)
    console = output_files.console_beside(json_file)
    for name in files:
        console.print(f"wrote {escape(str(to / name))}")
    if not models.is_dir():
        console.print(
            f"[yellow]{escape(str(models))} does not exist yet: run the pipeline first, or name "
            "the configuration of the run that has published the model.[/]"
        )
    written: formats.Deployed = {
        "schema": SCHEMA,
        "kind": kind,
        "files": [str((to / name).absolute()) for name in files],
        "models": str(models),
        "models_exist": models.is_dir(),
    }
    output_files.write_json(written, json_file)


def _bounds(replicas: str) -> tuple[int, int]:
    """Return the smallest and the largest number of servers."""
    fewest, _, most = replicas.partition("-")
    try:
        return int(fewest), int(most or fewest)
    except ValueError:
        raise ConfigError(
            f"--replicas takes a number or a range such as 2-8. Received: {replicas!r}."
        ) from None


def _write(files: dict[str, str], out: Path, force: bool) -> None:
    there = [name for name in files if (out / name).exists()]
    if there and not force:
        raise ConfigError(
            f"{out} already holds {', '.join(there)}. Overwrite them with --force, or choose "
            "another folder with --to."
        )
    try:
        for name, text in files.items():
            atomic_write(out / name, text)
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}.") from None
