"""`imgpipe quarantine`: lists the rejected files, about which `imgpipe review` decides."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgpipe.models.errors import ResourceError
from imgpipe.models.files.json_object import SCHEMA
from imgpipe.pipeline.command_line import options

if TYPE_CHECKING:
    from imgpipe.components.report.blocks import ResultBlock
    from imgpipe.pipeline.json_formats import QuarantineRow

_EXAMPLES = """Examples:\n
  imgpipe quarantine list --out imgpipe-out\n
  imgpipe quarantine list --out imgpipe-out --warnings --json rows.json
"""

app = typer.Typer(
    name="quarantine",
    help="List rejected files.",
    epilog=_EXAMPLES,
    rich_help_panel=options.DATA_AND_TRAINING,
    no_args_is_help=True,
)


@app.command("list", epilog=_EXAMPLES)
def list_(
    source: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="OUT",
            help="Output folder, one of its versions or runs, or a quarantine folder.",
        ),
    ] = Path("imgpipe-out"),
    warnings: Annotated[
        bool, typer.Option("--warnings", help="List kept files with a warning instead.")
    ] = False,
    json_file: options.JsonOption = None,
) -> None:
    """List rejected files by reason."""
    from imgpipe.components.common.formatting import plural
    from imgpipe.components.image_filter import image_table
    from imgpipe.components.report.blocks import Heading, Listed, Sentence, Span
    from imgpipe.pipeline.command_line.printing import show_result

    folder = quarantine_folder(source)
    images = image_table.read(str(folder), with_findings=True)
    rows = images.warned if warnings else images.rejected
    listed: list[QuarantineRow] = [{"schema": SCHEMA, **row} for row in rows]
    blocks: list[ResultBlock] = []
    for name, number in sorted(Counter(row["reason"] for row in rows).items()):
        blocks.append(Heading(f"{name}  {number}"))
        of_reason = [(row["path"], row["detail"]) for row in rows if row["reason"] == name]
        blocks.append(
            Listed([(path, Span(f"  {detail}", "muted")) for path, detail in sorted(of_reason)])
        )
    what = plural(len(rows), "file") + (" with a warning" if warnings else " rejected")
    blocks.append(Sentence(f"{what} in {folder}"))
    show_result(blocks, listed, json_file)


def quarantine_folder(path: Path) -> Path:
    """Find the quarantine folder of a run, a version, or the newest run of an output folder."""
    from imgpipe.components.image_filter.quarantine import MANIFEST
    from imgpipe.pipeline.output import lookup
    from imgpipe.pipeline.output.output_folder import RUNS, OutputFolder, plain

    path = plain(path)
    if (path / MANIFEST).is_file():
        return path
    if not (OutputFolder.above(path).path / RUNS).is_dir():
        # The folder of a run on Kubeflow holds its artifacts itself.
        for manifest in path.rglob(f"quarantine/*/{MANIFEST}"):
            return manifest.parent
    run = lookup.run(path, lambda run: run.quarantine, "has a quarantine")
    if run.quarantine is None:
        raise ResourceError(
            f"run {run.name} has no quarantine: it made none, or it was removed (run.keep)."
        )
    return run.quarantine
