"""`imgpipe init`: writes a commented configuration that fits the images."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError, printable
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import new_console

if TYPE_CHECKING:
    from imgpipe.models.settings.settings import Settings

app = typer.Typer()

#: The settings that decide most about a model, which are written even with their defaults.
_SETTINGS = (
    *("run.name", "run.out", "data.source", "data.group_pattern"),
    *("split.validation", "split.test", "gate.min_train", "gate.min_validation"),
    *("model.backbone", "model.image_size", "train.minutes", "evaluate.threshold"),
)
_HEADER = """\
# The settings that matter most, for: imgpipe run --config {name}
# All others have defaults that fit most images. The page "Settings" of the documentation describes
# them, and `imgpipe init SRC --all` writes every one with its description.

"""
_EXAMPLES = """Examples:\n
  imgpipe init photos\n
  imgpipe init photos.zip -o photos.toml\n
  imgpipe init photos --all --force
"""


@app.command(rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def init(
    source: Annotated[str, typer.Argument(metavar="SRC", help=options.SOURCE_HELP)],
    output: options.OutputOption = Path("imgpipe.toml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
    settings: options.SettingsOption = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Write all settings, not only those that matter most.")
    ] = False,
) -> None:
    """Inspect the source and write a commented configuration that fits it."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.example_gen.sources import absolute_spec, read_source
    from imgpipe.components.report.blocks import Command, Figures
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.configuration.given_settings import assigned, configuration
    from imgpipe.pipeline.machine_checks import installed_backbones

    if output.exists() and not force:
        raise ConfigError(
            f"{output} exists already. Choose another file with -o, or overwrite it with --force."
        )
    name = _name(absolute_spec(source, Path.cwd()))
    given = {"run.name": name, **assigned(settings or [])}
    config = configuration(None, source, None, given)
    with consoles.quiet():  # without the messages of TensorFlow, which reads TFRecord files
        images = read_source(config.data.source, config.data)
    output_files.write(output, _text(config, None if everything else output.name), "--output ")
    classes = plural(len(images.classes), "class", "classes")
    counts = ", ".join(f"{name} {count}" for name, count in images.counts().items())
    groups = f"{images.groups()}, each of which stays in one split" if images.groups() else ""
    rows = {
        "files": f"{plural(len(images.items), 'file')} in {classes}: {counts}",
        "groups": groups,
        "noted": "; ".join(finding["sentence"] for finding in images.findings),
        "backbones": f"installed: {installed_backbones()}",
        "wrote": str(output),
        "next": Command(f"imgpipe run --config {shlex.quote(str(output))}"),
    }
    shown = [(name, words) for name, words in rows.items() if words]
    print_blocks(new_console(), [Figures(shown)])


def _text(config: Settings, name: str | None) -> str:
    """Write the settings that matter most or differ from their defaults; without a name, all."""
    from imgpipe.pipeline.configuration.config import flat
    from imgpipe.pipeline.configuration.given_settings import to_toml

    if name is None:
        return to_toml(config)
    different = flat(config.model_dump(mode="json", exclude_defaults=True))
    only = {*_SETTINGS, *(key for key, _ in different)}
    return _HEADER.format(name=printable(shlex.quote(name))) + to_toml(config, only)


def _name(source: str) -> str:
    """Derive the name of the pipeline from that of the source."""
    # Of tfds:NAME the part after the colon, of photos.tar.gz the part before the first dot.
    stem = Path(source.split(":", 1)[-1]).name.split(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")
    return name[:62] or "imgpipe"  # within the limit of `run.name`
