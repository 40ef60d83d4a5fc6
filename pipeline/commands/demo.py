"""`imgpipe demo`: draws images with faults, runs the pipeline on them and queries the model."""

from __future__ import annotations

import collections
import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ConfigError, ResourceError
from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.models.settings.settings import Settings

app = typer.Typer()

_PER_CLASS = 110  # images; enough for about 35 validation images
_ASKED = ("paper", 987_654)  # label and seed of the image that the server classifies
_RUN = "run"  # output folder of the run, below that of the demo
_MARK = ".imgpipe-demo"  # a folder that holds this file may be overwritten
_YOUR_OWN = "now your own photographs, in a folder for each class:"
_EXAMPLES = """Examples:\n
  imgpipe demo
"""


@app.command(rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def demo(
    out: Annotated[
        Path, typer.Option("--out", metavar="OUT", help="Folder for all outputs.")
    ] = Path("imgpipe-demo"),
) -> None:
    """Draw images of hands, some of them faulty, run the pipeline and query the served model."""
    from imgpipe.components.report.blocks import Command, Figures
    from imgpipe.components.report.commands import shown
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.commands import run
    from imgpipe.pipeline.execution.pipeline_run import execute

    console = new_console()
    out = out.expanduser()
    with _folder(out) as photos:  # refuses a folder before NumPy and Pillow are imported
        config = _drawn(console, photos, out)
        outcome = execute(config)
        print_blocks(console, run.blocks(outcome, config.run))
        if outcome.exit_code == 0:
            _ask(console, config)
        own = Figures([(_YOUR_OWN, Command("imgpipe check PHOTOS"))])
        print_blocks(console, [shown(outcome.next), own])
    raise typer.Exit(outcome.exit_code)


def _drawn(console: Console, photos: Path, out: Path) -> Settings:
    """Draw the images, and return the configuration of the run."""
    from imgpipe.components.report.blocks import Sentence
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.configuration import config as configs
    from imgpipe.pipeline.demo import FAULTS, LABELS, draw

    with consoles.counted() as display, display.step("drawing images"):
        draw(photos, per_class=_PER_CLASS)
    planted = collections.Counter(fault.reason for fault in FAULTS)
    faults = ", ".join(
        f"{count} {reason.replace('_', ' ')}" for reason, count in sorted(planted.items())
    )
    drawn = f"{len(LABELS) * _PER_CLASS} images of rock, paper and scissors"
    planted_faults = f"{planted.total()} files that a check should find ({faults})"
    print_blocks(console, [Sentence(f"{drawn}, and {planted_faults}, in {photos}"), Sentence("")])
    return configs.build(
        {
            "run": {"out": str(out / _RUN)},
            "data": {"source": str(photos.absolute())},
        }
    )


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """Hold the folder of a demo, and yield that for its images, without those of an earlier one."""
    from imgpipe.pipeline.output.output_folder import OutputFolder

    photos = out / "photos"
    busy = f"another demo is working in {out}. Wait for it, or use another folder: --out OUT."
    with contextlib.ExitStack() as held:
        try:
            if out.exists() and any(out.iterdir()) and not (out / _MARK).exists():
                raise ConfigError(
                    f"{out} holds files that no earlier demo wrote. Choose another folder with "
                    "--out."
                )
            out.mkdir(parents=True, exist_ok=True)
            (out / _MARK).touch()
            held.enter_context(OutputFolder(out).locked(busy))
            if OutputFolder(out / _RUN).is_working:
                raise ResourceError(busy)
            if photos.exists():
                shutil.rmtree(photos)
        except OSError as error:
            raise ResourceError(
                f"cannot write to {out}: {error.strerror}. Choose another folder with --out."
            ) from None
        yield photos


def _ask(console: Console, config: Settings) -> None:
    """Serve the published model on this machine and classify an image that is new to it."""
    from imgpipe.components.report.blocks import Sentence
    from imgpipe.pipeline.command_line import command_process
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.demo import draw_hand
    from imgpipe.pipeline.published.predicted_images import answer_words
    from imgpipe.serving.client import Client
    from imgpipe.serving.server.server import ModelServer

    label, seed = _ASKED
    with command_process.temporary_folder() as folder:
        image = folder / f"{label}.jpg"
        draw_hand(label, seed, 200).save(image, quality=90)
        # In this process; `start` takes any free port, so that a server on 8500 is not in the way.
        server = ModelServer(config.run.name, config.places.versions)
        port = server.start()
        try:
            server.wait_until_available(60.0)
            with Client(f"127.0.0.1:{port}", model=config.run.name) as client:
                start = time.monotonic()
                [answer] = client.classify([image])
                milliseconds = (time.monotonic() - start) * 1000
        finally:
            server.stop(grace=1.0)
    more = (f"version {answer.version}", f"{milliseconds:.0f} ms")
    words = answer_words(answer.top, *more)
    said = Sentence((f"classified a new image of {label} over gRPC: ", *words))
    print_blocks(console, [Sentence(""), said, Sentence("")])
