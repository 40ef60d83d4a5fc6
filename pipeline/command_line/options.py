"""Arguments and options that several commands share.

This module imports only Typer, because `imgpipe --help` loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

SOURCE_HELP = (
    "Folder of class folders, archive of it (.zip, .tar, .tar.gz), list or pixel table (.csv, "
    ".jsonl), tfds:NAME, TFRecord files, or a folder in a bucket (gs://, s3://)."
)


def writable_file(param: typer.CallbackParam, value: Any) -> Any:
    """Refuse a file that cannot be written before any work is done, as an option's callback.

    Raises:
        ConfigError: Its folder does not exist, or it is a folder itself or an address, or it is `-`
            for a page or a picture, which no other program reads.
    """
    from imgpipe.models.errors import ConfigError
    from imgpipe.pipeline.command_line.output_files import STANDARD_OUTPUT, local_file

    option = param.opts[0]
    # A page or a picture is a Path; the text of a table or of JSON may go to standard output.
    if value == Path(STANDARD_OUTPUT):
        raise ConfigError(
            f"{option} takes the name of a file and prints nothing. Received: {STANDARD_OUTPUT}."
        )
    if value in (None, "", STANDARD_OUTPUT):
        return value
    path = local_file(value, f"{option} ")
    if path.is_dir():
        raise ConfigError(f"{option} {value} is a folder. Name a file, such as one in it.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{option} {value}: its folder does not exist.")
    return value


def output_folder(text: str) -> Path:
    """Parse the value of an option for an output folder.

    The path of an empty text is the current folder, which nobody means by a variable that is not
    set, as in `--out "$OUT"`.

    Raises:
        ConfigError: The value is empty.
    """
    from imgpipe.models.errors import ConfigError

    if not text.strip():
        raise ConfigError(
            "The output folder (--out) is empty; expected the path of a folder. For the current "
            "folder use: ."
        )
    return Path(text)


def _settings(incomplete: str) -> list[str]:
    """Return the settings that complete a word in the shell."""
    from imgpipe.pipeline.configuration.config import all_fields

    return [f"{key}=" for key in all_fields() if key.startswith(incomplete)]


def _presets(incomplete: str) -> list[str]:
    """Return the presets that complete a word in the shell."""
    from imgpipe.pipeline.configuration.given_settings import presets

    return [name for name in presets() if name.startswith(incomplete)]


#: Headings of `imgpipe --help`.
DATA_AND_TRAINING = "Data and training"
RUNS = "Runs"
SERVING = "Serving"
MACHINE = "This machine"

ConfigArgument = Annotated[
    str | None, typer.Argument(metavar="CONFIG|PRESET", help="TOML file, or name of a preset.")
]
ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="TOML file with settings.")
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help="Settings of a course's system, such as cats_vs_dogs_cnn; a wrong name lists all.",
        autocompletion=_presets,
    ),
]
DataOption = Annotated[str | None, typer.Option("--data", metavar="SRC", help=SOURCE_HELP)]
OutArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OUT", help="Output folder of the runs, one of its versions, or one of its runs."
    ),
]
SettingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override one setting; may be repeated.",
        autocompletion=_settings,
    ),
]
JsonOption = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write JSON to this file (- for standard output).",
        callback=writable_file,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="OUT",
        parser=output_folder,
        help="Folder of all outputs. Default: that of the configuration, or imgpipe-out.",
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", metavar="FILE", help="File to write.", callback=writable_file),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Write a page that shows the images.",
        callback=writable_file,
    ),
]
ModelFolderOption = Annotated[
    Path,
    typer.Option(
        "--model",
        metavar="OUT",
        help="Output folder of the runs; one version, OUT/model/N; or one run, OUT/runs/TIME, "
        "whose model need not be blessed.",
    ),
]
VersionOption = Annotated[
    int | None,
    typer.Option("--version", help="Version of the model. Default: the newest intact one."),
]
VersionsArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OUT",
        help="Output folder of the runs; one version, OUT/model/N; or the run that published it, "
        "OUT/runs/TIME.",
    ),
]
