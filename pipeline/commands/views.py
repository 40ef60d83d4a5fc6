"""``imgpipe views``: draws augmented views of images on a contact sheet.

It needs neither TFX nor Beam, trains nothing and writes only the contact sheet.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import escape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imgpipe.pipeline.configuration.config import Config
    from imgpipe.pipeline.json_formats import data as formats

app = typer.Typer()

SCHEMA = 1  # of what --json writes

_SIDE = 224  # largest side of a view on the sheet, in pixels
_EXAMPLES = """Examples:\n
  imgpipe views photos --to views.png
"""


@app.command("views", rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def command(
    path: Annotated[
        str, typer.Argument(metavar="IMAGE|FOLDER", help="An image, or a folder of images.")
    ],
    config: options.ConfigArgument = None,
    settings: options.SettingsOption = None,
    to: Annotated[
        Path, typer.Option("--to", metavar="FILE", help="File for the contact sheet, a .png.")
    ] = Path("views.png"),
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=64, help="Number of images of a folder to show.")
    ] = 8,
    json_file: options.JsonListOption = None,
) -> None:
    """Draw augmented views of images on a contact sheet."""
    from imgpipe.components.report.text import plural
    from imgpipe.models.augmentation import contact_sheet
    from imgpipe.pipeline.command_line import steps
    from imgpipe.pipeline.command_line.settings import configuration

    built = configuration(config, None, None, settings or [])
    size, spec = built.settings.size, built.views.spec
    paths = spread(Path(path).expanduser())
    if to.suffix.lower() != ".png":
        raise ConfigError(f"--to {to}: expected a name that ends in .png.")
    output_files.check_folder("--to", to)
    with steps.quiet(to_stderr=json_file == output_files.STANDARD_OUTPUT) as console:
        drawn, skipped = _rows(paths, rows, built, size)
        for file, why in skipped:
            console.print(f"skipped {escape(str(file))}: {escape(why)}", soft_wrap=True)
        if not drawn:
            raise ConfigError(f"{path}: none of its {len(paths)} files is an image.")
        content = contact_sheet.png(contact_sheet.draw(drawn, min(size, _SIDE)))
        output_files.write(to, content, "--to ")
        views = plural(spec.count, "augmented view")
        text = f"wrote {to}: {plural(len(drawn), 'image')}, each with {views}"
        console.print(escape(text), soft_wrap=True)
    shown: formats.Views = {
        "schema": SCHEMA,
        "file": str(to.absolute()),
        "images": [caption for caption, _ in drawn],
        "views": spec.count,
        "skipped": [{"path": str(file), "why": why} for file, why in skipped],
    }
    output_files.write_json(shown, json_file)


def spread(path: Path) -> list[Path]:
    """List files so that the first ones come from many folders.

    Args:
        path: A file, or a folder.

    Returns:
        The file itself, or all files below the folder, one from each sub-folder in turn.

    Raises:
        ConfigError: There is no such file or folder, or no file in it.
    """
    from imgpipe.components.example_gen.sources.layout import is_hidden

    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ConfigError(f"{path}: expected an image or a folder. Received: no such path.")
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in sorted(path.rglob("*")):
        hidden = any(is_hidden(part) for part in file.relative_to(path).parts)
        if file.is_file() and not hidden:
            folders[file.parent].append(file)
    if not folders:
        raise ConfigError(f"{path}: expected images in this folder. Received: no file.")
    turns = itertools.zip_longest(*folders.values())
    return [file for turn in turns for file in turn if file is not None]


def _rows(
    paths: Sequence[Path], count: int, config: Config, size: int
) -> tuple[list[tuple[str, npt.NDArray[np.uint8]]], list[tuple[Path, str]]]:
    """Return captions and views of the first `count` images, and the files that are not images."""
    import hashlib

    from imgpipe.models.augmentation.contact_sheet import view_pixels
    from imgpipe.pipeline.command_line import image_bytes

    drawn, skipped = [], []
    for path, data, error in image_bytes.read(paths, config.judge.pixel_limit):
        if error:
            skipped.append((path, error))
            continue
        # The hash seeds the views, so the sheet shows those that a run would train on.
        content_hash = hashlib.sha256(data).hexdigest()
        views = view_pixels(data, content_hash, config.views.spec, size)
        drawn.append((f"{path.parent.name}/{path.name}", views))
        if len(drawn) == count:
            break
    return drawn, skipped
