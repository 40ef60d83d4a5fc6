"""``imgpipe``: builds the command line from the modules of `imgpipe.pipeline.commands` and runs it.

Each module there declares its options beside its body as ``app`` and is found by its presence.
Bodies import what they need when they run, so ``imgpipe --help`` loads neither TensorFlow nor
numpy. Exit codes: 0 done and blessed, 1 defect, 2 bad arguments or configuration, 3 finished but
not blessed, 4 data refused or drift found, 5 a resource is missing or busy, 130 interrupted by
Ctrl-C, 143 stopped by SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import typer

from imgpipe.models.errors import ImgpipeError
from imgpipe.pipeline import commands, signals, standard_streams
from imgpipe.pipeline.terminal import escape, new_console

app = typer.Typer(
    name="imgpipe",
    help="From a folder of images to a blessed, served image classifier.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for _module in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}."):
    _commands = importlib.import_module(_module.name).app
    app.add_typer(_commands, rich_help_panel=_commands.rich_help_panel)


def main() -> None:
    """Entry point of the console script: people get a sentence, not a traceback."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
    signals.install()
    standard_streams.prepare()
    try:
        app(standalone_mode=True)
    except ImgpipeError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except SystemExit:
        raise
    except BaseException:
        if not signals.received():
            raise
        _say(signals.sentence())
        sys.exit(signals.exit_code())


def _say(sentence: str) -> None:
    errors = new_console(stderr=True)
    errors.print(f"[bold red]imgpipe:[/] {escape(sentence, lines=True)}")


if __name__ == "__main__":
    main()
