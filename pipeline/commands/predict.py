"""`imgpipe predict`: classifies images, with a server or with a model in this process."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models import names
from imgpipe.models.errors import ConfigError, ImgpipeError
from imgpipe.pipeline.command_line import options, output_files
from imgpipe.pipeline.command_line.terminal import new_console, say

if TYPE_CHECKING:
    from rich.console import Console

    from imgpipe.components.report.blocks import Figures, NamedText, ResultBlock
    from imgpipe.pipeline.published.loaded_model import LoadedModel
    from imgpipe.pipeline.published.predicted_images import ImageAnswer
    from imgpipe.serving.client import Client, ServingError
    from imgpipe.serving.client.classifier import Answer, Progress

app = typer.Typer()

_SOME_REFUSED = 2  # exit code when some files are not images, the same as for a bad argument
_SERVER = "localhost:8500"
_EXAMPLES = """Examples:\n
  imgpipe predict --model imgpipe-out photo.jpg\n
  imgpipe predict --model imgpipe-out --version 2 photos/ --json -\n
  imgpipe predict --model imgpipe-out photos/ --csv labels.csv --unsure-below 0.8\n
  imgpipe predict --model imgpipe-out/runs/20260131-140559 photo.jpg\n
  imgpipe predict --server localhost:8500 photo.jpg
"""


_LeastCertainFirstOption = Annotated[
    bool,
    typer.Option(
        "--least-certain-first", help="Sort the images by the probability of their label."
    ),
]
_UnsureBelowOption = Annotated[
    float,
    typer.Option(
        "--unsure-below",
        min=0,
        max=1,
        help="Mark answers of a lower probability as unsure. The report of a run says how many "
        "answers remain, and how many of them are right.",
    ),
]
_CsvOption = Annotated[
    str | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="Write a table for spreadsheets to this file (- for standard output).",
        callback=options.writable_file,
    ),
]


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def predict(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES", help="Images, or folders of them.")
    ],
    server: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help=f"gRPC address. Default: {_SERVER}, unless --model names a folder.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="OUT|NAME",
            help="Output folder of a run, whose newest version is loaded without a server; or the "
            "folder of a run, for its model; or the name of the served model. Default: the "
            f"server's model {names.SERVED_NAME}.",
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Version of the model. Default: the newest available one.")
    ] = None,
    top: Annotated[int, typer.Option(help="Number of labels shown for each image.")] = 5,
    unsure_below: _UnsureBelowOption = 0.0,
    timeout: Annotated[float, typer.Option(help="Seconds for each request to a server.")] = 30.0,
    least_certain_first: _LeastCertainFirstOption = False,
    json_file: options.JsonOption = None,
    csv_file: _CsvOption = None,
) -> None:
    """Classify images, using a server or, with --model OUT, a local model."""
    from imgpipe.serving.client import ServingError
    from imgpipe.serving.client.images import files_of

    if json_file == csv_file == output_files.STANDARD_OUTPUT:
        raise ConfigError(
            "--json - and --csv - would mix on standard output. Name a file for one of them."
        )
    done: dict[int, ImageAnswer] = {}
    failure: ServingError | None = None
    try:
        files = files_of(images)
        with (
            _classifier(server, model, version, timeout) as classifier,
            _without_decoders(classifier) as console,
            _progress(console, files, done) as progress,
        ):
            classifier.classify_each(files, progress=progress, top=top, unsure_below=unsure_below)
    except ServingError as error:
        failure = error
    # What was answered before an error is printed too.
    answers = [done[number] for number in sorted(done)]
    if least_certain_first:
        answers.sort(key=_certainty)
    exit_code = _hand_over(answers, json_file, csv_file) if answers else 0
    if failure is not None:
        raise _server_error(failure, server, model, version) from failure
    raise typer.Exit(exit_code)


def _classifier(
    server: str | None, model: str | None, version: int | None, timeout: float
) -> Client | LoadedModel:
    """Return the client of a server, or the model in a folder."""
    from imgpipe.serving.client import Client

    # The default name is not taken for a folder, such as that of a clone of the repository. No
    # served model has a slash in its name, so a path that does not exist is reported as one.
    if server is None and model and (os.sep in model or Path(model).expanduser().exists()):
        from imgpipe.pipeline.command_line import console as consoles
        from imgpipe.pipeline.published.loaded_model import LoadedModel

        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # no line for each file that is not an image
        with consoles.quiet():
            loaded = LoadedModel(Path(model).expanduser(), version)
        if loaded.notice:
            say(new_console(stderr=True), f"note: {loaded.notice}")
        if not loaded.tells_unlike:
            say(
                new_console(stderr=True),
                "note: this model cannot mark images that are unlike all that it has learned; it "
                "learned from too few images for that",
            )
        return loaded
    return Client(server or _SERVER, model or names.SERVED_NAME, timeout, version=version)


def _server_error(
    failure: ServingError, server: str | None, model: str | None, version: int | None
) -> ServerError:
    """Return the error of a command whose server or model did not answer."""
    from imgpipe.serving.client import InvalidArgument, NotFound, Unavailable

    where = ""
    if failure.from_server:
        where = f"{server or _SERVER}, model {model or names.SERVED_NAME!r}: "
    hint = ""
    if model and not server and not isinstance(failure, InvalidArgument):
        hint = f" (There is no folder {model!r}, so --model was taken for a model's name.)"
    elif not model and version is None and isinstance(failure, NotFound):
        hint = " Name the model with --model NAME."
    elif not server and not model and isinstance(failure, Unavailable):
        hint = " Or name the output folder of a run, which needs no server: --model OUT."
    error = ServerError(f"{where}{failure}{hint}")
    error.exit_code = failure.exit_code
    return error


class ServerError(ImgpipeError):
    """A failed request, with the exit code of the client's error."""


def _without_decoders(
    classifier: Client | LoadedModel,
) -> contextlib.AbstractContextManager[Console]:
    """Return a console for progress, beside which no decoder of this process writes anything.

    libjpeg writes lines without the name of a file to standard error. The answers name each file
    that cannot be decoded, with the reason.
    """
    from imgpipe.serving.client import Client

    if isinstance(classifier, Client):
        return contextlib.nullcontext(new_console(stderr=True))
    from imgpipe.pipeline.command_line import console as consoles

    return consoles.quiet(to_stderr=True)


@contextlib.contextmanager
def _progress(
    console: Console, files: Sequence[Path], done: dict[int, ImageAnswer]
) -> Iterator[Progress]:
    """Collect the answers in `done`, with a bar on a terminal if there are many images."""
    from rich.progress import Progress as Bar

    from imgpipe.pipeline.published.predicted_images import ImageAnswer
    from imgpipe.serving.client.images import CHUNK_IMAGES

    hidden = len(files) <= CHUNK_IMAGES or not console.is_terminal
    with Bar(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("classifying", total=len(files))

        def progress(start: int, answers: Sequence[Answer]) -> None:
            for number, answer in enumerate(answers, start):
                done[number] = ImageAnswer.of(str(files[number]), answer)
            bar.advance(task, len(answers))

        yield progress


def _certainty(answer: ImageAnswer) -> tuple[bool, bool, float]:
    """Return a key that sorts images unlike all that was learned first, and refused ones last."""
    certainty = 0.0 if answer.error else answer.top[0][1]
    return bool(answer.error), not answer.unlike, certainty


def _hand_over(answers: Sequence[ImageAnswer], json_file: str | None, csv_file: str | None) -> int:
    """Write the answers to the files that were asked for, or print them; return the exit code."""
    from imgpipe.pipeline.command_line.printing import print_blocks
    from imgpipe.pipeline.published.predicted_images import describe, table

    output_files.write_json([describe(answer) for answer in answers], json_file)
    output_files.write_csv(table(answers), csv_file)
    printed = output_files.STANDARD_OUTPUT in (json_file, csv_file)
    console = new_console(stderr=printed)
    if not json_file and not csv_file:
        print_blocks(console, [_labels(answers)])
    print_blocks(console, _counts(answers))
    refusals = [*_refusals(answers)]
    print_blocks(new_console(stderr=True), refusals)
    return _SOME_REFUSED if refusals else 0


def _labels(answers: Sequence[ImageAnswer]) -> Figures:
    """Return the label of each image that was classified, with the probabilities of others."""
    from imgpipe.components.report.blocks import Figures, Span
    from imgpipe.pipeline.published.predicted_images import UNLIKE, UNSURE, answer_words

    rows: list[NamedText] = []
    for answer in answers:
        if answer.error:
            continue
        version = [f"version {answer.version}"] if answer.version else []
        words = answer_words(answer.top, *version)
        if answer.unsure:
            words = [Span(UNSURE, "warn"), "  ", *words]
        rows.append((answer.image, [*words, Span(f"  {UNLIKE}" if answer.unlike else "", "warn")]))
    return Figures(rows)


def _counts(answers: Sequence[ImageAnswer]) -> Iterator[ResultBlock]:
    """Yield how many of several images have which label, the most frequent one first."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.report.blocks import Sentence
    from imgpipe.pipeline.published.predicted_images import UNLIKE, UNSURE

    classified = [answer for answer in answers if not answer.error]
    counts = Counter(UNSURE if answer.unsure else answer.label for answer in classified)
    if len(answers) > 1 and counts:
        by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        labels = ", ".join(f"{label} {count:,}" for label, count in by_count)
        images = plural(len(answers), "image")
        of = f"{counts.total():,} of " if counts.total() < len(answers) else ""
        unlike = sum(bool(answer.unlike) for answer in classified)
        noted = f"; {unlike:,} {UNLIKE}" if unlike else ""
        yield Sentence(f"{of}{images}: {labels}{noted}")


def _refusals(answers: Sequence[ImageAnswer]) -> Iterator[ResultBlock]:
    """Yield why images could not be classified."""
    from imgpipe.components.report.blocks import Sentence, Span

    errors = [answer.error for answer in answers if answer.error]
    for error in errors:
        yield Sentence(Span(error, "bad"))
    if errors:
        yield Sentence(f"{len(errors)} of {len(answers)} images could not be classified.")
