"""``app``: the command line, built from the modules of `imgpipe.pipeline.commands`.

Each module there declares its options beside its body as ``app`` and is found by its presence.
Bodies import what they need when they run, so ``imgpipe --help`` loads neither TensorFlow nor
numpy.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Annotated

import typer

from imgpipe.pipeline import commands

app = typer.Typer(
    name="imgpipe",
    help="From a folder of images to a blessed, served image classifier.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _module in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
    _commands = importlib.import_module(_module.name).app
    app.add_typer(_commands, rich_help_panel=_commands.rich_help_panel)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import distributions

        names = ("imgpipe", "imgpipe-client")  # the client's distribution has this module too
        found = {one.name: one.version for name in names for one in distributions(name=name)}
        typer.echo(f"imgpipe {next(iter(found.values()), 'of unknown version')}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """From a folder of images to a blessed, served image classifier."""
