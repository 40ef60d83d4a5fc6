"""`app`: the command line, built from the modules of `imgpipe.pipeline.commands`.

Each module there declares its options beside its body as `app` and is found by its presence.
Bodies import what they need when they run, so `imgpipe --help` loads neither TensorFlow nor
numpy.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
from typing import Annotated

import typer

from imgpipe.pipeline import commands

_MODULES = [module.name for module in pkgutil.iter_modules(commands.__path__)]
_EXAMPLES = "\n\n".join(
    [
        "Examples:",
        *(
            f"  imgpipe {example}"
            for example in (
                "check photos",
                "run photos --out imgpipe-out",
                "open imgpipe-out",
                "serve imgpipe-out",
                "predict photo.jpg",
            )
            if example.split()[0] in _MODULES  # the client has fewer commands
        ),
    ]
)

app = typer.Typer(
    name="imgpipe",
    help="From a folder of images to a blessed, served image classifier.",
    epilog=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _module in _MODULES:
    _commands = importlib.import_module(f"{commands.__name__}.{_module}").app
    app.add_typer(_commands, rich_help_panel=_commands.rich_help_panel)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import distributions

        # Unlike `version`, `distributions` raises no error for one that is not installed.
        installed = [distribution.version for distribution in distributions(name="imgpipe")]
        typer.echo(f"imgpipe {next(iter(installed), 'of unknown version')}")
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
    gc.enable()  # see cli._run
