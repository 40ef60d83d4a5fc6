"""``app``: the command line, built from the modules of `imgpipe.pipeline.commands`.

Each module there declares its options beside its body as ``app`` and is found by its presence.
Bodies import what they need when they run, so ``imgpipe --help`` loads neither TensorFlow nor
numpy.
"""

from __future__ import annotations

import gc
import importlib
import pkgutil
from typing import Annotated, Any

import typer
import typer.core

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


class _Commands(typer.core.TyperGroup):
    """The group of all commands.

    Where an unknown option has the name of an argument or of a setting, the error says so.
    """

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Run the command that was named; see `typer.core.TyperGroup`."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # The class NoSuchOption belongs to the copy of Click that is private to Typer.
            option, context = getattr(error, "option_name", ""), getattr(error, "ctx", None)
            parameters = context.command.params if option and context else []
            if any(option == f"--{parameter.name}" for parameter in parameters):
                usage = context.get_usage().removeprefix("Usage: ")  # type: ignore[union-attr]
                error.message += f". Its value needs no option: {usage}"  # type: ignore[attr-defined]
            elif any("--set" in parameter.opts for parameter in parameters):
                error.message += _setting(option)  # type: ignore[attr-defined]
            raise


def _setting(option: str) -> str:
    """Name the settings that are called like an option that does not exist."""
    from imgpipe.pipeline.configuration.config import known_keys

    name = option.lstrip("-").replace("-", "_")
    # The same name may occur in several sections, such as `threshold`.
    found = [key for key in known_keys() if key.rsplit(".", 1)[-1] == name]
    # A command that writes there has --out.
    choices = [f"--set {key}=VALUE" for key in found if key != "run.out"]
    return f". There is a setting of this name: {' or '.join(choices)}" if choices else ""


app = typer.Typer(
    cls=_Commands,
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
        installed = [found.version for found in distributions(name="imgpipe")]
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
