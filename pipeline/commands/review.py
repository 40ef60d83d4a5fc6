"""`imgpipe review`: shows the images of a run in a browser, and keeps the decisions about them.

It needs no TensorFlow, unless the source of the images does.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import new_console

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.pipeline.output.run import Run
    from imgpipe.pipeline.review.web import Review

app = typer.Typer()

PORT = 8502
_NOT_ENCRYPTED = (
    "The connection is not encrypted: whoever reads the address of the page can see the images "
    "and decide."
)
_EXAMPLES = """Examples:\n
  imgpipe review imgpipe-out\n
  imgpipe review imgpipe-out --show tulips:roses\n
  imgpipe review imgpipe-out/runs/20260131-140559 --to overrides.toml
"""


@app.command("review", rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def command(
    out: options.OutArgument = Path("imgpipe-out"),
    show: Annotated[
        str,
        typer.Option(
            "--show",
            metavar="WHAT",
            help="What comes first: a kind such as doubtful, a class, or LABEL:ANSWER.",
        ),
    ] = "",
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            metavar="FILE",
            help="Overrides file. Default: that of the run, or OUT/overrides.toml.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to bind.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 for any free one.")
    ] = PORT,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
) -> None:
    """See the images of a run in a browser, and decide about their labels."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.report.blocks import Command, Figures, Sentence
    from imgpipe.pipeline.command_line import output_files, signals
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.review import web

    run = run_to_review(out)
    review = prepare(run, to, show)
    console = new_console()
    counts = review.decisions.images.counts(())
    print_blocks(console, [Sentence(f"run {run.name}: {_described(counts)}")])
    with web.running(review, host, port) as (address, served):
        print_blocks(console, _opened(review, host, address, served.port))
        with _leading_to(address, run.folder) as file:
            if browser:
                output_files.show(file, console)
            try:
                served.wait()
            except signals.Stopped:
                if signals.exit_code() != 128 + signal.SIGINT:  # Ctrl-C is the usual end
                    raise
    decided = len(review.decisions.made())
    blocks: list[ResultBlock] = [
        Sentence(f"{decided} of {plural(counts['all'], 'image')} are decided.")
    ]
    if decided:
        blocks.append(Figures([("apply the decisions:", Command(review.apply))]))
    print_blocks(console, blocks)


def _opened(review: Review, host: str, here: str, port: int) -> Iterator[ResultBlock]:
    """Yield where the decisions are kept, and where this machine and others open the page."""
    from imgpipe.components.report.blocks import Figures, Sentence, Span
    from imgpipe.pipeline.review import web
    from imgpipe.serving.server import ports

    addresses = {"open": here}
    is_open = not ports.is_loopback(host.strip("[]"))
    if is_open:
        addresses["on a phone"] = web.address(review, host, port, by_others=True)
    yield Figures([("decisions", str(review.decisions.file)), *addresses.items()])
    if is_open:
        yield Sentence(Span(_NOT_ENCRYPTED, "warn"))
    yield Sentence("Every answer is saved at once. Ctrl-C ends the review.")


@contextlib.contextmanager
def _leading_to(address: str, folder: Path) -> Iterator[str]:
    """Write a file that leads a browser to an address, and yield the address of the file.

    All users of a machine can see the arguments of its programs, but only this one can read the
    file, so that nobody else learns the token in the address. Browsers from a snap only read files
    below the home folder, and a browser on another machine reads none: there the address itself is
    yielded.
    """
    import html
    import tempfile

    from imgpipe.models.files.atomic_write import TEMPORARY

    here = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not here or not folder.absolute().is_relative_to(Path.home()):
        yield address
        return
    with tempfile.NamedTemporaryFile("w", suffix=".html", prefix=TEMPORARY, dir=folder) as file:
        file.write(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
        file.flush()
        yield Path(file.name).as_uri()


def run_to_review(path: Path) -> Run:
    """Find the run to review: of an output folder, the newest run that judged its images."""
    from imgpipe.pipeline.output import lookup

    reached = "has come far enough to be reviewed"
    return lookup.run(path, lambda run: run.result["data"] is not None, reached)


def prepare(run: Run, to: Path | None, show: str = "") -> Review:
    """Read the images of a run; `to` is the overrides file, or None; `show` is what comes first."""
    import functools
    import secrets

    from imgpipe.components.example_gen.sources import read_source
    from imgpipe.components.report.commands import run_command
    from imgpipe.components.run_record.run_folder import CONFIG
    from imgpipe.models.settings.places import DECISIONS
    from imgpipe.pipeline.configuration import config as configs
    from imgpipe.pipeline.review import decisions, images
    from imgpipe.pipeline.review.web import Review, ShownImages

    reviewed = images.read(run)
    view = images.parse_view(show, reviewed.classes) if show else reviewed.first_view()
    kept = run.folder / CONFIG
    config = configs.load(kept)
    out = config.places.out
    file = config.places.overrides or out / DECISIONS
    if file.is_relative_to(out):  # which may have been moved or copied since
        file = run.out / file.relative_to(out)
    file = (to or file).expanduser().absolute()
    decisions.check(file)
    named = ["--set", f"judge.overrides={file}"] if to or config.judge.overrides else []
    judge = str(config.places.judge)
    return Review(
        run.name,
        run_command(run.result, [*run.moved, *named]),
        decisions.Decisions(reviewed, file),
        ShownImages(
            functools.partial(read_source, config.data.source, config.data, judge),
            reviewed.by_hash,
        ),
        secrets.token_urlsafe(16),  # 128 random bits
        view,
    )


def _described(counts: Mapping[str, int]) -> str:
    """Say how many images there are, and how many of each kind."""
    from imgpipe.components.common.formatting import plural

    words: dict[str, tuple[str, str]] = {
        "doubtful": ("doubtful label", "doubtful labels"),
        "mistakes": ("mistake", "mistakes"),
        "unlike": ("unlike its class", "unlike their class"),
        "copies": ("copy", "copies"),
        "rejected": ("rejected", "rejected"),
    }
    parts = [plural(counts[kind], *word) for kind, word in words.items() if counts[kind]]
    return ", ".join([plural(counts["all"], "image"), *parts])
