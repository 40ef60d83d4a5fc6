"""`app`: the command line, built from the modules of `imgpipe.pipeline.commands`.

Each module there declares its options beside its body as `app` and is found by its presence.
Bodies import what they need when they run, so `imgpipe --help` loads neither TensorFlow nor
numpy.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import pkgutil
from typing import Annotated, Any

import typer
import typer.core

from imgpipe.pipeline import commands

_ALIKE = 0.75  # from which ratio of difflib on a name is taken for a misspelt one
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


#: Words of other tools, and the command that is meant.
_MEANT = {
    **dict.fromkeys(("train", "fit", "learn", "build", "start"), "run"),
    **dict.fromkeys(("test", "eval", "score"), "evaluate"),
    **dict.fromkeys(("ui", "web", "server", "gui", "deploy", "try"), "serve"),
    **dict.fromkeys(("classify", "infer", "label"), "predict"),
    **dict.fromkeys(("inspect", "validate", "verify", "data"), "check"),
    **dict.fromkeys(("report", "show", "view"), "open"),
    **dict.fromkeys(("list", "ls", "history"), "runs"),
    **dict.fromkeys(("config", "new"), "init"),
    **dict.fromkeys(("convert", "save"), "export"),
}


class _Commands(typer.core.TyperGroup):
    """The group of all commands.

    Where a word of another tool is no command, the error says which one is meant. Where an unknown
    option has the name of an argument or of a setting, the error says so.
    """

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> Any:  # type: ignore[override]
        """Find the command that was named; see `typer.core.TyperGroup`."""
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            known = [*self.commands, *_MEANT]
            close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=_ALIKE)
            if close:
                meant = _MEANT.get(close[0], close[0])
                ctx.fail(f"No such command {name!r}. Did you mean: imgpipe {meant}?")
        return super().resolve_command(ctx, args)

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
                setting = _setting(option)
                error.message += setting  # type: ignore[attr-defined]
                if setting:  # is meant, and no option
                    error.possibilities = []  # type: ignore[attr-defined]
            raise


def _setting(option: str) -> str:
    """Name the settings that are called like an option that does not exist."""
    from imgpipe.pipeline.configuration.config import known_keys

    # A command that writes to the output folder has --out. The same name may occur in several
    # sections, such as `threshold`.
    keys = [key for key in known_keys() if key != "run.out"]
    names = [key.rsplit(".", 1)[-1] for key in keys]
    name = option.lstrip("-").replace("-", "_")
    close = difflib.get_close_matches(name, names, n=1, cutoff=_ALIKE)
    if not close:
        return ""
    choices = [
        f"--set {key}=VALUE" for key, last in zip(keys, names, strict=True) if last == close[0]
    ]
    described = "of this name" if close[0] == name else "of a similar name"
    return f". There is a setting {described}: {' or '.join(choices)}"


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
