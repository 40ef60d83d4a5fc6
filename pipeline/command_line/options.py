"""Arguments and options that several commands share.

This module imports only Typer, because ``imgpipe --help`` loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

SOURCE_HELP = (
    "Folder of images, its .zip or .tar archive, .csv of paths or pixels, tfds:NAME, or TFRecord "
    "files."
)


def old_spelling(old: str, new: str) -> Any:
    """Declare an option that an earlier release had, which says how it is spelled now.

    Args:
        old: The option, such as ``--from``.
        new: The option or argument that replaces it, such as ``--out``.

    Returns:
        A hidden option for a parameter whose type is ``Path | None``.
    """

    def print_note(value: Path | None) -> Path | None:
        if value is not None:
            typer.echo(f"note: {old} still works; it is spelled {new} now.", err=True)
        return value

    return typer.Option(old, hidden=True, callback=print_note)


#: Headings of ``imgpipe --help``.
DATA_AND_TRAINING = "Data and training"
RUNS = "Runs"
SERVING = "Serving"
MACHINE = "This machine"

ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="[CONFIG|PRESET]", help="TOML file, or name of a preset.")
]
ConfigOrOutArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[OUT|CONFIG|PRESET]",
        help="Output folder of the runs, one of its versions or runs, TOML file, or name of a "
        "preset.",
    ),
]
DataOption = Annotated[str | None, typer.Option("--data", metavar="SRC", help=SOURCE_HELP)]
RunsOption = Annotated[
    Path | None, typer.Option("--out", metavar="OUT", help="Output folder of the runs.")
]
OutArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", help="Output folder of the runs, one of its versions, or one of its runs."
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Override one setting; may be repeated."
    ),
]
JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json", metavar="FILE", help="Write the summary to this file (- for standard output)."
    ),
]
JsonListOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write JSON to this file (- for standard output)."),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page that shows the images.")
]
ModelFolderOption = Annotated[
    Path,
    typer.Option(
        "--model",
        metavar="OUT",
        help="Output folder of a run, its folder of versions, or one version.",
    ),
]
VersionOption = Annotated[
    int | None,
    typer.Option("--version", help="Version of the model. Default: the newest intact one."),
]
HeaderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="NAME:VALUE",
        help="Header (gRPC metadata) of each request, such as 'Authorization: Bearer TOKEN'; "
        "may be repeated.",
    ),
]
ModelOption = Annotated[str, typer.Option("--model", help="Name of the served model.")]
VersionsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OUT",
        help="Output folder of the runs, its folder of versions, or the version to publish again.",
    ),
]
