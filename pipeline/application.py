"""`app`: the command line, built from the modules of `imgpipe.pipeline.commands`.

Each module there declares its options beside its body as `app` and is found by its presence.
Bodies import what they need when they run, so `imgpipe --help` loads neither TensorFlow nor
numpy.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Sequence
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

_ALIKE = 0.75  # from which ratio of difflib on a name is taken for a misspelt one
#: Words of other tools, each with the command that is meant.
_MEANT = {"train": "run", "fit": "run", "test": "evaluate", "classify": "predict", "report": "open"}


class _Commands(typer.core.TyperGroup):
    """The group of all commands, whose errors name the command or setting that may be meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that was named; see `typer.core.TyperGroup`."""
        similar = difflib.get_close_matches(args[0], [*self.commands, *_MEANT], 1, _ALIKE)
        if similar and similar[0] in _MEANT:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {_MEANT[similar[0]]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named; see `typer.core.TyperGroup`."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # The class NoSuchOption belongs to the copy of Click that is private to Typer.
            context: Any = getattr(error, "ctx", None)
            if context is not None and hasattr(error, "possibilities"):
                meanings = _option_names(context.command.params)
                close = difflib.get_close_matches(error.option_name, meanings, cutoff=_ALIKE)  # type: ignore[attr-defined]
                error.possibilities = [meanings[name] for name in close]
            raise


def _option_names(parameters: Sequence[Any]) -> dict[str, str]:
    """Return what may be meant by a name: an option, or a setting where a command has `--set`."""
    options = {option: option for parameter in parameters for option in parameter.opts}
    if "--set" not in options:
        return options
    from imgpipe.pipeline.configuration.config import all_fields

    last_parts = {f"--{key.rpartition('.')[2]}": f"--set {key}=VALUE" for key in all_fields()}
    return last_parts | options


app = typer.Typer(
    cls=_Commands,
    name="imgpipe",
    help="From a folder of images to a blessed, served image classifier.",
    epilog=_EXAMPLES,
    invoke_without_command=True,
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
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """From a folder of images to a blessed, served image classifier."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
