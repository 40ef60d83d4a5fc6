"""``imgpipe review``: shows doubtful labels, near-duplicates and rejects, and keeps the decisions.

It needs no TensorFlow, unless the source of the images does.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.pipeline.command_line import options
from imgpipe.pipeline.command_line.terminal import escape, new_console

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.pipeline.output.past_runs import PastRun
    from imgpipe.pipeline.review.questions import Questions
    from imgpipe.pipeline.review.web import Review

app = typer.Typer()


PORT = 8502
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1", "[::1]")
_FACTS, FILE = "facts.json", "overrides.toml"
_EXAMPLES = """Examples:\n
  imgpipe review imgpipe-out\n
  imgpipe review imgpipe-out/runs/20260131-140559 --to overrides.toml
"""


@app.command("review", rich_help_panel=options.DATA_AND_TRAINING, epilog=_EXAMPLES)
def command(
    out: options.OutArgument = Path("imgpipe-out"),
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
    """Decide about doubtful labels, near-duplicates and rejected images, in a browser."""
    run = find(out)
    review = prepare(run, to)
    console = new_console()
    questions = review.decisions.questions
    console.print(escape(_described(review.run, questions)))
    if questions.asked:
        _ask(review, host, port, run.folder if browser else None, console)


def _ask(review: Review, host: str, port: int, opened: Path | None, console: Console) -> None:
    """Show the page until Ctrl-C, and say how the decisions are applied.

    Args:
        review: The review.
        host: Address to bind.
        port: Port; 0 for any free one.
        opened: Folder for the file with which a browser is opened, None to open none.
        console: Where the address is printed.
    """
    from imgpipe.pipeline.command_line import browser as browsers
    from imgpipe.pipeline.command_line import signals
    from imgpipe.pipeline.review import web

    console.print(f"decisions  {escape(str(review.decisions.file))}", soft_wrap=True)
    with web.running(review, host, port) as (address, served):
        console.print(f"open       {escape(address)}", soft_wrap=True)
        console.print("Every answer is saved at once. Ctrl-C ends the review.")
        if host not in _THIS_MACHINE:
            console.print(
                f"[yellow]Others can reach {escape(host)}.[/] The connection is not encrypted: "
                "whoever reads the address of the page can see the images and decide."
            )
        with _leading_to(address, opened) as file:
            if file:
                browsers.show(file, console)
            try:
                served.wait()
            except signals.Stopped:
                if signals.exit_code() != 128 + signal.SIGINT:  # Ctrl-C is the usual end
                    raise
    images = len(review.decisions.questions.asked)
    console.print(f"{(decided := _decided(review))} of {images} images are decided.")
    if decided:
        console.print(f"Apply the decisions:\n  {escape(review.apply)}", soft_wrap=True)


@contextlib.contextmanager
def _leading_to(address: str, folder: Path | None) -> Iterator[str]:
    """Write a file that leads a browser to an address, and yield the address of the file.

    All users of a machine can see the arguments of its programs, but only this one can read the
    file, so that nobody else learns the token in the address. Browsers from a snap only read files
    below the home folder, and a browser on another machine reads none: there the address itself is
    yielded.
    """
    import html
    import tempfile

    from imgpipe.models.files.atomic_write import TEMPORARY

    if folder is None:
        yield ""
        return
    here = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not here or not folder.absolute().is_relative_to(Path.home()):
        yield address
        return
    descriptor, name = tempfile.mkstemp(".html", TEMPORARY, folder)
    file = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as content:
            content.write(f'<meta http-equiv="refresh" content="0; url={html.escape(address)}">\n')
        yield file.as_uri()
    finally:
        file.unlink(missing_ok=True)


def _decided(review: Review) -> int:
    return sum(one.verdict != "skip" for one in review.decisions.answers().values())


def find(path: Path) -> PastRun:
    """Find the run to review.

    Args:
        path: Folder of a run; a version, for the run that published it; or an output folder, for
            its newest run with a page.

    Raises:
        ResourceError: There is no such run.
    """
    from imgpipe.pipeline.commands.open import run_with

    return run_with(_FACTS, path, "has come far enough to be reviewed")


def prepare(run: PastRun, to: Path | None) -> Review:
    """Read what there is to decide about a run.

    Args:
        run: The run.
        to: Overrides file; None for the default.

    Raises:
        ConfigError: The overrides file is invalid.
        ResourceError: The facts of the run cannot be read.
    """
    import secrets

    from imgpipe.pipeline import source
    from imgpipe.pipeline.configuration import config as configs
    from imgpipe.pipeline.output import past_runs
    from imgpipe.pipeline.output.run_folders import CONFIG
    from imgpipe.pipeline.review import decisions, questions
    from imgpipe.pipeline.review.web import Images, Review

    asked = questions.read(run.folder / _FACTS)
    kept = run.folder / CONFIG
    config = configs.load(kept)
    file = (
        (to or past_runs.overrides_file(config, run.out) or run.out / FILE).expanduser().absolute()
    )
    decisions.check(file)
    moved = [] if config.out == run.out else ["--out", str(run.out)]
    again = ["imgpipe", "run", "--config", str(kept)]
    return Review(
        run.name,
        shlex.join([*again, *moved, "--set", f"judge.overrides={file}"]),
        decisions.Decisions(asked, file),
        Images(source.opened(config), asked.images()),
        secrets.token_urlsafe(16),  # 128 random bits
    )


def _described(name: str, questions: Questions) -> str:
    """Say what there is to decide."""
    kinds = {
        "doubtful": ("doubtful label", "doubtful labels"),
        "near": ("near-duplicate", "near-duplicates"),
        "rejected": ("rejected image", "rejected images"),
    }
    counts = {kind: sum(one.kind == kind for one in questions.asked) for kind in kinds}
    parts = [f"{n:,} {kinds[kind][n != 1]}" for kind, n in counts.items() if n]
    return f"run {name}: {', '.join(parts) or 'there is nothing to decide'}"
