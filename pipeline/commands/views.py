"""``imgpipe views``: what augmentation makes of images, as a contact sheet.

Neither TFX nor Beam is imported; nothing is trained and nothing but the sheet is written.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.atomic_write import atomic_write
from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline import options
from imgpipe.pipeline.terminal import escape

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imgpipe.pipeline.config import Config

app = typer.Typer()

_SIDE = 224  # pixels of a view on the sheet, at most


@app.command("views", rich_help_panel=options.DATA_AND_TRAINING)
def command(
    photos: Annotated[
        str, typer.Argument(metavar="PHOTO|FOLDER", help="An image, or a folder of some.")
    ],
    config: options.ConfigArgument = None,
    settings: options.SettingsOption = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="Where to write the sheet, a .png.")
    ] = Path("views.png"),
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=64, help="Images of a folder to show.")
    ] = 8,
) -> None:
    """Show what augmentation makes of images: a contact sheet of their views."""
    raise typer.Exit(run(photos, config, settings or [], out, rows))


def run(photos: str, config_file: str | None, settings: Sequence[str], out: Path, rows: int) -> int:
    """Draw and write the sheet; returns the exit code."""
    from imgpipe.components.report.text import plural
    from imgpipe.pipeline import console as screen
    from imgpipe.pipeline import temporary
    from imgpipe.pipeline.settings import configuration

    config = configuration(config_file, None, None, settings)
    size = config.settings.size
    paths = spread(Path(photos).expanduser())
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: expected a name that ends in .png.")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: its folder does not exist.")
    with temporary.folder() as folder, screen.quiet(folder / "log") as console:
        drawn, skipped = _rows(paths, rows, config, size)
        for path, why in skipped:
            console.print(f"skipped {escape(str(path))}: {escape(why)}", soft_wrap=True)
        if not drawn:
            raise ConfigError(f"{photos}: none of {len(paths)} files shows an image.")
        _write(out, drawn, min(size, _SIDE))
        views = plural(config.views.count, "augmented view")
        said = f"{plural(len(drawn), 'image')}, each clean and in {views}: {out}"
        console.print(escape(said), soft_wrap=True)
    return 0


def spread(place: Path) -> list[Path]:
    """The image itself; of a folder all files below, one from each folder in turn.

    Raises:
      ConfigError: there is no such file or folder, or no file in it.
    """
    from imgpipe.components.example_gen.sources.layout import is_hidden

    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ConfigError(f"{place}: expected an image or a folder. Received: no such path.")
    folders: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(place.rglob("*")):
        hidden = any(is_hidden(part) for part in path.relative_to(place).parts)
        if path.is_file() and not hidden:
            folders[path.parent].append(path)
    if not folders:
        raise ConfigError(f"{place}: expected images in this folder. Received: no file.")
    turns = itertools.zip_longest(*folders.values())
    return [path for turn in turns for path in turn if path is not None]


def _rows(
    paths: Sequence[Path], count: int, config: Config, size: int
) -> tuple[list[tuple[str, npt.NDArray[np.uint8]]], list[tuple[Path, str]]]:
    """Caption and views of the first `count` files that show an image; and which do not."""
    from imgpipe.models.contact_sheet import view_pixels
    from imgpipe.pipeline import image_bytes

    drawn, skipped = [], []
    for path, data, error in image_bytes.read(paths, config.judge.pixel_limit):
        if error:
            skipped.append((path, error))
            continue
        content_hash = hashlib.sha256(data).hexdigest()
        views = view_pixels(data, content_hash, config.views.spec, size)
        drawn.append((f"{path.parent.name}/{path.name}", views))
        if len(drawn) == count:
            break
    return drawn, skipped


def _write(out: Path, rows: Sequence[tuple[str, npt.NDArray[np.uint8]]], side: int) -> None:
    from imgpipe.models import contact_sheet

    try:
        atomic_write(out, contact_sheet.png(contact_sheet.draw(rows, side)))
    except OSError as error:
        raise ResourceError(f"cannot write --out {out}: {error.strerror}.") from None
