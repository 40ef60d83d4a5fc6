"""`imgpipe drift`: compares the requests to a server with the training data of its model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import DataRefused
from imgpipe.pipeline.command_line import options, output_files

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import NamedText, ResultBlock, SpanLook
    from imgpipe.components.run_record.result import Result

app = typer.Typer()

#: How to get images into the log.
_SWITCH_ON = (
    "the log holds no images; start the server with `imgpipe serve --request-log PREFIX "
    "--log-images` to log them"
)
_EXAMPLES = """Examples:\n
  imgpipe drift logs/requests --model imgpipe-out\n
  imgpipe drift logs/requests --model imgpipe-out --json drift.json
"""


@app.command(rich_help_panel=options.SERVING, epilog=_EXAMPLES)
def drift(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help="Request log: a file, a folder, or its prefix.")
    ],
    model: options.ModelFolderOption = Path("imgpipe-out"),
    json_file: options.JsonOption = None,
) -> None:
    """Compare the requests to a server with the training data of its model."""
    from imgpipe.models.machine.process import quick_imports
    from imgpipe.pipeline.command_line import console as consoles
    from imgpipe.pipeline.command_line.printing import show_result
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.request_drift.logged_answers import LoggedAnswers

    logged = LoggedAnswers(log)
    logged.files()  # reports a missing log before the imports
    answering = lookup.model(model, published=True).published
    with consoles.counted(to_stderr=json_file == output_files.STANDARD_OUTPUT) as display:
        with display.step("loading TensorFlow, TFX"), quick_imports():
            from imgpipe.pipeline.request_drift import comparison
        with display.step("comparing"):
            result = comparison.examine(logged, answering.folder.parent)
    show_result(_blocks(result), result, json_file)
    if result["status"] == "drift":
        raise typer.Exit(DataRefused.exit_code)


def _blocks(result: Result) -> Iterator[ResultBlock]:
    """Yield the verdict, each comparison, those over their limits first, and the findings."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.report.blocks import Figures, Heading, Sentence, Span, said
    from imgpipe.components.report.sections.images import examples

    looks: dict[str, SpanLook] = {"drift": "bad", "no_drift": "good"}
    yield Heading(Span(result["verdict"], looks.get(result["status"], "warn")))
    requests = result["requests"]
    if requests is not None:
        yield Heading(
            f"version {requests['version']}: {plural(requests['answers'], 'answer')}, "
            f"{plural(requests['different_images'], 'different image')}, "
            f"{requests['first']} to {requests['last']}"
        )
        rows: list[NamedText] = []
        for row in sorted(requests["comparisons"], key=lambda row: not row["over"]):
            what = f"{row['feature']}: {row['was']} in {row['reference']}, {row['now']} now"
            distance = f"{row['measure']} {row['distance']:.2f}, limit {row['limit']:.2f}"
            state = Span("over", "bad") if row["over"] else Span("ok", "good")
            rows.append((state, f"{what} ({distance})"))
        yield Figures(rows)
    yield from examples(result["findings"])
    yield from said(result["findings"])
    if requests is not None and not requests["images"]:
        yield Sentence(f"  {_SWITCH_ON}", "muted")
